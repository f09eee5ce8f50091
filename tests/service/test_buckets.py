"""Which shapes a model is warmed up with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from service.batch import BatchLimits
from service.buckets import buckets, lengths


@dataclass(frozen=True)
class Job:
    cost: int
    taps: Mapping[str, int] = field(default_factory=dict)


def shapes(jobs: list[Job], *, cost: int, tap_bytes: int = 2**40, jobs_limit: int | None = None) -> list[str]:
    found = buckets(jobs, BatchLimits(cost=cost, tap_bytes=tap_bytes, jobs=jobs_limit))
    return [f"{len(batch)}x{batch[0].cost}" for batch in found]


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(1, [1]), (2, [1, 2]), (64, [1, 2, 4, 8, 16, 32, 64]), (77, [1, 2, 4, 8, 16, 32, 64, 77])],
)
def test_lengths_are_powers_of_two_and_the_longest(longest: int, expected: list[int]) -> None:
    assert lengths(longest) == expected


def test_every_length_runs_alone_and_batches_of_another_cost_too() -> None:
    jobs = [Job(cost) for cost in (1, 2, 4)]
    assert shapes(jobs, cost=8) == ["1x1", "1x2", "1x4", "2x4"]
    assert shapes(jobs, cost=11) == ["1x1", "1x2", "1x4", "2x4", "5x2", "11x1"]


def test_what_is_run_stays_bounded_however_large_a_batch_may_be() -> None:
    jobs = [Job(cost) for cost in lengths(512)]
    for cost in (1, 100, 512, 600, 1000, 4096):
        batches = buckets(jobs, BatchLimits(cost=cost, tap_bytes=2**40))[len(jobs) :]
        assert sum(len(batch) * batch[0].cost for batch in batches) <= 6 * cost
        assert all(len(batch) * batch[0].cost <= cost for batch in batches)


def test_a_model_that_takes_one_input_at_a_time_is_warmed_up_so() -> None:
    assert shapes([Job(1), Job(4)], cost=100, jobs_limit=1) == ["1x1", "1x4"]


def test_no_batch_holds_more_taps_than_one_may() -> None:
    assert shapes([Job(10, {"q": 50, "k": 50})], cost=100, tap_bytes=399) == ["1x10", "3x10"]


def test_an_input_beyond_the_limits_runs_alone() -> None:
    assert shapes([Job(10, {"q": 50})], cost=5, tap_bytes=1) == ["1x10"]
