"""Bad input is refused by field and limit and leaves the service as it was; `refused` sees to both."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from ulid import ULID

from service.app import create_app
from service.routes import body
from service.routes.body import gathered
from service.settings import Settings

Refused = Callable[..., dict[str, Any]]

TEXT, IMAGE, VIDEO = (f"/v1/models/tiny-{family}/predict" for family in ("text", "image", "video"))
KNOWN = (
    "special, words, mass, top, top_k, maps, layers, heads, target, token, rows, frame, discard, "
    "verify, inline, timeout"
)


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def send(client: TestClient, path: str, content: str | bytes, kind: str = "") -> Callable[[], Any]:
    return lambda: client.post(path, content=content, headers={"content-type": kind})


def send_json(client: TestClient, path: str = TEXT, **document: Any) -> Callable[[], Any]:
    return lambda: client.post(path, json=document)


# Text


@pytest.mark.parametrize("text", ["", " ", "\n\t \r\n", "\u00a0"])
def test_an_empty_text(client: TestClient, refused: Refused, text: str) -> None:
    refused(send_json(client, text=text), 400, field="text")
    refused(send(client, TEXT, text, "text/plain"), 400, field="text")
    refused(lambda: client.post(TEXT, files=[("text", (None, text))]), 400, field="text")


def test_one_empty_text_among_good_ones(client: TestClient, refused: Refused) -> None:
    refused(send_json(client, text=["a", "", "b"]), 400, field="text")


def test_a_text_of_too_many_characters(client: TestClient, refused: Refused) -> None:
    refused(send_json(client, text="x" * 2001), 413, field="text", limit=2000)
    refused(send(client, TEXT, "x" * 2001, "text/plain"), 413, field="text", limit=2000)
    assert client.post(TEXT, json={"text": "x" * 2000}).status_code == 200


def test_half_a_surrogate_pair(client: TestClient, refused: Refused) -> None:
    refused(send(client, TEXT, rb'{"text": "a\ud800"}', "application/json"), 400, field="text")


@pytest.mark.parametrize("content", [b"\xff\xfe\xfd", b"abc\xe9", b"\xed\xa0\x80"])
def test_text_that_is_not_utf_8(client: TestClient, refused: Refused, content: bytes) -> None:
    refused(send(client, TEXT, content, "text/plain; charset=utf-8"), 400, field="text")
    refused(lambda: client.post(TEXT, files={"file": ("a.txt", content, "text/plain")}), 400, field="text")


def test_a_pair_for_a_model_of_single_texts(client: TestClient, refused: Refused) -> None:
    refused(send_json(client, text="a", text_pair="b"), 400, field="text_pair")
    refused(send_json(client, text=["a", "b"], text_pair=[None, "b"]), 400, field="text_pair")
    form = [("text", (None, "a")), ("text_pair", (None, "b"))]
    refused(lambda: client.post(TEXT, files=form), 400, field="text_pair")
    assert send_json(client, text=["a", "b"], text_pair=[None, None])().status_code == 200


@pytest.mark.parametrize("path", [IMAGE, VIDEO])
def test_a_pair_for_a_model_of_media(client: TestClient, refused: Refused, path: str, picture: bytes) -> None:
    refused(send_json(client, path, text="a", text_pair="b"), 400, field="text")
    form = [("file", ("a.png", picture, "image/png")), ("text_pair", (None, "b"))]
    refused(lambda: client.post(path, files=form), 400, field="text_pair")


# Content types


def test_what_curl_says_of_raw_bytes_counts_as_undeclared(client: TestClient) -> None:
    """`curl --data-binary` declares a form, whatever it sends."""
    assert send(client, TEXT, b"abc", "application/x-www-form-urlencoded")().status_code == 200


@pytest.mark.parametrize("kind", ["image/png", "video/mp4", "nonsense"])
def test_bytes_for_a_model_of_texts(client: TestClient, refused: Refused, kind: str) -> None:
    refused(send(client, TEXT, b"abc", kind), 415, field="content-type")


@pytest.mark.parametrize("path", [IMAGE, VIDEO])
def test_text_for_a_model_of_media(client: TestClient, refused: Refused, path: str) -> None:
    field = "image" if path == IMAGE else "video"
    refused(send_json(client, path, text="abc"), 400, field="text")
    refused(send(client, path, "abc", "text/plain"), 415, field=field)
    refused(send(client, path, b"abc", "application/octet-stream"), 415, field=field)


@pytest.mark.parametrize("kind", ["image/jpeg", "video/mp4", "text/plain", "text/html", "application/pdf"])
def test_a_picture_declared_as_something_else(
    client: TestClient, refused: Refused, picture: bytes, kind: str
) -> None:
    refused(send(client, IMAGE, picture, kind), 415, field="content-type")
    refused(lambda: client.post(IMAGE, files={"file": ("a", picture, kind)}), 415, field="content-type")


def test_a_picture_declared_as_json(client: TestClient, refused: Refused, picture: bytes) -> None:
    refused(send(client, IMAGE, picture, "application/json"), 400, field="body")


@pytest.mark.parametrize("kind", ["video/webm", "image/png"])
def test_a_clip_declared_as_something_else(
    client: TestClient, refused: Refused, clip: bytes, kind: str
) -> None:
    refused(send(client, VIDEO, clip, kind), 415, field="content-type")


def test_a_picture_for_a_model_of_clips_and_the_other_way(
    client: TestClient, refused: Refused, picture: bytes, clip: bytes
) -> None:
    refused(send(client, VIDEO, picture, "image/png"), 415, field="video")
    refused(send(client, IMAGE, clip, "video/mp4"), 415, field="image")


# Media


@pytest.mark.parametrize(("path", "field"), [(IMAGE, "image"), (VIDEO, "video")])
def test_media_of_no_bytes(client: TestClient, refused: Refused, path: str, field: str) -> None:
    for kind in ("", "image/png", "video/mp4"):
        refused(send(client, path, b"", kind), 400, field=field)
    refused(lambda: client.post(path, files={"file": ("a", b"", "image/png")}), 400, field=field)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_truncated_picture(client: TestClient, refused: Refused, picture: bytes, format: str) -> None:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.save(buffer, format)
    data = buffer.getvalue()
    for part in (0.3, 0.7):
        refused(send(client, IMAGE, data[: int(len(data) * part)]), 422, field="image")


def test_a_truncated_clip(client: TestClient, refused: Refused, clip: bytes) -> None:
    for part in (0.3, 0.7):
        refused(send(client, VIDEO, clip[: int(len(clip) * part)], "video/mp4"), 422, field="video")


def test_a_damaged_item_among_good_ones(client: TestClient, refused: Refused, picture: bytes) -> None:
    files = [("file", ("a.png", data, "image/png")) for data in (picture, picture[:200], picture)]
    refused(lambda: client.post(IMAGE, files=files), 422, field="image")


def test_a_decompression_bomb(client: TestClient, refused: Refused) -> None:
    bomb = png(20_000, 20_000, "1")
    assert len(bomb) < 100_000
    started = time.monotonic()
    document = refused(send(client, IMAGE, bomb, "image/png"), 413, field="image", limit=100_000)
    assert time.monotonic() - started < 5
    assert "20000x20000" in document["detail"]


def test_a_picture_just_over_the_pixel_limit(client: TestClient, refused: Refused) -> None:
    refused(send(client, IMAGE, png(401, 250), "image/png"), 413, field="image", limit=100_000)
    assert send(client, IMAGE, png(400, 250), "image/png")().status_code == 200


def test_a_clip_without_a_video_stream(client: TestClient, refused: Refused, write_clip: Any) -> None:
    document = refused(send(client, VIDEO, write_clip(sound=True), "video/mp4"), 422, field="video")
    assert "no video stream" in document["detail"]


def test_a_clip_over_the_second_limit(client: TestClient, refused: Refused, write_clip: Any) -> None:
    document = refused(send(client, VIDEO, write_clip(frames=5, rate=1)), 413, field="video", limit=4)
    assert "seconds" in document["detail"]
    assert send(client, VIDEO, write_clip(frames=4, rate=1))().status_code == 200


def test_a_clip_over_the_frame_limit(client: TestClient, refused: Refused, write_clip: Any) -> None:
    rate = Fraction(60)
    document = refused(send(client, VIDEO, write_clip(frames=61, rate=rate)), 413, field="video", limit=60)
    assert "frames" in document["detail"]
    assert send(client, VIDEO, write_clip(frames=60, rate=rate))().status_code == 200


# What does not exist


@pytest.mark.parametrize("name", ["nothing", "tiny", "tiny-text%2F1", "..%2F..", "%ff", "x" * 2000])
def test_an_unknown_model(client: TestClient, refused: Refused, name: str) -> None:
    if "%2F" not in name:
        refused(lambda: client.get(f"/v1/models/{name}"), 404, field="model")
        refused(lambda: client.post(f"/v1/models/{name}/predict", json={"text": "a"}), 404, field="model")
    else:
        assert client.get(f"/v1/models/{name}").status_code == 404


MAPS = "cls, rollout, received, value_norm, relevance, grad_sam, attention"


def test_an_unknown_map(client: TestClient, refused: Refused) -> None:
    refused(send_json(client, text="a", maps=["cam"]), 400, field="maps", limit=MAPS)
    refused(send_json(client, text="a", maps=["cls", "../cls"]), 400, field="maps", limit=MAPS)
    refused(lambda: client.post(f"{TEXT}?maps=cam", json={"text": "a"}), 400, field="maps", limit=MAPS)
    form = [("text", (None, "a")), ("maps", (None, "cam"))]
    refused(lambda: client.post(TEXT, files=form), 400, field="maps", limit=MAPS)


@pytest.mark.parametrize(
    ("option", "value", "limit"),
    [
        ("layers", 2, 1),
        ("layers", -3, 1),
        ("layers", [0, 2], 1),
        ("layers", 10**30, 1),
        ("heads", 4, 3),
        ("heads", [-5], 3),
    ],
)
def test_an_unknown_layer_or_head(
    client: TestClient, refused: Refused, option: str, value: Any, limit: int
) -> None:
    document = {"text": "a", "maps": ["cls"]}
    refused(send_json(client, **document, **{option: value}), 400, field=option, limit=limit)
    word = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    refused(lambda: client.post(TEXT, json=document, params={option: word}), 400, field=option, limit=limit)


@pytest.mark.parametrize("target", ["sideways", "", 4, -1, "-1", "9" * 5000])
def test_an_unknown_label(client: TestClient, refused: Refused, target: Any) -> None:
    refused(send_json(client, text="a", target=target), 400, field="target", limit=3)
    refused(
        lambda: client.post(TEXT, json={"text": "a"}, params={"target": target}), 400, field="target", limit=3
    )


@pytest.mark.parametrize("name", ["topk", "text2", "Top_K", "a" * 80, "ü"])
def test_an_unknown_option(client: TestClient, refused: Refused, name: str) -> None:
    refused(send_json(client, text="a", **{name: 1}), 400, field=name, limit=KNOWN)
    refused(lambda: client.post(TEXT, json={"text": "a"}, params={name: 1}), 400, field=name, limit=KNOWN)
    form = [("text", (None, "a")), (name, (None, "1"))]
    refused(lambda: client.post(TEXT, files=form), 400, field=name, limit=KNOWN)


def test_an_unknown_option_of_a_strange_name(client: TestClient, refused: Refused) -> None:
    for content in (rb'{"text": "a", "\ud800": 1}', rb'{"text": "a", "\ud800": 1, "top_k": 0}'):
        refused(send(client, TEXT, content, "application/json"), 400, field="options")
    for option, limit in (("maps", MAPS), ("target", 3)):
        content = rb'{"text": "a", "%s": "\ud800"}' % option.encode()
        refused(send(client, TEXT, content, "application/json"), 400, field=option, limit=limit)
    refused(send_json(client, text="a", **{"\x00\u202e": 1}), 400, field="\x00\u202e", limit=KNOWN)
    document = refused(send_json(client, text="a", **{"x" * 50_000: 1}), 400, field="x" * 80, limit=KNOWN)
    assert len(document["detail"]) <= 1000


# Options


@pytest.mark.parametrize(
    ("option", "value", "limit"),
    [
        ("top_k", 0, 1),
        ("top_k", -1, 1),
        ("top_k", 1001, 1000),
        ("top_k", 10**30, 1000),
        ("top_k", "many", None),
        ("top_k", 1.5, None),
        ("top_k", None, None),
        ("top_k", [1], None),
        ("top_k", {"a": 1}, None),
        ("maps", 5, None),
        ("maps", [5], None),
        ("maps", {"cls": 1}, None),
        ("maps", ["cls"] * 33, 32),
        ("layers", "some", None),
        ("layers", 0.5, None),
        ("layers", [], None),
        ("layers", [0.5], None),
        ("layers", [[0]], None),
        ("layers", [0] * 257, None),
        ("heads", "median", None),
        ("heads", {"0": 1}, None),
        ("target", [1], None),
        ("target", 0.5, None),
        ("inline", "perhaps", None),
        ("inline", 7, None),
    ],
)
def test_an_option_of_a_wrong_type_or_size(
    client: TestClient, refused: Refused, option: str, value: Any, limit: Any
) -> None:
    document = refused(send_json(client, text="a", **{option: value}), 400, field=option, limit=limit)
    assert document["detail"].startswith(f"{option}: ")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("top_k", "many"),
        ("top_k", "1.5"),
        ("top_k", ""),
        ("top_k", "nan"),
        ("top_k", "9" * 5000),
        ("layers", "0.5"),
        ("layers", "0,,1"),
        ("layers", ""),
        ("layers", "9" * 5000),
        ("heads", "median"),
        ("inline", "perhaps"),
    ],
)
def test_an_option_of_a_wrong_type_in_query_or_form(
    client: TestClient, refused: Refused, option: str, value: str
) -> None:
    refused(lambda: client.post(TEXT, json={"text": "a"}, params={option: value}), 400, field=option)
    form = [("text", (None, "a")), (option, (None, value))]
    refused(lambda: client.post(TEXT, files=form), 400, field=option)


def test_a_single_option_given_twice(client: TestClient, refused: Refused) -> None:
    refused(lambda: client.post(f"{TEXT}?top_k=1&top_k=2", json={"text": "a"}), 400, field="top_k")


@pytest.mark.parametrize("number", ["1e400", "1e300"])
@pytest.mark.parametrize("option", ["top_k", "layers", "heads", "target"])
def test_numbers_that_are_none(client: TestClient, refused: Refused, option: str, number: str) -> None:
    content = f'{{"text": "a", "maps": ["cls"], "{option}": {number}}}'
    response = send(client, TEXT, content, "application/json")
    refused(response, 400, field=option)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_no_json(client: TestClient, refused: Refused, number: str) -> None:
    content = f'{{"text": "a", "top_k": {number}}}'
    refused(send(client, TEXT, content, "application/json"), 400, field="body")


def test_a_number_of_thousands_of_digits(client: TestClient, refused: Refused) -> None:
    content = f'{{"text": "a", "top_k": {"9" * 5000}}}'
    refused(send(client, TEXT, content, "application/json"), 400, field="body")


# Maps of a kept prediction


@pytest.fixture(scope="module")
def links(client: TestClient, picture: bytes, clip: bytes) -> dict[str, str]:
    """Where the maps of a kept prediction of each family are."""
    text = client.post(TEXT, json={"text": "abc", "maps": ["cls", "rollout"]}).json()
    image = send(client, f"{IMAGE}?maps=cam", picture)().json()
    video = send(client, f"{VIDEO}?maps=rollout,message,importance", clip)().json()
    return {
        family: f"/v1/predictions/{answer['id']}/0/maps"
        for family, answer in (("text", text), ("image", image), ("video", video))
    }


@pytest.mark.parametrize(
    ("family", "rest", "status", "field", "limit"),
    [
        ("text", "cam.npy", 404, "map", None),
        ("text", "..%2Fcls.npy", 404, None, None),
        ("text", "cls.gif", 400, "format", "html, svg, png, webp, json, npy"),
        ("text", "cls.exe", 400, "format", "html, svg, png, webp, json, npy"),
        ("text", "attention.svg", 400, "token", None),
        ("image", "cam.html", 400, "format", "png, webp, json, npy"),
        ("text", "cls.npy?layer=2", 400, "layer", 1),
        ("text", "cls.npy?layer=-3", 400, "layer", 1),
        ("text", "cls.npy?layer=0,2", 400, "layer", 1),
        ("text", "cls.npy?layer=1.5", 400, "layer", None),
        ("text", "cls.npy?layer=", 400, "layer", None),
        ("text", f"cls.npy?layer={'9' * 5000}", 400, "layer", None),
        ("text", "cls.npy?head=4", 400, "head", 3),
        ("text", "cls.npy?head=median", 400, "head", None),
        ("text", "rollout.npy?layer=0", 400, "layer", None),
        ("text", "rollout.npy?head=0", 400, "head", "mean, max, min"),
        ("text", "cls.npy?target=left", 400, "target", None),
        ("text", "cls.npy?frame=0", 400, "frame", None),
        ("text", "cls.npy?layers=0", 400, "layers", ...),
        ("text", "cls.npy?constructor=0", 400, "constructor", ...),
        ("text", "cls.html?layer=all", 400, "layer", 1),
        ("text", "cls.html?head=0,1", 400, "head", 1),
        ("text", "cls.html?theme=blue", 400, "theme", ...),
        ("image", "cam.png?target=sideways", 400, "target", 3),
        ("image", "cam.png?target=4", 400, "target", 3),
        ("image", "cam.png?alpha=1.1", 400, "alpha", "0 to 1"),
        ("image", "cam.png?alpha=nan", 400, "alpha", "0 to 1"),
        ("image", "cam.png?alpha=inf", 400, "alpha", "0 to 1"),
        ("image", "cam.png?alpha=much", 400, "alpha", None),
        ("image", "cam.png?size=63", 400, "size", "64 to 4096"),
        ("image", "cam.png?size=4097", 400, "size", "64 to 4096"),
        ("image", f"cam.png?size=1{'0' * 30}", 400, "size", "64 to 4096"),
        ("image", "cam.png?size=large", 400, "size", None),
        ("image", "cam.png?smooth=perhaps", 400, "smooth", None),
        ("image", "cam.png?colormap=..%2F..%2Fx", 400, "colormap", ...),
        ("image", "cam.png?scale=log2", 400, "scale", ...),
        ("video", "rollout.webp?frame=4", 400, "frame", "0 to 3"),
        ("video", "rollout.webp?frame=-1", 400, "frame", 0),
        ("video", "rollout.webp?frame=one", 400, "frame", None),
        ("video", "message.png?frame=0", 400, "frame", None),
    ],
)
def test_a_map_that_cannot_be_had(
    client: TestClient,
    refused: Refused,
    links: dict[str, str],
    family: str,
    rest: str,
    status: int,
    field: str | None,
    limit: Any,
) -> None:
    def ask() -> Any:
        return client.get(f"{links[family]}/{rest}")

    if field is None:
        assert ask().status_code == status
        return
    if limit is ...:
        limit = ask().json().get("limit")
    refused(ask, status, field=field, limit=limit)


@pytest.mark.parametrize(
    ("index", "status", "field", "limit"),
    [("1", 404, "item", 0), ("-1", 404, "item", 0), ("one", 400, "item", None)],
)
def test_an_item_that_is_not_there(
    client: TestClient,
    refused: Refused,
    links: dict[str, str],
    index: str,
    status: int,
    field: str,
    limit: int | None,
) -> None:
    link = links["text"].replace("/0/maps", f"/{index}/maps/cls.npy")
    refused(lambda: client.get(link), status, field=field, limit=limit)


@pytest.mark.parametrize("key", ["x", "0" * 27, "Z" * 26, "%00", "%F0%9F%98%80" * 26])
def test_an_id_that_is_none(client: TestClient, refused: Refused, key: str) -> None:
    refused(lambda: client.get(f"/v1/predictions/{key}"), 404, field="id")
    refused(lambda: client.get(f"/v1/predictions/{key}/0/maps/cls.npy"), 404, field="id")


def test_an_id_that_was_never_given(client: TestClient, refused: Refused, settings: Settings) -> None:
    limit = f"{settings.store_seconds:g} s, {settings.store_bytes} bytes"
    refused(lambda: client.get(f"/v1/predictions/{ULID()}"), 410, field="id", limit=limit)


def test_an_expired_prediction(text_repository: Any) -> None:
    settings = Settings(models=text_repository, device="cpu", slots=1, store_seconds=0.2)
    with TestClient(create_app(settings)) as client:
        answer = client.post(TEXT, json={"text": "a", "maps": ["cls"]}).json()
        time.sleep(0.3)
        links = answer["predictions"][0]["maps"][0]["links"].values()
        for link in (f"/v1/predictions/{answer['id']}", *links):
            response = client.get(link)
            assert response.status_code == 410
            assert response.headers["content-type"] == "application/problem+json"
            assert (response.json()["field"], response.json()["limit"]) == ("id", "0.2 s, 536870912 bytes")
        assert client.post(TEXT, json={"text": "a"}).status_code == 200


# Bodies


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"text": "a"', b'{"text": "a"}}', b"{'text': 'a'}", b'{"text": "\xff"}', b"\x00", b"a=1"],
)
def test_broken_json(client: TestClient, refused: Refused, content: bytes) -> None:
    refused(send(client, TEXT, content, "application/json"), 400, field="body")


@pytest.mark.parametrize("document", [None, 5, "text", [], ["a"], True])
def test_json_that_is_no_object(client: TestClient, refused: Refused, document: Any) -> None:
    refused(send(client, TEXT, json.dumps(document), "application/json"), 400, field="body")


@pytest.mark.parametrize(
    "document",
    [{}, {"text": None}, {"text": 5}, {"text": ["a", 5]}, {"text": []}, {"text": {}}, {"text": [["a"]]}],
)
def test_json_without_texts(client: TestClient, refused: Refused, document: dict[str, Any]) -> None:
    refused(send_json(client, **document), 400, field="text")


@pytest.mark.parametrize(
    ("start", "end", "field"), [("[", "]", "body"), ('{"text": ', "}", "body"), ('{"maps": [', "]}", "body")]
)
def test_json_nested_very_deep(
    client: TestClient, refused: Refused, start: str, end: str, field: str
) -> None:
    deep = start * 15_000 + end * 15_000
    refused(send(client, TEXT, deep, "application/json"), 400, field=field)


def test_an_option_nested_deep(client: TestClient, refused: Refused) -> None:
    content = f'{{"text": "a", "layers": {"[" * 500}1{"]" * 500}}}'
    refused(send(client, TEXT, content, "application/json"), 400, field="layers")


def test_too_many_texts(client: TestClient, refused: Refused) -> None:
    refused(send_json(client, text=["a"] * 5), 413, field="items", limit=4)
    refused(lambda: client.post(TEXT, files=[("text", (None, "a"))] * 5), 413, field="items", limit=4)


def test_too_many_parts(client: TestClient, refused: Refused, picture: bytes) -> None:
    files = [("file", ("a.png", picture, "image/png"))] * 9
    refused(lambda: client.post(IMAGE, files=files[:5]), 413, field="items", limit=4)
    refused(lambda: client.post(IMAGE, files=files), 413, field="body", limit=8)
    fields = [(f"field{index}", (None, "1")) for index in range(25)]
    refused(lambda: client.post(TEXT, files=fields), 413, field="body", limit=24)


def test_a_form_field_that_is_too_long(
    client: TestClient, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "FIELD_BYTES", 1024)
    refused(lambda: client.post(TEXT, files=[("text", (None, "x" * 1025))]), 413, field="body", limit=1024)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", b"--b\r\n\r\n--b--"),
        ("multipart/form-data; boundary=", b"--\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"nonsense"),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nabc\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\ncontent-disposition: form-data\r\n\r\nabc\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="text"\r\n\r\nabc'),
        ("multipart/form-data; boundary=b", b"--b\r\n\xff\xfe: x\r\n\r\nabc\r\n--b--\r\n"),
        ("multipart/form-data; boundary=" + "b" * 5000, b"--b\r\n"),
    ],
)
def test_a_broken_form(client: TestClient, refused: Refused, kind: str, content: bytes) -> None:
    refused(send(client, TEXT, content, kind), 400, field="body")


def test_a_form_of_options_alone(client: TestClient, refused: Refused) -> None:
    refused(lambda: client.post(TEXT, files=[("top_k", (None, "1"))]), 400, field="body")


def test_a_form_cut_off_in_its_second_part(client: TestClient, refused: Refused) -> None:
    part = b'--b\r\ncontent-disposition: form-data; name="text"\r\n\r\n'
    cut = part + b"first\r\n" + part + b"seco"
    refused(send(client, TEXT, cut, "multipart/form-data; boundary=b"), 400, field="body")


def test_options_are_gathered_by_name() -> None:
    assert gathered([("a", "1"), ("b", "2"), ("a", "3")]) == {"a": ["1", "3"], "b": "2"}


# What once gave a 500, or more than was asked for


def palette_png(**chunks: bytes) -> bytes:
    """A picture of 4x4 palette indices whose palette is as the chunks say."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\x00\x01\x02\x03\x04" * 4))
    extra = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("chunks", [{}, {"PLTE": b"\x00\x10\x20" * 5, "tRNS": bytes(300)}])
