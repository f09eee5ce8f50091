"""Clients that leave before their answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.load.client import Connection
from tests.load.conftest import Serve
from tests.load.process import Process
from tests.load.question import numbered
from tests.load.traffic import Traffic

pytestmark = pytest.mark.load

LEAVERS = 100
SLOTS = 2
WAIT_SECONDS = 30


async def until(server: Process, reached: Callable[[float], bool]) -> None:
    """Wait for the queue to be so long."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not reached(depth := await asyncio.to_thread(server.gauge, "queue_depth")):
        assert time.monotonic() < deadline, f"{depth} inputs wait"


@pytest.mark.parametrize("leave", [Connection.reset, Connection.close], ids=["reset", "closed"])
def test_a_hundred_clients_that_leave_while_they_wait_cost_no_run(
    leave: Callable[[Connection], None],
    bert: Path,
    serve: Serve,
    run: Callable[..., Any],
    figure: Callable[[str, str], None],
) -> None:
    longest, short = numbered("bert-base", 4, tokens=(512, 512)), numbered("bert-base", 50, tokens=(8, 32))

    async def measure() -> int:
        """How many inputs were run while the leavers came and went."""
        holders, stayers = Traffic(server.port, longest), Traffic(server.port, short)
        await stayers.learn()
        await holders.learn()
        before = server.counted("bert-base")
        held = [asyncio.create_task(holders.ask(question)) for question in longest]
        await until(server, lambda depth: depth >= len(longest) - SLOTS)
        connections = [await Connection.open(server.port) for _ in range(LEAVERS)]
        for number, connection in enumerate(connections):
            connection.send(short[number % len(short)].wire(number))
        await until(server, lambda depth: depth >= LEAVERS)
        for connection in connections:
            leave(connection)
        await asyncio.gather(*held)
        await stayers.saturate(4, 1)
        await until(server, lambda depth: depth == 0)
        for traffic in (holders, stayers):
            assert not traffic.faults, traffic.faults
            assert set(traffic.statuses) == {200}
            traffic.close()
        return server.counted("bert-base") - before - len(longest) - stayers.statuses[200]

    with serve(bert.parents[1], slots=SLOTS) as server:
        extra = run(measure())
    figure(f"{LEAVERS} clients that left while they waited", f"{extra} inputs run for nobody (at most 0)")
    assert extra == 0
