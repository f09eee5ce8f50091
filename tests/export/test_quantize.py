"""Lower precision keeps the predictions, says what it lost, and is refused where that is too much."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import typer
from typer.testing import CliRunner

from export import cli, quantize
from export import pack as packing
from export.errors import ExportError
from export.graph import operators
from export.lowering import Lowering, examples
from export.quantize import Feeds, Lower
from models.checkpoints.checkpoint import Checkpoint
from service import bundle
from service.bundle import Agreement, BundleError
from service.decode.limits import Limits
from service.job import Outcome
from service.maps import Selection
from service.predictor import Predictor
from service.sessions import SessionPool

Make = Callable[[str, Lower], Path]
FAMILIES = ["text", "image", "video"]


@pytest.fixture(scope="module")
def fp32(repository: Path) -> dict[str, Path]:
    """The tiny bundles by family."""
    return {family: repository / f"tiny-{family}" / "1" for family in FAMILIES}


def graph(folder: Path, name: str = "model.onnx") -> onnx.GraphProto:
    return onnx.load(str(folder / name)).graph


def types(values: Iterable[onnx.ValueInfoProto]) -> dict[str, int]:
    return {value.name: value.type.tensor_type.elem_type for value in values}


def run(path: Path, feeds: Feeds) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    taken = {node.name: feeds[node.name] for node in session.get_inputs()}
    return dict(zip(names, session.run(names, taken), strict=True))


def one_input(folder: Path, seed: int = 0) -> Feeds:
    """Something the model takes: a batch of one."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for spec in bundle.read(folder).inputs:
        shape = [{"batch": 1, "token": 20}.get(axis, axis) for axis in spec.axes]
        feeds[spec.name] = (
            rng.standard_normal(shape).astype(np.float32)
            if spec.dtype == "float32"
            else rng.integers(0, 2, shape)
        )
    return feeds | ({"lengths": np.array([20])} if "lengths" in feeds else {})


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_stay_near_and_say_how_near(
    lowered: Make, fp32: dict[str, Path], family: str, precision: Lower
) -> None:
    folder = lowered(family, precision)
    manifest, before = bundle.read(folder), bundle.read(fp32[family])
    assert (manifest.precision, manifest.parity) == (precision, before.parity)
    assert manifest.agreement is not None
    assert manifest.agreement.inputs == 8
    assert 0 < manifest.agreement.logit_error < {"fp16": 0.005, "int8": 0.1}[precision]
    correlations = [value for layers in manifest.agreement.maps.values() for value in layers.values()]
    assert min(correlations) > {"fp16": 0.999, "int8": 0.97}[precision]
    feeds = one_input(folder)
    found, truth = (run(path / "model.onnx", feeds)["logits"] for path in (folder, fp32[family]))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - truth).max() < 0.2 * np.abs(truth).max()
    size = (folder / "model.onnx").stat().st_size / (fp32[family] / "model.onnx").stat().st_size
    assert size < {"fp16": 0.85, "int8": 1.3}[precision]  # so small a model is mostly names


@pytest.mark.parametrize("family", FAMILIES)
def test_in_fp16_taps_are_half_and_what_goes_in_and_comes_out_is_not(
    lowered: Make, fp32: dict[str, Path], family: str
) -> None:
    folder = lowered(family, "fp16")
    manifest, lower, before = bundle.read(folder), graph(folder), graph(fp32[family])
    assert types(lower.input) == types(before.input)
    taps = {tap.name for tap in manifest.taps}
    assert {tap.dtype for tap in manifest.taps} == {"float16"}
    assert types(lower.output) == {
        name: onnx.TensorProto.FLOAT16 if name in taps else kind
        for name, kind in types(before.output).items()
    }
    weights = {weight.data_type for weight in lower.initializer if np.prod(weight.dims) > 8}
    assert onnx.TensorProto.FLOAT not in weights
    assert operators(folder / "model.onnx").get("Attention") == operators(fp32[family] / "model.onnx").get(
        "Attention"
    )


GIVEN: Feeds = {
    "target": np.array([2]),
    "rows": np.array([1, 0, 4]),
    "frame": np.array([2]),
    "fuse": np.array([1]),
    "discard": np.array([0.3], np.float32),
}


def of_layer(tensors: Feeds, layer: str) -> Feeds:
    """With the taps of one layer under the names of their kinds, as graphs take them that are made of one."""
    kinds = ("query", "key", "value", "mixed")
    return {**tensors, **{kind: tensors[f"{layer}.{kind}"] for kind in kinds if layer}}


