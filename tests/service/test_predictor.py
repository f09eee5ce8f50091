"""One input gives one answer: alone or in a batch, padded or not, and the one that torch gives."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoints.checkpoint import Checkpoint
from service.bundle import BundleError, Manifest
from service.decode.item import Item, TextItem
from service.decode.limits import Limits
from service.errors import InvalidInput, UnknownOption, UnsupportedMedia
from service.graphs import Graphs
from service.job import Job, Outcome, Payload, Wanted
from service.predictor import Predictor, Unloaded
from service.scheduler import Scheduler
from service.sessions import OutOfMemory, Program, SessionPool
from service.waiting import Done

TOLERANCE = 1e-5
TEXTS = ["a", "fn main() { println!(); }", "x" * 100, "def f(x):\n    return x", "é"]
FAMILIES = ["text", "image", "video"]


@pytest.fixture(scope="module")
def items(predictors: dict[str, Predictor], write_clip: Any) -> dict[str, list[Item]]:
    """Five different inputs of each family."""
    rng = np.random.default_rng(0)

    def png(height: int, width: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    payloads: dict[str, list[Payload]] = {
        "text": [Payload(data=text) for text in TEXTS],
        "image": [Payload(data=png(32 + 9 * index, 80 - 9 * index)) for index in range(5)],
        "video": [Payload(data=write_clip(frames=frames)) for frames in (1, 3, 5, 8, 13)],
    }
    return {family: [predictors[family].decode(one) for one in payloads[family]] for family in payloads}


def all_maps(predictor: Predictor) -> frozenset[str]:
    return frozenset(spec.name for spec in predictor.manifest.maps)


def job(item: Item, *maps: str) -> Job:
    """An input of which these maps are wanted."""
    return Job(item=item, wanted=Wanted(maps=frozenset(maps)))


def assert_same(found: Outcome, expected: Outcome, maps: frozenset[str]) -> None:
    """Equal logits, and exactly these maps, equal in every layer."""
    np.testing.assert_allclose(found.logits, expected.logits, atol=TOLERANCE, rtol=0)
    assert set(found.maps) == maps
    for name in maps:
        assert len(found.maps[name].layers) == len(expected.maps[name].layers)
        for one, other in zip(found.maps[name].layers, expected.maps[name].layers, strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=0, err_msg=name)


@pytest.fixture(scope="module")
def alone(predictors: dict[str, Predictor], items: dict[str, list[Item]]) -> dict[str, list[Outcome]]:
    """Every input with every map, each run on its own."""
    return {
        family: [predictor.run([job(item, *all_maps(predictor))])[0] for item in items[family]]
        for family, predictor in predictors.items()
    }


def torch_says(checkpoint: Checkpoint, item: Item) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """Logits and maps of one input from the checkpoint itself, by the explicit softmax, without a batch.

    Maps of gradients are of the best label; slices hold every query token of the last layer, of frame 0.
    """
    inputs = {name: torch.from_numpy(tensor)[None] for name, tensor in item.tensors.items()}
    if checkpoint.family == "text":
        inputs["lengths"] = torch.tensor([len(item.tensors["input_ids"])])
    with torch.no_grad():
        outputs, taps = checkpoint.model(**inputs)
        tensors = {**inputs, **outputs, **taps}
        tensors |= {"target": outputs["logits"].argmax(1), "frame": torch.tensor([0])}
        programs: dict[str, Any] = checkpoint.model.programs()  # type: ignore[operator]
        maps = {}
        for name, program in programs.items():
            found = dict(tensors)
            if program.sliced:
                found |= {kind: taps[f"{program.layers[-1]}.{kind}"] for kind in ("query", "key")}
                found["rows"] = torch.arange(found["query"].shape[-2])
            maps[name] = [layer[0].numpy() for layer in program(*(found[tap] for tap in program.inputs))]
    return outputs["logits"][0].numpy(), maps


def test_a_batch_says_what_torch_says_of_each_input_alone(
    checkpoint: Checkpoint, predictors: dict[str, Predictor], items: dict[str, list[Item]]
) -> None:
    predictor = predictors[checkpoint.family]
    maps = all_maps(predictor)
    outcomes = predictor.run([job(item, *maps) for item in items[checkpoint.family]])
    for item, outcome in zip(items[checkpoint.family], outcomes, strict=True):
        logits, expected = torch_says(checkpoint, item)
        np.testing.assert_allclose(outcome.logits, logits, atol=TOLERANCE, rtol=0)
        assert set(outcome.maps) == set(expected)
        for name, layers in expected.items():
            assert len(outcome.maps[name].layers) == len(layers)
            for found, layer in zip(outcome.maps[name].layers, layers, strict=True):
                assert found.shape == layer.shape
                np.testing.assert_allclose(found, layer, atol=TOLERANCE, rtol=0, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_does_not_change_a_prediction(
    predictors: dict[str, Predictor],
    items: dict[str, list[Item]],
    alone: dict[str, list[Outcome]],
    family: str,
) -> None:
    predictor = predictors[family]
    maps = all_maps(predictor)
    outcomes = predictor.run([job(item, *maps) for item in items[family]])
    for found, expected in zip(outcomes, alone[family], strict=True):
        assert_same(found, expected, maps)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_job_of_a_batch_gets_the_maps_it_asked_for(
    predictors: dict[str, Predictor],
    items: dict[str, list[Item]],
    alone: dict[str, list[Outcome]],
    family: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    predictor = predictors[family]
    names = sorted(all_maps(predictor))
    order = rng.permutation(5)
    wanted = [frozenset(name for name in names if rng.random() < 0.4) for _ in order]
    wanted[seed] = frozenset()
    jobs = [job(items[family][index], *maps) for index, maps in zip(order, wanted, strict=True)]
    for index, maps, found in zip(order, wanted, predictor.run(jobs), strict=True):
        assert_same(found, alone[family][index], maps)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_threads_at_once_get_their_own_answers(
    predictors: dict[str, Predictor],
    items: dict[str, list[Item]],
    alone: dict[str, list[Outcome]],
    family: str,
) -> None:
    predictor = predictors[family]
    maps = all_maps(predictor)
    together = threading.Barrier(4)

    def ask(start: int) -> None:
        together.wait()
        for index in (start, (start + 2) % 5):
            pair = [index, (index + 1) % 5]
            outcomes = predictor.run([job(items[family][one], *maps) for one in pair])
            for one, found in zip(pair, outcomes, strict=True):
                assert_same(found, alone[family][one], maps)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))


class Watched:
    """A program that notes what it was asked for, and of how many rows."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.inputs = program.inputs
        self.runs: list[tuple[int, list[str]]] = []

    def run(self, feeds: Any, outputs: Any) -> Any:
        names = list(outputs)
        self.runs.append((next(iter(feeds.values())).shape[0], names))
        return self.program.run(feeds, names)


