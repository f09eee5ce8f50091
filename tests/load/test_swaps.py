"""Models that are replaced while they answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.load.client import Connection, request
from tests.load.conftest import Serve
from tests.load.process import Process
from tests.load.question import document, snippets
from tests.load.traffic import Traffic

pytestmark = pytest.mark.load

SWAPS = 25  # of each kind
CLIENTS = 8
SWAP_SECONDS = 60
GROWTH = 0.1
NAME = "swapped"
STORE_BYTES = 1024**2  # soon full, so that what grows is not what is kept for its maps
MIB = 1024**2

Change = Callable[[Process, Path, Path], Awaitable[None]]


async def repository(server: Process, path: str) -> Any:
    """A call of the repository; raises AssertionError where it is refused."""
    connection = await Connection.open(server.port)
    reply = await connection.ask(request(f"/v2/repository/{path}", b"{}"))
    connection.close()
    assert reply.status == 200, reply.body
    return json.loads(reply.body or b"null")


async def replaced(server: Process, folder: Path, bundle: Path) -> None:
    """The folder of the one version has other files from now on, and the server is told so."""
    (folder / "1").rename(bundle.with_name("old"))
    bundle.rename(folder / "1")
    await repository(server, f"models/{NAME}/load")


async def succeeded(server: Process, folder: Path, bundle: Path) -> None:
    """A new version comes, and the old one goes once the new one is ready; the server sees it itself."""
    (old,) = folder.iterdir()
    new = str(int(old.name) + 1)
    bundle.rename(folder / new)
    await _ready(server, {old.name, new})
    old.rename(bundle.with_name("old"))
    await _ready(server, {new})


async def _ready(server: Process, versions: set[str]) -> None:
    deadline = time.monotonic() + SWAP_SECONDS
    while True:
        index = await repository(server, "index")
        if {entry["version"] for entry in index if entry["state"] == "READY"} == versions:
            return
        assert time.monotonic() < deadline, index
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("change", "reload_seconds"),
    [(replaced, 0), (succeeded, 0.2)],
    ids=["replaced", "succeeded"],
)
def test_no_request_fails_while_models_are_swapped(
    change: Change,
    reload_seconds: float,
    tiny: Path,
    tmp_path: Path,
    copy: Callable[..., Path],
    serve: Serve,
    run: Callable[..., Any],
    figure: Callable[[str, str], None],
) -> None:
    questions = snippets("code-language", 100, words=(2, 40))
    for question in questions:
        question.model = NAME

    def bundles() -> Iterator[Path]:
        """Bundles of one model, complete but beside their place; every second one has its labels turned."""
        for number in itertools.count(1):
            version = str(number) if change is succeeded else "1"
            yield copy(tiny, tmp_path / f"made-{number}", NAME, version, turn=number % 2 == 0)

    async def measure() -> tuple[list[float], list[int]]:
        """Seconds of each swap, and resident memory after it."""
        await traffic.learn()
        await change(server, folder, next(made))
        await traffic.learn()
        over = asyncio.Event()
        load = asyncio.create_task(traffic.flood(CLIENTS, over))
        seconds, resident = [], []
        for number in range(SWAPS):
            started = time.monotonic()
            await change(server, folder, next(made))
            seconds.append(time.monotonic() - started)
            resident.append(server.resident)
            reply = await traffic.ask(questions[0])
            assert reply is not None, traffic.faults
            assert questions[0].check(document(reply)) == number % 2, f"swap {number}: the old model answered"
        over.set()
        await load
        return seconds, resident

    folder = tmp_path / "models" / NAME
    folder.mkdir(parents=True)
    made = bundles()
    next(made).rename(folder / "1")
    with serve(folder.parent, store_bytes=STORE_BYTES, reload_seconds=reload_seconds) as server:
        traffic = Traffic(server.port, questions)
        seconds, resident = run(measure())
        traffic.close()
    first, last = statistics.median(resident[5:10]), statistics.median(resident[-5:])
    figure(
        f"{SWAPS} hot swaps, {change.__name__}",
        f"{traffic.faults or 'none'} failed of {traffic.sent}; {statistics.median(seconds):.2f} s each, "
        f"memory {first / MIB:.0f} MiB early on, {last / MIB:.0f} at the end ({last / first - 1:+.1%})",
    )
    assert not traffic.faults, traffic.faults
    assert set(traffic.statuses) == {200}
    assert set(traffic.right) == {0, 1}
    assert last <= (1 + GROWTH) * first, [size // MIB for size in resident]
