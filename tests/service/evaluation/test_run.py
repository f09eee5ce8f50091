"""The judge tells a perfect map from a reversed one, repeats itself, and measures what a graph says."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from service.bundle import BundleError
from service.dataset import DatasetError, Raw
from service.evaluation.blanking import Blanker
from service.evaluation.probe import Judge
from service.evaluation.run import evaluate, side_by_side
from service.evaluation.tally import Evaluation, tally
from service.job import Payload
from service.predictor import Predictor
from service.settings import Settings
from service.truth import Truth

FAITHFUL = {("deletion", "zero"), ("deletion", "blur"), ("insertion", "zero"), ("insertion", "blur")}


def judged(model: Any, inputs: Any, *, seed: int = 0, slots: int = 1) -> Evaluation:
    judge = Judge(model, Blanker(model.manifest, Path()), steps=16, seed=seed)
    found = side_by_side(judge, inputs, slots)
    return tally(found, model.manifest, data="marked", steps=16, seed=seed)


def test_a_perfect_map_beats_random_and_a_reversed_one_loses_to_it(
    marked: Callable[..., Any], marked_inputs: list[tuple[Raw, Truth]]
) -> None:
    rows = {row.map: row for row in judged(marked(), marked_inputs).figures.maps}
    assert list(rows) == ["perfect", "reversed", "flat", "random", "uniform"]
    verdicts = {
        name: {(one.measure, one.blanking): one.verdict for one in row.measures} for name, row in rows.items()
    }
    everything = FAITHFUL | {("pointing", None), ("energy", None)}
    assert verdicts["perfect"] == dict.fromkeys(everything, "better than random")
    assert {verdicts["reversed"][key] for key in FAITHFUL} == {"worse than random"}
    assert verdicts["reversed"]["pointing", None] != "better than random"
    for name in ("flat", "uniform"):
        assert verdicts[name] == dict.fromkeys(everything, "not told apart")


def test_the_figures_of_the_marked_model_are_those_worked_out_by_hand(
    marked: Callable[..., Any], marked_inputs: list[tuple[Raw, Truth]]
) -> None:
    """Its score falls at the first of 16 steps under the perfect map, at the last under the reversed one."""
    report = judged(marked(), marked_inputs)
    figures = {
        (row.map, one.measure, one.blanking): one.value.value
        for row in report.figures.maps
        for one in row.measures
    }
    high, low = report.figures.score.value, report.figures.blanked["zero"].score.value
    assert high > 0.9 > 0.1 > low
    # One of 16 trapezoids is half high, half low; the rest are low, or nearly: what is left is noise.
    assert figures["perfect", "deletion", "zero"] == pytest.approx(
        (high + low) / 32 + 15 / 16 * low, abs=0.02
    )
    assert figures["perfect", "insertion", "zero"] == pytest.approx(
        (high + low) / 32 + 15 / 16 * high, abs=1e-3
    )
    assert figures["reversed", "deletion", "zero"] == pytest.approx(
        (high + low) / 32 + 15 / 16 * high, abs=1e-3
    )
    assert figures["perfect", "pointing", None] == 1
    assert figures["reversed", "pointing", None] == 0
    assert figures["uniform", "pointing", None] == figures["uniform", "energy", None] == 1 / 16
    assert figures["flat", "pointing", None] == 1 / 16
    assert report.figures.accuracy is not None
    assert report.figures.accuracy.value == 1


def test_the_label_is_that_of_the_highest_logit_where_scores_are_equal(
    marked: Callable[..., Any], marked_inputs: list[tuple[Raw, Truth]]
) -> None:
    """As those of two sure sigmoids are."""
    model = marked()
    model.scores = np.ones_like
    judge = Judge(model, Blanker(model.manifest, Path()), steps=2, seed=0)
    raw, truth = marked_inputs[0]
    assert judge.judge(0, raw, truth).right is True


def test_curves_start_and_end_at_the_whole_and_the_blank_input(
    marked: Callable[..., Any], marked_inputs: list[tuple[Raw, Truth]]
) -> None:
    report = judged(marked(), marked_inputs[:3])
    whole, blank = report.figures.score, {way: one.score for way, one in report.figures.blanked.items()}
    assert blank["zero"] != blank["blur"]
    for curve in report.curves:
        assert (curve.shares[0], curve.shares[-1]) == (0, 1)
        assert (curve.without[0], curve.without[-1]) == (whole, blank[curve.blanking])
        assert (curve.alone[0], curve.alone[-1]) == (blank[curve.blanking], whole)


def test_the_same_seed_gives_the_same_figures_however_many_run_side_by_side(
    marked: Callable[..., Any], marked_inputs: list[tuple[Raw, Truth]]
) -> None:
    one, again, other = (
        judged(marked(), marked_inputs[:6], seed=seed, slots=slots)
        for seed, slots in ((3, 1), (3, 4), (4, 1))
    )
    assert one == again
    random = [
        [
            measured.value.value
            for row in report.figures.maps
            for measured in row.measures
            if row.map == "random"
        ]
        for report in (one, other)
    ]
    assert random[0] != random[1]


def test_batches_stay_within_the_limits_of_the_bundle(
    marked: Callable[..., Any], marked_inputs: list[tuple[Raw, Truth]]
) -> None:
    """A bundle that runs its inputs one by one gives the same figures as one that takes ten."""
    alone, together = marked(jobs=1), marked()
    assert judged(alone, marked_inputs[:2]) == judged(together, marked_inputs[:2])
    assert set(alone.batches) == {1}
    assert max(together.batches) == 10


def test_fewer_inputs_than_a_verdict_needs_give_none(
    marked: Callable[..., Any], marked_inputs: list[tuple[Raw, Truth]]
) -> None:
    rows = judged(marked(), marked_inputs[:5]).figures.maps
    assert {one.verdict for row in rows if row.map != "random" for one in row.measures} == {"too few inputs"}


def run(family: str, repository: Path, data: Path, **options: Any) -> Evaluation:
    given = {"limit": None, "steps": 4, "seed": 0, "advance": lambda found: found} | options
    slots = given.pop("slots", 2)
    return evaluate(repository / f"tiny-{family}" / "1", data, Settings(slots=slots), **given)


@pytest.mark.parametrize("family", ["text", "image", "video"])
def test_every_map_of_a_bundle_is_judged_or_said_not_to_be(
    family: str, repository: Path, data: dict[str, Path], predictors: dict[str, Predictor]
) -> None:
    seen = []
    report = run(family, repository, data[family], advance=lambda found: seen.append(found) or found)
    figures = report.figures
    assert (len(seen), figures.inputs, report.model) == (3, 3, f"tiny-{family}")
    names = [row.map for row in figures.maps if row.map not in ("random", "uniform")]
    specs = predictors[family].manifest.maps
    assert sorted([*names, *figures.not_judged]) == sorted(spec.name for spec in specs)
    ranks = {row.ranks for row in figures.maps}
    for yardstick in ("random", "uniform"):
        assert {row.ranks for row in figures.maps if row.map == yardstick} == ranks
    for row in figures.maps:
        measures = {one.measure for one in row.measures}
        expected = {"comprehensiveness", "sufficiency"} if family == "text" else {"deletion", "insertion"}
        assert measures == expected | {"pointing", "energy"}, row
    assert {(curve.map, curve.blanking) for curve in report.curves} == {
        (row.map, way) for row in figures.maps for way in figures.blanked
    }


def test_a_limit_takes_the_first_inputs(repository: Path, data: dict[str, Path]) -> None:
    assert run("text", repository, data["text"], limit=2).figures.inputs == 2


def test_the_figures_of_a_text_are_those_of_the_graph_run_by_hand(
    repository: Path, tmp_path: Path, predictors: dict[str, Predictor]
) -> None:
    text = "fn main() {"
    (tmp_path / "one.txt").write_text(text)
    report = run("text", repository, tmp_path / "one.txt")
    predictor = predictors["text"]
    item = predictor.decode(Payload(data=text))
    (outcome,) = predictor.run([predictor.job(item, predictor.smallest.wanted)])
    best = np.argsort(-outcome.maps["rollout"].layers[0][1:-1], kind="stable")
    session = onnxruntime.InferenceSession(str(repository / "tiny-text" / "1" / "model.onnx"))
    ids, types = item.tensors["input_ids"], item.tensors["token_types"]

    def score(ids: Any, types: Any) -> Any:
        feeds = {"input_ids": ids[None], "token_types": types[None], "lengths": np.array([len(ids)])}
        (logits,) = session.run(["logits"], feeds)
        powers = np.exp(logits[0].astype(np.float64))
        return powers / powers.sum()

    whole = score(ids, types)
    label = int(whole.argmax())
    expected: dict[tuple[str, str], list[float]] = {}
    for share in (0.01, 0.05, 0.1, 0.2, 0.5):
        count = math.ceil(share * len(best))
        for measure, gone in (("comprehensiveness", best[:count] + 1), ("sufficiency", best[count:] + 1)):
            masked = ids.copy()
            masked[gone] = 0  # the tiny tokenizer knows neither a mask nor an unknown token: its padding
            for way, given in (
                ("mask", (masked, types)),
                ("delete", (np.delete(ids, gone), np.delete(types, gone))),
            ):
                expected.setdefault((measure, way), []).append(whole[label] - score(*given)[label])
    (row,) = [row for row in report.figures.maps if row.map == "rollout"]
    for one in row.measures:
        assert one.blanking is not None
        assert one.value.value == pytest.approx(np.mean(expected[one.measure, one.blanking]), abs=2e-4)
    assert report.figures.score.value == pytest.approx(whole[label], abs=1e-4)


def test_a_model_of_values_is_not_judged(repository: Path, tmp_path: Path, data: dict[str, Path]) -> None:
    shutil.copytree(repository / "tiny-text", tmp_path / "tiny-text")
    path = tmp_path / "tiny-text" / "1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"activation": "none"}))
    with pytest.raises(BundleError, match="gives a value, not labels"):
        run("text", tmp_path, data["text"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "ab", "label": "sideways"}', "has no label 'sideways'"),
        ('{"text": "ab", "label": 4}', "has no label 4"),
        ('{"text": "ab", "span": [0, 3]}', "the text has 2 characters"),
        ('{"text": " "}', "the text is empty"),
    ],
)
def test_an_input_that_cannot_be_judged_is_named(
    repository: Path, tmp_path: Path, line: str, words: str
) -> None:
    (tmp_path / "t.jsonl").write_text(f'{{"text": "fine"}}\n{line}\n' + '{"text": "fine"}\n' * 30)
    with pytest.raises(DatasetError, match=r"^t\.jsonl, line 2: ") as caught:
        run("text", repository, tmp_path / "t.jsonl")
    assert words in str(caught.value)


def test_a_bad_label_is_named_by_its_record_and_a_bad_file_by_itself(
    repository: Path, data: dict[str, Path]
) -> None:
    known = data["image"] / "truth.jsonl"
    known.write_text('{"file": "2"}\n{"file": "0", "label": "sideways"}')
    with pytest.raises(DatasetError, match=r"^truth\.jsonl, line 2: .*sideways"):
        run("image", repository, data["image"])
    known.write_text('{"file": "2"}\n{"file": "0", "label": "up"}')
    (data["image"] / "0").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"^0: "):
        run("image", repository, data["image"])


def test_a_data_set_without_inputs_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no inputs"):
        run("text", repository, tmp_path)
