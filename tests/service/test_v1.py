"""Everything under /v1 that is asked for as it should be."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.job import Payload, Wanted
from service.predictor import Predictor
from service.schemas import Answer

FAMILIES = ["text", "image", "video"]
LABELS = ["left", "right", "up", "down"]
TEXT = "fn main() { println!(); }"
MEDIA_TYPES = {
    "png": "image/png",
    "webp": "image/webp",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "npy": "application/octet-stream",
}


@pytest.fixture(scope="module")
def media(picture: bytes, clip: bytes) -> dict[str, tuple[str | bytes, str]]:
    """Input of each family, and its content type."""
    return {
        "text": (TEXT, "text/plain"),
        "image": (picture, "image/png"),
        "video": (clip, "video/mp4"),
    }


@pytest.fixture
def ask(client: TestClient, media: dict[str, tuple[str | bytes, str]]) -> Any:
    """Posts a family's input as it is, with options in the query."""

    def post(family: str, **options: Any) -> Any:
        body, content_type = media[family]
        response = client.post(
            f"/v1/models/tiny-{family}/predict",
            content=body,
            headers={"content-type": content_type},
            params=options,
        )
        assert response.status_code == 200, response.text
        return response.json()

    return post


@pytest.fixture(scope="module")
def expected(predictors: dict[str, Predictor], media: dict[str, tuple[str | bytes, str]]) -> dict[str, Any]:
    """What each model says of its input without a server: the outcome of every map, and scores."""
    found = {}
    for family, predictor in predictors.items():
        item = predictor.decode(Payload(data=media[family][0]))
        maps = frozenset(spec.name for spec in predictor.manifest.maps)
        (outcome,) = predictor.run([predictor.job(item, Wanted(maps=maps))])
        found[family] = outcome, predictor.scores(outcome.logits)
    return found


def array(client: TestClient, link: str) -> np.ndarray:
    """A map's numbers."""
    response = client.get(link)
    assert response.status_code == 200, response.text
    loaded: np.ndarray = np.load(io.BytesIO(response.content), allow_pickle=False)
    return loaded


def map_names(client: TestClient, family: str) -> list[str]:
    return [one["name"] for one in client.get(f"/v1/models/tiny-{family}").json()["maps"]]


def test_models_are_listed(client: TestClient) -> None:
    models = client.get("/v1/models").json()["models"]
    assert [(one["name"], one["version"], one["state"], one["family"]) for one in models] == [
        ("tiny-image", "1", "ready", "image"),
        ("tiny-text", "1", "ready", "text"),
        ("tiny-video", "1", "ready", "video"),
    ]


