"""What is recorded can be scraped, and series do not outlive the model they are of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.app import create_app
from service.metrics import Metrics
from service.settings import Settings

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def scraped(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in parse_text(metrics.exposition("")[0].decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found = [
        sample.value
        for family in scraped(metrics).values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found[0] if found else None


def series_of(metrics: Metrics, model: str) -> set[str]:
    return {
        sample.name
        for family in scraped(metrics).values()
        for sample in family.samples
        if sample.labels.get("model") == model
    }


def record(metrics: Metrics, model: str, version: str) -> None:
    metrics.prediction(model, version, inputs=3, queue=0.25, decode=0.5, run=2, maps=1)
    metrics.batch(model, version, size=8, cost=512, padding_share=0.04, seconds=2)
    metrics.rendered(model, version, 0.125)
    metrics.failure(model, version, "Overloaded")


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics()
    made.loaded("a", "1", 1.5)
    return made


def test_what_is_recorded_is_scraped(metrics: Metrics) -> None:
    record(metrics, "a", "1")
    expected = {
        "regard_requests_total": 1,
        "regard_inputs_total": 3,
        "regard_queue_seconds_sum": 0.25,
        "regard_decode_seconds_sum": 0.5,
        "regard_run_seconds_sum": 2,
        "regard_maps_seconds_sum": 1,
        "regard_render_seconds_sum": 0.125,
        "regard_batch_size_sum": 8,
        "regard_batch_cost_sum": 512,
        "regard_batch_padding_ratio_sum": 0.04,
        "regard_batch_seconds_sum": 2,
        "regard_load_seconds": 1.5,
    }
    assert {name: value(metrics, name, model="a", version="1") for name in expected} == expected
    assert value(metrics, "regard_failures_total", model="a", version="1", reason="Overloaded") == 1
    assert value(metrics, "regard_batch_size_bucket", model="a", version="1", le="4.0") == 0
    assert value(metrics, "regard_batch_size_bucket", model="a", version="1", le="8.0") == 1


def test_a_version_counts_from_zero_as_soon_as_it_is_loaded(metrics: Metrics) -> None:
    assert value(metrics, "regard_requests_total", model="a", version="1") == 0


def test_a_version_that_is_forgotten_leaves_nothing_and_takes_nothing(metrics: Metrics) -> None:
    metrics.loaded("a", "2", 1)
    for version in ("1", "2"):
        record(metrics, "a", version)
    metrics.forget("a", "1")
    record(metrics, "a", "1")
    assert value(metrics, "regard_requests_total", model="a", version="1") is None
    assert value(metrics, "regard_requests_total", model="a", version="2") == 1
    metrics.forget("a", "2")
    assert series_of(metrics, "a") == set()


def test_a_thousand_swaps_do_not_let_the_series_grow(metrics: Metrics) -> None:
    size = len(metrics.exposition("")[0])
    for version in range(1000):
        metrics.loaded("b", str(version), 1)
        record(metrics, "b", str(version))
        metrics.forget("b", str(version))
    record(metrics, "b", "7")  # by a request that was still under way
    assert abs(len(metrics.exposition("")[0]) - size) < 500


def test_names_that_clients_make_up_make_no_series(metrics: Metrics) -> None:
    for index in range(10):
        metrics.failure(f"made-up-{index}", "1", "NotFound")
        metrics.request(f"BREW{index}", "", 405, 0.1)
    assert value(metrics, "regard_failures_total", model="", version="", reason="NotFound") == 10
    counted = value(
        metrics,
        "http_server_request_duration_seconds_count",
        http_request_method="_OTHER",
        http_route="",
        http_response_status_code="405",
    )
    assert counted == 10


def test_gauges_are_read_when_they_are_scraped(metrics: Metrics) -> None:
    waiting: list[int] = []
    metrics.gauge("queue_depth", "Inputs that wait.", lambda: len(waiting))
    assert value(metrics, "regard_queue_depth") == 0
    waiting += [1, 2]
    assert value(metrics, "regard_queue_depth") == 2


def test_two_servers_in_one_process_count_for_themselves(metrics: Metrics) -> None:
    other = Metrics()
    record(metrics, "a", "1")
    assert series_of(other, "a") == set()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=x", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.x.é", "text/plain; version=0.0.4"),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(metrics: Metrics, accept: str, content_type: str) -> None:
    content, found = metrics.exposition(accept)
    assert found.startswith(content_type)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    assert "regard_requests" in {family.name for family in parse(content.decode())}


def test_the_table_of_the_readme_has_every_metric(client: TestClient) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in parse_openmetrics(client.get("/metrics", headers={"accept": OPENMETRICS}).text)
    }
    assert len(families) > 20
    general = ("process_", "python_info")
    assert {name for name in families if not name.startswith(general) and f"`{name}`" not in readme} == set()


def samples(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = client.get("/metrics", headers={"accept": OPENMETRICS})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0;")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_openmetrics(response.text)
        for sample in family.samples
    }


def key(name: str, **labels: Any) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_a_server_counts_what_it_does(client: TestClient) -> None:
    before = samples(client)
    predict = "/v1/models/tiny-text/predict"
    answer = client.post(predict, json={"text": ["a", "bb"], "maps": ["cls"]}).json()
    assert client.get(answer["predictions"][0]["maps"][0]["links"]["json"]).status_code == 200
    assert client.post(predict, json={"text": ""}).status_code in (200, 400)
    assert client.post(predict, json={"words": "a"}).status_code == 400
    client.get("/no/such/place")
    after = samples(client)
    model = {"model": "tiny-text", "version": "1"}

    def grown(name: str, **labels: str) -> float:
        return after.get(key(name, **labels), 0) - before.get(key(name, **labels), 0)

    assert grown("regard_requests_total", **model) >= 1
    assert grown("regard_inputs_total", **model) >= 2
    assert grown("regard_batch_size_sum", **model) >= 2
    assert grown("regard_run_seconds_sum", **model) > 0
    assert grown("regard_render_seconds_count", **model) == 1
    assert (
        sum(
            grown(name, **dict(labels))
            for name, labels in after
            if name == "regard_failures_total" and ("model", "tiny-text") in labels
        )
        >= 1
    )
    assert after[key("regard_load_seconds", **model)] > 0
    assert after[key("regard_store_records")] >= 1
    assert after[key("regard_store_bytes")] > 0
    assert after[key("regard_queue_depth")] == after[key("regard_slots_busy")] == 0
    assert after[key("regard_requests_under_way")] == after[key("regard_request_bytes_under_way")] == 0
    assert after[key("process_resident_memory_bytes")] > 2**20
    route = {"http_request_method": "POST", "http_route": "/v1/models/{name}/predict"}
    seconds = "http_server_request_duration_seconds_count"
    assert grown(seconds, **route, http_response_status_code="400") >= 1
    assert grown(seconds, http_request_method="GET", http_route="", http_response_status_code="404") == 1
    assert not any("no/such/place" in value for _, labels in after for _, value in labels)


def test_a_model_that_is_unloaded_leaves_no_series(text_repository: Path) -> None:
    with TestClient(create_app(Settings(models=text_repository, device="cpu", slots=1))) as client:
        assert client.post("/v1/models/tiny-text/predict", json={"text": "a"}).status_code == 200
        assert 'model="tiny-text"' in client.get("/metrics").text
        assert client.post("/v2/repository/models/tiny-text/unload").status_code == 200
        deadline = time.monotonic() + 20
        while 'model="tiny-text"' in client.get("/metrics").text:
            assert time.monotonic() < deadline
        assert client.post("/v1/models/tiny-text/predict", json={"text": "a"}).status_code == 404
        assert 'model="tiny-text"' not in client.get("/metrics").text
