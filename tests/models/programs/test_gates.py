"""Gates and class activations of a CBAM network against what they do to its features, and to autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.cbam import CBAMConfig, CBAMResNet


@pytest.fixture
def model() -> CBAMResNet:
    torch.manual_seed(0)
    model = CBAMResNet(CBAMConfig(labels=4, depth=18, width=8, stem="small", reduction=4))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
        model.classifier.weight.mul_(30)
    return model.eval()


def test_class_activation_is_grad_cam(model: CBAMResNet) -> None:
    outputs, taps = model(torch.randn(2, 3, 40, 24))
    features, logits = taps["features"], outputs["logits"]
    program = model.programs()["cam"]
    assert program.inputs == ("features",)
    (found,) = program(features)
    assert found.shape == (2, 4, 5, 3)
    for sample in range(2):
        for label in range(4):
            (gradient,) = torch.autograd.grad(logits[sample, label], features, retain_graph=True)
            alpha = gradient[sample].double().mean((1, 2))
            planes = (alpha[:, None, None] * features[sample].double()).sum(0)
            expected = planes.clamp(min=0).detach()
            torch.testing.assert_close(found[sample, label].double(), expected, rtol=0, atol=1e-5)
    assert found.min() == 0
    assert found.max() > 0.5


def test_gates_are_the_taps_and_what_multiplies_the_features(model: CBAMResNet) -> None:
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, block in model.blocks.items():
        block.cbam.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: (inputs[0], output[0])})
        )
    with torch.no_grad():
        taps = model(torch.randn(2, 3, 24, 16))[1]
    programs = model.programs()
    channel, spatial = programs["channel"], programs["spatial"]
    channels = channel(*(taps[name] for name in channel.inputs))
    places = spatial(*(taps[name] for name in spatial.inputs))
    assert channel.layers == spatial.layers == tuple(model.blocks)
    for name, one, other in zip(model.blocks, channels, places, strict=True):
        assert torch.equal(one, taps[f"{name}.channel"])
        assert torch.equal(other, taps[f"{name}.spatial"][:, 0])
        before, after = seen[name]
        gated = torch.einsum("bchw,bc,bhw->bchw", before.double(), one.double(), other.double())
        np.testing.assert_allclose(after.numpy(), gated.numpy(), rtol=1e-5, atol=1e-5)
    assert channel.fixed_range == spatial.fixed_range == (0.0, 1.0)
