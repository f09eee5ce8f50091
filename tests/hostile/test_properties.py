"""Whatever is sent: decoders give an item or a problem, routes 200 or a 4xx, and never a 5xx."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import bundle
from service.app import create_app
from service.bundle import ImageInput, TextInput, VideoInput
from service.decode.image import ImageDecoder
from service.decode.limits import Limits
from service.decode.text import TextDecoder
from service.decode.video import VideoDecoder
from service.errors import Problem
from service.settings import DEMO, Settings

LIMITS = Limits(max_pixels=200_000, max_characters=5_000, decode_seconds=5)
PLAIN = {"height": 16, "width": 16, "resize_to": (16, 16), "mean": (0, 0, 0), "std": (1, 1, 1)}
MAGIC = [
    b"\xff\xd8\xff\xe0\x00\x10JFIF",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"GIF89a",
    b"RIFF\x40\0\0\0WEBPVP8X",
    b"\0\0\0\x14ftypisom\0\0\0\0mp41",
    b"\0\0\0\x08moov",
    b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67",
    b"",
]
ANSWERED = {200, *range(400, 500)}
FOLDER = DEMO / "code-language" / "1"
MODELS = ["code-language", "digit-in-clutter", "digit-motion", "none"]
many = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
few = settings(many, max_examples=150)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """The built-in models, behind small limits."""
    app = create_app(Settings(models=DEMO, slots=2, max_body_bytes=100_000, max_items=4))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def text_decoder() -> TextDecoder:
    spec = bundle.read(FOLDER).preprocessing
    assert isinstance(spec, TextInput)
    return TextDecoder(spec, FOLDER / "tokenizer.json", LIMITS)


def status(decoder: ImageDecoder | VideoDecoder | TextDecoder, data: Any) -> int:
    """That of the answer to this input."""
    try:
        decoder.decode(data)
    except Problem as problem:
        return int(problem.status)
    return 200


@pytest.fixture(scope="module")
def decoders() -> list[ImageDecoder | VideoDecoder]:
    return [ImageDecoder(ImageInput(**PLAIN), LIMITS), VideoDecoder(VideoInput(frames=2, **PLAIN), LIMITS)]


@many
@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=400))
def test_any_bytes_are_decoded_or_a_problem(decoders: Any, magic: bytes, rest: bytes) -> None:
    for decoder in decoders:
        assert status(decoder, magic + rest) in ANSWERED


@many
@given(data=st.data())
def test_a_good_file_with_any_stretch_replaced_is_decoded_or_a_problem(
    data: st.DataObject, decoders: Any, pictures: dict[str, bytes], clips: dict[str, bytes]
) -> None:
    good = data.draw(st.sampled_from([*pictures.values(), *clips.values()]))
    start = data.draw(st.integers(0, len(good)))
    damaged = good[:start] + data.draw(st.binary(max_size=32)) + good[start + data.draw(st.integers(0, 64)) :]
    for decoder in decoders:
        assert status(decoder, damaged) in ANSWERED


@many
@given(text=st.text(st.characters(exclude_categories=[]), max_size=300))
def test_tokens_lie_in_their_text(text: str, text_decoder: TextDecoder) -> None:
    if not text.strip() or any("\ud800" <= one <= "\udfff" for one in text):
        assert status(text_decoder, text) == 400
        return
    item = text_decoder.decode(text)
    count = len(item.tokens)
    assert item.tensors["input_ids"].shape == (count,)
    assert len(item.offsets) == len(item.segments) == len(item.special) == count
    last = 0
    for token, (start, end), special in zip(item.tokens, item.offsets, item.special, strict=True):
        assert 0 <= start <= end <= len(text)
        if not special:
            assert token == text[start:end] or start == end
            assert last <= end
            last = end


def good(response: Any) -> dict[str, Any]:
    """The document of an answer, which is one that clients can use."""
    assert response.status_code in ANSWERED, response.text
    document: dict[str, Any] = response.json()
    return document


MAPS = ["cls", "rollout", "received", "value_norm", "relevance", "grad_sam", "attention", "cam", "importance"]
CHOICES = ["token", "rows", "frame", "discard", "target", "special", "words", "mass", "top"]
OPTIONS = ["text_pair", "top_k", "maps", "layers", "heads", "verify", "inline", "timeout", *CHOICES]
PREDICT = st.fixed_dictionaries({"text": JSON}, optional=dict.fromkeys(OPTIONS, JSON))
NUMBER = st.integers(-3, 70) | st.integers() | st.floats() | st.booleans() | st.sampled_from([1e308, -0.0])
PLAUSIBLE = (
    NUMBER | st.lists(NUMBER, max_size=3) | st.sampled_from(["all", "mean", "max", "hide", "rust", "7"])
)
ASKED = st.fixed_dictionaries(
    {
        "text": st.sampled_from(["fn main() {}", ["a", "b c"]]),
        "maps": st.lists(st.sampled_from(MAPS), max_size=3),
    },
    optional=dict.fromkeys([one for one in OPTIONS if one not in ("text_pair", "maps")], PLAUSIBLE),
)
KINDS = ["application/json", "text/plain", "multipart/form-data; boundary=b", "image/png", "a/b; c", ""]
FIELDS = ["text", "text_pair", "file", "top_k", "maps", "x"]
PART = st.tuples(st.sampled_from(FIELDS), st.binary(max_size=60), st.booleans())
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["text", "image", "input_ids", "pixels"]) | st.text(max_size=5),
        "datatype": st.sampled_from(["BYTES", "FP32", "INT64", "BOOL", "BF16", "FP16"]) | JSON,
        "shape": st.lists(st.integers(-1, 2**40), max_size=5) | JSON,
    },
    optional={
        "data": JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 2**62) | JSON}) | JSON,
    },
)
PARAMETERS = st.dictionaries(
    st.sampled_from(["maps", "timeout", "binary_data_output", "x", "layers", "heads", "verify", *CHOICES]),
    JSON,
)
INFER = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=3) | JSON},
    optional={"id": JSON, "outputs": JSON, "parameters": PARAMETERS},
)


@few
@given(model=st.sampled_from(MODELS), document=PREDICT | JSON)
def test_any_json_is_answered(client: TestClient, model: str, document: Any) -> None:
    headers = {"content-type": "application/json"}
    good(client.post(f"/v1/models/{model}/predict", content=json.dumps(document), headers=headers))


@many
@given(document=ASKED)
def test_any_wish_for_maps_is_answered(client: TestClient, document: Any) -> None:
    headers = {"content-type": "application/json"}
    body = json.dumps(document)
    answer = good(client.post("/v1/models/code-language/predict", content=body, headers=headers))
    if "predictions" in answer:
        for one in answer["predictions"]:
            for found in one["maps"]:
                assert len(found["shape"]) == len(found["axes"])
    else:
        assert answer["field"] in (*OPTIONS, "body", "text")


@pytest.fixture(scope="module")
def kept(client: TestClient) -> dict[str, str]:
    """Where the maps of a kept prediction of each model are."""
    root, found = DEMO.parents[1] / "examples", {}
    for model, kind, file in (
        ("code-language", "text/plain", "snippet.rs"),
        ("digit-in-clutter", "image/png", "digit-2.png"),
        ("digit-motion", "video/mp4", "blink.mp4"),
    ):
        headers = {"content-type": kind}
        body = (root / file).read_bytes()
        answer = client.post(f"/v1/models/{model}/predict", content=body, headers=headers)
        found[model] = f"/v1/predictions/{answer.json()['id']}/0/maps"
    return found


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
DIGITS = st.integers(-3, 20).map(str)
QUERY = st.dictionaries(
    st.sampled_from(["layer", "head", "theme", "scale", "size", "alpha", "colormap", "smooth", *CHOICES]),
    DIGITS
    | st.tuples(DIGITS, DIGITS).map(":".join)
    | st.tuples(DIGITS, DIGITS).map(",".join)
    | st.sampled_from(["all", "mean", "0.5", "nan", "inf", "1e400", "true", "hide", "rust", "٣", ""])
    | PRINTABLE,
    max_size=4,
)


@many
@given(
    model=st.sampled_from(MODELS[:3]),
    name=st.sampled_from([*MAPS, "channel", "spatial", "temporal", "message", "label_patches", "none"]),
    format=st.sampled_from(["npy", "json", "png", "webp", "html", "svg", "gif"]),
    query=QUERY,
)
def test_any_wish_for_a_kept_map_is_answered(
    client: TestClient, kept: dict[str, str], model: str, name: str, format: str, query: dict[str, str]
) -> None:
    answer = client.get(f"{kept[model]}/{name}.{format}", params=query)
    if answer.status_code != 200:
        assert "field" in good(answer), answer.text


@few
@given(model=st.sampled_from(MODELS), kind=st.sampled_from(KINDS), body=st.binary(max_size=300))
def test_any_body_is_answered(client: TestClient, model: str, kind: str, body: bytes) -> None:
    good(client.post(f"/v1/models/{model}/predict", content=body, headers={"content-type": kind}))


@few
@given(parts=st.lists(PART, max_size=6), cut=st.integers(0, 60))
def test_any_form_is_answered(client: TestClient, parts: list[tuple[str, bytes, bool]], cut: int) -> None:
    body = b""
    for name, value, file in parts:
        body += b"--b\r\ncontent-disposition: form-data; name=" + name.encode()
        body += (b"; filename=f" if file else b"") + b"\r\n\r\n" + value + b"\r\n"
    body += b"--b--\r\n"
    body = body[: len(body) - cut] if cut > 40 else body
    headers = {"content-type": "multipart/form-data; boundary=b"}
    good(client.post("/v1/models/code-language/predict", content=body, headers=headers))


@few
@given(
    model=st.sampled_from(MODELS),
    document=INFER | JSON,
    tail=st.binary(max_size=80),
    length=st.none() | st.just("right") | st.integers(-1, 400) | PRINTABLE,
    encoding=st.sampled_from(["", "", "gzip", "deflate", "br"]),
)
def test_any_inference_request_is_answered(
    client: TestClient, model: str, document: Any, tail: bytes, length: Any, encoding: str
) -> None:
    head = json.dumps(document).encode()
    headers = {"content-encoding": encoding} if encoding else {}
    if length is not None:
        headers["inference-header-content-length"] = str(len(head) if length == "right" else length)
    answer = client.post(f"/v2/models/{model}/infer", content=head + tail, headers=headers)
    if answer.status_code != 200:
        assert set(good(answer)) == {"error"}


@pytest.mark.parametrize("size", [2**20, 2**40, 2**62])
def test_no_memory_is_taken_because_a_request_says_so(client: TestClient, size: int) -> None:
    tensor = {"name": "input_ids", "datatype": "INT64", "shape": [1, size]}
    tensor["parameters"] = {"binary_data_size": 8 * size}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    tracemalloc.start()
    try:
        answer = client.post("/v2/models/code-language/infer", content=head + bytes(64), headers=headers)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 400 <= answer.status_code < 500
    assert most < 4 * 2**20
