"""Which options each format of each map reads, as a client meets them: the rest is refused by name."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.render import NUMBERS

TEXT = "fn main() { println!(); }"
DRAWING = {"colormap": "gray", "alpha": "0.9", "scale": "mass", "smooth": "true", "size": "200"}
DRAWING |= {"theme": "light"}
FAMILIES = ("text", "image", "video")


@pytest.fixture(scope="module")
def links(client: TestClient) -> Callable[[str], str]:
    """Where the maps of a kept prediction are, by family."""
    kept: dict[str, str] = {}

    def find(family: str, body: bytes = TEXT.encode(), media: str = "text/plain") -> str:
        if family not in kept:
            path, headers = f"/v1/models/tiny-{family}/predict", {"content-type": media}
            response = client.post(path, content=body, headers=headers)
            assert response.status_code == 200, response.text
            kept[family] = f"/v1/predictions/{response.json()['id']}/0/maps"
        return kept[family]

    return find


@pytest.fixture
def at(links: Callable[..., str], picture: bytes, clip: bytes) -> dict[str, str]:
    """The same, for every family."""
    return {
        "text": links("text"),
        "image": links("image", picture, "image/png"),
        "video": links("video", clip, "video/mp4"),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_an_option_changes_a_drawing_or_is_refused_by_name(
    client: TestClient, at: dict[str, str], family: str
) -> None:
    for one in client.get(f"/v1/models/tiny-{family}").json()["maps"]:
        for format in {"html", "png", "npy"} & {*one["formats"]}:
            plain = {"token": "1"} if format in one["token_formats"] else {}
            url = f"{at[family]}/{one['name']}.{format}"
            before = client.get(url, params=plain)
            assert before.status_code == 200, before.text
            for option, value in DRAWING.items():
                about = f"{one['name']}.{format} {option}"
                response = client.get(url, params={**plain, option: value})
                if response.status_code == 200:
                    assert response.content != before.content, about
                    assert format not in NUMBERS
                else:
                    assert (response.status_code, response.json()["field"]) == (400, option), about


@pytest.mark.parametrize("format", ["json", "npy"])
@pytest.mark.parametrize("option", [*DRAWING, "frame"])
def test_numbers_are_not_drawn(
    client: TestClient, refused: Any, at: dict[str, str], format: str, option: str
) -> None:
    value = DRAWING.get(option, "0")
    for url in (f"{at['text']}/cls.{format}", f"{at['video']}/label_patches.{format}"):
        refused(lambda url=url: client.get(url, params={option: value}), 400, field=option)


def test_an_option_with_the_value_it_has_anyway_is_refused_too(
    client: TestClient, refused: Any, at: dict[str, str]
) -> None:
    for option, value in (("smooth", "false"), ("alpha", "0.5"), ("discard", "0")):
        refused(
            lambda option=option, value=value: client.get(f"{at['text']}/cls.png", params={option: value}),
            400,
            field=option,
        )


@pytest.mark.parametrize("name", ["cls", "attention"])
def test_what_is_over_no_picture_has_no_original_size(
    client: TestClient, refused: Any, at: dict[str, str], name: str
) -> None:
    refused(lambda: client.get(f"{at['text']}/{name}.png", params={"size": "original"}), 400, field="size")


def test_a_frame_is_what_a_map_without_frames_is_drawn_on(
    client: TestClient, refused: Any, at: dict[str, str]
) -> None:
    url = f"{at['video']}/label_patches.png"
    for more in ({}, {"head": "all"}):
        drawn = [client.get(url, params={**more, "frame": frame}) for frame in range(4)]
        assert {response.status_code for response in drawn} == {200}
        assert len({response.content for response in (client.get(url, params=more), *drawn)}) == 5
    assert client.get(url, params={"frame": 4}).json()["field"] == "frame"
    refused(lambda: client.get(f"{at['image']}/cam.png", params={"frame": 0}), 400, field="frame")


def test_a_slice_is_drawn_on_the_frame_it_is_of(client: TestClient, at: dict[str, str]) -> None:
    url = f"{at['video']}/attention.png"
    first, named, second = (
        client.get(url, params={"token": 3, **more}).content for more in ({}, {"frame": 0}, {"frame": 1})
    )
    assert first == named != second


def test_tiles_of_a_sheet_have_the_size_that_is_asked_for(client: TestClient, at: dict[str, str]) -> None:
    url, several = f"{at['video']}/label_patches.png", {"head": "0,1"}
    sizes = {}
    for size in ("original", "64", "192"):
        with Image.open(io.BytesIO(client.get(url, params={**several, "size": size}).content)) as sheet:
            sizes[size] = sheet.width
    frame = client.get(f"{at['video'].rsplit('/', 1)[0]}/input.webp", params={"size": "original"})
    with Image.open(io.BytesIO(frame.content)) as frames:
        wide = frames.width // 2
    assert sizes["192"] - sizes["64"] == 2 * (192 // wide - 64 // wide) * wide
    assert sizes["original"] - sizes["64"] == 2 * (1 - 64 // wide) * wide


@pytest.mark.parametrize("family", FAMILIES)
def test_an_array_comes_with_the_names_of_its_axes(
    client: TestClient, at: dict[str, str], family: str
) -> None:
    for one in client.get(f"/v1/models/tiny-{family}").json()["maps"]:
        choices: list[dict[str, str]] = [{}]
        choices += [{"head": "all"}, {"head": "1,"}] if one["heads"] else []
        choices += [{"layer": "0,"}] if one["layers"] and "token" not in one["options"] else []
        choices += [{"token": "1"}, {"rows": "1:2"}] if "token" in one["options"] else []
        choices += [{"frame": "1"}] if "frame" in one["options"] else []
        for chosen in choices:
            url = f"{at[family]}/{one['name']}"
            said = client.get(f"{url}.json", params=chosen)
            assert said.status_code == 200, said.text
            response = client.get(f"{url}.npy", params=chosen)
            assert response.headers["x-map-axes"].split(",") == said.json()["axes"], (one["name"], chosen)
            assert list(np.load(io.BytesIO(response.content)).shape) == said.json()["shape"]
    assert "x-map-axes" not in said.headers


@pytest.mark.parametrize(("family", "kept"), [("text", ["html", "svg"]), ("video", ["png", "webp"])])
def test_formats_are_all_that_can_be_had(
    client: TestClient, refused: Any, at: dict[str, str], family: str, kept: list[str]
) -> None:
    maps = {one["name"]: one for one in client.get(f"/v1/models/tiny-{family}").json()["maps"]}
    assert maps["attention"]["token_formats"] == kept
    assert maps["cls"]["token_formats"] == []
    for format in maps["attention"]["formats"]:
        assert client.get(f"{at[family]}/attention.{format}", params={"token": 0}).status_code == 200
        if format in kept:
            url = f"{at[family]}/attention.{format}"
            refused(lambda url=url: client.get(url), 400, field="token")


def test_layers_that_differ_are_named_as_the_request_names_them(
    client: TestClient, at: dict[str, str], picture: bytes
) -> None:
    for format in ("png", "npy"):
        response = client.get(f"{at['image']}/spatial.{format}", params={"layer": "all"})
        assert (response.status_code, response.json()["field"]) == (400, "layer"), response.text
    headers = {"content-type": "image/png"}
    asked = {"maps": "spatial", "layers": "all"}
    response = client.post("/v1/models/tiny-image/predict", content=picture, headers=headers, params=asked)
    assert (response.status_code, response.json()["field"]) == (400, "layers")


def test_errors_name_the_parts_of_the_path_as_it_is_written(
    client: TestClient, refused: Any, at: dict[str, str]
) -> None:
    text, parts = at["text"], set()
    for path, status in (
        ("/v1/predictions/x/0/maps/cls.png", 404),
        (text.replace("/0/", "/1/") + "/cls.png", 404),
        (text.replace("/0/", "/one/") + "/cls.png", 400),
        (text.replace("/0/maps", "/0/input.webp"), 404),
        (f"{text}/clas.png", 404),
        (f"{text}/cls.pdf", 400),
    ):
        response = client.get(path)
        assert response.status_code == status, response.text
        parts.add(response.json()["field"])
    path = "/v1/predictions/{id}/{item}/maps/{map}.{format}"
    named = {
        one["name"]
        for one in client.get("/openapi.json").json()["paths"][path]["get"]["parameters"]
        if one["in"] == "path"
    }
    assert parts == named == {"id", "item", "map", "format"}


@pytest.mark.parametrize(
    ("maps", "option", "value"),
    [
        ((), "layers", 0),
        (("rollout",), "layers", 0),
        (("received",), "heads", "max"),
        (("cls",), "token", 0),
        (("cls",), "rows", [0, 1]),
        (("cls", "received"), "target", "up"),
        (("cls", "rollout", "attention"), "frame", 0),
        (("cls",), "discard", 0.5),
        (("rollout",), "heads", 0),
    ],
)
def test_what_is_chosen_of_no_map_is_refused(
    client: TestClient, refused: Any, maps: tuple[str, ...], option: str, value: Any
) -> None:
    body = {"text": TEXT, "maps": maps, option: value}
    limit = "mean, max, min" if maps == ("rollout",) and option == "heads" else None
    refused(lambda: client.post("/v1/models/tiny-text/predict", json=body), 400, field=option, limit=limit)


def test_what_is_left_out_may_be_null(client: TestClient) -> None:
    body = {"text": TEXT, **dict.fromkeys(("layers", "heads", "target", "token", "rows", "frame", "mass"))}
    assert client.post("/v1/models/tiny-text/predict", json=body).status_code == 200


def test_of_several_maps_one_that_has_it_is_enough(client: TestClient) -> None:
    body = {"text": TEXT, "maps": ["cls", "rollout", "attention"], "layers": 0, "token": 1, "discard": 0.5}
    (one,) = client.post("/v1/models/tiny-text/predict", json=body).json()["predictions"]
    assert [found["layers"] for found in one["maps"]] == [0, "all", 0]
    assert [found.get("token") for found in one["maps"]] == [None, None, 1]
    assert [found.get("discard") for found in one["maps"]] == [None, 0.5, None]


@pytest.mark.parametrize(
    "option",
    [
        *({"layers": 0}, {"heads": "all"}, {"target": "up"}, {"token": 1}, {"rows": "0:2"}, {"discard": 0.5}),
        *({"mass": 0.5}, {"top": 3}, {"special": "hide"}, {"words": True}),
    ],
    ids=str,
)
def test_what_is_wanted_of_maps_needs_maps(client: TestClient, refused: Any, option: dict[str, Any]) -> None:
    (field,) = option
    url, given = "/v1/models/tiny-text/predict", {"text": "fn main() {}", **option}
    refused(lambda: client.post(url, json=given), 400, field=field)
    maps = ["cls", "rollout", "relevance", *(["attention"] if field in ("token", "rows") else [])]
    if option == {"heads": "all"}:
        maps = ["cls"]
    assert client.post(url, json=given | {"maps": maps}).status_code == 200
