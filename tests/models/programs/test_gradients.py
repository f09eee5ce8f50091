"""Gradient relevance and Grad-SAM of whole models against torch.autograd and full matrices R, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.activation import Activation
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig
from models.vit import VisionTransformer, ViTConfig

Check = Callable[..., None]
FP32 = 1e-4  # of the largest value


def stirred(model: nn.Module, scale: float = 0.3) -> nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, scale) if name != "logit_scale" else parameter.fill_(1.5)
    return model.eval()


def check_single(model: nn.Module, close: Check, watched: Any, target: Tensor, *expected: Tensor) -> None:
    """In float32, as it is served, both maps are within 1e-4 of the reference."""
    inputs = {name: x.float() if x.is_floating_point() else x for name, x in watched.inputs.items()}
    with torch.no_grad():
        found = model.float().relevance(**inputs, target=target)
    for one, other in zip(found, expected, strict=True):
        close(one.double(), other, FP32)


TEXT = torch.tensor([9, 4, 6])
TARGET = torch.tensor([0, 3, 2])


def text(head: str = "tanh", activation: Activation = "gelu", token_types: int = 0) -> nn.Module:
    config = TextConfig(
        vocabulary=50,
        labels=5,
        width=30,
        layers=3,
        heads=5,
        feedforward=48,
        positions=20,
        head=head,  # type: ignore[arg-type]
        activation=activation,
        token_types=token_types,
        norm_eps=1e-3,  # so large that another one would be seen
        dropout=0.5,
    )
    return stirred(TextTransformer(config))


def encoder_maps(watched: Any, explicit: Any, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps of an encoder: the class token's row of R - I, and the mean over layers and queries."""
    size = int(lengths.max())
    rows, received = torch.zeros(len(lengths), size).double(), torch.zeros(len(lengths), size).double()
    for place, n in enumerate(lengths.tolist()):
        layers = []
        for seen in (watched.seen[f"blocks.{index}.attention"] for index in range(3)):
            layers.append((seen.probabilities[place, :, :n, :n], seen.gradient[place, :, :n, :n]))
        rows[place, :n] = (explicit.relevances(layers) - torch.eye(n).double())[0]
        for layer in layers:
            received[place, :n] += explicit.relevance(*layer).sum(0) / (3 * n)
    return rows, received


@pytest.mark.parametrize("token_types", [0, 2])
@pytest.mark.parametrize("head", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu", "relu", "tanh"])
def test_of_padded_texts_each_for_a_label_of_its_own(
    head: str, activation: Activation, token_types: int, watch: Any, close: Check, explicit: Any
) -> None:
    model = text(head, activation, token_types)
    ids = torch.randint(50, (3, 9))
    types = {"token_types": torch.randint(2, (3, 9))} if token_types else {}
    watched = watch(model, input_ids=ids, lengths=TEXT, **types)
    watched.backward(TARGET)
    expected = encoder_maps(watched, explicit, TEXT)
    for name, values in zip(("relevance", "grad_sam"), expected, strict=True):
        (found,) = watched.map(name, target=TARGET)
        close(found, values)
        assert all(torch.count_nonzero(found[place, n:]) == 0 for place, n in enumerate(TEXT.tolist()))
    check_single(model, close, watched, TARGET, *expected)


def test_another_label_has_another_map(watch: Any, close: Check) -> None:
    """Without this a target that is ignored would only be seen where labels differ."""
    model = text()
    watched = watch(model, input_ids=torch.randint(50, (3, 9)), lengths=TEXT)
    by_label = [watched.map("relevance", target=torch.full((3,), label))[0] for label in range(5)]
    mixed = watched.map("relevance", target=TARGET)[0]
    for place, label in enumerate(TARGET.tolist()):
        close(mixed[place], by_label[label][place])
        for other in set(range(5)) - {label}:
            assert (mixed[place] - by_label[other][place]).abs().max() > 0.01 * mixed[place].abs().max()


def test_of_a_text_it_does_not_depend_on_its_neighbours_or_on_padding(watch: Any, close: Check) -> None:
    model = text(token_types=2)
    ids, types = torch.randint(50, (3, 9)), torch.randint(2, (3, 9))
    together = watch(model, input_ids=ids, lengths=TEXT, token_types=types)
    for place, n in enumerate(TEXT.tolist()):
        part = slice(place, place + 1)
        single = watch(model, input_ids=ids[part, :n], lengths=TEXT[part], token_types=types[part, :n])
        for name in ("relevance", "grad_sam"):
            (alone,) = single.map(name, target=TARGET[part])
            close(together.map(name, target=TARGET)[0][part, :n], alone)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"distillation": True, "qkv_bias": False},
        {"distillation": True, "teacher": True, "activation": "quick_gelu"},
    ],
    ids=["class token", "distillation token", "teacher"],
)
def test_of_pictures(kind: dict[str, Any], watch: Any, close: Check, explicit: Any) -> None:
    config = ViTConfig(
        image=(12, 20),
        patch=(4, 4),
        labels=5,
        width=30,
        layers=3,
        heads=5,
        feedforward=48,
        norm_eps=1e-3,
        **kind,
    )
    model = stirred(VisionTransformer(config))
    watched = watch(model, pixels=torch.randn(2, 3, 12, 20))
    target = torch.tensor([1, 4])
    watched.backward(target)
    prefix = 2 if config.distillation else 1
    whole = encoder_maps(watched, explicit, torch.tensor([prefix + 15] * 2))
    for name, values in zip(("relevance", "grad_sam"), whole, strict=True):
        close(watched.map(name, target=target)[0], values[:, prefix:].unflatten(-1, (3, 5)))
    check_single(model, close, watched, target, *whole)


