"""A running server, and Debian's Chromium to look at its page with."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from service.app import create_app
from service.settings import Settings

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
START_SECONDS = 60


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """An application on a free port; yields its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None))
    thread = threading.Thread(target=server.run, name="page-server")
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            assert thread.is_alive(), "the server ended at once"
            assert time.monotonic() < deadline, f"not ready after {START_SECONDS} s"
            time.sleep(0.02)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        assert not thread.is_alive()


@contextmanager
def launched() -> Iterator[Browser]:
    """The browser, with a profile of its own that ends with it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def show(page: Page, model: str, example: str, *, map: str | None = None) -> None:
    """Let a page show one of the examples of a model, and wait until its map is there."""
    page.select_option("#model", label=model)
    page.get_by_role("button", name=example, exact=True).click()
    page.mouse.move(0, 0)
    settle(page)
    if map is not None:
        page.get_by_role("combobox", name="Map", exact=True).first.select_option(map)
        settle(page)


def settle(page: Page) -> None:
    """Wait until the panes show what was asked for."""
    page.wait_for_selector("#result:not([hidden]) .pane:not([aria-busy]) .view > *")
