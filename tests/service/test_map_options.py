"""Refinements and sheets as they are asked for over HTTP: numbers, links and drawings agree."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

TEXT = "fn main() { println!(); }"


@pytest.fixture
def ask(client: TestClient, picture: bytes, clip: bytes) -> Any:
    """What a model says of its input, with these options."""
    bodies = {"image": (picture, "image/png"), "video": (clip, "video/mp4")}

    def post(family: str, **options: Any) -> Any:
        path = f"/v1/models/tiny-{family}/predict"
        if family == "text":
            response = client.post(path, json={"text": TEXT, **options})
        else:
            body, media = bodies[family]
            response = client.post(path, content=body, params=options, headers={"content-type": media})
        assert response.status_code == 200, response.text
        return response.json()["predictions"][0]

    return post


def numbers(client: TestClient, url: str) -> np.ndarray:
    return np.load(io.BytesIO(client.get(url).content))


def test_numbers_and_links_of_an_answer_are_refined_alike(client: TestClient, ask: Any) -> None:
    refined = ask("text", maps=["cls"], special="hide", words=True, mass=0.8, inline=True)["maps"][0]
    plain = ask("text", maps=["cls"], inline=True)["maps"][0]
    fetched = client.get(refined["links"]["json"]).json()
    same = ("values", "tokens", "offsets", "segments", "special_mass", "kept", "shape", "range")
    assert [fetched[field] for field in same] == [refined[field] for field in same]
    np.testing.assert_array_equal(numbers(client, refined["links"]["npy"]), np.float32(refined["values"]))
    assert [TEXT[start:end] for start, end in refined["offsets"]] == refined["tokens"]
    words = np.array(plain["values"])[1:-1].sum()
    assert refined["special_mass"] == pytest.approx(1 - words / np.sum(plain["values"]), abs=1e-6)
    assert refined["kept"]["share"] == pytest.approx(np.sum(refined["values"]) / words, rel=1e-6)
    assert np.count_nonzero(refined["values"]) == refined["kept"]["values"]
    assert not {"tokens", "special_mass", "kept"} & set(plain)


def test_a_drawing_shows_the_refined_numbers(client: TestClient, ask: Any) -> None:
    shown = ask("text", maps=["cls"], special="hide", words=True, top=2, inline=True)["maps"][0]
    page = client.get(shown["links"]["html"]).text
    assert "[CLS]" not in page
    kept = [word for word, value in zip(shown["tokens"], shown["values"], strict=True) if value]
    assert len(kept) == 2
    for word in kept:
        assert f'title="{word}: 0 ' not in page
        assert f'title="{word}: 0"' not in page
    assert page.count(': 0"') == len(shown["tokens"]) - 2


@pytest.mark.parametrize("family", ["image", "video"])
def test_maps_of_pictures_and_clips_are_cut_too(client: TestClient, ask: Any, family: str) -> None:
    plain = ask(family, maps="cam" if family == "image" else "rollout", inline="true")["maps"][0]
    cut = ask(family, maps=plain["name"], inline="true", top=3)["maps"][0]
    values = np.array(cut["values"])
    assert cut["kept"]["values"] == np.count_nonzero(values) <= 3
    assert values.max() == np.max(plain["values"])
    assert client.get(cut["links"]["png"]).status_code == 200
    np.testing.assert_array_equal(numbers(client, cut["links"]["npy"]), np.float32(values))


@pytest.mark.parametrize(
    ("options", "field", "limit"),
    [
        ({"mass": 0}, "mass", "0 to 1"),
        ({"mass": 1.5}, "mass", "0 to 1"),
        ({"top": 0}, "top", 1),
        ({"top": True}, "top", None),
        ({"special": "drop"}, "special", "'keep' or 'hide'"),
    ],
)
def test_a_refinement_that_there_is_not_is_refused(
    client: TestClient, refused: Any, options: dict[str, Any], field: str, limit: Any
) -> None:
    body = {"text": TEXT, "maps": ["cls"], **options}
    refused(lambda: client.post("/v1/models/tiny-text/predict", json=body), 400, field=field, limit=limit)


@pytest.mark.parametrize(("option", "value"), [("words", "true"), ("special", "hide")])
def test_words_are_of_texts_alone(
    client: TestClient, ask: Any, refused: Any, picture: bytes, option: str, value: str
) -> None:
    link = ask("image", maps="cam")["maps"][0]["links"]["png"].split("?")[0]
    refused(lambda: client.get(link, params={option: value}), 400, field=option)
    path, media = "/v1/models/tiny-image/predict", {"content-type": "image/png"}
    asked = {"maps": "cam", option: value}
    refused(lambda: client.post(path, content=picture, params=asked, headers=media), 400, field=option)


@pytest.mark.parametrize(("family", "name"), [("text", "cls"), ("video", "cls"), ("video", "message")])
def test_layers_and_heads_are_linked_and_drawn_on_one_sheet(
    client: TestClient, ask: Any, family: str, name: str
) -> None:
    maps = [name] if family == "text" else name
    shown = ask(family, maps=maps, layers="all", heads="all")["maps"][0]
    assert set(shown["links"]) == {"png", "webp", "json", "npy"}
    single = ask(family, maps=maps)["maps"][0]
    sizes = {}
    for which, links in (("several", shown["links"]), ("one", single["links"])):
        with Image.open(io.BytesIO(client.get(links["png"]).content)) as opened:
            sizes[which] = opened.height
    assert sizes["several"] > sizes["one"] or name == "message"
    assert numbers(client, shown["links"]["npy"]).shape[:2] == tuple(shown["shape"][:2])


def test_a_page_shows_one_layer(client: TestClient, ask: Any, refused: Any) -> None:
    link = ask("text", maps=["cls"])["maps"][0]["links"]["html"].split("?")[0]
    document = refused(lambda: client.get(link, params={"layer": "all"}), 400, field="layer", limit=1)
    assert "png" in document["detail"]