TIME, PATCHES = 3, 4


@pytest.fixture
def clips(watch: Any) -> Any:
    """Two clips of three frames whose class tokens differ, and the way back from a label of each."""
    config = XCLIPConfig(
        image=16,
        patch=8,
        frames=TIME,
        embed=16,
        vision=TowerConfig(width=20, layers=3, heads=5),
        temporal=TowerConfig(width=16, layers=2, heads=2),
        prompt=TowerConfig(width=16, layers=2, heads=4),
        text=TowerConfig(width=8, layers=1, heads=2),
        vocabulary=20,
        context=6,
    )
    model = stirred(VideoClassifier(XCLIP(config), torch.randn(5, 16)))
    watched = watch(model, frames=torch.randn(2, TIME, 3, 16, 16))
    watched.backward(CLIP_TARGET)
    return watched


CLIP_TARGET = torch.tensor([1, 4])


def clip_maps(watched: Any, explicit: Any) -> tuple[Tensor, Tensor]:
    """Both maps of clips, with R over all T(1+P) tokens: what a class token hears of a message comes from the
    class tokens of the frames, its own included."""
    size = 1 + PATCHES
    rows, received = [], []
    for clip in range(2):
        product, summed = torch.eye(TIME * size).double(), torch.zeros(TIME, PATCHES).double()
        for layer in range(3):
            frames = watched.seen[f"vision.blocks.{layer}.frame.attention"]
            inside = [
                explicit.relevance(frames.probabilities[clip * TIME + t], frames.gradient[clip * TIME + t])
                for t in range(TIME)
            ]
            spoken = watched.seen[f"vision.blocks.{layer}.message_attention"]
            heard = explicit.relevance(spoken.probabilities[clip], spoken.gradient[clip])
            heard = heard + torch.eye(TIME).double()
            step = torch.zeros_like(product)
            for t in range(TIME):
                summed[t] += inside[t].sum(0)[1:-1] / (3 * (size + 1))
                for i in range(size):
                    for j in range(size):
                        step[t * size + i, t * size + j] += inside[t][i, j]
                    for u in range(TIME):
                        step[t * size + i, u * size] += inside[t][i, size] * heard[t, u]
            product = product + step @ product
        temporal = [watched.seen[f"temporal.blocks.{index}.attention"] for index in range(2)]
        of_frames = explicit.relevances(
            [(seen.probabilities[clip], seen.gradient[clip]) for seen in temporal]
        )
        first = torch.zeros(TIME * size).double()
        for t in range(TIME):
            first[t * size] = of_frames[:, t].mean()
            for index in range(2):
                seen = watched.seen[f"prompts.blocks.{index}.attention"]
                looked = explicit.relevance(seen.probabilities[clip], seen.gradient[clip])
                first[t * size + 1 : (t + 1) * size] += looked[CLIP_TARGET[clip]] / TIME
        rows.append((first @ product).view(TIME, size)[:, 1:])
        received.append(summed)
    return torch.stack(rows), torch.stack(received)


def test_of_clips(clips: Any, close: Check, explicit: Any) -> None:
    expected = clip_maps(clips, explicit)
    for name, values in zip(("relevance", "grad_sam"), expected, strict=True):
        close(clips.map(name, target=CLIP_TARGET)[0], values.unflatten(-1, (2, 2)))
    check_single(clips.model, close, clips, CLIP_TARGET, *expected)


def test_of_a_clip_it_does_not_depend_on_its_neighbours(clips: Any, close: Check) -> None:
    together = {name: clips.map(name, target=CLIP_TARGET)[0] for name in ("relevance", "grad_sam")}
    for place in range(2):
        part = slice(place, place + 1)
        alone = clips.model.relevance(clips.inputs["frames"][part], CLIP_TARGET[part])
        for found, single in zip(together.values(), alone, strict=True):
            close(found[part].flatten(-2), single.detach())


def test_both_maps_of_a_model_come_of_one_pass() -> None:
    model = text()
    programs = model.programs()
    one, other = programs["relevance"], programs["grad_sam"]
    assert one.graph == other.graph == "gradients"
    assert one.inputs == other.inputs == ("input_ids", "lengths", "target")
    given = (torch.randint(50, (3, 9)), TEXT, TARGET)
    with torch.no_grad():
        single = (*one(*given), *other(*given))
        for both in (one.both(*given), other.both(*given)):
            assert all(torch.equal(a, b) for a, b in zip(both, single, strict=True))