@pytest.fixture
def watched(
    predictors: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch
) -> tuple[Predictor, Watched, dict[str, Watched]]:
    """The text model, its graph and its map programs."""
    predictor = predictors["text"]
    graphs = predictor._graphs
    assert graphs is not None
    model = Watched(graphs.model)
    programs = {name: Watched(program) for name, program in graphs.programs.items()}
    monkeypatch.setattr(graphs, "model", model)
    monkeypatch.setattr(graphs, "programs", programs)
    return predictor, model, programs


def test_without_maps_no_tap_is_fetched_and_no_program_runs(
    watched: tuple[Predictor, Watched, dict[str, Watched]], items: dict[str, list[Item]]
) -> None:
    predictor, model, programs = watched
    predictor.run([job(item) for item in items["text"]])
    assert model.runs == [(5, ["logits"])]
    assert all(program.runs == [] for program in programs.values())


def test_only_rows_of_jobs_that_ask_go_into_a_program(
    watched: tuple[Predictor, Watched, dict[str, Watched]], items: dict[str, list[Item]]
) -> None:
    predictor, model, programs = watched
    wanted = [[], ["cls"], [], ["cls"], []]
    predictor.run([job(item, *maps) for item, maps in zip(items["text"], wanted, strict=True)])
    assert [rows for rows, _ in programs["cls"].runs] == [2]
    assert all(program.runs == [] for name, program in programs.items() if name != "cls")
    ((rows, outputs),) = model.runs
    assert rows == 5
    assert outputs == ["logits", *sorted(set(programs["cls"].inputs) - {"lengths"})]


def test_maps_outlive_their_batch_in_memory_of_their_own(
    predictors: dict[str, Predictor], items: dict[str, list[Item]]
) -> None:
    predictor = predictors["text"]
    outcomes = predictor.run([job(item, "cls") for item in items["text"]])
    for layer in outcomes[0].maps["cls"].layers:
        assert layer.base is None
        assert layer.dtype == np.float32


