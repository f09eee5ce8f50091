"""CBAM ResNets of the original repository and of timm, from the bytes of a JPEG to logits and gates."""

from __future__ import annotations

import copy
import functools
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torch.nn import functional
from torchvision import transforms

from models.cbam import CBAMResNet
from models.checkpoints.checkpoint import Choices
from models.checkpoints.read import read
from service.job import Job, Payload, Wanted
from service.predictor import Predictor

NAMES = ["ant", "bee", "cat", "dog", "elk"]
MAPS = frozenset({"spatial", "channel", "cam"})
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


# The original repository's network, written from the facts on its checkpoints and from the paper.


class ReferenceChannelGate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, channels // 16), nn.ReLU(), nn.Linear(channels // 16, channels)
        )
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        both = [pool(x, x.shape[2:]) for pool in (functional.avg_pool2d, functional.max_pool2d)]
        total = torch.stack([self.mlp(pooled) for pooled in both]).sum(0)
        return torch.einsum("bchw,bc->bchw", x, self.gate(total))


class ReferenceConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class ReferenceSpatialGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spatial = ReferenceConv()
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(self.spatial(torch.stack([x.max(1).values, x.mean(1)], 1)))
        return out


class ReferenceCBAM(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ReferenceChannelGate(channels)
        self.SpatialGate = ReferenceSpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.SpatialGate(self.ChannelGate(x))
        return out


class ReferenceBlock(nn.Module):
    """Convolutions conv1, conv2 (and conv3): (inputs, outputs, kernel, stride) of each."""

    def __init__(self, convolutions: list[tuple[int, int, int, int]], *, stride: int) -> None:
        super().__init__()
        self.depth = len(convolutions)
        for index, (inputs, outputs, kernel, step) in enumerate(convolutions, start=1):
            conv = nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{index}", conv)
            self.add_module(f"bn{index}", nn.BatchNorm2d(outputs))
        first, last = convolutions[0][0], convolutions[-1][1]
        self.downsample = None
        if stride > 1 or first != last:
            self.downsample = nn.Sequential(
                nn.Conv2d(first, last, 1, stride, bias=False), nn.BatchNorm2d(last)
            )
        self.cbam = ReferenceCBAM(last)

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        for index in range(1, self.depth + 1):
            x = self.get_submodule(f"bn{index}")(self.get_submodule(f"conv{index}")(x))
            x = functional.relu(x) if index < self.depth else x
        return functional.relu(self.cbam(x) + kept)


class ReferenceNet(nn.Module):
    def __init__(self, blocks: list[int], *, basic: bool, labels: int, width: int = 64, cifar: bool = False):
        super().__init__()
        self.cifar = cifar
        self.conv1 = nn.Conv2d(3, width, 3 if cifar else 7, 1 if cifar else 2, 1 if cifar else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(blocks):
            planes, made = width << stage, []
            for index in range(count):
                s = 1 if stage == 0 or index else 2
                plan = [(inputs, planes, 3, s), (planes, planes, 3, 1)]
                if not basic:
                    plan = [(inputs, planes, 1, 1), (planes, planes, 3, s), (planes, 4 * planes, 1, 1)]
                made.append(ReferenceBlock(plan, stride=s))
                inputs = plan[-1][1]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.fc = nn.Linear(inputs, labels)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = x if self.cifar else functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        out: Tensor = self.fc(functional.avg_pool2d(x, x.shape[2:]).flatten(1))
        return out


def jpeg(seed: int, width: int, height: int) -> bytes:
    """A picture of clouds of colour and hard edges."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).copy()
    top, left = int(rng.integers(height // 2)), int(rng.integers(width // 2))
    picture[top : top + height // 3, left : left + width // 4] = rng.integers(0, 256, 3)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    return file.getvalue()


# The crop of the second leaves out an odd number of rows (59): half of it is rounded to even.
PICTURES = [jpeg(1, 320, 240), jpeg(2, 264, 292), jpeg(3, 512, 512)]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def clouds(seed: int, count: int, *, height: int, width: int) -> Tensor:
    """Pictures as pixels [B, 3, H, W] of about ImageNet's scale."""
    pictures = [np.asarray(opened(jpeg(seed + index, width, height))) for index in range(count)]
    return torch.tensor(np.stack(pictures) / 64 - 2, dtype=torch.float32).permute(0, 3, 1, 2)


def stirred(model: nn.Module, *, size: int) -> nn.Module:
    """No parameter near its initial value, and batch statistics of real activations.

    Weights keep the scale of their fan-in, those of the gates a smaller one, so that neither logits nor
    gates die or saturate.
    """
    torch.manual_seed(7)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                gain = 0.5 if re.search(r"mlp\.\d|channel\.fc", name) else 2.0 if name == "fc.weight" else 1.0
                parameter.normal_(0, gain * (2 / parameter[0].numel()) ** 0.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.3)
            else:
                parameter.uniform_(0.5, 1.0)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None  # the plain mean of what it sees
        model.train()
        for seed in range(100, 124, 8):
            model(clouds(seed, 8, height=size, width=size))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model.eval()


def save_as_trained(model: nn.Module, path: Path) -> Path:
    """As the original's train_imagenet.py does, optimizer and all."""
    wrapped = nn.DataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    document = {
        "epoch": 90,
        "arch": "resnet50",
        "state_dict": wrapped.state_dict(),
        "best_prec1": torch.tensor(77.622),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(document, path)
    return path


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES))
    return path


class Seen:
    """What a reference computes on the way: gates by their modules' names, and the last feature map."""

    def __init__(self, model: nn.Module, *, channel: str, spatial: str) -> None:
        self.channel: dict[str, Tensor] = {}
        self.spatial: dict[str, Tensor] = {}
        self.features = torch.empty(0)
        for name, module in model.named_modules():
            if name.endswith(channel):
                module.register_forward_hook(self._keep(self.channel, name))
            elif name.endswith(spatial):
                module.register_forward_hook(self._keep(self.spatial, name))
        model.get_submodule("layer4").register_forward_hook(self._keep_features)

    @staticmethod
    def _keep(place: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            place[name] = output

        return keep

    def _keep_features(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.features = output


def check(
    predictor: Predictor,
    model: nn.Module,
    transform: Callable[[Image.Image], Tensor],
    *,
    channel: str,
    spatial: str,
    labels: list[str] | tuple[str, ...],
) -> None:
    """Each picture from its bytes: pixels, logits, label, gates and class activation are the reference's."""
    seen = Seen(model, channel=channel, spatial=spatial)
    precise = copy.deepcopy(model).double()
    all_logits = []
    jobs = [Job(item=predictor.decode(Payload(data=data)), wanted=Wanted(maps=MAPS)) for data in PICTURES]
    outcomes = predictor.run(jobs)
    for data, job, outcome in zip(PICTURES, jobs, outcomes, strict=True):
        pixels = transform(opened(data))[None]
        assert np.abs(job.item.tensors["pixels"] - pixels[0].numpy()).max() <= 1 / 255
        with torch.no_grad():
            exact = precise(pixels.double()).numpy()[0]
            logits = model(pixels).numpy()[0]
        allowed = max(1e-4, 2 * float(np.abs(logits - exact).max()))
        assert np.abs(outcome.logits - logits).max() <= allowed
        assert predictor.manifest.labels[outcome.logits.argmax()] == labels[logits.argmax()]
        all_logits.append(logits)

        gates = outcome.maps["channel"].layers
        assert len(gates) == len(seen.channel) == len(predictor.manifest.map("channel").layers)
        for found, expected in zip(gates, seen.channel.values(), strict=True):
            np.testing.assert_allclose(found, expected.flatten(), atol=1e-5)
            assert expected.std() > 0.05
        places = outcome.maps["spatial"].layers
        assert len(places) == len(seen.spatial) == len(gates)
        for found, expected in zip(places, seen.spatial.values(), strict=True):
            np.testing.assert_allclose(found, expected[0, 0], atol=1e-5)
            assert expected.std() > 0.02

        rows = model.get_submodule("fc").weight.detach()
        cam = torch.einsum("chw,kc->khw", seen.features[0], rows) / seen.features[0, 0].numel()
        expected = functional.relu(cam).detach().numpy()
        np.testing.assert_allclose(outcome.maps["cam"].layers[0], expected, atol=max(1e-5, allowed))
        assert (expected > 1e-3).any()
    distances = [np.abs(one - other).max() for one in all_logits for other in all_logits if one is not other]
    assert min(distances) > 0.1


def test_the_reference_has_the_entries_and_parameters_of_the_original() -> None:
    with torch.device("meta"):
        model = ReferenceNet([3, 4, 6, 3], basic=False, labels=1000)
    assert len(model.state_dict()) == 480
    assert sum(parameter.numel() for parameter in model.parameters()) == 28_089_624


def test_checkpoint_of_the_original_repository(
    size: str, export: Callable[..., Predictor], names: Path, tmp_path: Path
) -> None:
    if size == "small":
        model = stirred(ReferenceNet([2, 2, 2, 2], basic=True, labels=5, width=16), size=128)
    else:
        model = stirred(ReferenceNet([3, 4, 6, 3], basic=False, labels=1000), size=224)
    path = save_as_trained(model, tmp_path / "RESNET50_CBAM_model_best.pth.tar")
    labels = str(names) if size == "small" else "imagenet-1k"
    predictor = export(path, labels=labels)
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    expected = NAMES if size == "small" else predictor.manifest.labels
    check(
        predictor, model, transform, channel="ChannelGate.gate", spatial="SpatialGate.gate", labels=expected
    )


def test_folder_that_timm_saved(size: str, export: Callable[..., Predictor], tmp_path: Path) -> None:
    name, pixels = ("resnet18", 64) if size == "small" else ("resnet50", 224)
    model = timm.create_model(name, num_classes=5, block_args={"attn_layer": "cbam"})
    stirred(model, size=pixels)
    timm.models.save_for_hf(
        model,
        str(tmp_path),
        model_config={"label_names": NAMES},
        data_config={"input_size": (3, pixels, pixels), "mean": (0.4, 0.5, 0.6), "crop_pct": 0.875},
    )
    config = resolve_data_config(
        {"input_size": (3, pixels, pixels), "mean": (0.4, 0.5, 0.6), "crop_pct": 0.875}, model=model
    )
    assert config["interpolation"] == "bicubic"
    predictor = export(tmp_path)
    assert predictor.manifest.preprocessing.width == pixels
    transform = create_transform(**config)
    check(predictor, model, transform, channel="se.channel.gate", spatial="se.spatial.gate", labels=NAMES)


@pytest.mark.parametrize(
    "depth", [18, 34, 50, pytest.param(101, marks=pytest.mark.slow)], ids=lambda depth: f"ResNet-{depth}"
)
@pytest.mark.parametrize("cifar", [False, True], ids=["ImageNet", "CIFAR"])
def test_every_depth_and_stem_of_the_original(depth: int, cifar: bool, names: Path, tmp_path: Path) -> None:
    blocks = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}[depth]
    network = ReferenceNet(blocks, basic=depth < 50, labels=5, width=16, cifar=cifar)
    model = stirred(network, size=32 if cifar else 64)
    path = save_as_trained(model, tmp_path / "best.pth.tar")
    if cifar:
        picture = {"height": 32, "width": 32}
        document = {"image_processor_type": "ViTImageProcessor", "size": picture}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(document))
    checkpoint = read(str(tmp_path if cifar else path), Choices(labels=str(names)))
    ours = checkpoint.model
    assert isinstance(ours, CBAMResNet)
    assert (ours.config.depth, ours.config.width, ours.config.labels) == (depth, 16, 5)
    assert checkpoint.preprocessing["height"] == (32 if cifar else 224)
    pixels = clouds(1, 2, height=32 if cifar else 64, width=32 if cifar else 96)
    with torch.no_grad():
        expected = model(pixels)
        found = ours(pixels)[0]["logits"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.05


def test_the_layouts_of_one_network_give_the_same_predictions(size: str, names: Path, tmp_path: Path) -> None:
    basic = size == "small"
    model = stirred(ReferenceNet([2, 2, 2, 2] if basic else [3, 4, 6, 3], basic=basic, labels=5), size=64)
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        key = key.replace("cbam.SpatialGate.spatial.", "se.spatial.conv.")
        key = key.replace("cbam.ChannelGate.mlp.1.", "se.channel.fc1.")
        key = key.replace("cbam.ChannelGate.mlp.3.", "se.channel.fc2.")
        if ".fc" in key and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        state[key] = tensor.flip(1) if key.endswith("spatial.conv.conv.weight") else tensor
    gate = functools.partial(CbamModule, mlp_bias=True)
    theirs = timm.create_model(
        "resnet18" if basic else "resnet50", num_classes=5, block_args={"attn_layer": gate}
    )
    theirs.load_state_dict(state, strict=True)
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    save_as_trained(model, tmp_path / "original.pth.tar")
    pixels = clouds(1, 2, height=64, width=96)
    choices = Choices(labels=str(names))
    with torch.no_grad():
        expected = theirs.eval()(pixels)
        one = read(str(tmp_path / "original.pth.tar"), choices).model(pixels)
        other = read(str(tmp_path / "timm.pth"), choices).model(pixels)
    torch.testing.assert_close(one[0]["logits"], other[0]["logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(other[0]["logits"], expected, rtol=0, atol=1e-5)
    assert one[1].keys() == other[1].keys()
    for name, tap in one[1].items():
        torch.testing.assert_close(tap, other[1][name], rtol=0, atol=1e-5)
