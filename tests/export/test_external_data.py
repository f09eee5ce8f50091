"""Weights too large for one file lie beside their graph, those of maps too: verified, lowered and served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tokenizers import Tokenizer, models

from export import graph, quantize
from export.pack import pack
from export.quantize import Lower
from models.checkpoints import native
from models.text import TextConfig, TextTransformer
from service import bundle
from service.decode.limits import Limits
from service.job import Payload, Wanted
from service.maps import AttentionMap
from service.predictor import Predictor
from service.sessions import SessionPool

BESIDE = {"model.onnx.data", "maps/gradients.onnx.data", "maps/value_norm.onnx.data"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a small text model for which every weight is large."""
    torch.manual_seed(0)
    config = TextConfig(
        vocabulary=60, labels=3, width=16, layers=1, heads=2, feedforward=32, positions=40, head="linear"
    )
    folder = tmp_path_factory.mktemp("weights")
    spec = {"kind": "text", "max_tokens": 40}
    common = {"name": "text", "version": "1", "description": "", "labels": ["a", "b", "c"], "card": None}
    native.save(folder, TextTransformer(config).eval(), preprocessing=spec, **common)
    words = {f"w{index}": index for index in range(60)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "EXTERNAL_DATA_BYTES", 100)
        return pack(native.load(folder), tmp_path_factory.mktemp("models"))


def served(folder: Path) -> dict[str, AttentionMap]:
    limits = {"batch_tokens": 2048, "batch_pixels": 2**24, "batch_tap_bytes": 2**28}
    predictor = Predictor.load(folder, SessionPool(device="cpu"), Limits(), **limits)
    maps = frozenset(spec.name for spec in predictor.manifest.maps)
    item = predictor.decode(Payload(data="w7"))
    (outcome,) = predictor.run([predictor.job(item, Wanted(maps=maps, proof=True))])
    return outcome.maps


def test_graphs_with_weights_and_no_others_have_a_file_beside_them(packed: Path) -> None:
    manifest = bundle.read(packed)
    assert {name for name in manifest.files if name.endswith(".data")} == BESIDE
    for name in BESIDE:
        path = packed / name.removesuffix(".data")
        weights = onnx.load(str(path), load_external_data=False).graph.initializer
        assert max(weight.ByteSize() for weight in weights) < 2048
        assert (packed / name).stat().st_size >= 512


def test_a_bundle_whose_weights_are_changed_is_refused(packed: Path, tmp_path: Path) -> None:
    for file in packed.rglob("*"):
        if file.is_file():
            copy = tmp_path / file.relative_to(packed)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
    path = tmp_path / "maps" / "gradients.onnx.data"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(bundle.BundleError, match=r"maps/gradients\.onnx\.data does not match"):
        bundle.read(tmp_path)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_lower_precision_takes_them_along_and_is_served(
    packed: Path, tmp_path: Path, precision: Lower
) -> None:
    into, manifest = tmp_path / "text" / "1", bundle.read(packed)
    into.mkdir(parents=True)
    lowered = quantize.lower(packed, manifest, into, precision, None)
    names = {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}
    assert names == set(manifest.files)
    files = {name: bundle.digest(into / name) for name in names}
    (into / "manifest.json").write_text(lowered.model_copy(update={"files": files}).model_dump_json())
    truth, found = served(packed), served(into)
    assert set(found) == set(truth) == {spec.name for spec in manifest.maps}
    for name, one in found.items():
        for layer, expected in zip(one.layers, truth[name].layers, strict=True):
            np.testing.assert_allclose(layer, expected, rtol=0, atol=0.05 * np.abs(expected).max())
