"""Every program of every model runs on what the model hands out, and says what it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.cbam import CBAMConfig, CBAMResNet
from models.programs import MapProgram
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig
from models.vit import VisionTransformer, ViTConfig

Case = tuple[nn.Module, dict[str, Tensor]]
GIVEN = {
    "target": torch.tensor([2, 0]),
    "rows": torch.tensor([1, 0, 3]),
    "frame": torch.tensor([1]),
    "fuse": torch.tensor([1, 2]),
    "discard": torch.tensor([0.0, 0.4]),
}
ALL = ["cls", "rollout", "received", "value_norm", "relevance", "grad_sam", "attention"]


def text() -> Case:
    config = TextConfig(vocabulary=9, labels=3, width=8, layers=2, heads=2, feedforward=8, positions=6)
    ids = torch.ones(2, 6, dtype=torch.long)
    return TextTransformer(config), {"input_ids": ids, "lengths": torch.tensor([6, 3])}


def gates() -> Case:
    model = CBAMResNet(CBAMConfig(labels=4, depth=18, width=8, stem="small", reduction=4))
    return model, {"pixels": torch.randn(2, 3, 24, 16)}


def picture() -> Case:
    sizes = {"image": (8, 12), "patch": (4, 4), "labels": 3, "width": 8, "layers": 2, "heads": 2}
    return VisionTransformer(ViTConfig(**sizes, feedforward=8, distillation=True)), {
        "pixels": torch.randn(2, 3, 8, 12)
    }


def clip() -> Case:
    config = XCLIPConfig(
        image=16,
        patch=8,
        frames=3,
        embed=8,
        vision=TowerConfig(width=8, layers=2, heads=2),
        temporal=TowerConfig(width=8, layers=1, heads=2),
        prompt=TowerConfig(width=8, layers=2, heads=2),
        text=TowerConfig(width=8, layers=1, heads=2),
        vocabulary=10,
        context=4,
    )
    model = VideoClassifier(XCLIP(config), torch.randn(5, 8))
    return model, {"frames": torch.randn(2, 3, 3, 16, 16)}


FAMILIES: dict[Callable[[], Case], list[str]] = {
    text: ALL,
    gates: ["cam", "spatial", "channel"],
    picture: [*ALL, "distillation"],
    clip: [*ALL, "importance", "message", "temporal", "label_patches"],
}


@pytest.mark.parametrize("case", FAMILIES)
@torch.no_grad()
def test_every_program_runs_on_its_models_taps_and_describes_itself(case: Callable[[], Case]) -> None:
    torch.manual_seed(0)
    model, inputs = case()
    taps = model.eval()(**inputs)[1]
    programs: dict[str, MapProgram] = model.programs()
    assert set(programs) == set(FAMILIES[case])
    for name, program in programs.items():
        layers = program.layers if program.sliced else ("",)
        for layer in layers:
            own = {key.removeprefix(f"{layer}."): tap for key, tap in taps.items()} if layer else {}
            tensors = {**inputs, **taps, **GIVEN, **own}
            untouched = {key: tensor.clone() for key, tensor in tensors.items()}
            for made in (program, program.tuned):
                if made is None:
                    continue
                out = made(*(tensors[key] for key in made.inputs))
                assert len(out) == (1 if program.sliced else len(program.layers) or 1), name
                assert all(tensor.ndim == 1 + len(program.axes) for tensor in out), name
                assert all(torch.isfinite(tensor).all() for tensor in out), name
            assert all(torch.equal(tensors[key], tensor) for key, tensor in untouched.items()), name
        assert program.description.endswith(".")
        assert program.default == (len(program.layers) - 1 if program.layers else None)
        assert (program.tuned is not None) == (name == "rollout")
        assert program.sliced == (name == "attention")
        before = {picture: 2, clip: 1}.get(case) if program.sliced else None  # of patches alone
        assert program.tokens_before == before
        assert program.graph == ("gradients" if name in ("relevance", "grad_sam") else None)


@pytest.mark.parametrize("case", [text, picture, clip])
@torch.no_grad()
def test_every_layer_of_a_model_can_be_proven(case: Callable[[], Case]) -> None:
    torch.manual_seed(0)
    model, inputs = case()
    taps = model.eval()(**inputs)[1]
    proof = model.proof()
    assert len(model.layers) == 2
    for layer in model.layers:
        tensors = inputs | {kind: taps[f"{layer}.{kind}"] for kind in ("query", "key", "value", "mixed")}
        for error in proof(*(tensors[name] for name in proof.inputs)):
            assert error.shape == (2,)
            assert error.max() < 1e-5


def test_a_network_without_attention_has_no_proof() -> None:
    model, _ = gates()
    assert not hasattr(model, "proof")


def test_a_default_layer_is_counted_from_the_end_and_is_none_where_a_map_covers_all() -> None:
    assert MapProgram(inputs=["x"], layers=["a", "b", "c"]).default == 2
    assert MapProgram(inputs=["x"], layers=["a", "b", "c"], default=1).default == 1
    assert MapProgram(inputs=["x"]).default is None
