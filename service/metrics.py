"""What a server counts and times, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

# OpenTelemetry's buckets of http.server.request.duration, in seconds.
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# A small model runs in less than a millisecond; no request takes much longer than a minute.
STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
COSTS = tuple(4**power for power in range(2, 13))  # tokens, pixels: 16 to 16.8 million
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
VERSION = ("model", "version")
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}


@dataclass(frozen=True, kw_only=True)
class _Series:
    """What is recorded of model versions: of all of them, or the series of one."""

    requests: Counter
    inputs: Counter
    queue: Histogram
    decode: Histogram
    run: Histogram
    maps: Histogram
    render: Histogram
    size: Histogram
    cost: Histogram
    padding: Histogram
    batch: Histogram
    load: Gauge

    def labels(self, model: str, version: str) -> _Series:
        """The series of one version."""
        return _Series(**{one.name: getattr(self, one.name).labels(model, version) for one in fields(self)})

    def remove(self, model: str, version: str) -> None:
        """Take the series of one version off."""
        for one in fields(self):
            getattr(self, one.name).remove_by_labels({"model": model, "version": version})


class Metrics:
    """Counters, histograms and gauges of one server.

    A model version has series from `loaded` to `forget`: what is recorded of any other is dropped, so neither
    hot swaps nor names that clients make up let them grow.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families = _Series(
            requests=self._counter("requests", "Requests that were answered with predictions."),
            inputs=self._counter("inputs", "Inputs that were predicted."),
            queue=self._seconds("queue", "Time a request waited for a slot."),
            decode=self._seconds("decode", "Time to decode a request's inputs."),
            run=self._seconds("run", "Time the batch of a request took, its maps included."),
            maps=self._seconds("maps", "Time the batch of a request took for maps."),
            render=self._seconds("render", "Time to draw a map, or to write down its numbers."),
            size=self._histogram("batch_size", "Inputs in a batch.", SIZES),
            cost=self._histogram("batch_cost", "Padded tokens or pixels of a batch.", COSTS),
            padding=self._histogram("batch_padding_ratio", "Share of a batch that is padding.", SHARES),
            batch=self._seconds("batch", "Time of a batch in its slot."),
            load=self._gauge("load_seconds", "Time to load a version and warm it up."),
        )
        self._failures = Counter(
            "regard_failures",
            "Requests that got no prediction, by what was wrong.",
            (*VERSION, "reason"),
            registry=self.registry,
        )
        self._http = Histogram(
            "http_server_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=HTTP_SECONDS,
            registry=self.registry,
        )
        self._series: dict[tuple[str, str], _Series] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def _counter(self, name: str, documentation: str) -> Counter:
        return Counter(f"regard_{name}", documentation, VERSION, registry=self.registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"regard_{name}", documentation, VERSION, registry=self.registry)

    def _seconds(self, stage: str, documentation: str) -> Histogram:
        return self._histogram(f"{stage}_seconds", documentation, STAGE_SECONDS)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"regard_{name}", documentation, VERSION, buckets=buckets, registry=self.registry)

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A value `regard_NAME` that is read whenever the metrics are."""
        Gauge(f"regard_{name}", documentation, registry=self.registry).set_function(read)

    def loaded(self, model: str, version: str, seconds: float) -> None:
        """A version is served from now on; its series begin at zero."""
        series = self._families.labels(model, version)
        series.load.set(seconds)
        self._series[model, version] = series

    def forget(self, model: str, version: str) -> None:
        """A version is no longer served; recording of what it still answers goes nowhere."""
        self._series.pop((model, version), None)
        self._families.remove(model, version)
        self._failures.remove_by_labels({"model": model, "version": version})

    def prediction(
        self,
        model: str,
        version: str,
        *,
        inputs: int,
        queue: float,
        decode: float,
        run: float,
        maps: float,
    ) -> None:
        """A request of so many inputs was answered; times in seconds."""
        if (series := self._series.get((model, version))) is not None:
            series.requests.inc()
            series.inputs.inc(inputs)
            series.queue.observe(queue)
            series.decode.observe(decode)
            series.run.observe(run)
            series.maps.observe(maps)

    def batch(
        self, model: str, version: str, *, size: int, cost: int, padding_share: float, seconds: float
    ) -> None:
        """A batch was run: its inputs, its padded cost, and the share of that which is padding (0 to 1)."""
        if (series := self._series.get((model, version))) is not None:
            series.size.observe(size)
            series.cost.observe(cost)
            series.padding.observe(padding_share)
            series.batch.observe(seconds)

    def rendered(self, model: str, version: str, seconds: float) -> None:
        """A map was drawn, or its numbers written."""
        if (series := self._series.get((model, version))) is not None:
            series.render.observe(seconds)

    def failure(self, model: str, version: str, reason: str) -> None:
        """A request was not answered; `reason` is the class of the problem.

        One for a model that is not served counts under no name.
        """
        known = (model, version) if (model, version) in self._series else ("", "")
        self._failures.labels(*known, reason).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """An HTTP request was answered; `route` is the template of its path, empty where there is none."""
        bounded = method if method in METHODS else "_OTHER"
        self._http.labels(bounded, route, status).observe(seconds)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything as text, in the format that `accept` prefers, and its content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return encode(self.registry), content_type
