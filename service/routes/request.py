"""A request under way: admitted, read in time, and given up when its client has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.admission import Booking
from service.errors import Problem, TooSlow
from service.inference import Inference, Inferred
from service.predictor import Predictor
from service.sizes import check_length


def inference(request: Request) -> Inference:
    """The server's models and what runs them."""
    found: Inference = request.app.state.inference
    return found


def client(request: Request) -> str | None:
    """Who asks, by the name of their key; None where no keys are in force."""
    name: str | None = getattr(request.state, "client", None)
    return name


async def unready(request: Request) -> str | None:
    """Why the server should be sent no requests at present; None where it should."""
    found = inference(request)
    return "the server is about to end" if found.draining else await found.readiness.check()


def timing_headers(predictor: Predictor, found: Inferred) -> dict[str, str]:
    """What a request took, in milliseconds and tokens or pixels, as text-embeddings-inference names it."""
    unit = "tokens" if predictor.manifest.family == "text" else "pixels"
    return {
        "x-queue-time": f"{1000 * found.queue_seconds:.3f}",
        "x-inference-time": f"{1000 * found.run_seconds:.3f}",
        f"x-compute-{unit}": str(found.cost),
    }


@asynccontextmanager
async def admitted(
    request: Request, name: str, version: str | None = None
) -> AsyncIterator[tuple[Predictor, Booking]]:
    """The model a request with a body is for, and the room of that, which grows where more arrives.

    Raises NotFound, TooLarge and Overloaded, before anything of the body is read.
    """
    found = inference(request)
    declared = request.headers.get("content-length", "")
    nbytes = int(declared) if declared.isdecimal() else 0
    check_length(nbytes, found.settings.max_body_bytes)
    async with found.admit(name, version, nbytes=nbytes) as (predictor, booking):
        request.scope["booking"] = booking
        yield predictor, booking


@asynccontextmanager
async def arriving(request: Request) -> AsyncIterator[None]:
    """A block that reads the body; raises TooSlow where that takes longer than a request may."""
    seconds = inference(request).settings.timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        detail = f"the body did not arrive within {seconds:g} seconds"
        raise TooSlow(detail, field="body", limit=seconds) from error


@asynccontextmanager
async def connected(request: Request) -> AsyncIterator[None]:
    """A block that is cancelled when the client goes away; begins when the body has been read.

    Raises ClientDisconnect then.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        try:
            while (await request.receive())["type"] != "http.disconnect":
                pass
        except Problem:  # a body where there should be none, and too large
            return
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()
