"""Two bundles are compared on the same inputs, figure by figure, or it is said why they cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from service.bundle import Agreement, BundleError, digest, read
from service.comparison import Found, Tally, compare, correlation, relative_error, same_labels
from service.dataset import read_inputs
from service.job import Job, Payload
from service.predictor import Predictor

ROOT = Path(__file__).parents[2]
TEXTS = ["fn main() {}", "a", "def f(x):\n    return x", "x" * 60]


def row(*values: float) -> Any:
    return np.array(values)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    return path


@pytest.fixture
def changed(repository: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the tiny text bundle with other weights or another manifest."""

    def change(*, scale: float = 1.0, **fields: Any) -> Path:
        folder = tmp_path / "changed" / "1"
        shutil.copytree(repository / "tiny-text" / "1", folder)
        model = onnx.load(str(folder / "model.onnx"))
        for weight in model.graph.initializer:
            if weight.name == "classifier.weight":
                values = numpy_helper.to_array(weight) * np.float32(scale)
                weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        onnx.save(model, str(folder / "model.onnx"))
        manifest = json.loads((folder / "manifest.json").read_text()) | fields
        manifest["files"]["model.onnx"] = digest(folder / "model.onnx")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return change


def test_a_bundle_agrees_with_itself(repository: Path, data: Path) -> None:
    folder = repository / "tiny-text" / "1"
    found = compare(folder, folder, read_inputs(folder, data), data="four texts")
    manifest = read(folder)
    assert (found.inputs, found.labels, found.logit_error, found.largest_logit_error) == (4, 1.0, 0.0, 0.0)
    assert (found.against, found.data) == ("tiny-text/1, fp32", "four texts")
    assert {name: tuple(layers) for name, layers in found.maps.items()} == {
        spec.name: spec.layers or ("all",) for spec in manifest.maps if not spec.sliced
    }
    assert min(value for layers in found.maps.values() for value in layers.values()) == pytest.approx(1)


def test_the_figures_are_those_of_the_two_models(
    repository: Path, data: Path, changed: Callable[..., Path], predictors: dict[str, Predictor]
) -> None:
    other, folder = changed(scale=-1.5), repository / "tiny-text" / "1"
    found = compare(other, folder, read_inputs(folder, data), data="")
    weights = onnx.load(str(folder / "model.onnx")).graph.initializer
    (bias,) = [numpy_helper.to_array(weight) for weight in weights if weight.name == "classifier.bias"]
    logits = [row(*logits_of(predictors["text"], text)) for text in TEXTS]
    theirs = [-1.5 * (one - bias) + bias for one in logits]
    errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(theirs, logits, strict=True)]
    same = [a.argmax() == b.argmax() for a, b in zip(theirs, logits, strict=True)]
    assert found.logit_error == pytest.approx(np.mean(errors), rel=1e-4)
    assert found.largest_logit_error == pytest.approx(np.max(errors), rel=1e-4)
    assert found.labels == np.mean(same) < 1
    gradients = {spec.name for spec in read(folder).maps if "target" in spec.inputs}  # those turn round
    same_maps = [layers for name, layers in found.maps.items() if name not in gradients]
    assert min(value for layers in same_maps for value in layers.values()) == pytest.approx(1)


def logits_of(predictor: Predictor, text: str) -> Any:
    (outcome,) = predictor.run([Job(item=predictor.decode(Payload(data=text)))])
    return outcome.logits


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": ["left", "right", "up", "in"]}, "labels"),
        ({"activation": "sigmoid"}, "activation"),
        ({"preprocessing": {"kind": "text", "max_tokens": 63, "token_types": True}}, "preprocessing"),
    ],
)
def test_bundles_of_different_models_are_not_compared(
    repository: Path, data: Path, changed: Callable[..., Path], fields: dict[str, Any], words: str
) -> None:
    folder = repository / "tiny-text" / "1"
    with pytest.raises(BundleError, match=f"their {words} differ"):
        compare(changed(**fields), folder, read_inputs(folder, data), data="")


