"""The shapes that a model is warmed up with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from service.batch import BatchLimits, Job, form_batch

AnyJob = TypeVar("AnyJob", bound=Job)


def lengths(longest: int) -> list[int]:
    """1, the powers of two up to the longest, and the longest itself."""
    return sorted({*(1 << power for power in range(longest.bit_length())), longest})


def buckets(jobs: Sequence[AnyJob], limits: BatchLimits) -> list[list[AnyJob]]:
    """Every job alone, then the largest batch of each, from the costliest job down.

    Batches that cost what one before them did are left out: their products of matrices have its shapes.
    """
    found = [[job] for job in jobs]
    costs = {job.cost for job in jobs}
    for job in sorted(jobs, key=lambda job: job.cost, reverse=True):
        size = len(form_batch([job] * max(1, limits.cost // job.cost), limits))
        if size * job.cost not in costs:
            costs.add(size * job.cost)
            found.append([job] * size)
    return found