def test_a_palette_that_is_missing_or_odd(
    client: TestClient, refused: Refused, chunks: dict[str, bytes]
) -> None:
    refused(send(client, IMAGE, palette_png(**chunks), "image/png"), 422, field="image")


@pytest.mark.parametrize("charset", ["punycode", "undefined"])
def test_a_form_in_a_charset_of_the_clients_own(client: TestClient, refused: Refused, charset: str) -> None:
    content = b'--B\r\ncontent-disposition: form-data; name="text"\r\n\r\n\xff\xfe\r\n--B--\r\n'
    refused(
        send(client, TEXT, content, f"multipart/form-data; boundary=B; charset={charset}"), 400, field="body"
    )


def test_an_index_that_is_given_twice(client: TestClient, refused: Refused) -> None:
    refused(send_json(client, text="a", maps="cls", layers=[0, 0]), 400, field="layers", limit=2)
    refused(send_json(client, text="a", maps="cls", heads=[1, -3]), 400, field="heads", limit=4)


def test_a_map_that_is_named_twice_is_made_once(client: TestClient) -> None:
    answer = client.post(TEXT, json={"text": "a", "maps": ["cls"] * 9}).json()
    assert len(answer["predictions"][0]["maps"]) == 1


def test_layers_are_checked_before_anything_runs(
    client: TestClient, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr("service.predictor.Predictor.run", lambda *args: runs.append(args))
        reply = client.post(TEXT, json={"text": "a", "maps": ["cls"], "layers": 9})
    assert (reply.status_code, reply.json()["field"], runs) == (400, "layers", [])


def test_an_answer_too_large_to_be_kept_has_no_links(text_repository: Path) -> None:
    settings = Settings(models=text_repository, device="cpu", slots=1, store_bytes=2000)
    with TestClient(create_app(settings)) as client:
        answer = client.post(TEXT, json={"text": "a" * 30, "maps": ["cls"], "inline": True}).json()
        assert answer["predictions"][0]["maps"][0]["links"] == {}
        assert client.get(f"/v1/predictions/{answer['id']}").status_code == 410


def test_an_animation_of_too_many_pixels(client: TestClient, refused: Refused, clip: bytes) -> None:
    answer = client.post(VIDEO, content=clip, headers={"content-type": "video/mp4"}).json()
    url = f"/v1/predictions/{answer['id']}/0/maps/rollout.webp"
    client.get(url)  # the map is made and kept
    refused(lambda: client.get(url, params={"size": 4096}), 400, field="size", limit=16 * 1024**2)


def test_a_body_without_text_says_what_it_has(client: TestClient, refused: Refused) -> None:
    document = refused(send_json(client, inputs=["a"]), 400, field="text")
    assert "inputs" in document["detail"]
