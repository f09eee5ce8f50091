"""The one way through the house: admit, decode, schedule, run; the same for every protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from service.admission import Admission, Booking
from service.catalog import Entry
from service.decode.budget import Budget
from service.decode.item import Item
from service.decode.tensors import TensorRow
from service.errors import DeadlineExceeded, Overloaded
from service.job import NOTHING, Outcome, Payload, Wanted
from service.metrics import Metrics
from service.predictor import Predictor
from service.readiness import Readiness
from service.registry import Registry
from service.repository import Place
from service.scheduler import Run, Scheduler
from service.sessions import OutOfMemory, SessionPool
from service.settings import Settings
from service.slices import check_slices
from service.statistics import Statistics
from service.store import Store
from service.threads import Threads
from service.tracing import Tracing
from service.turns import Turns
from service.waiting import Done

Value = TypeVar("Value")
POOLS = ("text", "image", "video", "answer", "drawing")  # none of them waits for the threads of another


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """What a request's inputs gave, one of each for every input; seconds are those of the slowest."""

    items: Sequence[Item]
    done: Sequence[Done]
    decode_seconds: float

    @cached_property
    def outcomes(self) -> list[Outcome]:
        return [one.result for one in self.done]

    @property
    def queue_seconds(self) -> float:
        return max(one.queue_seconds for one in self.done)

    @property
    def run_seconds(self) -> float:
        return max(one.run_seconds for one in self.done)

    @property
    def maps_seconds(self) -> float:
        return max(outcome.maps_seconds for outcome in self.outcomes)

    @property
    def is_short(self) -> bool:
        """Whether saying what was found, without maps, is done sooner than another thread would begin."""
        return len(self.items) == 1

    @property
    def cost(self) -> int:
        """Tokens or pixels, without padding."""
        return sum(item.cost for item in self.items)