@pytest.mark.parametrize("family", FAMILIES)
def test_fp16_maps_are_exactly_those_of_their_taps(lowered: Make, fp32: dict[str, Path], family: str) -> None:
    """Of every graph, those made of one layer and what proves it too; but gradients are of no taps."""
    folder = lowered(family, "fp16")
    feeds = {**one_input(folder), **GIVEN}
    halves = {**feeds, **run(folder / "model.onnx", feeds)}
    wide = {
        name: value.astype(np.float32) if value.dtype == np.float16 else value
        for name, value in halves.items()
    }
    manifest = bundle.read(folder)
    layer = manifest.proof.layers[-1] if manifest.proof else ""
    made = set()
    for name in manifest.graphs:
        path = Path(bundle.MapSpec.path(name))
        found = run(folder / path, of_layer(halves, layer))
        for output, truth in run(fp32[family] / path, of_layer(wide, layer)).items():
            assert found[output].dtype == np.float32
            np.testing.assert_array_equal(found[output], truth, err_msg=output)
            made.add(output.removesuffix("-tuned"))
    assert made >= {output for spec in manifest.maps for output in spec.outputs}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("family", ["text", "video"])
def test_gradients_stay_as_they_are_in_a_lower_precision(
    lowered: Make, fp32: dict[str, Path], family: str, precision: Lower
) -> None:
    gradients = Path("maps/gradients.onnx")
    folder = lowered(family, precision)
    assert (folder / gradients).read_bytes() == (fp32[family] / gradients).read_bytes()


NEAR = {"fp16": 0.02, "int8": 0.5}  # of the largest value; int8 of weights like these is rough
PROVEN = {"fp16": 4e-3, "int8": 1e-5}  # fp16 rounds what it mixes to 11 bits


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_map_of_a_lower_precision_is_served_and_near(
    lowered: Make, fp32: dict[str, Path], family: str, precision: Lower
) -> None:
    outcomes: dict[str, dict[float, Outcome]] = {}
    for kind, folder in (("fp32", fp32[family]), (precision, lowered(family, precision))):
        limits = {"batch_tokens": 2048, "batch_pixels": 2**24, "batch_tap_bytes": 2**28}
        predictor = Predictor.load(folder, SessionPool(device="cpu"), Limits(), **limits)
        feeds, item = one_input(folder, seed=3), predictor.blank(20)
        item = replace(item, tensors={name: feeds[name][0] for name in item.tensors})
        for discard in (0.0, 0.3):
            wanted = replace(
                predictor.everything, selection=Selection(target=2, heads="max", layers=0, discard=discard)
            )
            (outcome,) = predictor.run([predictor.job(item, wanted)])
            outcomes.setdefault(kind, {})[discard] = outcome
    truth, found = outcomes["fp32"][0.0], outcomes[precision][0.0]
    assert set(found.maps) == {spec.name for spec in bundle.read(fp32[family]).maps}
    for name, one in found.maps.items():
        for layer, expected in zip(one.layers, truth.maps[name].layers, strict=True):
            assert layer.dtype == np.float32
            assert np.abs(layer - expected).max() <= NEAR[precision] * np.abs(expected).max(), name
    for name, one in outcomes[precision][0.3].maps.items():
        assert all(np.isfinite(layer).all() for layer in one.layers), name
    if family == "image":
        return
    for name in ("relevance", "grad_sam"):  # which are made by the same graph as ever
        np.testing.assert_array_equal(found.maps[name].layers[0], truth.maps[name].layers[0])
    assert found.proof is not None
    assert found.proof.row_sum_error < 1e-5
    assert found.proof.output_error < PROVEN[precision]


@pytest.mark.parametrize("family", ["text", "video"])
def test_int8_of_attention_quantises_products_and_runs_inputs_alone(
    lowered: Make, fp32: dict[str, Path], family: str
) -> None:
    folder = lowered(family, "int8")
    before, after = (operators(path / "model.onnx") for path in (fp32[family], folder))
    assert bundle.read(folder).max_batch == 1
    assert after["MatMulInteger"] >= before["MatMul"] - 1  # X-CLIP's cosines multiply no weights
    assert after.get("MatMul", 0) <= 1
    assert (after["Attention"], after.get("Conv")) == (before["Attention"], before.get("Conv"))
    assert not {"QAttention", "DequantizeLinear", "Gemm", "ConvInteger"} & set(after)
    assert {tap.dtype for tap in bundle.read(folder).taps} == {"float32"}


