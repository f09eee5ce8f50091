"""What was inferred so far, in the shape of the protocol's statistics extension."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BILLION = 1_000_000_000
CACHE = ("cache_hit", "cache_miss")  # answers are never taken from a cache, but clients read both
COMPUTE = ("compute_input", "compute_infer", "compute_output")
STAGES = ("success", "fail", "queue", *COMPUTE, *CACHE)


@dataclass
class _Durations:
    """How often each stage was passed, and nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += round(seconds * BILLION)

    def document(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


def _compute() -> dict[str, _Durations]:
    return {stage: _Durations() for stage in COMPUTE}


@dataclass
class ModelStatistics:
    """Counters of one model version since the server started; recorded and read from any thread.

    A run of a batch is `batch`, an answered request `success`, any other `failure`: what a batch took is thus
    counted once in `batch_stats`, and for each of its requests in `inference_stats`.
    """

    name: str
    version: str
    clock: Callable[[], float] = time.time
    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    _stages: dict[str, _Durations] = field(default_factory=lambda: {name: _Durations() for name in STAGES})
    _batches: dict[int, dict[str, _Durations]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def batch(self, size: int, *, run_seconds: float, maps_seconds: float = 0.0) -> None:
        """One run of `size` inputs; `run_seconds` include those of its maps."""
        with self._lock:
            self.execution_count += 1
            stages = self._batches.setdefault(size, _compute())
            stages["compute_input"].add(0.0)
            stages["compute_infer"].add(run_seconds - maps_seconds)
            stages["compute_output"].add(maps_seconds)

    def success(
        self,
        inputs: int,
        *,
        total_seconds: float,
        decode_seconds: float,
        queue_seconds: float,
        run_seconds: float,
        maps_seconds: float = 0.0,
    ) -> None:
        """A request that was answered; queue, run and maps are those of its slowest input."""
        with self._lock:
            self.inference_count += inputs
            self.last_inference = round(self.clock() * 1000)
            self._stages["success"].add(total_seconds)
            self._stages["queue"].add(queue_seconds)
            self._stages["compute_input"].add(decode_seconds)
            self._stages["compute_infer"].add(run_seconds - maps_seconds)
            self._stages["compute_output"].add(maps_seconds)

    def failure(self, *, total_seconds: float) -> None:
        """A request that was answered with an error, or whose client has left."""
        with self._lock:
            self._stages["fail"].add(total_seconds)

    def document(self) -> dict[str, Any]:
        """As the protocol's `model_stats` has it."""
        with self._lock:
            return {
                "name": self.name,
                "version": self.version,
                "last_inference": self.last_inference,
                "inference_count": self.inference_count,
                "execution_count": self.execution_count,
                "inference_stats": {name: spent.document() for name, spent in self._stages.items()},
                "batch_stats": [
                    {"batch_size": size, **{name: spent.document() for name, spent in stages.items()}}
                    for size, stages in sorted(self._batches.items())
                ],
            }


class Statistics:
    """Those of every model version from `loaded` to `forget`; what is counted of any other goes nowhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[tuple[str, str], ModelStatistics] = {}

    def loaded(self, name: str, version: str) -> None:
        """A version is served from now on; one that was before counts on."""
        with self._lock:
            self._models.setdefault((name, version), ModelStatistics(name=name, version=version))

    def of(self, name: str, version: str) -> ModelStatistics:
        """The counters of a model version."""
        with self._lock:
            found = self._models.get((name, version))
        return ModelStatistics(name=name, version=version) if found is None else found

    def forget(self, name: str, version: str) -> None:
        """Drop the counters of a version that is no longer served."""
        with self._lock:
            self._models.pop((name, version), None)
