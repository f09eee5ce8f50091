"""Whether the server can answer: the smallest input runs through every session, and waits like any other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from service.batch import BatchLimits
from service.job import Job, Outcome
from service.predictor import Predictor, Unloaded
from service.registry import Registry
from service.scheduler import Scheduler

PROBE_SECONDS = 5.0  # until a model that has not answered is said not to
KEPT_SECONDS = 1.0  # for which an answer holds, so that asking often costs nothing

logger = logging.getLogger(__name__)


class Probe:
    """A model as a runner of its own: its probe has a turn, however long the queue of its requests is."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def limits(self) -> BatchLimits:
        return self._predictor.limits

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        return self._predictor.run(jobs)


class Readiness:
    """Probes every version that is served; those who ask at the same time share the answer."""

    def __init__(
        self, *, scheduler: Scheduler, registry: Registry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scheduler = scheduler
        self._registry = registry
        self._clock = clock
        self._probing: asyncio.Task[dict[Predictor, str]] | None = None
        self._faults: dict[Predictor, str] = {}
        self._until = float("-inf")

    async def check(self) -> str | None:
        """None where everything answers, else what does not and why, in a few words."""
        if not self._scheduler.alive:
            return "no requests are taken"
        if refused := self._registry.refused:
            return f"no version can be loaded of {', '.join(refused)}"
        if not self._registry.all():
            return "no model is served"
        return "; ".join((await self._probed()).values()) or None

    async def check_model(self, predictor: Predictor) -> str | None:
        """The same of one version."""
        return (await self._probed()).get(predictor)

    async def _probed(self) -> dict[Predictor, str]:
        if self._probing is None and self._clock() >= self._until:
            self._probing = asyncio.create_task(self._probe_all())
        return self._faults if self._probing is None else await asyncio.shield(self._probing)

    async def _probe_all(self) -> dict[Predictor, str]:
        try:
            served = [entry.served for entry in self._registry.entries() if entry.served is not None]
            found = await asyncio.gather(*(self._probe(predictor) for predictor in served))
            self._faults = {
                predictor: fault for predictor, fault in zip(served, found, strict=True) if fault is not None
            }
            self._until = self._clock() + KEPT_SECONDS
            return self._faults
        finally:
            self._probing = None

    async def _probe(self, predictor: Predictor) -> str | None:
        name = f"{predictor.manifest.name}/{predictor.manifest.version}"
        try:
            with self._registry.keep(predictor):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._scheduler.submit(Probe(predictor), [predictor.smallest])
        except Unloaded:  # meanwhile
            return None
        except TimeoutError:
            return f"{name} does not answer within {PROBE_SECONDS:g} s"
        except Exception as error:
            logger.error("%s fails", name, exc_info=error)
            return f"{name} fails ({type(error).__name__})"
        return None
