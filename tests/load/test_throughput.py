"""How much of a session's own speed is left over HTTP, and what a request costs the server."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.load.bare import BareLoop
from tests.load.conftest import Serve
from tests.load.question import numbered, snippets
from tests.load.traffic import Traffic

pytestmark = pytest.mark.load

ROUNDS = 5
ROUND_SECONDS = 8
SLOTS = 2
LEAST = 0.90


@pytest.mark.parametrize(
    ("tokens", "clients"), [((16, 16), 128), ((128, 128), 32), ((8, 256), 32)], ids=["16", "128", "8 to 256"]
)
def test_http_keeps_nine_tenths_of_a_bare_session_loop(
    bert: Path,
    tokens: tuple[int, int],
    clients: int,
    serve: Serve,
    run: Callable[..., Any],
    figure: Callable[[str, str], None],
) -> None:
    questions = numbered("bert-base", 64, tokens=tokens)
    bare = BareLoop(bert, slots=SLOTS)
    feeds = bare.feeds([question.body.decode() for question in questions])
    rates = []
    with serve(bert.parents[1], slots=SLOTS) as server:
        traffic = Traffic(server.port, questions)
        run(traffic.learn())
        for _ in range(ROUNDS):
            alone = bare.run(feeds, ROUND_SECONDS).per_second
            rates.append((alone, run(traffic.saturate(clients, ROUND_SECONDS))))
        traffic.close()
    assert not traffic.faults, traffic.faults
    assert set(traffic.statuses) == {200}
    ratios = [http / alone for alone, http in rates]
    for what, index in (("bare session loop", 0), ("HTTP", 1)):
        middle = statistics.median(pair[index] for pair in rates)
        figure(f"BERT-base, {tokens[0]} to {tokens[1]} tokens, {what}", f"{middle:.1f} texts/s")
    middle = statistics.median(ratios)
    figure(
        f"BERT-base, {tokens[0]} to {tokens[1]} tokens, HTTP / bare",
        f"{middle:.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f}; at least {LEAST})",
    )
    assert middle >= LEAST, rates


def test_what_a_request_costs_beside_its_run(
    tiny: Path, serve: Serve, run: Callable[..., Any], figure: Callable[[str, str], None]
) -> None:
    questions = snippets("code-language", 50, words=(8, 12))
    bare = BareLoop(tiny, slots=1)
    feeds = bare.feeds([question.body.decode() for question in questions])
    seconds: list[tuple[float, float]] = []  # of a bare run, of a request; one at a time
    cpu_seconds: list[tuple[float, float]] = []  # the same, of a request beside many others
    with serve(tiny.parents[1]) as server:
        traffic = Traffic(server.port, questions)
        run(traffic.learn())
        for _ in range(ROUNDS):
            pace = bare.run(feeds, 2)
            traffic.seconds.clear()
            run(traffic.saturate(1, 2))
            seconds.append((1 / pace.per_second, statistics.median(traffic.seconds)))
            answered, before = len(traffic.seconds), server.cpu_seconds
            run(traffic.saturate(32, 4))
            spent = (server.cpu_seconds - before) / (len(traffic.seconds) - answered)
            cpu_seconds.append((pace.cpu_seconds, spent))
        traffic.close()
    assert not traffic.faults, traffic.faults
    for what, pairs in (("time, one client", seconds), ("server's CPU time, 32 clients", cpu_seconds)):
        alone, asked = (1e6 * statistics.median(side) for side in zip(*pairs, strict=True))
        over = 1e6 * statistics.median(one - other for other, one in pairs)
        figure(
            f"tiny text model, {what}",
            f"{asked:.0f} µs a request, its run {alone:.0f} µs: {over:.0f} µs beside it",
        )
