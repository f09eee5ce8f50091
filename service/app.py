"""The ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.inference import Inference
from service.keys import Keys
from service.middleware import RequestLife, SecurityHeaders
from service.origin import SameOrigin
from service.predictions import Predictions
from service.problems import add_handlers
from service.routes import ops, originals, ui, v1, v2
from service.routes.body import BodyLimit
from service.settings import Settings

CORS_REQUEST = (
    "authorization",
    "content-type",
    "inference-header-content-length",
    "traceparent",
    "x-request-id",
)
CORS_RESPONSE = (
    *("inference-header-content-length", "retry-after", "traceparent", "x-map-axes", "x-request-id"),
    *("x-total-time", "x-queue-time", "x-inference-time", "x-compute-tokens", "x-compute-pixels"),
)


def create_app(settings: Settings) -> FastAPI:
    """An application of its own, its models loaded; raises ProviderError and BundleError."""
    inference = Inference(settings)
    inference.load()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        inference.start()
        yield
        await inference.close()
        await asyncio.to_thread(inference.tracing.close)

    app = FastAPI(
        title="Regard",
        version=version("regard"),
        description="Predictions of attention models, together with the attention maps behind them.",
        lifespan=lifespan,
    )
    app.state.inference = inference
    app.state.predictions = Predictions(inference)
    for router in (ops.router, v1.router, originals.router, v2.router, ui.router):
        app.include_router(router)
    add_handlers(app)
    _add_middleware(app, inference)
    _add_gauges(inference)
    return app


def _add_middleware(app: FastAPI, inference: Inference) -> None:
    """From the innermost to the outermost: what one refuses has the headers of those around it."""
    settings = inference.settings
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Keys, keys=settings.api_keys)
    app.add_middleware(SameOrigin, trusted=settings.cors_origins)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=CORS_REQUEST,
            expose_headers=CORS_RESPONSE,
        )
    app.add_middleware(
        RequestLife,
        metrics=inference.metrics,
        tracing=inference.tracing,
        draining=lambda: inference.draining,
    )
    app.add_middleware(SecurityHeaders)


def _add_gauges(inference: Inference) -> None:
    """What is read whenever the metrics are."""
    scheduler, admission, store = inference.scheduler, inference.admission, inference.store
    gauge = inference.metrics.gauge
    gauge("queue_depth", "Inputs that wait for a slot.", lambda: scheduler.waiting)
    gauge("slots_busy", "Slots of the device in which a batch runs.", lambda: scheduler.busy)
    gauge("slots", "Slots of the device.", lambda: inference.settings.concurrent_runs)
    gauge("requests_under_way", "Requests that were admitted.", lambda: admission.requests.total)
    gauge("request_bytes_under_way", "Their bodies.", lambda: admission.bytes.total)
    gauge("store_records", "Predictions that are kept for their maps.", lambda: store.records)
    gauge("store_bytes", "Memory of those.", lambda: store.nbytes)