def test_token_maps_have_the_tokens_of_their_input(alone: dict[str, list[Outcome]]) -> None:
    sizes = [outcome.maps["cls"].layers[0].shape[-1] for outcome in alone["text"]]
    assert sizes == [min(len(text.encode()), 62) + 2 for text in TEXTS]


def test_attention_rows_sum_to_one(alone: dict[str, list[Outcome]]) -> None:
    for outcome in alone["text"]:
        for layer in outcome.maps["cls"].layers:
            np.testing.assert_allclose(layer.sum(-1), 1, atol=TOLERANCE)
        np.testing.assert_allclose(outcome.maps["rollout"].layers[0].sum(-1), 1, atol=TOLERANCE)
    for outcome in alone["video"]:
        for layer in outcome.maps["message"].layers:
            np.testing.assert_allclose(layer.sum(-1), 1, atol=TOLERANCE)


def test_scores_are_probabilities(predictors: dict[str, Predictor]) -> None:
    predictor = predictors["text"]
    logits = np.array([1000.0, 999.0, -1000.0, 0.0], np.float32)
    expected = torch.softmax(torch.tensor([1000.0, 999.0, -1000.0, 0.0], dtype=torch.float64), 0)
    np.testing.assert_allclose(predictor.scores(logits), expected.numpy(), atol=1e-12)


def test_several_labels_at_once_have_a_probability_each(predictors: dict[str, Predictor]) -> None:
    predictor = with_manifest(predictors["text"], activation="sigmoid")
    expected = torch.sigmoid(torch.tensor([-3.0, 0.0, 0.5, 9.0], dtype=torch.float64))
    found = predictor.scores(np.array([-3.0, 0.0, 0.5, 9.0], np.float32))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


def with_manifest(predictor: Predictor, **fields: Any) -> Predictor:
    """The same model with something else in its manifest."""
    manifest: Manifest = predictor.manifest.model_copy(update=fields)
    assert predictor._graphs is not None
    return Predictor(
        manifest=manifest,
        decoder=predictor._decoder,
        graphs=Graphs(manifest=manifest, model=predictor._graphs.model, programs=predictor._graphs.programs),
        limits=predictor.limits,
    )


@pytest.mark.parametrize(("label", "index"), [("left", 0), ("down", 3), (0, 0), (3, 3), ("3", 3), ("0", 0)])
def test_a_target_is_a_label_or_its_index(
    predictors: dict[str, Predictor], label: str | int, index: int
) -> None:
    assert predictors["text"].target(label) == index


@pytest.mark.parametrize("label", ["sideways", "", 4, -1, "-1", "4", "03", "٣", "9" * 5000, 10**30, "LEFT"])
def test_an_unknown_target_is_named(predictors: dict[str, Predictor], label: str | int) -> None:
    with pytest.raises(UnknownOption, match="has no label") as caught:
        predictors["text"].target(label)
    assert (caught.value.field, caught.value.limit) == ("target", 3)


@pytest.mark.parametrize("labels", [("1", "0", "3", "2"), ("a", "b", "a", "b"), ("left", "3", "up", "x")])
def test_a_targets_word_leads_back_to_it(predictors: dict[str, Predictor], labels: tuple[str, ...]) -> None:
    predictor = with_manifest(predictors["text"], labels=labels)
    assert [predictor.target(predictor.target_word(index)) for index in range(4)] == [0, 1, 2, 3]


def test_unknown_maps_are_named(predictors: dict[str, Predictor]) -> None:
    predictor = predictors["text"]
    assert predictor.check_maps(["cls", "cls"]) == {"cls"}
    with pytest.raises(UnknownOption, match="no map 'cam'") as caught:
        predictor.check_maps(["cls", "cam"])
    assert (caught.value.field, caught.value.limit) == (
        "maps",
        ", ".join(spec.name for spec in predictor.manifest.maps),
    )


@pytest.mark.parametrize("declared", [None, "", "application/octet-stream", "text/plain", "text/x-python"])
def test_bytes_that_may_be_text_are_read_as_such(
    predictors: dict[str, Predictor], declared: str | None
) -> None:
    predictor = predictors["text"]
    found = predictor.decode(Payload(data="é = 1".encode(), content_type=declared))
    expected = predictor.decode(Payload(data="é = 1"))
    np.testing.assert_array_equal(found.tensors["input_ids"], expected.tensors["input_ids"])


