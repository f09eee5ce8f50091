"""The CBAM ResNet against the paper's formulas and against the ResNet of transformers."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification

from models.cbam import CBAMConfig, CBAMResNet, ChannelGate, SpatialGate

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
Depth = Literal[18, 34, 50, 101]
BLOCKS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}  # He et al. 2015, table 1

# The names of Jongchan/attention-module, whose checkpoints exist (ResNet-50: 480 entries).
OFFICIAL = [
    (r"stem\.0\.", "conv1."),
    (r"stem\.1\.", "bn1."),
    (r"classifier\.", "fc."),
    (r"blocks\.stage(\d)_(\d+)\.", r"layer\1.\2."),
    (r"branch\.0\.", "conv1."),
    (r"branch\.1\.", "bn1."),
    (r"branch\.3\.", "conv2."),
    (r"branch\.4\.", "bn2."),
    (r"branch\.6\.", "conv3."),
    (r"branch\.7\.", "bn3."),
    (r"shortcut\.", "downsample."),
    (r"cbam\.channel\.mlp\.0\.", "cbam.ChannelGate.mlp.1."),
    (r"cbam\.channel\.mlp\.2\.", "cbam.ChannelGate.mlp.3."),
    (r"cbam\.spatial\.", "cbam.SpatialGate.spatial."),
]


def official(model: CBAMResNet) -> dict[str, Tensor]:
    """The model's state under the names of the original repository."""
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        for old, new in OFFICIAL:
            key = re.sub(old, new, key)
        state[key] = tensor
    return state


def small(depth: Depth, *, stem: Literal["imagenet", "small"] = "imagenet") -> CBAMResNet:
    """A narrow network with lively gates and batch statistics of some data."""
    torch.manual_seed(depth)
    model = CBAMResNet(CBAMConfig(labels=5, depth=depth, width=8, stem=stem, reduction=4))
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias")) or "mlp" in name or "spatial.conv" in name:
                tensor.normal_(0, 0.2)
            elif tensor.ndim == 1:
                tensor.uniform_(0.6, 1.4)
    return model.eval()


def gate_reference(x: Tensor, state: dict[str, Tensor], block: str) -> tuple[Tensor, Tensor, Tensor]:
    """CBAM from the paper's equations 2 and 3: the gated x, the channel gate and the spatial gate."""
    gate = f"{block}cbam.ChannelGate.mlp."

    def mlp(pooled: Tensor) -> Tensor:
        hidden = torch.clamp(pooled @ state[gate + "1.weight"].T + state[gate + "1.bias"], min=0)
        return hidden @ state[gate + "3.weight"].T + state[gate + "3.bias"]

    flat = x.flatten(2)
    channel = 1 / (1 + torch.exp(-(mlp(flat.sum(-1) / flat.shape[-1]) + mlp(flat.max(-1).values))))
    x = torch.einsum("bchw,bc->bchw", x, channel)
    spatial = f"{block}cbam.SpatialGate.spatial."
    both = torch.stack([x.max(1).values, x.sum(1) / x.shape[1]], 1)
    places = functional.conv2d(both, state[spatial + "conv.weight"], padding=3)
    spatial_gate = 1 / (1 + torch.exp(-norm_reference(places, state, spatial + "bn.")))
    return x * spatial_gate, channel, spatial_gate


