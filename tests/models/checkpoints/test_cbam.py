"""What becomes of CBAM checkpoints: keys, shapes, labels, pictures; and what is refused."""

from __future__ import annotations

import functools
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_data_config, resolve_model_data_config
from timm.layers.cbam import CbamModule
from timm.utils import CheckpointSaver
from torch import Tensor, nn

from models.cbam import CBAMResNet
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.read import read

State = dict[str, Tensor]
SQUASHED = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
NONE_EMPTY = "axes, none of them empty"
PRETRAINED = {"input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std"}  # fields of this part


def built(name: str = "resnet18", *, bias: bool = False, **arguments: Any) -> nn.Module:
    """timm's network with every weight and statistic stirred."""
    gate = functools.partial(CbamModule, mlp_bias=True) if bias else "cbam"
    arguments = {"num_classes": 3, "block_args": {"attn_layer": gate}, **arguments}
    torch.manual_seed(3)
    model = timm.create_model(name, **arguments).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1:
                tensor.add_(torch.randn_like(tensor), alpha=0.2)
    return model


def original(state: State) -> State:
    """timm's keys and tensors, with biases, as the original repository has them."""
    found: State = {}
    for key, tensor in state.items():
        key = key.replace("se.channel.fc1.", "cbam.ChannelGate.mlp.1.")
        key = key.replace("se.channel.fc2.", "cbam.ChannelGate.mlp.3.")
        key = key.replace("se.spatial.conv.", "cbam.SpatialGate.spatial.")
        if "mlp" in key:
            tensor = tensor.flatten(1) if tensor.ndim > 1 else tensor
        found[key] = tensor.flip(1) if key.endswith("spatial.conv.weight") else tensor
    return found


@pytest.fixture(scope="module")
def plain() -> State:
    """A state of timm's ResNet-18."""
    return built().state_dict()


@pytest.fixture(scope="module")
def official() -> State:
    """A state of the original's ResNet-18."""
    return original(built(bias=True).state_dict())


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Checkpoint]:
    """`load(state, **choices)` writes a state as a lone file and reads it, with three labels."""
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\ncat\n")

    def loaded(state: State, **choices: Any) -> Checkpoint:
        torch.save(state, tmp_path / "model.pth")
        return read(str(tmp_path / "model.pth"), Choices(**{"labels": str(names), **choices}))

    return loaded