class Inference:
    """Models, slots and kept predictions of one server. `load` first, then `start` in a running loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.tracing = Tracing.to(settings.otlp_endpoint)
        self.statistics = Statistics()
        self.registry = Registry(settings.models, self._open, observe=self._changed)
        self.scheduler = Scheduler(
            slots=settings.concurrent_runs, queue_batches=settings.queue_batches, observe=self._ran
        )
        self.readiness = Readiness(scheduler=self.scheduler, registry=self.registry)
        self.admission = Admission(requests=settings.max_requests, nbytes=settings.max_request_bytes)
        self._decoding = Budget(settings.limits())
        self._turns = Turns()
        self.store = Store(max_bytes=settings.store_bytes, seconds=settings.store_seconds)
        self._threads = {name: Threads(name=name, count=settings.decode_threads) for name in POOLS}
        self.draining = False  # from the first signal on: still serving, but not ready
        self._pool: SessionPool | None = None
        self._watching: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Open the device and every model of the repository; raises ProviderError and BundleError."""
        settings = self.settings
        self._pool = SessionPool(device=settings.device, gpu_memory_mib=settings.gpu_memory_mib)
        self.registry.open()

    def start(self) -> None:
        """Begin to take requests and, where it is asked for, to look for new models."""
        self.scheduler.start()
        if seconds := self.settings.reload_seconds:
            self._watching = asyncio.create_task(self.registry.watch(seconds))

    async def close(self) -> None:
        """Answer what was accepted, then stop."""
        if self._watching is not None:
            self._watching.cancel()
        await self.scheduler.close()
        await self.registry.close()
        for threads in self._threads.values():
            threads.close()

    @asynccontextmanager
    async def admit(
        self, name: str, version: str | None = None, *, nbytes: int = 0
    ) -> AsyncIterator[tuple[Predictor, Booking]]:
        """The model of a request, and the room of its body: so many bytes, which may turn out to be more.

        The request is under way while the block lasts. The model stays loaded until then, whatever becomes of
        it in the repository. Raises NotFound and Overloaded.
        """
        with self.registry.lease(name, version) as predictor:
            async with self.under_way(predictor, nbytes=nbytes) as booking:
                yield predictor, booking

    @asynccontextmanager
    async def under_way(self, predictor: Predictor, *, nbytes: int = 0) -> AsyncIterator[Booking]:
        """Count a request of a model as long as the block lasts, and whatever it raises as a failure.

        The block begins when it is the request's turn. Raises Overloaded.
        """
        name, version = predictor.manifest.name, predictor.manifest.version
        started = time.perf_counter()
        try:
            with self.admission.enter(name, nbytes) as booking:
                async with self.within():
                    await self._turns.wait(name)
                yield booking
        except BaseException as error:
            if isinstance(error, Overloaded):
                error.promise(self.admission.backlog(name))
            self.metrics.failure(name, version, type(error).__name__)
            self.statistics.of(name, version).failure(total_seconds=time.perf_counter() - started)
            raise

    async def infer(
        self,
        predictor: Predictor,
        payloads: Sequence[Payload | TensorRow],
        wanted: Wanted = NOTHING,
    ) -> Inferred:
        """Decode and run a request's inputs, in a block of `within`; raises a Problem."""
        started, started_ns = time.perf_counter(), time.time_ns()
        items = await self._decode(predictor, payloads)
        decoded = time.perf_counter()
        jobs = [predictor.job(item, wanted) for item in items]
        check_slices(job.slices for job in jobs)
        done = await self.scheduler.submit(predictor, jobs)
        found = Inferred(items=items, done=done, decode_seconds=decoded - started)
        self._trace(predictor, found, started_ns)
        return found

    def answered(self, predictor: Predictor, found: Inferred, seconds: float) -> None:
        """Count a request that was answered with predictions, after so many seconds."""
        name, version = predictor.manifest.name, predictor.manifest.version
        self.metrics.prediction(
            name,
            version,
            inputs=len(found.items),
            queue=found.queue_seconds,
            decode=found.decode_seconds,
            run=found.run_seconds,
            maps=found.maps_seconds,
        )
        self.statistics.of(name, version).success(
            len(found.items),
            total_seconds=seconds,
            decode_seconds=found.decode_seconds,
            queue_seconds=found.queue_seconds,
            run_seconds=found.run_seconds,
            maps_seconds=found.maps_seconds,
        )

    def _trace(self, predictor: Predictor, found: Inferred, started_ns: int) -> None:
        """One span for each stage of a request, one after the other; that of the maps ends with the run."""
        if not self.tracing.enabled:
            return
        decoded = started_ns + int(1e9 * found.decode_seconds)
        queued = decoded + int(1e9 * found.queue_seconds)
        ended = queued + int(1e9 * found.run_seconds)
        attributes: dict[str, str | int] = {
            "regard.model": predictor.manifest.name,
            "regard.version": predictor.manifest.version,
            "regard.inputs": len(found.items),
        }
        for name, start, end in (
            ("decode", started_ns, decoded),
            ("queue", decoded, queued),
            ("run", queued, ended),
            ("maps", ended - int(1e9 * found.maps_seconds), ended),
        ):
            self.tracing.span(name, start, end, attributes)

    @asynccontextmanager
    async def within(self, timeout: float | None = None) -> AsyncIterator[None]:
        """A block that ends within so many seconds, at most the server's own number.

        Raises DeadlineExceeded; what had not begun to run until then never does. Memory that does not
        suffice is Overloaded.
        """
        own = self.settings.timeout_seconds
        seconds = own if timeout is None else min(timeout, own)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no answer within {seconds:g} seconds", field="timeout", limit=seconds
            ) from error
        except OutOfMemory as error:
            raise Overloaded("memory does not suffice for this input at present", field="memory") from error

    async def in_thread(
        self, pool: str, predictor: Predictor, function: Callable[..., Value], *args: Any
    ) -> Value:
        """Run something slow of a model in one of the threads for it."""
        return await self._threads[pool].run(predictor.manifest.name, function, *args)

    async def _decode(self, predictor: Predictor, payloads: Sequence[Payload | TensorRow]) -> Sequence[Item]:
        only = payloads[0] if len(payloads) == 1 else None
        if isinstance(only, Payload) and only.is_short:
            return [predictor.decode(only)]
        family = predictor.manifest.family
        decodes = [
            asyncio.ensure_future(self.in_thread(family, predictor, _without_original, predictor, payload))
            for payload in payloads
        ]
        try:
            return await asyncio.gather(*decodes)
        finally:
            for decode in decodes:  # where one failed, or the client has left, the others are for nobody
                decode.cancel()

    def _open(self, folder: Path) -> Predictor:
        assert self._pool is not None
        return Predictor.load(
            folder,
            self._pool,
            self.settings.limits(),
            batch_tokens=self.settings.tokens_of_a_batch,
            batch_pixels=self.settings.pixels_of_a_batch,
            batch_tap_bytes=self.settings.batch_tap_bytes,
            budget=self._decoding,
        )

    def _changed(self, place: Place, entry: Entry | None) -> None:
        """Count for a version from the time it is ready until its last request is answered."""
        if entry is None or entry.predictor is None:
            self.metrics.forget(place.name, place.version)
            self.statistics.forget(place.name, place.version)
        elif entry.served is not None:
            self.metrics.loaded(place.name, place.version, entry.load_seconds or 0)
            self.statistics.loaded(place.name, place.version)

    def _ran(self, run: Run) -> None:
        """Count a batch; what readiness runs is nobody's request."""
        if not isinstance(run.runner, Predictor):
            return
        name, version = run.runner.manifest.name, run.runner.manifest.version
        self.metrics.batch(
            name,
            version,
            size=len(run.results),
            cost=run.cost,
            padding_share=run.padding_share,
            seconds=run.seconds,
        )
        self.statistics.of(name, version).batch(
            len(run.results), run_seconds=run.seconds, maps_seconds=run.results[0].maps_seconds
        )


def _without_original(predictor: Predictor, payload: Payload | TensorRow) -> Item:
    """An input for a run: of a picture or clip, what is drawn on is decoded again when it is drawn on."""
    return predictor.decode(payload).without_original()