def test_numbers_that_are_not_finite_are_no_agreement(
    repository: Path, data: Path, changed: Callable[..., Path]
) -> None:
    folder = repository / "tiny-text" / "1"
    with pytest.raises(BundleError, match="not every value of logits is finite"):
        compare(changed(scale=float("inf")), folder, read_inputs(folder, data), data="")


def test_the_same_label_is_the_highest_or_the_same_set() -> None:
    assert same_labels(row(1, 3, 2), row(0, 9, 8), "softmax")
    assert not same_labels(row(1, 3, 2), row(0, 8, 9), "softmax")
    assert same_labels(row(1, -3, 2), row(3, -1, 1), "sigmoid")
    assert not same_labels(row(1, -3, 2), row(1, 0.1, 2), "sigmoid")


def test_errors_are_relative_to_the_reference() -> None:
    assert relative_error(row(3, 4), row(3, 4)) == 0
    assert relative_error(row(3, 5), row(3, 4)) == pytest.approx(0.2)
    assert relative_error(row(0, 0), row(0, 0)) == 0
    assert np.isfinite(relative_error(row(1, 0), row(0, 0)))


def test_correlation_is_pearsons_and_constant_maps_are_the_same_or_not() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 3, 5))
    mean = (x - x.mean()) * (y - y.mean())
    assert correlation(x, y) == pytest.approx(mean.mean() / x.std() / y.std())
    assert correlation(3 * x + 1, x) == pytest.approx(1)
    assert correlation(-x, x) == pytest.approx(-1)
    assert correlation(row(1, 1, 1), row(1, 1, 1)) == 1
    assert correlation(row(0, 0, 0), row(0, 0, 0)) == 1
    assert correlation(row(1, 1, 1), row(2, 2, 2)) == 0
    assert correlation(row(1, 1, 1), row(1, 2, 3)) == 0
    with pytest.raises(BundleError, match="shapes"):
        correlation(row(1, 2), row(1, 2, 3))


def test_figures_are_means_over_inputs() -> None:
    tally = Tally("softmax")
    key = ("cls", "layers.0")
    tally.add(Found(row(5, 4), {key: row(2, 1)}), Found(row(3, 4), {key: row(1, 2)}))
    tally.add(Found(row(3, 4), {key: row(1, 2)}), Found(row(3, 4), {key: row(1, 2)}))
    found = tally.agreement(against="a", data="d")
    assert (found.inputs, found.labels) == (2, 0.5)
    assert (found.logit_error, found.largest_logit_error) == (pytest.approx(0.2), pytest.approx(0.4))
    assert found.maps == {"cls": {"layers.0": pytest.approx(0.0)}}


def test_a_regression_has_no_labels_to_agree_on() -> None:
    tally = Tally("none")
    tally.add(Found(row(3), {}), Found(row(3), {}))
    assert tally.agreement(against="a", data="d").labels is None


def regard(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "compare", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_shows_a_table_and_writes_the_figures(
    repository: Path, data: Path, tmp_path: Path
) -> None:
    folder, out = repository / "tiny-text" / "1", tmp_path / "figures.json"
    done = regard(folder, folder, data, "--limit", "3", "--json", out)
    assert done.returncode == 0, done.stderr
    assert "on 3 inputs, against tiny-text/1, fp32" in done.stdout
    for words in ("same label", "100.0%", "correlation of cls", "layers.1", "1.0000"):
        assert words in done.stdout
    assert done.stderr == ""  # no bar where nobody looks
    found = Agreement.model_validate_json(out.read_text())
    assert (found.inputs, found.labels, found.data) == (3, 1.0, "texts.jsonl")


def test_bad_input_is_told_in_one_line(repository: Path, data: Path, tmp_path: Path) -> None:
    folder = repository / "tiny-text" / "1"
    data.write_bytes(b'{"text": 1}')
    for arguments, words in (
        ([folder, folder, data], "texts.jsonl, line 1: "),
        ([tmp_path, folder, data], "manifest.json cannot be read"),
        ([folder, repository / "tiny-image" / "1", data], "cannot be compared"),
    ):
        done = regard(*arguments)
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False), done.stderr
        assert words in done.stderr.splitlines()[-1]