def save_folder(model: nn.Module, place: Path) -> Path:
    timm.models.save_for_hf(model, str(place), model_config={"label_names": ["a", "b", "c"]})
    return place


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """timm's own folder of a ResNet-18."""
    return save_folder(built(), tmp_path_factory.mktemp("timm"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Callable[..., Path]:
    """`folder(**changes)` is timm's own folder with changed fields of its config."""

    def altered(**changes: Any) -> Path:
        config = json.loads((saved / "config.json").read_text())
        for name, value in changes.items():
            (config["pretrained_cfg"] if name in PRETRAINED else config)[name] = value
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "pytorch_model.bin").hardlink_to(saved / "pytorch_model.bin")
        return tmp_path

    return altered


@torch.no_grad()
def same(checkpoint: Checkpoint, model: nn.Module) -> bool:
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    found, expected = checkpoint.model(pixels)[0]["logits"], model(pixels)
    return bool((found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("bias", [False, True])
def test_state_of_timm_is_read_with_and_without_biases(load: Callable[..., Checkpoint], bias: bool) -> None:
    model = built(bias=bias)
    checkpoint = load(model.state_dict())
    assert same(checkpoint, model)
    assert isinstance(checkpoint.model, CBAMResNet)
    assert checkpoint.model.config.gate_bias is bias
    assert checkpoint.architecture == "CBAM ResNet-18, 64 wide"
    assert checkpoint.labels == ("ant", "bee", "cat")


def test_state_of_the_original_is_read(load: Callable[..., Checkpoint], official: State) -> None:
    checkpoint = load(official)
    assert same(checkpoint, built(bias=True))
    assert checkpoint.preprocessing == {
        "kind": "image",
        "resize_to": 256,
        "height": 224,
        "width": 224,
        "crop": "even",
        "interpolation": "bilinear",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_picture_of_timm_s_state_alone_is_that_of_timm_s_network(
    load: Callable[..., Checkpoint], name: str
) -> None:
    model = built(name)
    found, theirs = load(model.state_dict()).preprocessing, resolve_model_data_config(model)
    assert found == {
        "kind": "image",
        "resize_to": int(224 / theirs["crop_pct"]),
        "height": theirs["input_size"][1],
        "width": theirs["input_size"][2],
        "crop": "even",
        "interpolation": theirs["interpolation"],
        "mean": list(theirs["mean"]),
        "std": list(theirs["std"]),
    }
    assert (found["resize_to"], found["interpolation"], theirs["crop_mode"]) == (235, "bicubic", "center")


def test_a_neighbour_s_picture_is_not_a_lone_file_s(
    load: Callable[..., Checkpoint], official: State, tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SQUASHED))
    (tmp_path / "processor_config.json").write_text("nonsense")
    (tmp_path / "config.json").write_text("nonsense")
    assert load(official).preprocessing["resize_to"] == 256


def test_timm_s_gates_may_be_narrower(load: Callable[..., Checkpoint]) -> None:
    gate = functools.partial(CbamModule, rd_ratio=1 / 8)
    model = built(block_args={"attn_layer": gate})
    assert same(load(model.state_dict()), model)


def test_checkpoint_of_timm_s_training_is_read(tmp_path: Path) -> None:
    model = built()
    arguments = Namespace(
        model="resnet18", num_classes=3, model_kwargs={"block_args": {"attn_layer": "cbam"}}
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    saver = CheckpointSaver(model, optimizer, args=arguments, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(epoch=1, metric=70.0)
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\ncat\n")
    assert same(read(str(tmp_path / "model_best.pth.tar"), Choices(labels=str(names))), model)


def test_folder_of_timm_brings_its_picture_and_labels(folder: Callable[..., Path]) -> None:
    checkpoint = read(str(folder(label_descriptions={"b": "a bee"})))
    assert same(checkpoint, built())
    assert checkpoint.labels == ("a", "a bee", "c")
    assert checkpoint.preprocessing == {
        "kind": "image",
        "resize_to": 235,  # floor(224 / 0.95)
        "height": 224,
        "width": 224,
        "crop": "even",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def test_squashed_pictures_of_timm_may_be_oblong(folder: Callable[..., Path]) -> None:
    changes = {"input_size": [3, 96, 160], "crop_mode": "squash", "crop_pct": 0.9}
    found = read(str(folder(**changes))).preprocessing
    assert (found["resize_to"], found["height"], found["width"]) == ((106, 177), 96, 160)


def test_what_timm_s_config_leaves_out_is_timm_s_default(folder: Callable[..., Path]) -> None:
    found = read(str(folder(pretrained_cfg={"tag": "mine"}))).preprocessing
    theirs = resolve_data_config(pretrained_cfg={"tag": "mine"})
    assert found["resize_to"] == int(224 / theirs["crop_pct"]) == 256
    assert (3, found["height"], found["width"]) == theirs["input_size"]
    assert found["interpolation"] == theirs["interpolation"] == "bicubic"
    assert (tuple(found["mean"]), tuple(found["std"])) == (theirs["mean"], theirs["std"])


def test_labels_of_timm_may_be_numbered(folder: Callable[..., Path]) -> None:
    assert read(str(folder(label_names={"2": "z", "0": "x", "1": "y"}))).labels == ("x", "y", "z")


def test_labels_are_never_guessed(load: Callable[..., Checkpoint], official: State) -> None:
    with pytest.raises(CheckpointError, match="--labels FILE, or --labels imagenet-1k"):
        load(official, labels=None)
    with pytest.raises(CheckpointError, match="1000 names for 3 outputs"):
        load(official, labels="imagenet-1k")


def test_labels_of_timm_are_counted(folder: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="2 names for 3 outputs"):
        read(str(folder(label_names=["a", "b"])))


def test_picture_of_a_network_for_small_pictures_has_to_be_said(
    load: Callable[..., Checkpoint], official: State, tmp_path: Path
) -> None:
    small = official | {"conv1.weight": torch.randn(64, 3, 3, 3)}
    with pytest.raises(CheckpointError, match=r"no preprocessor_config\.json"):
        load(small)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SQUASHED))
    checkpoint = read(str(tmp_path), Choices(labels=str(tmp_path / "names.txt")))
    assert checkpoint.preprocessing["resize_to"] == (32, 32)
    assert isinstance(checkpoint.model, CBAMResNet)
    assert checkpoint.model.config.stem == "small"
    # Nothing in timm's keys says whether a pooling follows.
    with pytest.raises(CheckpointError, match="kernel of 3x3"):
        load(built().state_dict() | {"conv1.weight": torch.randn(64, 3, 3, 3)})


def changed(state: State, key: str, tensor: Tensor | None) -> State:
    """The state with this tensor instead, or without it."""
    found = {**state}
    if tensor is None:
        del found[key]
    else:
        found[key] = tensor
    return found


@pytest.mark.parametrize(
    ("key", "tensor", "said"),
    [
        ("layer2.1.se.spatial.conv.bn.bias", None, "missing: blocks.stage2_1.cbam.spatial.bn.bias"),
        ("layer2.1.bn2.running_mean", None, "missing: blocks.stage2_1.branch.4.running_mean"),
        ("layer2.1.extra.weight", torch.ones(3), "unused keys: layer2.1.extra.weight"),
        ("layer5.0.conv1.weight", torch.ones(3), "unused keys: layer5.0.conv1.weight"),
        ("layer1.0.se.channel.fc1.bias", torch.ones(4), "unused keys: layer1.0.se.channel.fc1.bias"),
        (
            "layer3.0.conv2.weight",
            torch.ones(256, 32, 3, 3),
            r"another shape: layer3.0.conv2.weight \[256, 32",
        ),
        ("layer3.0.se.spatial.conv.conv.weight", torch.ones(1, 2, 3, 3), r"another shape: .*\[1, 2, 3, 3\]"),
        (
            "layer3.0.se.spatial.conv.conv.weight",
            torch.ones(()),
            r"another shape: .*conv.conv.weight \[\] has not the axes",
        ),
        (
            "layer3.0.se.channel.fc1.weight",
            torch.ones(16),
            r"another shape: .*fc1.weight \[16\] has not the axes",
        ),
        (
            "layer3.0.se.channel.fc1.weight",
            torch.ones(16, 256, 3, 3),
            r"another shape: .*fc1.weight \[16, 256, 3, 3\] as \[16, 2304\]",
        ),
        ("conv1.weight", torch.ones(64, 1, 7, 7), "from 1 to 64 channels"),
        ("conv1.weight", torch.ones(64, 3, 5, 5), "kernel of 5x5"),
        ("conv1.weight", torch.ones(0, 3, 7, 7), NONE_EMPTY),
        ("conv1.weight", torch.ones(5000, 3, 7, 7), "supported: from 3 to at most 4096"),
        ("conv1.weight", torch.ones(64), r"conv1.weight \[64\] does not have 4 axes"),
        ("fc.weight", None, "missing: fc.weight; there are fc.bias"),
        ("fc.weight", torch.ones(512), r"fc.weight \[512\] does not have 2 axes"),
        ("fc.weight", torch.ones(0, 512), NONE_EMPTY),
        ("fc.weight", torch.ones(3, 2048), r"another shape: fc.weight \[3, 2048\]"),
        ("layer4.0.se.channel.fc1.weight", torch.ones(0, 512, 1, 1), NONE_EMPTY),
        ("layer4.0.se.channel.fc1.weight", torch.ones(32, 512), "does not have 4 axes"),
        ("layer4.2.conv1.weight", torch.ones(512, 512, 3, 3), "stages of 2, 2, 2, 3 basic blocks"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(
    load: Callable[..., Checkpoint], plain: State, key: str, tensor: Tensor | None, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(changed(plain, key, tensor))


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("resnet50d", {}, r"missing: conv1.weight; there are conv1.0.weight, conv1.1.bias"),
        ("resnet18", {"avg_down": True}, r"layer2.0.downsample.2.weight"),
        ("resnet18", {"replace_stem_pool": True}, "unused keys: maxpool.0.weight"),
        ("resnet18", {"block_args": {"attn_layer": "lcbam"}}, r"spatial.conv.conv.weight \[1, 1, 7, 7\]"),
        ("resnet18", {"block_args": {"attn_layer": "se"}}, r"without CBAM's gates.*layer1.0.se.fc1.bias"),
        ("resnet18", {"block_args": {"attn_layer": "eca"}}, r"without CBAM's gates.*layer4.1.se.conv.weight"),
        ("resnet18", {"block_args": {}}, "without CBAM's gates: no key with [^;]*$"),
        ("resnext50_32x4d", {}, r"layer1.0.conv2.weight \[128, 4, 3, 3\]"),
        ("wide_resnet50_2", {}, r"layer1.0.conv2.weight \[128, 128, 3, 3\]"),
        (
            "resnet26",
            {},
            "stages of 2, 2, 2, 2 bottleneck blocks; supported: those of ResNet-18, 34, 50, 101",
        ),
        ("resnet18", {"in_chans": 1}, "from 1 to 64 channels"),
        ("resnet18", {"num_classes": 0}, "missing: fc.weight"),
        ("resnet18", {"norm_layer": "groupnorm"}, "missing: .*stem.1.running_mean"),
    ],
)
def test_other_networks_of_timm_are_refused_by_their_keys(
    load: Callable[..., Checkpoint], name: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(built(name, **arguments).state_dict())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"act_layer": "silu"}, "model_args: act_layer is 'silu'; supported: 'relu'"),
        ({"norm_layer": "layernorm2d"}, "missing: .*running_mean|norm_layer is 'layernorm2d'"),
        ({"output_stride": 16}, "output_stride is 16; supported: 32"),
        ({"global_pool": "max"}, "global_pool is 'max'; supported: 'avg'"),
    ],
)
def test_what_timm_builds_differently_under_the_same_keys_is_refused(
    tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        read(str(save_folder(built(**arguments), tmp_path)))


def test_bam_is_refused_by_name(load: Callable[..., Checkpoint], official: State) -> None:
    bam = {key: tensor for key, tensor in official.items() if ".cbam." not in key}
    bam["bam1.channel_att.gate_c.gate_c_fc_0.weight"] = torch.ones(4, 64)
    with pytest.raises(CheckpointError, match=r"ResNet with BAM.*bam1.channel_att.gate_c.gate_c_fc_0.weight"):
        load(bam)


def test_gates_in_some_blocks_only_are_refused(load: Callable[..., Checkpoint], official: State) -> None:
    some = {key: tensor for key, tensor in official.items() if not key.startswith("layer3.1.cbam.")}
    with pytest.raises(CheckpointError, match=r"missing: blocks.stage3_1.cbam.channel.mlp.0.bias") as refused:
        load(some)
    assert str(refused.value).count("stage3_1.cbam.") == 9


def test_gates_without_places_are_refused(load: Callable[..., Checkpoint], official: State) -> None:
    some = {key: tensor for key, tensor in official.items() if "SpatialGate" not in key}
    with pytest.raises(CheckpointError, match=r"missing: .*blocks.stage1_0.cbam.spatial.conv.weight"):
        load(some)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "resnetaa18"},
        {"architecture": 7},
        {"architecture": ["resnet18"]},
        {"global_pool": "catavgmax"},
        {"model_args": ["resnet18"]},
        {"model_args": {"block_args": {"attn_layer": "lcbam"}}},
        {"model_args": {"block_args": "cbam"}},
        {"model_args": {"aa_layer": "blurpool"}},
        {"pretrained_cfg": "resnet18"},
        {"auto_map": {}},
        {"label_names": {"1": "a", "2": "b", "3": "c"}},
        {"label_names": "abc"},
        {"label_names": ["a", 3, "c"]},
        {"label_names": ["a", " ", "c"]},
        {"label_names": ["a", "\x1b[31m", "c"]},
        {"label_names": ["a", "\u202eb", "c"]},
        {"label_descriptions": {"b": "a\nb"}},
        {"label_descriptions": {"a": 3}},
        {"label_descriptions": ["a"]},
        {"input_size": [1, 224, 224]},
        {"input_size": [3, 224]},
        {"input_size": "3x224x224"},
        {"input_size": [3, -224, -224]},
        {"input_size": [3, "224", "224"]},
        {"input_size": [3, 2**20, 2**20]},
        {"input_size": [3, 224, 192]},
        {"crop_pct": "0.9"},
        {"crop_pct": -1},
        {"crop_pct": 1e-9},
        {"crop_pct": 1.2},
        {"crop_mode": "border"},
        {"interpolation": "random"},
        {"interpolation": ["bilinear"]},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, None, 0.5]},
        {"mean": "0.5"},
        {"std": [0.5, 0.0, 0.5]},
        {"std": [0.5, float("nan"), 0.5]},
        {"std": {"r": 1}},
    ],
    ids=str,
)
def test_nonsense_in_timm_s_config_is_refused(folder: Callable[..., Path], changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(changes))):
        read(str(folder(**changes)))


def test_a_forced_reader_refuses_what_is_no_resnet(load: Callable[..., Checkpoint]) -> None:
    with pytest.raises(CheckpointError, match=r"without CBAM's gates.*classifier.weight"):
        load({"classifier.weight": torch.ones(3, 4)}, architecture="cbam")
    with pytest.raises(CheckpointError, match=r"missing: conv1.weight"):
        load({"layer1.0.cbam.ChannelGate.mlp.1.weight": torch.ones(3, 4)}, architecture="cbam")


def test_labels_that_nobody_names_are_numbered_for_a_look(tmp_path: Path, official: State) -> None:
    torch.save(official, tmp_path / "net.pth")
    found = read(str(tmp_path / "net.pth"), Choices(unnamed=True))
    assert found.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
