"""The application on a free port, and input for each of the built-in models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import uvicorn

from regard_client import Client, Input
from service.app import create_app
from service.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60

Serve = Callable[..., AbstractContextManager[str]]


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        self.listens.set()


@contextmanager
def running(**settings: object) -> Iterator[str]:
    """The application with these settings, in a thread; yields its address."""
    app = create_app(Settings(**settings))
    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert server.listens.wait(SECONDS)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Starts a server with settings of its own."""
    return running


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The built-in models."""
    with running() as address:
        yield address


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest.fixture(scope="session")
def inputs() -> Mapping[str, Input]:
    """An input for each model."""
    return {
        "code-language": (EXAMPLES / "snippet.rs").read_text(),
        "digit-in-clutter": EXAMPLES / "digit-2.png",
        "digit-motion": (EXAMPLES / "blink.mp4").read_bytes(),
    }