def test_int8_of_convolutions_leaves_gates_and_classifier_and_may_batch(
    lowered: Make, fp32: dict[str, Path]
) -> None:
    folder = lowered("image", "int8")
    nodes = graph(folder).node
    made_by = {name: node.op_type for node in nodes for name in node.output}
    gates = {node.input[0] for node in nodes if node.op_type == "Sigmoid"}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    for node in convolutions:
        quantised = [made_by.get(name) for name in node.input[:2]] == ["DequantizeLinear"] * 2
        assert quantised == (node.output[0] not in gates)
    assert len([node for node in convolutions if node.output[0] in gates]) == 8
    gemms = [node for node in nodes if node.op_type == "Gemm"]
    assert len(gemms) == operators(fp32["image"] / "model.onnx")["Gemm"]
    assert not any(made_by.get(name) == "DequantizeLinear" for node in gemms for name in node.input[1:])
    assert bundle.read(folder).max_batch is None


def test_int8_of_convolutions_needs_data(fp32: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--data"):
        quantize.lower(fp32["image"], bundle.read(fp32["image"]), tmp_path, "int8", None)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_large_weights_stay_beside_their_graph(
    lowered: Make, fp32: dict[str, Path], tmp_path: Path, precision: Lower
) -> None:
    source, into = tmp_path / "source", tmp_path / "into"
    shutil.copytree(fp32["text"], source)
    model = onnx.load(str(source / "model.onnx"))
    beside = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 64}
    onnx.save(model, str(source / "model.onnx"), **beside)
    into.mkdir()
    manifest = bundle.read(fp32["text"])
    quantize.lower(source, manifest, into, precision, None)
    names = {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}
    assert names == {*manifest.files, "model.onnx.data"}
    assert stat.S_IMODE((into / "model.onnx.data").stat().st_mode) == 0o644
    weights = onnx.load(str(into / "model.onnx"), load_external_data=False).graph.initializer
    assert max(weight.ByteSize() for weight in weights) < 2048
    assert {path.name for path in source.iterdir()} == {path.name for path in into.iterdir()} | {
        "manifest.json"
    }
    feeds = one_input(fp32["text"])
    expected = run(lowered("text", precision) / "model.onnx", feeds)
    for name, found in run(into / "model.onnx", feeds).items():
        np.testing.assert_array_equal(found, expected[name])


class Judge:
    """Tools that find what they are told to, and note what they were given."""

    def __init__(self, *, labels: float | None = 1.0, error: float = 0.0) -> None:
        self.labels, self.error = labels, error
        self.compared: list[Feeds] = []
        self.precisions: list[str] = []

    def read_inputs(self, folder: Path, data: Path, limit: int) -> Iterator[Feeds]:
        if data.name == "bad":
            raise ValueError("bad, line 7: no JSON")
        yield from (one_input(folder, seed) for seed in range(3))

    def compare(self, folder: Path, against: Path, inputs: Iterable[Feeds], *, data: str) -> Agreement:
        self.compared = list(inputs)
        self.precisions = [bundle.read(one).precision for one in (folder, against)]
        if np.isnan(self.error):
            raise BundleError("not every value of logits is finite")
        return Agreement(
            against="fp32",
            data=data,
            inputs=len(self.compared),
            labels=self.labels,
            logit_error=self.error,
            largest_logit_error=self.error,
            maps={},
        )


DATA = Path("some") / "data"


@pytest.mark.parametrize(
    ("data", "judge", "words"),
    [
        (None, Judge(error=0.099, labels=0.0), None),
        (None, Judge(error=0.101, labels=1.0), r"mean relative logit error is 0\.101, 0\.1 is the limit"),
        (DATA, Judge(error=0.9, labels=0.99), None),
        (DATA, Judge(error=0.0, labels=0.985), r"98\.5% of 3 inputs keep their label, 99% is the limit"),
        (DATA, Judge(error=0.09, labels=None), None),
        (DATA, Judge(error=0.2, labels=None), r"mean relative logit error is 0\.200"),
    ],
)
def test_too_much_loss_is_refused_unless_it_is_accepted(
    fp32: dict[str, Path], data: Path | None, judge: Judge, words: str | None
) -> None:
    folder = fp32["text"]
    inputs = (one_input(folder, seed) for seed in range(100))
    if words is None:
        found = Lowering(precision="int8", tools=judge, data=data).measure(folder, folder, inputs)
    else:
        with pytest.raises(ExportError, match=f"int8: .*{words}.*--accept-loss"):
            Lowering(precision="int8", tools=judge, data=data).measure(folder, folder, inputs)
        taken = Lowering(precision="int8", tools=judge, data=data, accept_loss=True)
        found = taken.measure(folder, folder, inputs)
    assert found.inputs == len(judge.compared) == (3 if data else 8)
    assert found.data == ("data" if data else "generated at random")


