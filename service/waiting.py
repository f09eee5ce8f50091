"""What waits for a runner, and what it has had of the slots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from service.batch import Job

PACE_WEIGHT = 0.2  # of the latest run in the moving average of what a unit of cost takes


@dataclass(frozen=True)
class Done:
    """A job's result and what it took, in seconds; `batch` jobs ran together."""

    result: Any
    queue_seconds: float
    run_seconds: float
    batch: int


@dataclass(eq=False)
class Entry:
    """A job and the place where its submitter waits for it; cancelled where nobody does any more."""

    job: Job
    future: asyncio.Future[Done]
    arrived: float = field(default_factory=time.monotonic)


@dataclass
class Queue:
    """Entries in order of arrival. `served` is the slots' time in seconds, as fair shares count it.

    `pace` is the seconds that a unit of cost takes, 0 as long as nothing is known.
    """

    entries: dict[Entry, None] = field(default_factory=dict)
    waiting_cost: int = 0
    running: int = 0
    served: float = 0.0
    pace: float = 0.0

    @property
    def active(self) -> bool:
        return bool(self.entries or self.running)

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.entries[entry] = None
            self.waiting_cost += entry.job.cost

    def remove(self, entries: Iterable[Entry]) -> None:
        """Take out those of these entries that still wait."""
        for entry in entries:
            if entry in self.entries:
                del self.entries[entry]
                self.waiting_cost -= entry.job.cost

    def learn(self, cost: int, seconds: float) -> None:
        """Note that a batch of this padded cost took so long."""
        weight = PACE_WEIGHT if self.pace else 1
        self.pace += (seconds / cost - self.pace) * weight