def test_a_model_is_described(client: TestClient, predictors: dict[str, Predictor]) -> None:
    for family, predictor in predictors.items():
        found = client.get(f"/v1/models/tiny-{family}").json()
        assert (found["name"], found["family"], found["labels"]) == (f"tiny-{family}", family, LABELS)
        assert found["preprocessing"]["kind"] == family
        assert found["parity"]["maps"].keys() == {one["name"] for one in found["maps"]}
        for one in found["maps"]:
            spec = predictor.manifest.map(one["name"])
            assert spec is not None
            assert (one["axes"], one["layers"], one["heads"]) == (
                list(spec.axes),
                list(spec.layers),
                spec.heads,
            )
            assert {"json", "npy"} <= set(one["formats"])
            assert {"png", "webp"} <= set(one["formats"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prediction_is_the_models(ask: Any, expected: dict[str, Any], family: str) -> None:
    answer = Answer.model_validate(ask(family, top_k=3))
    (one,) = answer.predictions
    _, scores = expected[family]
    order = np.argsort(-scores)
    assert [label.label for label in one.top] == [LABELS[index] for index in order[:3]]
    np.testing.assert_allclose([label.score for label in one.top], scores[order[:3]], atol=1e-5)
    assert (one.label, one.score) == (one.top[0].label, one.top[0].score)
    assert one.input.kind == family
    assert one.maps == []
    assert (answer.model, answer.version) == (f"tiny-{family}", "1")
    timing = answer.timing
    assert timing.total_ms >= timing.run_ms >= timing.maps_ms >= 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_map_is_answered_as_the_model_makes_it(
    client: TestClient, ask: Any, expected: dict[str, Any], predictors: dict[str, Predictor], family: str
) -> None:
    names = map_names(client, family)
    (one,) = ask(family, maps=",".join(names), inline=True)["predictions"]
    outcome, scores = expected[family]
    assert [found["name"] for found in one["maps"]] == names
    for found in one["maps"]:
        spec = predictors[family].manifest.map(found["name"])
        assert spec is not None
        values = outcome.maps[spec.name].layers[0 if spec.sliced else spec.default_layer or 0]
        axes = list(spec.axes)
        if "head" in axes:
            values = values.mean(axes.index("head"))
            axes.remove("head")
        if "label" in axes:
            values = values[scores.argmax()]
            axes.remove("label")
            assert found["target"] == one["label"]
        assert (found["shape"], found["axes"]) == (list(values.shape), axes)
        assert found["layers"] == ("all" if spec.default_layer is None else spec.default_layer)
        np.testing.assert_allclose(np.array(found["values"]), values, atol=1e-5)
        np.testing.assert_allclose(found["range"], [values.min(), values.max()], atol=1e-5)
        assert ("affine" in found) == (axes[-2:] == ["row", "column"])
        np.testing.assert_allclose(array(client, found["links"]["npy"]), values, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_link_fetches_what_it_names(client: TestClient, ask: Any, family: str) -> None:
    names = map_names(client, family)
    (one,) = ask(family, maps=",".join(names))["predictions"]
    summaries = {found["name"]: found for found in client.get(f"/v1/models/tiny-{family}").json()["maps"]}
    for found in one["maps"]:
        assert "values" not in found
        summary = summaries[found["name"]]
        assert list(found["links"]) == [
            format for format in summary["formats"] if format not in summary["token_formats"]
        ]
        for format, link in found["links"].items():
            response = client.get(link)
            assert response.status_code == 200, response.text
            assert response.headers["content-type"] == MEDIA_TYPES[format]
            assert response.headers["x-content-type-options"] == "nosniff"
            if format in ("png", "webp"):
                with Image.open(io.BytesIO(response.content)) as image:
                    assert image.format == format.upper()
                    image.load()
                    assert min(image.size) > 16
            if format == "json":
                assert response.json()["shape"] == found["shape"]
                assert response.json()["name"] == found["name"]


@pytest.mark.parametrize("format", ["html", "svg"])
def test_pages_are_sandboxed_and_escape_what_was_typed(client: TestClient, format: str) -> None:
    text = '<script>alert(1)</script> & "quotes" \' ]]>'
    answer = client.post("/v1/models/tiny-text/predict", json={"text": text, "maps": ["cls"]}).json()
    response = client.get(answer["predictions"][0]["maps"][0]["links"][format])
    policy = response.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert "allow-" not in policy
    assert "<script" not in response.text.lower()
    assert "&lt;" in response.text


def test_several_texts_are_answered_in_order(client: TestClient) -> None:
    texts = ["a", "def f(): pass", "a", "#include <stdio.h>"]
    options = {"maps": ["cls"], "inline": True, "top_k": 4}
    answer = client.post("/v1/models/tiny-text/predict", json={"text": texts, **options}).json()
    assert len(answer["predictions"]) == 4
    for index, (text, found) in enumerate(zip(texts, answer["predictions"], strict=True)):
        alone = client.post("/v1/models/tiny-text/predict", json={"text": text, **options}).json()
        (single,) = alone["predictions"]
        assert found["input"] == single["input"]
        assert [one["label"] for one in found["top"]] == [one["label"] for one in single["top"]]
        np.testing.assert_allclose(found["score"], single["score"], atol=1e-5)
        np.testing.assert_allclose(found["maps"][0]["values"], single["maps"][0]["values"], atol=1e-5)
        link = found["maps"][0]["links"]["npy"]
        assert link.startswith(f"/v1/predictions/{answer['id']}/{index}/maps/cls.npy")
        np.testing.assert_allclose(array(client, link), found["maps"][0]["values"], atol=1e-5)


def test_several_files_are_answered_in_order(client: TestClient, picture: bytes) -> None:
    with Image.open(io.BytesIO(picture)) as image:
        buffer = io.BytesIO()
        image.transpose(Image.Transpose.ROTATE_90).save(buffer, "WEBP", lossless=True)
    files = [
        ("file", ("a.png", picture, "image/png")),
        ("other", ("b.webp", buffer.getvalue(), "image/webp")),
        ("file", ("c.png", picture, "image/png")),
    ]
    response = client.post("/v1/models/tiny-image/predict", files=files, data={"maps": "cam"})
    first, second, third = response.json()["predictions"]
    sizes = [
        (one["input"]["view"]["width"], one["input"]["view"]["height"]) for one in (first, second, third)
    ]
    assert sizes == [(48, 40), (40, 48), (48, 40)]
    assert second["input"]["format"] == "image/webp"
    np.testing.assert_allclose(first["score"], third["score"], atol=1e-5)


def test_texts_of_a_form_are_answered_in_order(client: TestClient) -> None:
    files = [("text", (None, "a")), ("text", (None, "bb")), ("file", ("c.txt", b"ccc", "text/plain"))]
    answer = client.post("/v1/models/tiny-text/predict", files=files).json()
    assert [len(one["input"]["tokens"]) for one in answer["predictions"]] == [3, 4, 5]


@pytest.mark.parametrize("family", ["image", "video"])
def test_a_file_is_the_same_raw_and_in_a_form(
    client: TestClient, ask: Any, media: dict[str, tuple[bytes, str]], family: str
) -> None:
    body, content_type = media[family]
    form = client.post(
        f"/v1/models/tiny-{family}/predict", files={"file": ("x", body, content_type)}, data={"top_k": "4"}
    ).json()
    unnamed = client.post(
        f"/v1/models/tiny-{family}/predict", content=body, headers={"content-type": ""}, params={"top_k": 4}
    ).json()
    raw = ask(family, top_k=4)
    for one in (form, unnamed):
        assert one["predictions"][0]["input"] == raw["predictions"][0]["input"]
        np.testing.assert_allclose(
            [label["score"] for label in one["predictions"][0]["top"]],
            [label["score"] for label in raw["predictions"][0]["top"]],
            atol=1e-5,
        )


def test_options_of_the_query_hold(client: TestClient) -> None:
    params = {"top_k": 2, "maps": "cls,rollout", "layers": "0,1", "heads": "max", "inline": "true"}
    response = client.post("/v1/models/tiny-text/predict", json={"text": "abc"}, params=params)
    (one,) = response.json()["predictions"]
    cls, rollout = one["maps"]
    assert len(one["top"]) == 2
    assert (cls["layers"], cls["heads"], cls["shape"]) == ([0, 1], "max", [2, 5])
    assert rollout["shape"] == [5]
    assert np.array(cls["values"]).shape == (2, 5)


def test_an_option_given_several_times_is_a_list(client: TestClient) -> None:
    query = "maps=cls&maps=rollout&layers=0&layers=-1"
    response = client.post(f"/v1/models/tiny-text/predict?{query}", json={"text": "abc"})
    cls, rollout = response.json()["predictions"][0]["maps"]
    assert (cls["name"], cls["layers"], rollout["name"]) == ("cls", [0, 1], "rollout")
    form = [("text", (None, "abc")), ("maps", (None, "cls")), ("maps", (None, "received"))]
    response = client.post("/v1/models/tiny-text/predict", files=form)
    assert [one["name"] for one in response.json()["predictions"][0]["maps"]] == ["cls", "received"]


def test_the_body_wins_over_the_query(client: TestClient, picture: bytes) -> None:
    params = {"top_k": 1, "maps": "rollout", "layers": "1"}
    body = {"text": "abc", "top_k": 2, "maps": ["cls"]}
    (one,) = client.post("/v1/models/tiny-text/predict", json=body, params=params).json()["predictions"]
    assert (len(one["top"]), [found["name"] for found in one["maps"]]) == (2, ["cls"])
    assert one["maps"][0]["layers"] == 1
    response = client.post(
        "/v1/models/tiny-image/predict",
        files={"file": ("a.png", picture, "image/png")},
        data={"top_k": "3"},
        params={"top_k": 1, "maps": "cam"},
    )
    (one,) = response.json()["predictions"]
    assert (len(one["top"]), [found["name"] for found in one["maps"]]) == (3, ["cam"])


def test_layers_heads_and_labels_of_the_answer_are_those_of_its_links(client: TestClient, ask: Any) -> None:
    (one,) = ask("video", maps="label_patches", layers="0", heads="1", target="up", inline=True)[
        "predictions"
    ]
    (found,) = one["maps"]
    assert (found["layers"], found["heads"], found["target"]) == (0, 1, "up")
    for link in found["links"].values():
        assert parse_qs(urlsplit(link).query) == {"layer": ["0"], "head": ["1"], "target": ["up"]}
    np.testing.assert_allclose(array(client, found["links"]["npy"]), found["values"], atol=1e-5)


def test_what_is_no_page_is_linked_as_a_sheet_and_as_numbers(client: TestClient, ask: Any) -> None:
    (one,) = ask("text", maps="cls", layers="all", heads="all")["predictions"]
    (found,) = one["maps"]
    assert found["axes"] == ["layer", "head", "token"]
    assert set(found["links"]) == {"png", "webp", "json", "npy"}
    assert list(array(client, found["links"]["npy"]).shape) == found["shape"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_map_not_asked_for_at_first_can_be_fetched_later(
    client: TestClient, ask: Any, expected: dict[str, Any], family: str
) -> None:
    inference = client.app.state.inference  # type: ignore[attr-defined]
    key = ask(family)["id"]
    outcome, scores = expected[family]
    for name in map_names(client, family):
        link = f"/v1/predictions/{key}/0/maps/{name}"
        values = outcome.maps[name].layers[-1]
        spec = outcome.maps[name].spec
        if "head" in spec.axes:
            values = values.mean(spec.axes.index("head"))
        if "label" in spec.axes:
            values = values[scores.argmax()]
        last = "?layer=-1" if spec.layers else ""
        np.testing.assert_allclose(array(client, f"{link}.npy{last}"), values, atol=1e-5)
        assert name in {kept for kept, _ in inference.store.get(key).item(0).maps}
        drawn = "html" if family == "text" else "webp"
        row = "?token=0" if spec.sliced else ""
        assert client.get(f"{link}.{drawn}{row}").status_code == 200


def test_a_map_is_made_once_and_kept(client: TestClient, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inference = client.app.state.inference  # type: ignore[attr-defined]
    key = ask("text", maps="cls")["id"]
    link = f"/v1/predictions/{key}/0/maps"
    assert client.get(f"{link}/rollout.npy").status_code == 200
    monkeypatch.setattr(inference.scheduler, "submit", None)
    assert client.get(f"{link}/rollout.html").status_code == 200
    assert client.get(f"{link}/cls.svg?layer=0&head=2").status_code == 200


def test_options_of_a_map_select_from_it(client: TestClient, ask: Any, expected: dict[str, Any]) -> None:
    outcome, _ = expected["video"]
    key = ask("video")["id"]
    link = f"/v1/predictions/{key}/0/maps"
    layers = outcome.maps["label_patches"].layers  # [H, K, h, w]
    found = array(client, f"{link}/label_patches.npy?layer=0&head=1&target=2")
    np.testing.assert_allclose(found, layers[0][1, 2], atol=1e-5)
    found = array(client, f"{link}/label_patches.npy?layer=0&head=max&target=left")
    np.testing.assert_allclose(found, layers[0].max(0)[0], atol=1e-5)
    found = array(client, f"{link}/label_patches.npy?layer=0,1&head=all&target=3")
    np.testing.assert_allclose(found, np.stack(layers)[:, :, 3], atol=1e-5)
    rows = outcome.maps["cls"].layers  # [H, T, h, w]
    np.testing.assert_allclose(array(client, f"{link}/cls.npy?layer=-2&head=-1"), rows[0][-1], atol=1e-5)
    document = client.get(f"{link}/cls.json?layer=0&head=2").json()
    assert (document["layers"], document["heads"], document["axes"]) == (0, 2, ["frame", "row", "column"])
    np.testing.assert_allclose(document["values"], rows[0][2], atol=1e-5)


def test_one_frame_is_a_still_and_all_of_them_move(client: TestClient, ask: Any) -> None:
    link = f"/v1/predictions/{ask('video')['id']}/0/maps/rollout.webp"
    with Image.open(io.BytesIO(client.get(link).content)) as image:
        assert image.n_frames == 4
    stills = [client.get(link, params={"frame": frame}).content for frame in range(4)]
    assert len(set(stills)) == 4
    with Image.open(io.BytesIO(stills[0])) as image:
        assert image.n_frames == 1


def test_options_of_a_drawing_change_it(client: TestClient, ask: Any) -> None:
    link = f"/v1/predictions/{ask('image')['id']}/0/maps/cam.png"
    options: list[dict[str, Any]] = [
        {},
        {"alpha": 0.9},
        {"colormap": "viridis"},
        {"smooth": True},
        {"size": 200},
        {"theme": "light"},
        {"target": "up"},
    ]
    drawn = [client.get(link, params=one) for one in options]
    assert [response.status_code for response in drawn] == [200] * len(options)
    assert len({response.content for response in drawn}) == len(options)
    with Image.open(io.BytesIO(drawn[4].content)) as image:
        assert image.width == 4 * 48  # the largest whole multiple within 200
    assert client.get(link, params={"size": "original"}).content == drawn[0].content


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prediction_is_told_again_as_it_was(client: TestClient, ask: Any, family: str) -> None:
    answer = ask(family, maps=map_names(client, family)[0], inline=True)
    response = client.get(f"/v1/predictions/{answer['id']}")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == answer


def test_a_long_text_is_cut_and_says_so(client: TestClient) -> None:
    answer = client.post("/v1/models/tiny-text/predict", json={"text": "x" * 100, "maps": ["cls"]}).json()
    (one,) = answer["predictions"]
    assert (one["input"]["truncated"], one["input"]["dropped_tokens"]) == (True, 38)
    assert len(one["input"]["tokens"]) == 64
    assert one["maps"][0]["shape"] == [64]
    link = one["maps"][0]["links"]["html"]
    assert client.get(link).status_code == 200


def test_offsets_of_tokens_are_characters_of_the_text(client: TestClient) -> None:
    text = "é = 'x'"
    answer = client.post("/v1/models/tiny-text/predict", json={"text": text}).json()
    found = answer["predictions"][0]["input"]
    assert (found["truncated"], found["dropped_tokens"]) == (False, 0)
    assert found["special"] == [True, *[False] * 8, True]
    assert found["offsets"][1:4] == [[0, 1], [0, 1], [1, 2]]
    assert found["tokens"][0] == "[CLS]"


def test_geometry_leads_from_the_picture_to_the_map(ask: Any) -> None:
    (one,) = ask("image", maps="cam")["predictions"]
    view, (found,) = one["input"]["view"], one["maps"]
    assert (view["width"], view["height"], view["model_width"], view["model_height"]) == (48, 40, 32, 32)
    left, top, right, bottom = view["seen"]
    rows, columns = found["shape"]
    (xx, xy, x0), (yx, yy, y0) = found["affine"]
    assert (xy, yx) == (0, 0)
    np.testing.assert_allclose([xx * left + x0, xx * right + x0], [0, columns], atol=1e-9)
    np.testing.assert_allclose([yy * top + y0, yy * bottom + y0], [0, rows], atol=1e-9)


def test_a_clip_says_which_frames_were_seen(ask: Any) -> None:
    found = ask("video")["predictions"][0]["input"]
    assert (found["format"], found["frames"], found["sampled"]) == ("video/mp4", 6, [0, 2, 3, 5])
    np.testing.assert_allclose(found["timestamps"], [0, 0.2, 0.3, 0.5], atol=1e-6)
    np.testing.assert_allclose(found["duration"], 0.6, atol=1e-6)