@pytest.mark.parametrize("judge", [Judge(error=float("nan")), Judge()])
def test_what_cannot_be_measured_is_refused_even_where_loss_is_accepted(
    fp32: dict[str, Path], judge: Judge
) -> None:
    folder, data = fp32["text"], None if np.isnan(judge.error) else Path("bad")
    lowering = Lowering(precision="int8", tools=judge, data=data, accept_loss=True)
    with pytest.raises(ExportError, match="line 7" if data else "finite"):
        lowering.measure(folder, folder, iter([one_input(folder)]))


def test_generated_inputs_are_single_and_their_texts_of_many_lengths(checkpoint: Checkpoint) -> None:
    spec = packing.checked(checkpoint)[0]
    made = [feeds for feeds, _ in zip(examples(checkpoint.model, spec), range(8), strict=False)]
    first = next(iter(made[0]))
    assert {tensor.shape[0] for feeds in made for tensor in feeds.values()} == {1}
    assert not any(np.array_equal(made[0][first], feeds[first]) for feeds in made[1:])
    if checkpoint.family == "text":
        assert len({int(feeds["lengths"][0]) for feeds in made}) > 4


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_bundle_of_lower_precision_is_packed_whole(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path, monkeypatch: Any, precision: Lower
) -> None:
    take_graphs(monkeypatch, fp32[checkpoint.family])
    monkeypatch.setattr(Judge, "read_inputs", lambda self, folder, data, limit: iter([one_input(folder)]))
    judge, stages = Judge(error=0.01), list[str]()
    lowering = Lowering(precision=precision, tools=judge, data=DATA)
    folder = packing.pack(checkpoint, tmp_path, lowering=lowering, advance=stages.append)
    manifest = bundle.read(folder)
    assert manifest.precision == precision
    assert manifest.agreement is not None
    assert (manifest.agreement.logit_error, manifest.agreement.data) == (0.01, "data")
    assert judge.precisions == [precision, "fp32"]
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]
    assert stages[-2:] == [precision, "measure"]
    built = 1 + len(manifest.graphs)  # the stages that were taken as they are
    assert len(stages) == packing.steps(checkpoint, lowering) - built


def test_a_refused_loss_leaves_nothing_behind(
    checkpoint: Checkpoint, fp32: dict[str, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    take_graphs(monkeypatch, fp32[checkpoint.family])
    lowering = Lowering(precision="fp16", tools=Judge(error=1.0))
    with pytest.raises(ExportError, match="--accept-loss"):
        packing.pack(checkpoint, tmp_path, lowering=lowering)
    assert list(tmp_path.iterdir()) == []


def take_graphs(monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    """Packing takes the graphs of a bundle that is there already."""

    def build(checkpoint: Checkpoint, folder: Path, **options: object) -> None:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        (folder / "manifest.json").unlink()

    monkeypatch.setattr(packing, "build", build)


@pytest.mark.parametrize("options", [["--accept-loss"], ["--data", "."]])
def test_what_only_a_lower_precision_needs_is_no_option_of_fp32(options: list[str], tmp_path: Path) -> None:
    app = typer.Typer()
    cli.register(app, Judge())
    done = CliRunner().invoke(app, ["export", str(tmp_path), "--out", str(tmp_path), *options])
    assert done.exit_code == 2
    assert "for --precision fp16 and int8" in " ".join(done.output.replace("│", " ").split())


def test_the_command_hands_its_tools_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Lowering] = []

    def pack(checkpoint: Any, repository: Path, *, lowering: Lowering, advance: Any) -> Path:
        given.append(lowering)
        return repository

    monkeypatch.setattr(packing, "pack", pack)
    monkeypatch.setattr(packing, "steps", lambda checkpoint, lowering: 1)
    monkeypatch.setattr(cli, "_read", lambda *_: None)
    app, judge = typer.Typer(), Judge()
    cli.register(app, judge)
    arguments = ["--out", str(tmp_path), "--precision", "int8", "--data", str(tmp_path), "--accept-loss"]
    done = CliRunner().invoke(app, ["export", "source", *arguments])
    assert done.exit_code == 0, done.output
    assert given == [Lowering(precision="int8", tools=judge, data=tmp_path, accept_loss=True)]
