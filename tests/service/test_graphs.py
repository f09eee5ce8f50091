"""A batch of mixed wishes: each input gets what its graphs give when they are run for it alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.bundle import MapSpec
from service.decode.item import Item
from service.job import Job, Outcome, Payload, Wanted
from service.maps import Heads, Made, Selection
from service.predictor import Predictor

MODELS = ["tiny-text", "tiny-image", "tiny-vit", "tiny-video"]
WITH_PROOF = ["tiny-text", "tiny-vit", "tiny-video"]
TEXTS = ["a", "fn main() { println!(); }", "x" * 40, "def f(x):\n    return x", "é ü"]
TOLERANCE = 1e-5  # of the largest number of a map, or of 1


@pytest.fixture(scope="module")
def items(gallery_predictors: dict[str, Predictor], write_clip: Any) -> dict[str, list[Item]]:
    """Five different inputs of each model."""
    rng = np.random.default_rng(0)

    def png(height: int, width: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    pictures = [Payload(data=png(44 + 9 * index, 90 - 9 * index)) for index in range(5)]
    payloads = {
        "tiny-text": [Payload(data=text) for text in TEXTS],
        "tiny-image": pictures,
        "tiny-vit": pictures,
        "tiny-video": [Payload(data=write_clip(frames=frames)) for frames in (1, 3, 5, 8, 13)],
    }
    return {name: [gallery_predictors[name].decode(one) for one in payloads[name]] for name in payloads}


def close(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    assert found.shape == expected.shape, name
    assert np.isfinite(found).all(), name
    atol = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0, err_msg=name)


def tokens_of(predictor: Predictor, item: Item) -> int:
    """Query tokens of a slice."""
    spec = next(spec for spec in predictor.manifest.maps if spec.sliced)
    (query,) = (tap for tap in predictor.manifest.taps if tap.name == spec.taps(0)["query"])
    return item.cost if isinstance(query.axes[-2], str) else query.axes[-2]


def wish(rng: np.random.Generator, predictor: Predictor, item: Item) -> Wanted:
    """Some maps or none, of some label, layer, rows and frame, made in some way; with a proof or without."""
    specs = predictor.manifest.maps
    sliced = [spec for spec in specs if spec.sliced]
    heads: list[Heads] = ["mean", "max", "min"]
    selection = Selection(
        heads=heads[rng.integers(3)],
        target=rng.choice([None, 0, 1, 2, 3]),
        discard=float(rng.choice([0.0, 0.0, 0.3, 0.9])),
    )
    if sliced:
        count = tokens_of(predictor, item)
        start, stop = sorted(rng.choice(count + 1, 2, replace=False).tolist())
        rows: list[dict[str, Any]] = [{}, {"rows": (start, stop)}, {"token": int(rng.integers(count))}]
        selection = replace(
            selection,
            layers=int(rng.integers(-len(sliced[0].layers), len(sliced[0].layers))),
            frame=int(rng.integers(4)),
            **rows[rng.integers(3)],
        )
    maps = frozenset(spec.name for spec in specs if rng.random() < 0.5)
    return Wanted(maps=maps, selection=selection, proof=bool(sliced) and bool(rng.random() < 0.5))


def assert_as_wished(outcome: Outcome, job: Job, reference: Any) -> None:
    """Exactly the maps of a wish, made as it says, and a proof if there should be one."""
    taps, wanted = reference.taps(job.item), job.wanted
    close(outcome.logits, taps["logits"][0], "logits")
    assert set(outcome.maps) == wanted.maps
    assert (outcome.proof is not None) == wanted.proof
    if outcome.proof is not None:
        assert outcome.proof.row_sum_error < 1e-5
        assert outcome.proof.output_error < 1e-5
    chosen = wanted.selection
    for name, found in outcome.maps.items():
        rows = chosen.rows if chosen.token is None else (chosen.token, chosen.token + 1)
        given: dict[str, Any] = {"target": chosen.target, "rows": rows, "frame": chosen.frame or 0}
        if found.spec.sliced:
            given["layer"] = chosen.layers
        expected = reference.map(job.item, name, fuse=chosen.heads, discard=chosen.discard, **given)
        assert len(found.layers) == len(expected)
        for layer, other in zip(found.layers, expected, strict=True):
            close(layer, other, name)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(4))
def test_every_wish_of_a_batch_is_met_as_if_it_were_alone(
    gallery_predictors: dict[str, Predictor],
    references: dict[str, Any],
    items: dict[str, list[Item]],
    name: str,
    seed: int,
) -> None:
    rng, predictor = np.random.default_rng(seed), gallery_predictors[name]
    chosen: Sequence[Item] = [items[name][index] for index in rng.integers(0, 5, 6)]
    jobs = [predictor.job(item, wish(rng, predictor, item)) for item in chosen]
    jobs[seed] = predictor.job(chosen[seed])  # one that wants nothing
    for outcome, job in zip(predictor.run(jobs), jobs, strict=True):
        assert_as_wished(outcome, job, references[name])


@pytest.mark.parametrize("name", MODELS)
def test_what_is_wanted_beside_a_prediction_does_not_change_it(
    gallery_predictors: dict[str, Predictor], items: dict[str, list[Item]], name: str
) -> None:
    predictor = gallery_predictors[name]
    rng = np.random.default_rng(9)
    for size in (1, 5):
        batch = items[name][:size]
        plain = predictor.run([predictor.job(item) for item in batch])
        tuned = replace(predictor.everything, selection=Selection(token=0, heads="max", discard=0.5))
        for wanted in ([predictor.everything] * size, [tuned] * size):
            jobs = [predictor.job(item, one) for item, one in zip(batch, wanted, strict=True)]
            for found, expected in zip(predictor.run(jobs), plain, strict=True):
                assert found.logits.tobytes() == expected.logits.tobytes()
        order = rng.permutation(size)
        mixed = [predictor.everything if index % 2 else Wanted() for index in range(size)]
        jobs = [predictor.job(batch[index], mixed[index]) for index in order]
        for index, found in zip(order, predictor.run(jobs), strict=True):
            np.testing.assert_allclose(found.logits, plain[index].logits, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", WITH_PROOF)
def test_slices_are_rows_of_the_whole_matrix(
    gallery_predictors: dict[str, Predictor], items: dict[str, list[Item]], name: str
) -> None:
    predictor, item = gallery_predictors[name], items[name][1]
    count = tokens_of(predictor, item)

    def attention(**selection: Any) -> np.ndarray:
        wanted = Wanted(maps=frozenset({"attention"}), selection=Selection(layers=1, **selection))
        (outcome,) = predictor.run([predictor.job(item, wanted)])
        (values,) = outcome.maps["attention"].layers
        return values

    whole = attention()
    assert whole.shape[1] == count
    for start, stop in ((0, 1), (1, count), (count - 2, count)):
        close(attention(rows=(start, stop)), whole[:, start:stop], "attention")
    for token in (0, count - 1):
        close(attention(token=token), whole[:, token : token + 1], "attention")
    if name == "tiny-text":
        np.testing.assert_allclose(whole.sum(-1), 1, atol=TOLERANCE)
    else:  # what is left is on the tokens that are no patches
        assert (whole.sum((-1, -2)) < 1).all()


@pytest.mark.parametrize("name", WITH_PROOF)
def test_the_layer_that_is_proven_changes_and_the_memory_of_one_is_fetched(
    gallery_predictors: dict[str, Predictor], items: dict[str, list[Item]], name: str
) -> None:
    predictor = gallery_predictors[name]
    jobs = [predictor.job(item, Wanted(proof=True)) for item in items[name]]
    proven = set()
    for _ in range(40):
        layers = {outcome.proof.layer for outcome in predictor.run(jobs[:2]) if outcome.proof}
        assert len(layers) == 1
        proven |= layers
    assert predictor.manifest.proof is not None
    assert proven == set(predictor.manifest.proof.layers)


@pytest.mark.parametrize("name", MODELS)
def test_what_a_job_keeps_on_the_device_is_counted(
    gallery_predictors: dict[str, Predictor], items: dict[str, list[Item]], name: str
) -> None:
    predictor, item = gallery_predictors[name], items[name][2]
    sizes = {tap.name: tap.nbytes(token=item.cost) for tap in predictor.manifest.taps}
    assert predictor.job(item).taps == {}
    for spec in predictor.manifest.maps:
        job = predictor.job(item, Wanted(maps=frozenset({spec.name}), selection=Selection(token=0)))
        if "target" in spec.inputs:  # a pass forward and back keeps every layer's taps, and as much again
            assert sum(job.taps.values()) >= 2 * sum(sizes.values())
        else:
            tensors = set(spec.taps(spec.default_layer).values()) & set(sizes)
            assert job.taps == {tap: sizes[tap] for tap in tensors}
            assert tensors
    sliced = next((spec for spec in predictor.manifest.maps if spec.sliced), None)
    if sliced is None:
        return
    for layer in range(len(sliced.layers)):
        selection = Selection(layers=layer, token=0)
        job = predictor.job(item, Wanted(maps=frozenset({sliced.name}), selection=selection))
        assert set(job.taps) == {f"{sliced.layers[layer]}.query", f"{sliced.layers[layer]}.key"}
    proof = predictor.job(item, Wanted(proof=True)).taps
    (one,) = proof.values()
    assert one == sum(sizes[f"{sliced.layers[0]}.{tap}"] for tap in ("query", "key", "value", "mixed"))


def test_how_maps_are_made_is_worked_out_once_for_each_job(
    gallery_predictors: dict[str, Predictor], items: dict[str, list[Item]], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = gallery_predictors["tiny-text"]
    jobs = [predictor.job(item, predictor.everything) for item in items["tiny-text"][:3]]
    asked: list[str] = []
    of = Made.of

    def counted(spec: MapSpec, selection: Selection, **known: Any) -> Made:
        asked.append(spec.name)
        return of(spec, selection, **known)

    monkeypatch.setattr(Made, "of", counted)
    found = predictor.run(jobs)
    assert sorted(asked) == sorted(3 * [spec.name for spec in predictor.manifest.maps])
    for outcome in found:
        made = {name: one.made for name, one in outcome.maps.items()}
        assert made["relevance"].target == made["grad_sam"].target == outcome.logits.argmax()
        assert made["cls"].target is None