def norm_reference(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Batch normalisation by stored statistics."""
    mean, variance, weight, bias = (
        state[name + part][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def network_reference(
    x: Tensor, state: dict[str, Tensor], *, small_stem: bool
) -> tuple[Tensor, list[Tensor]]:
    """Logits and every gate, in order, from a state with the original names alone."""
    stride = 1 if small_stem else 2
    x = functional.conv2d(x, state["conv1.weight"], stride=stride, padding=1 if small_stem else 3)
    x = norm_reference(x, state, "bn1.").relu()
    if not small_stem:
        x = functional.max_pool2d(x, 3, 2, 1)
    gates: list[Tensor] = []
    blocks = dict.fromkeys(key.split("conv")[0] for key in state if re.match(r"layer\d\.\d+\.conv", key))
    for block in blocks:
        stride = 2 if block[5] != "1" and block.endswith(".0.") else 1
        identity, convolutions = x, 3 if block + "conv3.weight" in state else 2
        for index in range(1, convolutions + 1):
            weight = state[f"{block}conv{index}.weight"]
            wide = weight.shape[-1] == 3
            moves = stride if index == convolutions - 1 else 1  # the 3x3 one, or the first of two
            x = functional.conv2d(x, weight, stride=moves, padding=1 if wide else 0)
            x = norm_reference(x, state, f"{block}bn{index}.")
            x = x.relu() if index < convolutions else x
        x, channel, spatial = gate_reference(x, state, block)
        gates += [channel, spatial]
        if block + "downsample.0.weight" in state:
            identity = functional.conv2d(identity, state[block + "downsample.0.weight"], stride=stride)
            identity = norm_reference(identity, state, block + "downsample.1.")
        x = (x + identity).relu()
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"], gates


def test_resnet_50_has_the_parameters_and_names_of_the_original() -> None:
    with torch.device("meta"):
        model = CBAMResNet(CBAMConfig(labels=1000))
    assert sum(parameter.numel() for parameter in model.parameters()) == 28_089_624
    names = official(model)
    assert len(names) == 480
    assert names["layer1.0.cbam.ChannelGate.mlp.1.weight"].shape == (16, 256)
    assert names["layer4.2.cbam.ChannelGate.mlp.3.weight"].shape == (2048, 128)
    assert names["layer3.5.cbam.SpatialGate.spatial.conv.weight"].shape == (1, 2, 7, 7)
    assert names["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)


def test_channel_gate_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    gate = ChannelGate(channels=8, reduction=4)
    x = torch.randn(2, 8, 3, 5)
    w0, b0, w1, b1 = (p.detach().double().numpy() for p in gate.mlp.parameters())
    planes = x.double().numpy()
    expected = np.empty((2, 8))
    for sample in range(2):
        total = np.zeros(8)
        for pool in (np.mean, np.max):
            pooled = np.array([pool(planes[sample, channel]) for channel in range(8)])
            total += w1 @ np.maximum(w0 @ pooled + b0, 0) + b1
        expected[sample] = 1 / (1 + np.exp(-total))
    found = gate(x).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.shape == (2, 8)


def test_spatial_gate_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(1)
    gate = SpatialGate().eval()
    with torch.no_grad():
        gate.bn.running_mean.fill_(0.3)
        gate.bn.running_var.fill_(0.7)
        gate.bn.weight.fill_(1.9)
        gate.bn.bias.fill_(-0.4)
        found = gate(x := torch.randn(2, 6, 5, 9))
    planes, kernel = x.double().numpy(), gate.conv.weight.detach().double().numpy()[0]
    expected = np.empty((2, 1, 5, 9))
    for sample, row, column in np.ndindex(2, 5, 9):
        total = 0.0
        for down, right in np.ndindex(7, 7):
            r, c = row + down - 3, column + right - 3
            if 0 <= r < 5 and 0 <= c < 9:
                here = planes[sample, :, r, c]
                total += kernel[0, down, right] * here.max() + kernel[1, down, right] * here.mean()
        normal = (total - 0.3) / np.sqrt(0.7 + 1e-5) * 1.9 - 0.4
        expected[sample, 0, row, column] = 1 / (1 + np.exp(-normal))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("depth", [18, 50])
def test_logits_and_gates_are_those_of_a_second_implementation(
    depth: Depth, stem: Literal["imagenet", "small"]
) -> None:
    model = small(depth, stem=stem)
    pixels = torch.randn(2, 3, 40, 56)
    with torch.no_grad():
        outputs, taps = model(pixels)
        logits, gates = network_reference(pixels, official(model), small_stem=stem == "small")
    assert logits.std() > 0.1
    torch.testing.assert_close(outputs["logits"], logits, **CLOSE)
    found = [tap for name, tap in taps.items() if name != "features"]
    assert len(found) == len(gates) == 2 * sum(BLOCKS[depth])
    for ours, theirs in zip(found, gates, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)
        assert ours.min() >= 0
        assert ours.max() <= 1
        assert ours.std() > 0.01


def as_transformers(model: CBAMResNet) -> dict[str, Tensor]:
    """The state under the names of transformers' ResNet, which knows no gates."""
    names = [
        (r"stem\.0\.", "resnet.embedder.embedder.convolution."),
        (r"stem\.1\.", "resnet.embedder.embedder.normalization."),
        (r"shortcut\.0\.", "shortcut.convolution."),
        (r"shortcut\.1\.", "shortcut.normalization."),
        (r"classifier\.", "classifier.1."),
    ]
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        if ".cbam." in key:
            continue
        for old, new in names:
            key = re.sub(old, new, key)
        if found := re.match(r"blocks\.stage(\d)_(\d+)\.(.*)", key):
            key = f"resnet.encoder.stages.{int(found[1]) - 1}.layers.{found[2]}.{found[3]}"
        if found := re.match(r"(.*)branch\.(\d)\.(.*)", key):
            layer, part = divmod(int(found[2]), 3)
            key = f"{found[1]}layer.{layer}.{('convolution', 'normalization')[part]}.{found[3]}"
        state[key] = tensor
    return state


@pytest.mark.parametrize("depth", [18, 50])
def test_with_open_gates_the_trunk_is_the_resnet_of_transformers(depth: Depth) -> None:
    model = small(depth)
    expansion = 1 if depth < 50 else 4
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ChannelGate):
                for parameter in module.parameters():
                    parameter.fill_(0)
                module.mlp[2].bias.fill_(50)
            if isinstance(module, SpatialGate):
                module.conv.weight.fill_(0)
                module.bn.bias.fill_(50)
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8 * 2**stage * expansion for stage in range(4)],
        depths=BLOCKS[depth],
        layer_type="basic" if depth < 50 else "bottleneck",
        num_labels=5,
    )
    theirs = ResNetForImageClassification(config).eval()
    theirs.load_state_dict(as_transformers(model), strict=True)
    pixels = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        outputs, taps = model(pixels)
        expected = theirs(pixels, output_hidden_states=True)
    assert all(bool((taps[f"{block}.channel"] == 1).all()) for block in model.blocks)
    scale = float(expected.logits.abs().max())
    torch.testing.assert_close(outputs["logits"], expected.logits, rtol=0, atol=1e-5 * max(1, scale))
    features = expected.hidden_states[-1]
    torch.testing.assert_close(
        taps["features"], features, rtol=0, atol=1e-5 * max(1, float(features.abs().max()))
    )


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_taps_have_the_promised_names_and_shapes(depth: Depth) -> None:
    expansion = 1 if depth < 50 else 4
    with torch.device("meta"):
        model = CBAMResNet(CBAMConfig(labels=5, depth=depth, width=8)).eval()
        outputs, taps = model(torch.randn(2, 3, 64, 96))
    assert outputs["logits"].shape == (2, 5)
    places = [(16, 24), (8, 12), (4, 6), (2, 3)]  # a quarter after the stem, then halves
    expected: dict[str, tuple[int, ...]] = {}
    for stage, count in enumerate(BLOCKS[depth]):
        for index in range(count):
            name = f"stage{stage + 1}_{index}"
            expected[f"{name}.channel"] = (2, 8 * 2**stage * expansion)
            expected[f"{name}.spatial"] = (2, 1, *places[stage])
    expected["features"] = (2, 64 * expansion, 2, 3)
    assert {name: tuple(tap.shape) for name, tap in taps.items()} == expected
    for program in model.programs().values():
        assert set(program.inputs) <= set(taps)


def test_the_small_stem_keeps_the_size_of_the_picture() -> None:
    model = small(18, stem="small")
    with torch.no_grad():
        taps = model(torch.randn(1, 3, 24, 32))[1]
    assert taps["stage1_0.spatial"].shape == (1, 1, 24, 32)
    assert taps["features"].shape == (1, 64, 3, 4)


def test_a_prediction_does_not_depend_on_its_batch() -> None:
    model = small(18)
    pixels = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together = model(pixels)[0]["logits"]
        alone = torch.cat([model(pixel[None])[0]["logits"] for pixel in pixels])
    torch.testing.assert_close(together, alone, **CLOSE)


def test_narrow_networks_keep_one_hidden_unit() -> None:
    assert isinstance(ChannelGate(channels=8, reduction=16).mlp[0], nn.Linear)
    assert ChannelGate(channels=8, reduction=16).mlp[0].out_features == 1
