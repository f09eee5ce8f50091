"""Which jobs run together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from service.batch import BatchLimits, form_batch


@dataclass(frozen=True)
class Job:
    cost: int = 10
    taps: Mapping[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("costs", "limit", "chosen"),
    [
        ([5], 10, {0}),
        ([50], 10, {0}),
        ([50, 50], 10, {0}),
        ([5, 5], 10, {0, 1}),
        ([5, 5, 5], 10, {0, 1}),
        ([100, 1, 100], 1000, {0, 2}),  # 1 beside 100 would be mostly padding
        ([1, 100, 100], 1000, {0}),  # the oldest goes first, however good the others fit
        ([20, 19, 18, 17], 1000, {0, 1, 2}),  # 57 of 60, then 74 of 80
        ([10, 11, 9, 10], 40, {0, 2, 3}),  # 31 of 33 is too little, 29 of 30 is not
        ([100, 99, 101], 250, {0, 1}),
    ],
)
def test_the_oldest_job_is_joined_by_those_nearest_to_it(
    costs: list[int], limit: int, chosen: set[int]
) -> None:
    found = form_batch([Job(cost) for cost in costs], BatchLimits(cost=limit, tap_bytes=0))
    assert found == sorted(chosen)


def test_a_batch_of_one_is_all_that_is_left_where_neighbours_would_change_an_answer() -> None:
    assert form_batch([Job(), Job()], BatchLimits(cost=1000, tap_bytes=0, jobs=1)) == [0]


QUERY, KEY, BOTH = {"query": 10}, {"key": 10}, {"query": 10, "key": 10}


@pytest.mark.parametrize(
    ("taps", "chosen"),
    [
        ([QUERY, QUERY, QUERY, QUERY], [0, 1, 2]),  # 30 of 35 bytes
        ([BOTH, BOTH], [0]),  # 40
        ([QUERY, KEY], [0]),  # what one needs is kept of both: 40
        ([{}, {}, QUERY, {}, {}], [0, 1, 2]),  # 30, and would be 40 with a fourth
        ([{}, KEY, QUERY], [0, 1]),
        ([{"query": 100}, {}], [0]),  # alone it may be larger
        ([{}, {"query": 18}, {}], [0, 2]),  # 36 beside one other: the one that asks waits
    ],
)
def test_the_taps_of_all_jobs_of_a_batch_are_bounded(taps: list[dict[str, int]], chosen: list[int]) -> None:
    found = form_batch([Job(taps=one) for one in taps], BatchLimits(cost=1000, tap_bytes=35))
    assert found == chosen
