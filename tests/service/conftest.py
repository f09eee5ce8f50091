"""A running application on the tiny models, input for each of them, and a way to send it something bad."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx2
import numpy as np
import onnxruntime
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from tokenizers import Tokenizer, processors

import service
from export.pack import pack
from models.checkpoints import native
from models.checkpoints.checkpoint import Checkpoint
from models.text import TextConfig, TextTransformer
from models.vit import VisionTransformer, ViTConfig
from service import bundle
from service.app import create_app
from service.decode.item import Item
from service.decode.limits import Limits
from service.predictor import Predictor
from service.sessions import SessionPool
from service.settings import Settings

TEXT = "fn main() { println!(); }"

WriteClip = Callable[..., bytes]
Refused = Callable[..., dict[str, Any]]


def pixels(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Coarse noise, so that lossy codecs keep it."""
    small = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST))


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG of 48x40."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(40, 48)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def write_clip() -> WriteClip:
    """Makes an MP4 of 64x48: so many frames at so many a second, or sound alone."""

    def write(*, frames: int = 6, rate: Fraction | int = 10, sound: bool = False) -> bytes:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as container:
            if sound:
                stream = container.add_stream("aac", rate=8000)
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
                frame.sample_rate = 8000
                container.mux([*stream.encode(frame), *stream.encode(None)])
            else:
                stream = container.add_stream("mpeg4", rate=rate)
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                for index in range(frames):
                    frame = av.VideoFrame.from_ndarray(pixels(48, 64, seed=index), "rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        return buffer.getvalue()

    return write


@pytest.fixture(scope="session")
def clip(write_clip: WriteClip) -> bytes:
    """An MP4 of six frames."""
    return write_clip()


@pytest.fixture(scope="session")
def predictors(repository: Path) -> dict[str, Predictor]:
    """The tiny models by family."""
    pool = SessionPool(device="cpu")
    loaded = [
        Predictor.load(folder, pool, Limits(), batch_tokens=512, batch_pixels=100_000, batch_tap_bytes=2**28)
        for folder in repository.glob("*/1")
    ]
    return {predictor.manifest.family: predictor for predictor in loaded}


@pytest.fixture(scope="session")
def gallery(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models, and a vision transformer with two tokens before its patches."""
    root = tmp_path_factory.mktemp("gallery")
    shutil.copytree(repository, root, dirs_exist_ok=True)
    torch.manual_seed(3)
    model = VisionTransformer(
        ViTConfig(
            image=(32, 24),
            patch=(8, 8),
            labels=4,
            width=32,
            layers=2,
            heads=4,
            feedforward=64,
            distillation=True,
            teacher=True,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    weights = tmp_path_factory.mktemp("vit") / "weights"
    weights.write_bytes(b"made here")
    pack(
        Checkpoint(
            model=model.eval(),
            family="image",
            architecture="vit",
            source="here",
            name="tiny-vit",
            version="1",
            description="Untrained, for tests.",
            labels=("left", "right", "up", "down"),
            activation="softmax",
            preprocessing={
                "kind": "image",
                "resize_to": 40,
                "height": 32,
                "width": 24,
                "mean": [0.5, 0.4, 0.3],
                "std": [0.2, 0.3, 0.25],
            },
            card=None,
            weights=(weights,),
            tokenizer=None,
        ),
        root,
    )
    return root


class Reference:
    """The graphs of a bundle as they are, one input at a time: every tap, and from these each map."""

    def __init__(self, folder: Path) -> None:
        self.manifest = bundle.read(folder)
        self._folder = folder
        self._sessions: dict[str, Any] = {}

    def _run(self, path: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if path not in self._sessions:
            self._sessions[path] = onnxruntime.InferenceSession(
                self._folder / path, providers=["CPUExecutionProvider"]
            )
        session = self._sessions[path]
        feeds = {one.name: tensors[one.name] for one in session.get_inputs()}
        names = [one.name for one in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    def taps(self, item: Item) -> dict[str, np.ndarray]:
        """Inputs, logits and taps of one input, each a batch of one."""
        inputs = {name: tensor[None] for name, tensor in item.tensors.items()}
        if self.manifest.family == "text":
            inputs["lengths"] = np.array([len(item.tensors["input_ids"])])
        return inputs | self._run("model.onnx", inputs)

    def map(
        self,
        item: Item,
        name: str,
        *,
        target: int | None = None,
        layer: int = -1,
        rows: tuple[int, int] | None = None,
        frame: int = 0,
        fuse: str = "mean",
        discard: float = 0.0,
    ) -> list[np.ndarray]:
        """What a map has for each of its layers, or for the one of a slice."""
        spec = next(spec for spec in self.manifest.maps if spec.name == name)
        tensors = self.taps(item)
        if spec.sliced:
            for tap in ("query", "key"):
                tensors[tap] = tensors[f"{spec.layers[layer]}.{tap}"]
            tensors["rows"] = np.arange(*(rows or (0, tensors["query"].shape[-2])))
        best = int(tensors["logits"][0].argmax())
        tensors["target"] = np.array([best if target is None else target])
        tensors["frame"] = np.array([frame])
        tensors["fuse"] = np.array([("mean", "max", "min").index(fuse)])
        tensors["discard"] = np.array([discard], np.float32)
        tuned = "-tuned" if spec.tunable and (fuse != "mean" or discard) else ""
        found = self._run(f"maps/{spec.graph}{tuned}.onnx", tensors)
        return [found[output + tuned][0] for output in spec.outputs]


@pytest.fixture(scope="session")
def references(gallery: Path) -> dict[str, Reference]:
    """The bundles of the gallery by name."""
    return {folder.parent.name: Reference(folder) for folder in gallery.glob("*/1")}


@pytest.fixture(scope="session")
def gallery_predictors(gallery: Path) -> dict[str, Predictor]:
    """The models of the gallery by name."""
    pool = SessionPool(device="cpu")
    sizes = {"batch_tokens": 512, "batch_pixels": 100_000, "batch_tap_bytes": 2**28}
    return {
        folder.parent.name: Predictor.load(folder, pool, Limits(), **sizes) for folder in gallery.glob("*/1")
    }


@pytest.fixture(scope="session")
def gallery_client(gallery: Path, settings: Settings) -> Iterator[TestClient]:
    """The whole application on the gallery."""
    with TestClient(create_app(settings.model_copy(update={"models": gallery}))) as client:
        yield client


@pytest.fixture
def text_repository(repository: Path, tmp_path: Path) -> Path:
    """A copy of the text model alone, to be changed."""
    root = tmp_path / "models"
    shutil.copytree(repository / "tiny-text", root / "tiny-text")
    return root


@pytest.fixture(scope="session")
def settings(repository: Path) -> Settings:
    """Limits that are quickly reached."""
    return Settings(
        models=repository,
        device="cpu",
        slots=2,
        max_body_bytes=200_000,
        max_items=4,
        max_characters=2_000,
        max_pixels=100_000,
        max_clip_seconds=4,
        max_clip_frames=60,
    )


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[TestClient]:
    """The whole application, started."""
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="session")
def regression(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A model that gives one value, mostly negative, for a text or a pair of texts."""
    folder = tmp_path_factory.mktemp("regression")
    torch.manual_seed(1)
    model = TextTransformer(
        TextConfig(
            vocabulary=300, labels=1, width=32, layers=2, heads=4, feedforward=64, positions=64, token_types=2
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        model.classifier.bias.fill_(-5)
    native.save(
        folder,
        model,
        name="tiny-pairs",
        version="1",
        description="Untrained, for tests.",
        labels=["likeness"],
        preprocessing={"kind": "text", "max_tokens": 64, "token_types": True, "pairs": True},
        card=None,
    )
    tokenizer = Tokenizer.from_file(str(repository / "tiny-text" / "1" / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return replace(native.load(folder), activation="none")


@pytest.fixture(scope="session")
def scoring_client(
    repository: Path, regression: Checkpoint, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """The regression, and the tiny text model with its logits as values and as sigmoids."""
    root = tmp_path_factory.mktemp("scoring")
    pack(regression, root)
    for activation in ("none", "sigmoid"):
        folder = root / f"tiny-{activation}" / "1"
        shutil.copytree(repository / "tiny-text" / "1", folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest |= {"name": folder.parent.name, "activation": activation}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with TestClient(create_app(settings.model_copy(update={"models": root}))) as client:
        yield client


@pytest.fixture(scope="session")
def good(client: TestClient) -> Any:
    """What the text model says of TEXT."""
    return ask(client)


@pytest.fixture
def refused(client: TestClient, good: Any, settings: Settings) -> Refused:
    """Sends something bad; sees that the answer names field and limit, and that nothing else has happened."""
    inference = client.app.state.inference  # type: ignore[attr-defined]

    def check(
        send: Callable[[], httpx2.Response], status: int, *, field: str, limit: Any = None
    ) -> dict[str, Any]:
        before = repr(inference.store), repr(inference.scheduler)
        response = send()
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = response.json()
        assert document["status"] == status
        assert (document.get("field"), document.get("limit")) == (field, limit), document
        assert len(document["detail"]) > 5
        for leak in ("Traceback", ".py", str(settings.models), str(Path(service.__file__).parent)):
            assert leak not in response.text
        assert (repr(inference.store), repr(inference.scheduler)) == before
        assert ask(client) == good
        return document

    return check


def ask(client: TestClient) -> Any:
    """The part of a good answer that does not change from one time to the next."""
    response = client.post("/v1/models/tiny-text/predict", json={"text": TEXT, "top_k": 4})
    assert response.status_code == 200, response.text
    return response.json()["predictions"]
