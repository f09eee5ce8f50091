"""Options of maps that make no sense: refused in every place where they can stand, naming field and limit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

TEXT = "fn main() { println!(); }"
TOKENS = len(TEXT) + 2
PREDICT = "/v1/models/tiny-text/predict"
HUGE = "9" * 5000
JSON = {"content-type": "application/json"}

# What is wrong in a query, a form and a JSON body alike: the option, its value, the limit that is named.
WORDS: list[tuple[str, str, Any]] = [
    ("token", "-1", 0),
    ("token", "1.5", None),
    ("token", "x", None),
    ("token", "", None),
    ("token", "٣", None),
    ("token", "nan", None),
    ("token", "0,1", None),
    ("token", "0:2", None),
    ("token", HUGE, None),
    ("token", "true", None),
    ("rows", ":", None),
    ("rows", "3:", None),
    ("rows", ":3", None),
    ("rows", "1:2:3", 2),
    ("rows", "3", None),
    ("rows", "", None),
    ("rows", "a:b", None),
    ("rows", "٣:٤", None),
    ("rows", "0:1.5", None),
    ("rows", f"0:{HUGE}", None),
    ("rows", "0,1", None),
    ("frame", "-1", 0),
    ("frame", "x", None),
    ("frame", "٣", None),
    ("frame", HUGE, None),
    ("discard", "nan", "0 to 1"),
    ("discard", "inf", "0 to 1"),
    ("discard", "-inf", "0 to 1"),
    ("discard", "1", "0 to 1"),
    ("discard", "1e400", "0 to 1"),
    ("discard", "-1e-9", "0 to 1"),
    ("discard", "0.99999999", "0 to 1"),  # 1 as the graphs take it
    ("discard", "x", None),
    ("discard", "", None),
    ("discard", "٠.٥", None),
    ("discard", "0,5", None),
    ("mass", "nan", "0 to 1"),
    ("mass", "0", "0 to 1"),
    ("mass", "1.01", "0 to 1"),
    ("top", "0", 1),
    ("top", "-3", 1),
    ("top", "1.5", None),
    ("special", "drop", "'keep' or 'hide'"),
    ("words", "perhaps", None),
]
PREDICT_WORDS: list[tuple[str, str, Any]] = [
    ("verify", "maybe", None),
    ("verify", "2", None),
    ("verify", "", None),
    ("layers", "٣", None),
    ("layers", ",", None),
    ("layers", "0,,", None),
    ("layers", ",0", None),
    ("heads", "median", None),
    ("heads", "0:2", None),
]


@pytest.fixture
def link(client: TestClient) -> str:
    """Where the maps of a kept prediction are."""
    key = client.post(PREDICT, json={"text": TEXT}).json()["id"]
    return f"/v1/predictions/{key}/0/maps"


def map_of(option: str) -> str:
    """A map of texts that has this option."""
    return {"discard": "rollout", "frame": "cls"}.get(option, "attention")


@pytest.mark.parametrize(("option", "value", "limit"), WORDS + PREDICT_WORDS)
def test_a_prediction_is_refused(
    client: TestClient, refused: Any, option: str, value: str, limit: Any
) -> None:
    asked = {"maps": map_of(option), option: value}
    refused(lambda: client.post(PREDICT, json={"text": TEXT}, params=asked), 400, field=option, limit=limit)
    form = [("text", (None, TEXT)), *((name, (None, one)) for name, one in asked.items())]
    refused(lambda: client.post(PREDICT, files=form), 400, field=option, limit=limit)
    refused(lambda: client.post(PREDICT, json={"text": TEXT, **asked}), 400, field=option, limit=limit)


@pytest.mark.parametrize(("option", "value", "limit"), [one for one in WORDS if one[0] != "frame"])
def test_a_map_is_refused(
    client: TestClient, refused: Any, link: str, option: str, value: str, limit: Any
) -> None:
    for format in ("json", "png"):
        url = f"{link}/{map_of(option)}.{format}"
        refused(lambda url=url: client.get(url, params={option: value}), 400, field=option, limit=limit)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((option, value) for option in ("token", "frame") for value in (True, 1.5, [], {}, [1], "1 2")),
        *(("rows", value) for value in (True, 1, [], {}, [1], [1, 2, 3], [True, 2], [[0], 1], [0, None])),
        *(("rows", value) for value in ([0, 1.5], {"start": 0, "stop": 1}, "[0, 1]")),
        *(("discard", value) for value in (True, [], {}, None, [0.5], 1, -1, 10**400)),
        *(("verify", value) for value in (None, 2, [], {}, [True], 0.5, "")),
        *(("layers", value) for value in (True, [True], [[0]], [], {}, 0.5)),
        *(("heads", value) for value in (False, ["mean"], [], {}, 0.5)),
        *(("mass", value) for value in (True, [], {}, 0, 2, 10**400)),
        *(("top", value) for value in (True, [], {}, 0, 1.5)),
    ],
)
def test_json_of_another_type_is_refused(client: TestClient, option: str, value: Any) -> None:
    body = {"text": TEXT, "maps": ["attention", "rollout"], option: value}
    response = client.post(PREDICT, content=json.dumps(body), headers=JSON)
    assert response.status_code == 400, response.text
    assert response.json()["field"] == option


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_has_not_are_refused(client: TestClient, value: str) -> None:
    body = f'{{"text": "a", "maps": ["rollout"], "discard": {value}}}'
    response = client.post(PREDICT, content=body, headers=JSON)
    assert response.status_code == 400, response.text
    assert response.json()["field"] in ("discard", "body")


@pytest.mark.parametrize(
    ("asked", "field", "limit"),
    [
        ({"token": TOKENS}, "token", TOKENS - 1),
        ({"token": 10**30}, "token", TOKENS - 1),
        ({"rows": [0, TOKENS + 1]}, "rows", TOKENS - 1),
        ({"rows": [-1, 2]}, "rows", TOKENS - 1),
        ({"rows": [3, 1]}, "rows", TOKENS - 1),
        ({"rows": [3, 3]}, "rows", TOKENS - 1),
        ({"rows": [0, 10**30]}, "rows", TOKENS - 1),
        ({"rows": [0, 1], "token": 0}, "rows", None),
        ({"layers": "all"}, "layers", 1),
        ({"layers": [0, 1]}, "layers", 1),
        ({"layers": 2}, "layers", 1),
        ({"layers": -3}, "layers", 1),
        ({"heads": 4}, "heads", 3),
        ({"heads": [0, 0]}, "heads", 4),
    ],
)
def test_a_slice_that_is_not_there_is_refused_before_anything_runs(
    client: TestClient,
    refused: Any,
    link: str,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    field: str,
    limit: Any,
) -> None:
    body = {"text": TEXT, "maps": ["attention"], **asked}
    refused(lambda: client.post(PREDICT, json=body), 400, field=field, limit=limit)
    query = {name.removesuffix("s") if name != "rows" else name: value for name, value in asked.items()}
    for name, value in query.items():
        if isinstance(value, list):
            query[name] = (":" if name == "rows" else ",").join(map(str, value))
    fields = {"layers": "layer", "heads": "head"}
    url = f"{link}/attention.npy"
    field = fields.get(field, field)
    refused(lambda: client.get(url, params=query), 400, field=field, limit=limit)


def test_of_several_texts_the_shortest_bounds_the_rows(client: TestClient, refused: Any) -> None:
    body = {"text": [TEXT, "ab", TEXT], "maps": ["attention"], "rows": [2, 5]}
    refused(lambda: client.post(PREDICT, json=body), 400, field="rows", limit=3)


@pytest.mark.parametrize(
    ("name", "query", "field"),
    [
        ("cls", {"token": "0"}, "token"),
        ("cls", {"rows": "0:1"}, "rows"),
        ("cls", {"frame": "0"}, "frame"),
        ("cls", {"target": "up"}, "target"),
        ("cls", {"discard": "0.5"}, "discard"),
        ("received", {"head": "0"}, "head"),
        ("rollout", {"layer": "0"}, "layer"),
        ("rollout", {"target": "up"}, "target"),
        ("relevance", {"layer": "0"}, "layer"),
        ("relevance", {"head": "max"}, "head"),
        ("relevance", {"discard": "0.1"}, "discard"),
        ("attention", {"target": "up"}, "target"),
        ("attention", {"discard": "0.1"}, "discard"),
        ("attention", {"frame": "0"}, "frame"),
    ],
)
def test_a_map_has_only_the_options_it_says(
    client: TestClient, refused: Any, link: str, name: str, query: dict[str, str], field: str
) -> None:
    url = f"{link}/{name}.json"
    refused(lambda: client.get(url, params=query), 400, field=field)


@pytest.mark.parametrize("head", ["0", "all", "0,1", "-1"])
def test_heads_of_a_rollout_are_fused_and_no_other(
    client: TestClient, refused: Any, link: str, head: str
) -> None:
    url = f"{link}/rollout.npy"
    refused(lambda: client.get(url, params={"head": head}), 400, field="head", limit="mean, max, min")


@pytest.mark.parametrize("target", ["sideways", "4", "-1", "٣", "", HUGE])
def test_relevance_is_of_labels_that_there_are(
    client: TestClient, refused: Any, link: str, target: str
) -> None:
    url = f"{link}/relevance.npy"
    refused(lambda: client.get(url, params={"target": target}), 400, field="target", limit=3)
    body = {"text": TEXT, "maps": ["relevance"], "target": target}
    refused(lambda: client.post(PREDICT, json=body), 400, field="target", limit=3)


@pytest.mark.parametrize(
    ("name", "query", "field", "limit"),
    [
        ("rollout", {"frame": "4"}, "frame", 3),
        ("rollout", {"frame": "9" * 30}, "frame", 3),
        ("cls", {"frame": "4", "layer": "0"}, "frame", 3),
        ("attention", {"frame": "4"}, "frame", 3),
        ("attention", {"frame": "-1"}, "frame", 0),
        ("attention", {"token": "18"}, "token", 17),
        ("attention", {"rows": "0:19"}, "rows", 17),
        ("message", {"frame": "0"}, "frame", None),
        ("importance", {"layer": "0"}, "layer", None),
    ],
)
def test_a_clip_has_the_frames_and_tokens_that_it_has(
    client: TestClient,
    refused: Any,
    clip: bytes,
    name: str,
    query: dict[str, str],
    field: str,
    limit: Any,
) -> None:
    url, headers = "/v1/models/tiny-video/predict", {"content-type": "video/mp4"}
    key = client.post(url, content=clip, headers=headers).json()["id"]
    link = f"/v1/predictions/{key}/0/maps/{name}"
    for format in ("npy", "json"):
        at = f"{link}.{format}"
        refused(lambda at=at: client.get(at, params=query), 400, field=field, limit=limit)
    if limit is None:
        return
    asked = {"maps": name, **{"layers" if one == "layer" else one: value for one, value in query.items()}}
    refused(
        lambda: client.post(url, content=clip, headers=headers, params=asked), 400, field=field, limit=limit
    )


def test_a_drawing_of_a_clip_has_its_frames_too(client: TestClient, clip: bytes) -> None:
    url, headers = "/v1/models/tiny-video/predict", {"content-type": "video/mp4"}
    key = client.post(url, content=clip, headers=headers).json()["id"]
    for name, query in (("rollout", {"frame": "4"}), ("attention", {"frame": "4", "token": "0"})):
        response = client.get(f"/v1/predictions/{key}/0/maps/{name}.png", params=query)
        assert response.status_code == 400, response.text
        assert response.json()["field"] == "frame"
        assert "0 to 3" in response.json()["detail"]


@pytest.mark.parametrize(
    ("format", "field", "limit"),
    [("png", "token", None), ("webp", "token", None), ("html", "format", "png, webp, json, npy")],
)
def test_a_matrix_of_clips_is_drawn_one_row_at_a_time(
    client: TestClient, refused: Any, clip: bytes, format: str, field: str, limit: Any
) -> None:
    url, headers = "/v1/models/tiny-video/predict", {"content-type": "video/mp4"}
    key = client.post(url, content=clip, headers=headers).json()["id"]
    at = f"/v1/predictions/{key}/0/maps/attention.{format}"
    refused(lambda: client.get(at), 400, field=field, limit=limit)


def test_a_picture_without_attention_has_no_slices(client: TestClient, refused: Any, picture: bytes) -> None:
    url, headers = "/v1/models/tiny-image/predict", {"content-type": "image/png"}
    key = client.post(url, content=picture, headers=headers).json()["id"]
    for query in ({"token": "0"}, {"rows": "0:1"}, {"frame": "0"}, {"discard": "0.5"}):
        (field,) = query
        at = f"/v1/predictions/{key}/0/maps/cam.npy"
        refused(lambda at=at, query=query: client.get(at, params=query), 400, field=field)
