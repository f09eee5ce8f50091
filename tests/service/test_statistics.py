"""What is counted, for whom, and in which units."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from service.statistics import ModelStatistics, Statistics
from service.v2.documents import ModelStatisticsDocument

SECOND = 1_000_000_000


def answer(statistics: ModelStatistics, inputs: int = 1) -> None:
    statistics.success(
        inputs,
        total_seconds=10.0,
        decode_seconds=1.0,
        queue_seconds=2.0,
        run_seconds=5.0,
        maps_seconds=1.5,
    )


def test_nothing_was_counted_at_first() -> None:
    document = Statistics().of("m", "1").document()
    assert (document["name"], document["version"]) == ("m", "1")
    assert (document["last_inference"], document["inference_count"], document["execution_count"]) == (0, 0, 0)
    stages = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output"}
    assert document["inference_stats"].keys() == stages | {"cache_hit", "cache_miss"}
    assert all(spent == {"count": 0, "ns": 0} for spent in document["inference_stats"].values())
    assert document["batch_stats"] == []


def test_a_request_counts_its_inputs_and_its_stages_once() -> None:
    statistics = ModelStatistics(name="m", version="1", clock=lambda: 1234.5678)
    answer(statistics, inputs=3)
    answer(statistics)
    statistics.failure(total_seconds=0.25)
    document = statistics.document()
    assert document["inference_count"] == 4
    assert document["last_inference"] == 1_234_568
    seconds = {"success": 10, "queue": 2, "compute_input": 1, "compute_infer": 3.5, "compute_output": 1.5}
    for stage, each in seconds.items():
        assert document["inference_stats"][stage] == {"count": 2, "ns": 2 * each * SECOND}
    assert document["inference_stats"]["fail"] == {"count": 1, "ns": SECOND // 4}


def test_a_batch_counts_under_its_size() -> None:
    statistics = ModelStatistics(name="m", version="1")
    for size, seconds in ((8, 2.0), (1, 0.5), (8, 1.0)):
        statistics.batch(size, run_seconds=seconds, maps_seconds=0.25)
    document = statistics.document()
    assert document["execution_count"] == 3
    assert document["inference_count"] == 0
    first, second = document["batch_stats"]
    assert (first["batch_size"], second["batch_size"]) == (1, 8)
    assert first["compute_infer"] == {"count": 1, "ns": SECOND // 4}
    assert second["compute_infer"] == {"count": 2, "ns": 2.5 * SECOND}
    assert second["compute_output"] == {"count": 2, "ns": SECOND // 2}
    ModelStatisticsDocument.model_validate(document, strict=True)


def test_versions_are_counted_apart_and_kept() -> None:
    statistics = Statistics()
    for version in ("1", "2"):
        statistics.loaded("m", version)
    answer(statistics.of("m", "1"))
    answer(statistics.of("m", "2"))
    statistics.loaded("m", "2")  # its folder was replaced
    answer(statistics.of("m", "2"))
    answer(statistics.of("m", "3"))  # never loaded
    assert [statistics.of("m", one).inference_count for one in ("1", "2", "3")] == [1, 2, 0]


def test_a_version_that_was_forgotten_begins_at_zero() -> None:
    statistics = Statistics()
    for version in ("1", "2"):
        statistics.loaded("m", version)
        answer(statistics.of("m", version))
    statistics.forget("m", "1")
    statistics.forget("m", "1")
    answer(statistics.of("m", "1"))  # by a request that it still had
    statistics.loaded("m", "1")
    assert [statistics.of("m", one).inference_count for one in ("1", "2")] == [0, 1]


def test_nothing_is_lost_when_threads_count_at_once() -> None:
    statistics = Statistics()
    statistics.loaded("m", "1")
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(lambda: answer(statistics.of("m", "1"))) for _ in range(400)]:
            done.result(10)
    assert statistics.of("m", "1").document()["inference_stats"]["success"] == {
        "count": 400,
        "ns": 4000 * SECOND,
    }
