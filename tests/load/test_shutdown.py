"""SIGTERM under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from service.settings import DEMO
from tests.load.conftest import Serve
from tests.load.question import snippets
from tests.load.traffic import Traffic

pytestmark = pytest.mark.load

CLIENTS = 32
SECONDS = 3


@pytest.mark.parametrize("drain_seconds", [0, 1])
@pytest.mark.parametrize("keep", [True, False], ids=["kept connections", "new connections"])
def test_sigterm_loses_nothing_that_was_accepted(
    keep: bool,
    drain_seconds: float,
    serve: Serve,
    run: Callable[..., Any],
    figure: Callable[[str, str], None],
) -> None:
    questions = snippets("code-language", 100, words=(2, 40))

    async def measure() -> float:
        """Seconds from the signal to the end of the process."""
        await traffic.learn()
        load = asyncio.create_task(traffic.saturate(CLIENTS, SECONDS + drain_seconds))
        await asyncio.sleep(SECONDS / 2)
        started = time.monotonic()
        server.terminate()
        status = await asyncio.to_thread(server.wait)
        elapsed = time.monotonic() - started
        await load
        assert status == 0, server.log.read_text()
        return elapsed

    with serve(DEMO, drain_seconds=drain_seconds) as server:
        traffic = Traffic(server.port, questions, keep=keep)
        elapsed = run(measure())
        traffic.close()
    figure(
        f"SIGTERM under load, {'kept' if keep else 'new'} connections, drain {drain_seconds} s",
        f"{traffic.statuses[200]} answered, {traffic.statuses[503]} refused, "
        f"{traffic.faults or 'none lost'}; ended after {elapsed:.2f} s",
    )
    assert not traffic.faults, traffic.faults
    assert set(traffic.statuses) <= {200, 503}
    assert traffic.refused > 0, "the load was over before the server was"
