"""What maps cost: the processor time of a run with each of them, as a multiple of the same run without.

Runs with and without take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from export import quantize
from export.pack import build, checked, describe
from models.cbam import CBAMConfig, CBAMResNet
from models.checkpoints.checkpoint import Checkpoint
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig
from models.vit import VisionTransformer, ViTConfig
from service import bundle
from service.bundle import MANIFEST, Deviation, Manifest, Parity, Provenance, digest
from service.dataset import read_inputs
from service.decode.limits import Limits
from service.job import Wanted
from service.predictor import Predictor
from service.sessions import SessionPool
from tests.load.process import ROOT

pytestmark = pytest.mark.load

SIZED = ROOT / ".cache" / "load" / "cost"
PAIRS = 11
LABELS = tuple(f"label-{index}" for index in range(8))
PICTURE = {"resize_to": 224, "height": 224, "width": 224, "mean": [0.5] * 3, "std": [0.5] * 3}
MODELS = ("bert-base", "vit-b16", "cbam-resnet50", "xclip-b32")
LIMITS = {"cls": 1.05, "spatial": 1.05, "channel": 1.05, "rollout": 1.15, "relevance": 4.0}  # of fp32

Sized = Callable[[str, str], Predictor]
Figure = Callable[[str, str], None]


def model(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """An untrained model of that size, and its preprocessing."""
    torch.manual_seed(0)
    if name == "bert-base":
        text = TextConfig(
            vocabulary=1000, labels=8, width=768, layers=12, heads=12, feedforward=3072, positions=512
        )
        return TextTransformer(text).eval(), {"kind": "text", "max_tokens": 512, "token_types": False}
    if name == "vit-b16":
        vit = ViTConfig(
            image=(224, 224), patch=(16, 16), labels=8, width=768, layers=12, heads=12, feedforward=3072
        )
        return VisionTransformer(vit).eval(), {"kind": "image", **PICTURE}
    if name == "cbam-resnet50":
        return CBAMResNet(CBAMConfig(labels=8)).eval(), {"kind": "image", **PICTURE}
    xclip = XCLIPConfig(
        image=224,
        patch=32,
        frames=8,
        embed=512,
        vision=TowerConfig(width=768, layers=12, heads=12),
        temporal=TowerConfig(width=512, layers=1, heads=8),
        prompt=TowerConfig(width=512, layers=2, heads=8),
        text=TowerConfig(width=64, layers=1, heads=1),
        vocabulary=100,
        context=12,
    )
    classifier = VideoClassifier(XCLIP(xclip), torch.randn(8, 512))
    return classifier.eval(), {"kind": "video", "frames": 8, **PICTURE}


@pytest.fixture(scope="session")
def sized(word_tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Sized:
    """Opens a model of that name and precision; exported once."""
    pool = SessionPool(device="cpu")
    pictures = tmp_path_factory.mktemp("pictures")
    for index, values in enumerate(np.random.default_rng(0).integers(0, 255, (8, 224, 224, 3), np.uint8)):
        Image.fromarray(values).save(pictures / f"{index}.png")

    def build_fp32(name: str, folder: Path) -> None:
        """The graphs as export writes them; unverified, for that takes longer and changes nothing in them."""
        of = checkpoint(name)
        build(of, folder)
        described = dict(describe(of, *checked(of)))
        none = Deviation(exported=0, torch_fp32=0)
        write_manifest(
            folder,
            Manifest(
                **described,
                parity=Parity(
                    shapes=(),
                    attention_nodes=0,
                    outputs={},
                    taps=none,
                    maps={spec.name: none for spec in described["maps"]},
                ),
                provenance=Provenance(source=name, sha256="0" * 64, tools={}),
                files={},
            ),
        )

    def checkpoint(name: str) -> Checkpoint:
        made, preprocessing = model(name)
        weights = tmp_path_factory.mktemp("weights") / "model.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in made.state_dict().items()}, weights)
        family = preprocessing["kind"]
        return Checkpoint(
            model=made,
            family=family,
            architecture=name,
            source=name,
            name=name,
            version="1",
            description="Untrained, to measure what maps cost.",
            labels=LABELS,
            activation="softmax",
            preprocessing=preprocessing,
            card=None,
            weights=(weights,),
            tokenizer=word_tokens if family == "text" else None,
        )

    @cache
    def open_(name: str, precision: str) -> Predictor:
        whole = SIZED / "fp32" / name
        if not (whole / MANIFEST).exists():
            build_fp32(name, whole)
        folder = SIZED / precision / name
        if not (folder / MANIFEST).exists():
            folder.mkdir(parents=True)
            calibration = partial(read_inputs, whole, pictures)
            lowered = quantize.lower(whole, bundle.read(whole), folder, "int8", calibration)
            write_manifest(folder, lowered)
        return Predictor.load(
            folder, pool, Limits(), batch_tokens=512, batch_pixels=2**20, batch_tap_bytes=2**30
        )

    return open_


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Beside a bundle's files, with their checksums."""
    files = {
        path.relative_to(folder).as_posix(): digest(path) for path in folder.rglob("*") if path.is_file()
    }
    (folder / MANIFEST).write_text(manifest.model_copy(update={"files": files}).model_dump_json())


def ratio(predictor: Predictor, tokens: int, name: str) -> float:
    """The median of runs with a map over those without."""
    item = predictor.blank(tokens)
    plain, asking = (predictor.job(item, Wanted(maps=maps)) for maps in (frozenset[str](), frozenset({name})))
    ratios = []
    for index in range(PAIRS + 1):
        seconds = {}
        for job in (plain, asking) if index % 2 else (asking, plain):
            started = time.thread_time()
            predictor.run([job])
            seconds[job is asking] = time.thread_time() - started
        ratios.append(seconds[True] / seconds[False])
    return statistics.median(ratios[1:])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("name", "tokens"), [("bert-base", 128), ("bert-base", 512), *((name, 0) for name in MODELS[1:])]
)
def test_maps_cost_little_beside_the_run_they_are_of(
    sized: Sized, figure: Figure, name: str, tokens: int, precision: str
) -> None:
    predictor = sized(name, precision)
    over = {}
    for spec in predictor.manifest.maps:
        if not spec.sliced:
            found = ratio(predictor, tokens, spec.name)
            limit = LIMITS.get(spec.name)
            what = f"{name}{f', {tokens} tokens' if tokens else ''}, {precision}, {spec.name}"
            figure(f"{what} / without", f"{found:.3f}")
            if limit is not None and precision == "fp32" and tokens <= 128 and found > limit:
                over[spec.name] = (found, limit)
    assert not over