@pytest.mark.parametrize(
    ("family", "payload", "error", "field"),
    [
        ("text", Payload(data=b"\xff\xfe\xfd"), InvalidInput, "text"),
        ("text", Payload(data=b"abc", content_type="image/png"), UnsupportedMedia, "content-type"),
        ("image", Payload(data="abc", field="text"), InvalidInput, "text"),
        ("video", Payload(data="abc", field="text"), InvalidInput, "text"),
        ("image", Payload(data=b"abc"), UnsupportedMedia, "image"),
        ("video", Payload(data=b"abc"), UnsupportedMedia, "video"),
    ],
)
def test_input_of_another_family_is_refused(
    predictors: dict[str, Predictor], family: str, payload: Payload, error: type[Exception], field: str
) -> None:
    with pytest.raises(error) as caught:
        predictors[family].decode(payload)
    assert caught.value.field == field  # type: ignore[attr-defined]


def test_warming_up_runs_every_shape_through_the_model_and_every_map(
    watched: tuple[Predictor, Watched, dict[str, Watched]],
) -> None:
    predictor, model, programs = watched
    predictor.warm_up()
    # 1 to 64 tokens alone, and 8 x 64: the batches of shorter texts cost as much.
    assert [rows for rows, _ in model.runs] == [1] * 7 + [8]
    for name, program in programs.items():
        each = [1] * 15 if name in ("attention", "proof") else [1] * 7 + [8]  # of one row alone
        assert [rows for rows, _ in program.runs] == ([] if name.endswith("-tuned") else each)
    taps = {f"layers.{layer}.{tap}" for layer in (0, 1) for tap in ("query", "key", "value")}
    for _, outputs in model.runs:
        proven = set(outputs) - {"logits", *taps}
        assert len(outputs) == len({"logits", *taps, *proven})
        assert proven in ({"layers.0.mixed"}, {"layers.1.mixed"})


