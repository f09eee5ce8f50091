"""What runs together: bounded by cost, by padding, and by the memory of the taps that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

PADDING_SHARE = 0.05  # of a batch's cost that may be padding


class Job(Protocol):
    """One input of one request.

    A batch costs its number of jobs times the largest cost among them. `taps` are the bytes of each tap that
    the job's maps are made of, by name: what one job needs is kept for every job of its batch.
    """

    @property
    def cost(self) -> int: ...

    @property
    def taps(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """The most of one batch: padded cost, bytes of taps, number of jobs. A job beyond them runs alone."""

    cost: int
    tap_bytes: int
    jobs: int | None = None


def form_batch(jobs: Sequence[Job], limits: BatchLimits) -> list[int]:
    """Which jobs to run together: the first, and those nearest to it in cost; indices in order.

    The padded cost (number x largest) and the taps stay within `limits`, padding below PADDING_SHARE.
    """
    first = jobs[0]
    chosen, total, largest = [0], first.cost, first.cost
    taps = dict(first.taps)
    for index in sorted(range(1, len(jobs)), key=lambda index: abs(jobs[index].cost - first.cost)):
        if len(chosen) == limits.jobs:
            break
        cost, count = jobs[index].cost, len(chosen) + 1
        padded = count * max(largest, cost)
        if padded > limits.cost or total + cost < (1 - PADDING_SHARE) * padded:
            continue
        grown = {name: max(size, taps.get(name, 0)) for name, size in jobs[index].taps.items()}
        if count * sum((taps | grown).values()) > limits.tap_bytes:
            continue
        chosen.append(index)
        total, largest, taps = total + cost, max(largest, cost), taps | grown
    return sorted(chosen)
