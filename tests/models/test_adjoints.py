"""Every adjoint against torch.autograd in float64, on weights and inputs with nothing special about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from models import adjoints
from models.activation import ACTIVATIONS, Activation
from models.attention import MultiHeadAttention, attend
from models.feedforward import FeedForward
from models.text import EncoderBlock, TextConfig
from models.video import TowerConfig, XCLIPConfig
from models.video.prompt import PromptBlock, PromptGenerator
from models.video.residual import ResidualBlock
from models.video.temporal import FrameIntegration
from models.video.vision import CrossFrameBlock, VisionTower
from models.vit import ViTBlock, ViTConfig

Module = TypeVar("Module", bound=nn.Module)
EXACT = {"rtol": 1e-11, "atol": 1e-11}
LENGTHS = torch.tensor([5, 2])
VIDEO = XCLIPConfig(
    image=16,
    patch=8,
    frames=3,
    embed=8,
    vision=TowerConfig(width=12, layers=1, heads=3),
    temporal=TowerConfig(width=8, layers=2, heads=2),
    prompt=TowerConfig(width=8, layers=2, heads=2),
    text=TowerConfig(width=8, layers=1, heads=2),
    vocabulary=10,
    context=4,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def leaf(*shape: int) -> Tensor:
    """What autograd is asked about."""
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def stirred(module: Module) -> Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5)
    return module.double().eval()


def compare(output: Tensor, inputs: list[Tensor], adjoint: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
    """A random gradient by the output: autograd's by the inputs, and the adjoint's."""
    gradient = torch.randn_like(output)
    expected = torch.autograd.grad(output, inputs, gradient)
    with torch.no_grad():
        found = adjoint(gradient)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    layer, x = stirred(nn.Linear(5, 7, bias=bias)), leaf(2, 3, 5)
    compare(layer(x), [x], lambda gradient: (adjoints.linear(layer, gradient),))


@pytest.mark.parametrize("eps", [1e-12, 0.1])
def test_layer_norm(eps: float) -> None:
    layer, x = stirred(nn.LayerNorm(6, eps=eps)), leaf(2, 3, 6)
    compare(layer(x), [x], lambda gradient: (adjoints.layer_norm(layer, x, gradient),))


def test_normalize() -> None:
    x = leaf(2, 3, 6)
    compare(nn.functional.normalize(x, dim=-1), [x], lambda gradient: (adjoints.normalize(x, gradient),))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_over_its_whole_range(name: Activation) -> None:
    layer = ACTIVATIONS[name]()
    x = torch.linspace(-12, 12, 2400, dtype=torch.float64).requires_grad_()
    compare(layer(x), [x], lambda gradient: (adjoints.activation(layer, x, gradient),))
    assert torch.isfinite(adjoints.slope(layer, torch.tensor([-1e4, 1e4]))).all()


def test_an_activation_without_a_derivative_is_refused() -> None:
    with pytest.raises(TypeError, match="SiLU"):
        adjoints.slope(nn.SiLU(), torch.zeros(1))


def test_every_adjoint_keeps_the_precision_of_its_gradient() -> None:
    """A model in fp32 is verified in float64, its weights doubled only while each module runs."""
    gradient, x = torch.randn(2, 6).double(), torch.randn(2, 6).double()
    linear, norm = nn.Linear(6, 6), nn.LayerNorm(6)
    for found in (adjoints.linear(linear, gradient), adjoints.layer_norm(norm, x, gradient)):
        assert found.dtype == torch.float64


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize("queries", [5, 3])
@pytest.mark.parametrize("heads", [2, 4, 5, 9])
def test_attention(heads: int, queries: int, lengths: Tensor | None) -> None:
    width = 4 * heads
    query, key, value = leaf(2, queries, width), leaf(2, 5, width), leaf(2, 5, width)
    mixed = attend(query, key, value, heads=heads, lengths=lengths)
    taps = (query, key, value, mixed.detach())
    compare(
        mixed,
        [query, key, value],
        lambda gradient: adjoints.attention(*taps, gradient, heads=heads, lengths=lengths)[:3],
    )


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize("heads", [2, 4, 5, 9])
def test_relevance_is_what_is_positive_of_probabilities_times_their_gradient(
    heads: int, lengths: Tensor | None
) -> None:
    query, key, value = (torch.randn(2, 5, 4 * heads).double() for _ in range(3))
    split = [x.unflatten(-1, (heads, 4)).transpose(1, 2) for x in (query, key, value)]
    products = split[0] @ split[1].mT / 2
    if lengths is not None:
        products = products.masked_fill((torch.arange(5) >= lengths[:, None])[:, None, None], -torch.inf)
    probabilities = products.softmax(-1).requires_grad_()
    mixed = (probabilities @ split[2]).transpose(1, 2).flatten(2)
    gradient = torch.randn_like(mixed)
    (by_probabilities,) = torch.autograd.grad(mixed, probabilities, gradient)
    taps = (query, key, value, mixed.detach())
    *_, found = adjoints.attention(*taps, gradient, heads=heads, lengths=lengths)
    expected = (probabilities * by_probabilities).detach().clamp(min=0).sum(1) / heads
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("bias", [True, False])
def test_self_attention(bias: bool) -> None:
    module, x = stirred(MultiHeadAttention(width=8, heads=2, bias=bias)), leaf(2, 5, 8)
    output, taps = module(x, lengths=LENGTHS)
    compare(
        output, [x], lambda gradient: adjoints.self_attention(module, taps, gradient, lengths=LENGTHS)[:1]
    )


def test_cross_attention() -> None:
    module = stirred(MultiHeadAttention(width=8, heads=2, source_width=6))
    x, source = leaf(2, 3, 8), leaf(2, 5, 6)
    output, taps = module(x, source, lengths=LENGTHS)
    compare(
        output,
        [x, source],
        lambda gradient: adjoints.cross_attention(module, taps, gradient, lengths=LENGTHS)[:2],
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_feed_forward(name: Activation) -> None:
    module = stirred(FeedForward(width=6, hidden=10, activation=ACTIVATIONS[name]()))
    x = leaf(2, 3, 6)
    output, hidden = module(x)
    assert torch.equal(output, nn.Sequential.forward(module, x))
    compare(output, [x], lambda gradient: (module.adjoint(gradient, hidden),))


def test_a_block_of_a_text() -> None:
    sizes = {"vocabulary": 9, "labels": 2, "width": 8, "layers": 1, "heads": 2, "feedforward": 10}
    block = stirred(EncoderBlock(TextConfig(**sizes, positions=6, norm_eps=0.01)))
    x = leaf(2, 5, 8)
    output, taps = block(x, LENGTHS)
    compare(output, [x], lambda gradient: block.adjoint(gradient, taps, LENGTHS)[:1])


def test_a_block_of_a_picture() -> None:
    sizes = {"image": (8, 8), "patch": (4, 4), "labels": 2, "width": 8, "layers": 1, "heads": 2}
    block = stirred(ViTBlock(ViTConfig(**sizes, feedforward=10, norm_eps=0.01)))
    x = leaf(2, 5, 8)
    output, taps = block(x)
    compare(output, [x], lambda gradient: block.adjoint(gradient, taps)[:1])


def test_the_block_of_clip() -> None:
    block, x = stirred(ResidualBlock(width=8, heads=2)), leaf(2, 5, 8)
    output, taps = block(x)
    compare(output, [x], lambda gradient: block.adjoint(gradient, taps)[:1])


def test_a_block_whose_frames_speak_to_each_other() -> None:
    block, x = stirred(CrossFrameBlock(width=12, heads=3)), leaf(2, 3, 5, 12)
    output, taps, messages = block(x)
    compare(output, [x], lambda gradient: block.adjoint(gradient, taps, messages)[:1])


def test_a_block_of_prompts() -> None:
    block, labels, visual = stirred(PromptBlock(width=8, heads=2)), leaf(2, 3, 8), leaf(2, 4, 8)
    output, taps = block(labels, visual)
    compare(output, [labels, visual], lambda gradient: block.adjoint(gradient, taps)[:2])


def test_what_a_clip_adds_to_its_labels() -> None:
    module, labels, patches = stirred(PromptGenerator(VIDEO)), leaf(2, 1, 8), leaf(2, 3, 4, 12)
    output, seen, layers = module(labels, patches)
    compare(output, [patches], lambda gradient: module.adjoint(gradient, patches, seen, layers)[:1])


def test_the_attention_over_frames() -> None:
    module, frames = stirred(FrameIntegration(VIDEO)), leaf(2, 3, 8)
    output, layers = module(frames)
    compare(output, [frames], lambda gradient: module.adjoint(gradient, layers)[:1])


def test_the_embeddings_of_frames() -> None:
    tower, tokens = stirred(VisionTower(VIDEO)), leaf(2, 3, 5, 12)
    output = tower.projection(tower.norm_post(tokens[:, :, 0]))  # what the tower does to its last tokens
    compare(output, [tokens], lambda gradient: (tower.adjoint(gradient, tokens),))


def test_what_blocks_hand_out_goes_from_the_last_to_the_first() -> None:
    """The blocks over frames and of prompts go backward, and so does their relevance."""
    temporal, prompts = stirred(FrameIntegration(VIDEO)), stirred(PromptGenerator(VIDEO))
    _, layers = temporal(torch.randn(2, 3, 8).double())
    by_video = torch.randn(2, 8).double()
    _, listened = temporal.adjoint(by_video, layers)
    patches = torch.randn(2, 3, 4, 12).double()
    _, seen, looks = prompts(torch.randn(2, 1, 8).double(), patches)
    by_addition = torch.randn(2, 1, 8).double()
    _, looked = prompts.adjoint(by_addition, patches, seen, looks)
    last = temporal.blocks[-1].adjoint((by_video / 3)[:, None].expand(-1, 3, -1), layers[-1])[1]
    torch.testing.assert_close(listened[0], last, **EXACT)
    last = prompts.blocks[-1].adjoint(by_addition * prompts.alpha, looks[-1])[2]
    torch.testing.assert_close(looked[0], last, **EXACT)