def test_warming_up_says_what_it_ran(
    predictors: dict[str, Predictor], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        predictors["image"].warm_up()
    assert "<Predictor tiny-image/1> is warm: 2 shapes in " in caplog.text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_smallest_input_runs_through_every_graph(predictors: dict[str, Predictor], family: str) -> None:
    predictor = predictors[family]
    (outcome,) = predictor.run([predictor.smallest])
    assert set(outcome.maps) == all_maps(predictor)
    assert predictor.smallest is predictor.smallest  # made once: asking costs the run alone


def test_a_closed_model_says_so_and_still_decodes(
    text_repository: Path, predictors: dict[str, Predictor]
) -> None:
    folder = text_repository / "tiny-text" / "1"
    predictor = Predictor.load(
        folder, SessionPool(device="cpu"), Limits(), batch_tokens=1, batch_pixels=1, batch_tap_bytes=1
    )
    smallest = predictor.smallest
    predictor.run([smallest])
    assert not predictor.closed
    predictor.close()
    assert predictor.closed
    with pytest.raises(Unloaded, match="tiny-text/1 was unloaded"):
        predictor.run([smallest])
    predictor.close()  # again: nothing
    payload = Payload(data="kept")  # a kept prediction is drawn on its input
    assert predictor.decode(payload).tokens == predictors["text"].decode(payload).tokens


def test_memory_that_does_not_suffice_beside_the_graphs_is_said_so(
    predictors: dict[str, Predictor], items: dict[str, list[Item]], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictors["text"]
    assert predictor._graphs is not None

    def exhausted(items: list[Item]) -> None:
        np.empty(2**62, np.uint8)

    monkeypatch.setattr(predictor._graphs, "stack", exhausted)
    with pytest.raises(OutOfMemory):
        predictor.run([job(items["text"][0])])


def test_logits_that_do_not_match_the_labels_are_refused(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(BundleError, match="4 logits for 3 labels"):
        with_manifest(predictors["text"], labels=("left", "right", "up")).warm_up()


def test_a_bundle_is_checked_before_any_graph_is_opened(text_repository: Path) -> None:
    folder = text_repository / "tiny-text" / "1"
    (folder / "model.onnx").write_bytes(b"")
    pool = SessionPool(device="cpu")
    with pytest.raises(BundleError, match=r"model.onnx does not match its checksum"):
        Predictor.load(folder, pool, Limits(), batch_tokens=1, batch_pixels=1, batch_tap_bytes=1)


def test_a_batch_costs_tokens_or_pixels(
    predictors: dict[str, Predictor], items: dict[str, list[Item]]
) -> None:
    assert [predictors[family].limits.cost for family in FAMILIES] == [512, 100_000, 100_000]
    assert [job(item).cost for item in items["text"]] == [min(len(text.encode()), 62) + 2 for text in TEXTS]
    assert {item.cost for item in items["image"]} == {32 * 32}
    assert {item.cost for item in items["video"]} == {4 * 32 * 32}


def test_padding_is_the_models_own_token(predictors: dict[str, Predictor]) -> None:
    predictor = predictors["text"]
    spec = predictor.manifest.preprocessing.model_copy(update={"pad_id": 7})
    other = with_manifest(predictor, preprocessing=spec)
    short, long = predictor.decode(Payload(data="a")), predictor.decode(Payload(data="abcd"))
    assert other._graphs is not None
    feeds = other._graphs.stack([short, long])
    assert feeds["input_ids"][0].tolist() == [*short.tensors["input_ids"].tolist(), 7, 7, 7]
    assert feeds["lengths"].tolist() == [3, 6]


@pytest.fixture
def quantised(lowered: Callable[..., Path]) -> Callable[[str], Predictor]:
    """Loads the tiny model of a family in int8."""
    pool = SessionPool(device="cpu")

    def load(family: str) -> Predictor:
        folder = lowered(family, "int8")
        return Predictor.load(
            folder, pool, Limits(), batch_tokens=512, batch_pixels=100_000, batch_tap_bytes=2**28
        )

    return load


def outlier(item: Item) -> Item:
    """The same input, far out of the usual range where its tensors are numbers, else other tokens."""
    if isinstance(item, TextItem):
        ids = item.tensors["input_ids"]
        tensors = item.tensors | {"input_ids": np.full_like(ids, 299)}
    else:
        tensors = {name: 40 * tensor for name, tensor in item.tensors.items()}
    return replace(item, tensors=tensors)


def bits(outcome: Outcome) -> list[bytes]:
    return [outcome.logits.tobytes()] + [
        layer.tobytes() for name in sorted(outcome.maps) for layer in outcome.maps[name].layers
    ]


@pytest.mark.parametrize("family", ["text", "video"])
def test_in_int8_with_dynamic_ranges_an_outlier_does_not_touch_its_neighbour(
    quantised: Callable[[str], Predictor], items: dict[str, list[Item]], family: str
) -> None:
    predictor, item = quantised(family), items[family][1]
    maps = all_maps(predictor)
    ordinary, extreme = job(item, *maps), job(outlier(item), *maps)
    assert ordinary.cost == extreme.cost
    (alone,) = predictor.run([ordinary])
    mixed, _ = predictor.run([ordinary, extreme])
    assert bits(mixed) != bits(alone)
    assert np.abs(mixed.logits - alone.logits).max() > 1e-3  # together they would disturb each other

    async def submit() -> list[Done]:
        scheduler = Scheduler(slots=1, queue_batches=9)
        scheduler.start()
        requests = [
            asyncio.create_task(scheduler.submit(predictor, jobs))
            for jobs in ([extreme, ordinary], [ordinary], [ordinary, extreme], [extreme])
        ]
        answers = await asyncio.gather(*requests)
        await scheduler.close()
        return [answers[0][1], answers[1][0], answers[2][0]]

    for done in asyncio.run(submit()):
        assert done.batch == 1
        assert bits(done.result) == bits(alone)


def test_in_int8_with_static_ranges_inputs_may_share_a_batch(
    quantised: Callable[[str], Predictor], items: dict[str, list[Item]]
) -> None:
    predictor, item = quantised("image"), items["image"][1]
    maps = all_maps(predictor)
    ordinary, extreme = job(item, *maps), job(outlier(item), *maps)
    assert predictor.limits.cost > 2 * ordinary.cost
    (alone,) = predictor.run([ordinary])
    for batch, row in (([ordinary, extreme], 0), ([extreme, extreme, ordinary], 2)):
        assert_same(predictor.run(batch)[row], alone, maps)
