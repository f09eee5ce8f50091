"""The vision transformer's parts: where tokens come from, what its maps hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.programs import MapProgram
from models.vit import VisionTransformer, ViTConfig

CONFIG = ViTConfig(
    image=(12, 16), patch=(4, 4), labels=3, width=16, layers=2, heads=2, feedforward=24, norm_eps=1e-5
)
KINDS = ("query", "key", "value", "mixed")
DISTILLED = replace(CONFIG, distillation=True, teacher=True)


def model(config: ViTConfig = CONFIG) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(config).eval()


def of_taps(built: VisionTransformer) -> dict[str, MapProgram]:
    """The maps that are made of the taps of all layers and nothing else."""
    programs = built.programs()
    return {name: one for name, one in programs.items() if not (one.sliced or "target" in one.inputs)}


@pytest.mark.parametrize("config", [CONFIG, DISTILLED], ids=["class token", "distillation token too"])
@torch.no_grad()
def test_logits_taps_and_maps_have_their_shapes(config: ViTConfig) -> None:
    built = model(config)
    outputs, taps = built(torch.randn(5, 3, 12, 16))
    tokens = 12 + (2 if config.distillation else 1)
    assert outputs["logits"].shape == (5, 3)
    assert {name: tuple(tap.shape) for name, tap in taps.items()} == {
        f"layers.{index}.{kind}": (5, tokens, 16) for index in range(2) for kind in KINDS
    }
    shapes = {
        name: [tuple(grid.shape) for grid in program(*(taps[tap] for tap in program.inputs))]
        for name, program in of_taps(built).items()
    }
    rows, means = [(5, 2, 3, 4)] * 2, [(5, 3, 4)] * 2
    wanted = {"cls": rows, "rollout": means[:1], "received": means, "value_norm": rows}
    assert shapes == (wanted | {"distillation": rows} if config.distillation else wanted)


@torch.no_grad()
def test_each_patch_is_a_token_in_reading_order() -> None:
    built = model().embeddings
    built.positions.zero_()
    black = built(torch.zeros(1, 3, 12, 16))
    for row in range(3):
        for column in range(4):
            pixels = torch.zeros(1, 3, 12, 16)
            pixels[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
            changed = (built(pixels) != black).any(-1)[0].nonzero().flatten().tolist()
            assert changed == [1 + 4 * row + column]


@torch.no_grad()
def test_a_marked_patch_shows_at_its_place_in_the_maps() -> None:
    built = model(DISTILLED)
    taps = {f"layers.{i}.{kind}": torch.ones(1, 14, 16) for i in range(2) for kind in KINDS}
    for index in range(2):
        taps[f"layers.{index}.query"][:] = 10.0
        taps[f"layers.{index}.key"][:] = 0.0
        taps[f"layers.{index}.key"][:, 2 + 4 * 1 + 3] = 10.0  # row 1, column 3
    for name, program in of_taps(built).items():
        for grid in program(*(taps[tap] for tap in program.inputs)):
            if name != "value_norm":  # whose length is that of the output's columns
                assert grid.flatten(0, -3).amax(0)[1, 3] > 0.7, name
            assert grid.flatten(-2).argmax(-1).unique().tolist() == [7], name


@torch.no_grad()
def test_the_class_and_the_distillation_token_have_maps_of_their_own() -> None:
    programs = model(DISTILLED).programs()
    query, key = torch.zeros(1, 14, 16), torch.zeros(1, 14, 16)
    query[:, 0, 0] = query[:, 1, 1] = 100.0
    key[:, 2, 0] = key[:, 13, 1] = 100.0  # the class token looks at the first patch, the other at the last
    seen = {
        name: int(programs[name](*[query, key] * 2)[0][0, 0].flatten().argmax())
        for name in ("cls", "distillation")
    }
    assert seen == {"cls": 0, "distillation": 11}


@torch.no_grad()
def test_a_teachers_logits_and_the_class_tokens_are_averaged() -> None:
    built = model(DISTILLED)
    assert built.teacher is not None
    pixels = torch.randn(2, 3, 12, 16)
    both = built(pixels)[0]["logits"]
    own = built.classifier.weight.clone(), built.classifier.bias.clone()
    built.classifier.weight.zero_()
    built.classifier.bias.zero_()
    teachers = built(pixels)[0]["logits"]
    built.classifier.weight.copy_(own[0])
    built.classifier.bias.copy_(own[1])
    built.teacher.weight.zero_()
    built.teacher.bias.zero_()
    assert torch.allclose(both, teachers + built(pixels)[0]["logits"], atol=1e-6)
    assert not torch.allclose(both, teachers, atol=1e-3)


def test_a_patch_must_divide_the_image() -> None:
    with pytest.raises(ValueError, match=r"image size \(12, 16\) is not divisible by patch size \(4, 5\)"):
        replace(CONFIG, patch=(4, 5))


def test_a_teacher_needs_the_distillation_token() -> None:
    with pytest.raises(ValueError, match="needs the distillation token"):
        replace(CONFIG, teacher=True)
