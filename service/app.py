"""The ASGI application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InvalidInput, Overloaded, Problem
from service.inference import Inference
from service.routes import ops, v1
from service.routes.body import BodyLimit
from service.settings import Settings

logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """An application of its own, its models loaded; raises ProviderError and BundleError."""
    inference = Inference(settings)
    inference.load()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        inference.start()
        yield
        await inference.close()

    app = FastAPI(
        title="Regard",
        version=version("regard"),
        description="Predictions of attention models, together with the attention maps behind them.",
        lifespan=lifespan,
    )
    app.state.inference = inference
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(NoSniff)
    app.include_router(ops.router)
    app.include_router(v1.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _unexpected)
    return app


class NoSniff:
    """Middleware: browsers take an answer for what it is said to be, and guess nothing from its bytes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-content-type-options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, marked)


def problem_response(problem: Problem) -> JSONResponse:
    """A problem as `application/problem+json`."""
    headers = {"retry-after": str(problem.retry_after)} if isinstance(problem, Overloaded) else None
    return JSONResponse(
        problem.document(),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=headers,
    )


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem_response(error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Path and query parameters that the framework itself refused."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1])
    return problem_response(InvalidInput(f"{field}: {first['msg']}", field=field))


async def _http(request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    document = {
        "type": "about:blank",
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": error.detail,
    }
    return JSONResponse(
        document, error.status_code, headers=error.headers, media_type="application/problem+json"
    )


async def _left(request: Request, error: Exception) -> Response:
    """A client that went away while it was sending: nobody reads this answer."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: logged with its stack, answered without it."""
    return problem_response(Problem("the server failed on this request; its log says why"))
