"""Small untrained checkpoints of every family, as the recipes would write them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from export.lowering import Lowering
from export.pack import lower, pack, steps
from export.quantize import Lower
from models.cbam import CBAMConfig, CBAMResNet
from models.checkpoints import native
from models.checkpoints.checkpoint import Checkpoint
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, XCLIPConfig
from service import bundle
from service.comparison import Tools, compare
from service.dataset import read_inputs

# timm needs torchvision, which has no build for a torch without CUDA: its operators are missing then, and two
# of them are looked up when it is imported. They are declared here, before anything imports it.
TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")
if torch.version.cuda is None:
    for name in ("nms", "qnms"):
        TORCHVISION.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

Make = Callable[[Path], None]
PICTURE: dict[str, Any] = {
    "resize_to": 32,
    "height": 32,
    "width": 32,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.25],
}
LABELS = ["left", "right", "up", "down"]
LABEL_IDS = [[256, *label.encode(), 257, *([0] * (10 - len(label)))] for label in LABELS]


def tower(width: int, layers: int, heads: int) -> TowerConfig:
    return TowerConfig(width=width, layers=layers, heads=heads)


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Larger weights than the default initialisation, so that no attention is nearly uniform."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    return model.eval()


def text_model() -> TextTransformer:
    torch.manual_seed(0)
    config = TextConfig(
        vocabulary=300, labels=4, width=32, layers=2, heads=4, feedforward=64, positions=64, token_types=2
    )
    return spread(TextTransformer(config))


def image_model() -> CBAMResNet:
    torch.manual_seed(0)
    return spread(CBAMResNet(CBAMConfig(labels=4, depth=18, width=8, stem="small")))


def video_model() -> XCLIP:
    torch.manual_seed(0)
    config = XCLIPConfig(
        image=32,
        patch=8,
        frames=4,
        embed=32,
        vision=tower(48, 2, 4),
        temporal=tower(32, 1, 2),
        prompt=tower(32, 2, 4),
        text=tower(24, 1, 2),
        vocabulary=258,
        context=12,
    )
    return spread(XCLIP(config))


def byte_tokenizer() -> Tokenizer:
    """Every byte a token, between [CLS] and [SEP]."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2} | {byte: 3 + i for i, byte in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def save_checkpoint(folder: Path, family: str) -> Path:
    """A checkpoint of this family in `folder`, with the family's name."""
    common: dict[str, Any] = {"name": f"tiny-{family}", "version": "1", "labels": LABELS, "card": None}
    common["description"] = "Untrained, for tests."
    if family == "text":
        spec: dict[str, Any] = {"kind": "text", "max_tokens": 64, "token_types": True}
        native.save(folder, text_model(), preprocessing=spec, **common)
        byte_tokenizer().save(str(folder / "tokenizer.json"))
    elif family == "image":
        native.save(folder, image_model(), preprocessing={"kind": "image", **PICTURE}, **common)
    else:
        spec = {"kind": "video", "frames": 4, **PICTURE}
        native.save(folder, video_model(), preprocessing=spec, label_ids=LABEL_IDS, **common)
    return folder


@pytest.fixture(scope="session")
def clip_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer in the manner of CLIP: 516 tokens, the end the highest."""
    from transformers import CLIPTokenizerFast  # slow to import, and few tests need it

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "th", "the</w>"]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    folder = tmp_path_factory.mktemp("tokenizer")
    merges = [("t", "h"), ("th", "e</w>")]
    CLIPTokenizerFast(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=["text", "image", "video"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """One loaded checkpoint of each family."""
    return native.load(save_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Make], Path]:
    """`made_once(name, make)` has a folder made by one of the run's processes; each then has its own copy."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def copied(name: str, make: Make) -> Path:
        original, partial = shared / f"{name}-original", shared / f"{name}-partial"
        with FileLock(shared / f"{name}.lock", timeout=900):
            if not original.exists():
                shutil.rmtree(partial, ignore_errors=True)  # of a process that failed
                partial.mkdir()
                make(partial)
                partial.rename(original)
        return Path(shutil.copytree(original, tmp_path_factory.mktemp(name), dirs_exist_ok=True))

    return copied


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, made_once: Callable[[str, Make], Path]) -> Path:
    """A model repository with one small untrained model of each family."""

    def make(root: Path) -> None:
        for family in ("text", "image", "video"):
            checkpoint = native.load(save_checkpoint(tmp_path_factory.mktemp(family), family))
            stages: list[str] = []
            pack(checkpoint, root, advance=stages.append)
            assert len(stages) == steps(checkpoint)

    return made_once("models", make)


@pytest.fixture(scope="session")
def lowered(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Lower], Path]:
    """Makes the bundle of a family in fp16 or int8, once; it is served from a repository of its own."""
    pictures = tmp_path_factory.mktemp("pictures")
    for index, values in enumerate(np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)):
        Image.fromarray(values).save(pictures / f"{index}.png")

    @cache
    def make(family: str, precision: Lower) -> Path:
        folder = repository / f"tiny-{family}" / "1"
        into = tmp_path_factory.mktemp(precision) / folder.parent.name / "1"
        into.mkdir(parents=True)
        lowering = Lowering(
            precision=precision,
            tools=Tools(read_inputs=read_inputs, compare=compare),
            data=pictures if family == "image" else None,
            accept_loss=True,
        )
        checkpoint = native.load(save_checkpoint(tmp_path_factory.mktemp(family), family))
        lower(checkpoint, folder, bundle.read(folder), into, lowering)
        return into

    return make
