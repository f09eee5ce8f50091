"""Maps over HTTP: what was chosen is what comes, inline and by every link, at first and later."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.bundle import MapSpec
from service.job import Payload
from service.predictions import Predictions
from service.predictor import Predictor
from service.store import MAP_BYTES

MODELS = ["tiny-text", "tiny-image", "tiny-vit", "tiny-video"]
SLICED = ["tiny-text", "tiny-vit", "tiny-video"]
LABELS = ["left", "right", "up", "down"]
TEXT = "fn main() { println!(); }"
SECONDS = 20
ATOL = 1e-5
GATES = ("spatial", "channel")

Map = tuple[str, str]  # of a model


@pytest.fixture(scope="module")
def client(gallery_client: TestClient) -> TestClient:
    return gallery_client


@pytest.fixture(scope="module")
def media(picture: bytes, clip: bytes) -> dict[str, tuple[str | bytes, str]]:
    """Input of each model, and its content type."""
    return {
        "tiny-text": (TEXT, "text/plain"),
        "tiny-image": (picture, "image/png"),
        "tiny-vit": (picture, "image/png"),
        "tiny-video": (clip, "video/mp4"),
    }


@pytest.fixture(scope="module")
def ask(client: TestClient, media: dict[str, tuple[str | bytes, str]]) -> Any:
    """Posts a model's input as it is, with options in the query."""

    def post(model: str, **options: Any) -> Any:
        body, content_type = media[model]
        response = client.post(
            f"/v1/models/{model}/predict",
            content=body,
            headers={"content-type": content_type},
            params=options,
        )
        assert response.status_code == 200, response.text
        return response.json()

    return post


@pytest.fixture(scope="module")
def made(
    references: dict[str, Any],
    gallery_predictors: dict[str, Predictor],
    media: dict[str, tuple[str | bytes, str]],
) -> Any:
    """What the graphs of a model make of its input, run without a server."""
    items = {name: gallery_predictors[name].decode(Payload(data=data)) for name, (data, _) in media.items()}

    def make(model: str, name: str, **how: Any) -> list[np.ndarray]:
        found: list[np.ndarray] = references[model].map(items[model], name, **how)
        return found

    return make


def specs(client: TestClient, model: str) -> dict[str, Any]:
    return {one["name"]: one for one in client.get(f"/v1/models/{model}").json()["maps"]}


def numbers(client: TestClient, link: str) -> np.ndarray:
    response = client.get(link)
    assert response.status_code == 200, response.text
    loaded: np.ndarray = np.load(io.BytesIO(response.content), allow_pickle=False)
    assert loaded.dtype == np.dtype("<f4")
    return loaded


def close(found: Any, expected: np.ndarray) -> None:
    assert np.shape(found) == expected.shape
    atol = ATOL * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("model", MODELS)
def test_a_map_says_what_can_be_chosen_of_it(client: TestClient, model: str) -> None:
    every = {
        *("cls", "received", "value_norm", "distillation", "rollout", "relevance", "grad_sam", "attention"),
        *("cam", "spatial", "channel", "message", "temporal", "importance", "label_patches"),
    }
    frame = ["frame"] if model == "tiny-video" else []
    expected = {
        "cls": ["layer", "head", *frame],
        "received": ["layer", *frame],
        "value_norm": ["layer", "head", *frame],
        "distillation": ["layer", "head"],
        "rollout": ["head", *frame, "discard"],
        "relevance": ["target", *frame],
        "grad_sam": ["target", *frame],
        "attention": ["layer", "head", "token", "rows", *frame],
        "cam": ["target"],
        "spatial": ["layer"],
        "channel": ["layer"],
        "message": ["layer", "head"],
        "temporal": ["layer", "head"],
        "importance": [],
        "label_patches": ["layer", "head", "target"],
    }
    assert expected.keys() == every
    found = {name: one["options"] for name, one in specs(client, model).items()}
    assert found == {name: expected[name] for name in found}
    assert len(found) >= 3


@pytest.mark.parametrize("model", MODELS)
def test_every_map_is_what_its_graph_makes_of_the_input(
    client: TestClient, ask: Any, made: Any, model: str
) -> None:
    maps = specs(client, model)
    heads = {"heads": "all"} if any(spec["heads"] for spec in maps.values()) else {}
    (one,) = ask(model, maps=",".join(maps), **heads, target="up", inline="true")["predictions"]
    for found in one["maps"]:
        spec = maps[found["name"]]
        layers = made(model, found["name"], target=2)
        layer = 0 if "attention" in found["name"] or not spec["layers"] else found["layers"]
        expected = layers[layer]
        if "label" in spec["axes"]:
            expected = expected.take(2, spec["axes"].index("label"))
        close(found["values"], expected)
        close(numbers(client, found["links"]["npy"]), expected)
        assert found["axes"] == [axis for axis in spec["axes"] if axis != "label"]
        assert found.get("target") == ("up" if "target" in spec["options"] else None)


@pytest.mark.parametrize("model", SLICED)
@pytest.mark.parametrize("name", ["relevance", "grad_sam"])
def test_a_map_of_gradients_is_of_the_label_asked_for_and_of_the_predicted_one_by_default(
    client: TestClient, ask: Any, made: Any, model: str, name: str
) -> None:
    inference = client.app.state.inference  # type: ignore[attr-defined]
    answer = ask(model, maps=name, target="up", inline="true")
    (one,) = answer["predictions"]
    link = f"/v1/predictions/{answer['id']}/0/maps/{name}.npy"
    best = LABELS.index(one["label"])
    found = {2: np.array(one["maps"][0]["values"]), best: numbers(client, link)}
    for target in (2, best):
        (expected,) = made(model, name, target=target)
        close(found[target], expected)
        close(numbers(client, f"{link}?target={target}"), expected)
    other = next(index for index in range(4) if index not in (2, best))
    apart = np.abs(numbers(client, f"{link}?target={LABELS[other]}") - found[2]).max()
    assert apart > 0.01 * np.abs(found[2]).max()
    kept = inference.store.get(answer["id"]).item(0).maps
    assert {made.target for stored, made in kept if stored == name} == {2, best, other}


@pytest.mark.parametrize("model", SLICED)
def test_a_rollout_is_made_as_it_is_asked_for_and_each_making_is_kept(
    client: TestClient, ask: Any, made: Any, model: str
) -> None:
    inference = client.app.state.inference  # type: ignore[attr-defined]
    answer = ask(model, maps="rollout", heads="max", discard="0.4", inline="true")
    (shown,) = answer["predictions"][0]["maps"]
    assert (shown["heads"], shown["discard"]) == ("max", 0.4)
    close(shown["values"], made(model, "rollout", fuse="max", discard=0.4)[0])
    link = f"/v1/predictions/{answer['id']}/0/maps/rollout.npy"
    for query, how in (
        ("", {}),
        ("?head=mean", {}),
        ("?head=min", {"fuse": "min"}),
        ("?discard=0.9", {"discard": 0.9}),
        ("?head=min&discard=.9", {"fuse": "min", "discard": 0.9}),
        ("?head=max&discard=4e-1", {"fuse": "max", "discard": 0.4}),
    ):
        close(numbers(client, link + query), made(model, "rollout", **how)[0])
    kept = inference.store.get(answer["id"]).item(0).maps
    assert {(made.fuse, made.discard) for _, made in kept} == {
        ("max", 0.4),
        ("mean", 0.0),
        ("min", 0.0),
        ("mean", 0.9),
        ("min", 0.9),
    }


@pytest.mark.parametrize("model", SLICED)
def test_slices_are_of_the_tokens_layer_and_frame_asked_for(
    client: TestClient, ask: Any, made: Any, model: str
) -> None:
    frame = 2 if model == "tiny-video" else 0
    of_frame = {"frame": frame} if model == "tiny-video" else {}
    whole = made(model, "attention", layer=0, frame=frame)[0]  # [H, N, ...]
    count = whole.shape[1]
    one = ask(model, maps="attention", layers=0, heads=1, token=3, inline="true", **of_frame)
    (shown,) = one["predictions"][0]["maps"]
    kind = "tokens" if model == "tiny-text" else "grid"
    axes = ["token"] if model == "tiny-text" else ["row", "column"]
    assert (shown["kind"], shown["axes"], shown["token"]) == (kind, axes, 3)
    assert (shown["layers"], shown["heads"], shown.get("frame")) == (0, 1, of_frame.get("frame"))
    assert "rows" not in shown
    close(shown["values"], whole[1, 3])
    link = f"/v1/predictions/{one['id']}/0/maps/attention"
    chosen = "layer=0&head=all" + "".join(f"&frame={frame}" for _ in of_frame)
    for rows in ((1, 4), (0, count), (count - 1, count)):
        document = client.get(f"{link}.json?{chosen}&rows={rows[0]}:{rows[1]}").json()
        assert (document["rows"], document["shape"][1]) == (list(rows), rows[1] - rows[0])
        close(document["values"], whole[:, slice(*rows)])
    everything = client.get(f"{link}.json?{chosen}").json()
    assert "rows" not in everything
    close(everything["values"], whole)
    close(numbers(client, f"{link}.npy?{chosen}&token={count - 1}"), whole[:, count - 1])
    for format in ("html", "svg") if model == "tiny-text" else ("png", "webp"):
        for token in (0, count - 1):
            drawn = client.get(f"{link}.{format}", params={"token": token, "layer": 0, **of_frame})
            assert drawn.status_code == 200, drawn.text
    for token in (0, count - 1):  # every head on one sheet
        asked = {"token": token, "head": "all", **of_frame}
        assert client.get(f"{link}.png", params=asked).status_code == 200


def test_slices_of_several_texts_are_each_of_its_own_tokens(client: TestClient, references: Any) -> None:
    texts = ["a", "def f(x): return x", "ab"]
    body = {"text": texts, "maps": ["attention"], "layers": 0, "heads": "all", "inline": True}
    url = "/v1/models/tiny-text/predict"
    every = client.post(url, json=body).json()["predictions"]
    rows = client.post(url, json=body | {"rows": [0, 3]}).json()["predictions"]
    token = client.post(url, json=body | {"token": 2}).json()["predictions"]
    for index, text in enumerate(texts):
        count = len(text) + 2
        values = np.array(every[index]["maps"][0]["values"])
        assert values.shape == (4, count, count)
        np.testing.assert_allclose(values.sum(-1), 1, atol=ATOL)
        (alone,) = client.post(url, json=body | {"text": text}).json()["predictions"]
        close(alone["maps"][0]["values"], values)
        close(rows[index]["maps"][0]["values"], values[:, :3])
        close(token[index]["maps"][0]["values"], values[:, 2])


@pytest.mark.parametrize("name", ["rollout", "cls", "received", "value_norm", "relevance", "grad_sam"])
def test_one_frame_of_a_clips_map_is_a_grid(client: TestClient, ask: Any, made: Any, name: str) -> None:
    answer = ask("tiny-video", maps=name, frame=1, inline="true")
    (shown,) = answer["predictions"][0]["maps"]
    expected = made("tiny-video", name)[-1]
    if expected.ndim == 4:  # heads
        expected = expected.mean(0)
    assert (shown["kind"], shown["axes"], shown["frame"]) == ("grid", ["row", "column"], 1)
    close(shown["values"], expected[1])
    link = f"/v1/predictions/{answer['id']}/0/maps/{name}"
    for frame in range(4):
        close(numbers(client, f"{link}.npy?frame={frame}"), expected[frame])
    close(numbers(client, f"{link}.npy"), expected)
    for format, url in shown["links"].items():
        response = client.get(url)
        assert response.status_code == 200, (format, response.text)


def test_what_cannot_be_chosen_of_a_map_is_left_alone_beside_others(ask: Any, made: Any) -> None:
    """One request may ask for several maps: a token is of slices, a share of rollouts."""
    maps = "cls,received,attention,rollout"
    (one,) = ask("tiny-text", maps=maps, token=1, discard=0.5, inline="true")["predictions"]
    cls, received, attention, rollout = one["maps"]
    close(cls["values"], made("tiny-text", "cls")[-1].mean(0))
    close(received["values"], made("tiny-text", "received")[-1])
    assert attention["token"] == 1
    assert rollout["discard"] == 0.5
    for found in (cls, received):
        assert "token" not in found
        assert "discard" not in found


@pytest.mark.parametrize("model", MODELS)
def test_a_link_of_an_answer_is_never_made_again(
    client: TestClient, ask: Any, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    inference = client.app.state.inference  # type: ignore[attr-defined]
    answer = ask(model, maps=",".join(specs(client, model)))
    before = inference.store.nbytes
    monkeypatch.setattr(inference.scheduler, "submit", None)
    for found in answer["predictions"][0]["maps"]:
        for link in found["links"].values():
            assert client.get(link).status_code == 200
    assert inference.store.nbytes == before


def test_those_who_ask_for_the_same_slice_at_one_time_share_one_run(
    client: TestClient, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those who ask for another do not get theirs."""
    key, run, waiting = ask("tiny-text")["id"], Predictor.run, Predictions._make
    opened, runs, arrived = threading.Event(), [], threading.Semaphore(0)

    def held(self: Predictor, jobs: Any) -> Any:
        assert opened.wait(SECONDS)
        runs.extend(job.wanted.selection for job in jobs)
        return run(self, jobs)

    async def counted(self: Predictions, *arguments: Any) -> Any:
        arrived.release()
        return await waiting(self, *arguments)

    monkeypatch.setattr(Predictor, "run", held)
    monkeypatch.setattr(Predictions, "_make", counted)
    queries = ["rows=0:2", "rows=0:2&head=1", "rows=0:2&layer=-1", "rows=0:3", "rows=0:2&layer=0"]
    with ThreadPoolExecutor(len(queries)) as threads:
        found = [
            threads.submit(numbers, client, f"/v1/predictions/{key}/0/maps/attention.npy?{query}")
            for query in queries
        ]
        for _ in queries:
            assert arrived.acquire(timeout=SECONDS)
        opened.set()
        shapes = [one.result(SECONDS).shape for one in found]
    assert len(runs) == 3
    assert [shape[-2] for shape in shapes] == [2, 2, 2, 3, 2]


def test_a_kept_slice_takes_its_room_in_the_store(client: TestClient, ask: Any) -> None:
    inference = client.app.state.inference  # type: ignore[attr-defined]
    link = f"/v1/predictions/{ask('tiny-text')['id']}/0/maps/attention.npy"
    before = inference.store.nbytes
    tokens = len(TEXT) + 2
    numbers(client, f"{link}?rows=0:4&head=0")
    one = 4 * 4 * 4 * tokens + MAP_BYTES  # heads, rows, bytes
    assert inference.store.nbytes - before == one
    numbers(client, f"{link}?rows=0:4&head=3")
    assert inference.store.nbytes - before == one
    numbers(client, f"{link}?rows=0:5")
    assert inference.store.nbytes - before == one + 4 * 5 * 4 * tokens + MAP_BYTES


def indices(count: int) -> st.SearchStrategy[str]:
    """One index or several, some counted from the end."""
    one = st.integers(-count, count - 1)
    several = st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True)
    signed = several.flatmap(
        lambda found: st.tuples(*(st.sampled_from([index, index - count]) for index in found))
    )
    return st.just("all") | one.map(str) | signed.map(lambda found: ",".join(map(str, found)))


@st.composite
def chosen(draw: st.DrawFn, spec: MapSpec, tokens: int) -> dict[str, Any]:
    """A selection and refinement that fit a map, as options of a prediction."""
    options: dict[str, Any] = {}
    one = st.integers(-len(spec.layers), len(spec.layers) - 1)
    if spec.sliced:
        options["layers"] = draw(st.none() | one)
        start, stop = sorted(draw(st.lists(st.integers(0, tokens), min_size=2, max_size=2, unique=True)))
        rows = st.sampled_from([{}, {"rows": f"{start}:{stop}"}, {"token": draw(st.integers(0, tokens - 1))}])
        options |= draw(rows)
    elif spec.layers:  # gates of different sizes cannot be stacked
        options["layers"] = draw(st.none() | (one if spec.name in GATES else indices(len(spec.layers))))
    if spec.tunable:
        options["heads"] = draw(st.none() | st.sampled_from(["mean", "max", "min"]))
        options["discard"] = draw(st.none() | st.floats(0, 0.99))
    elif spec.heads:
        fused = st.sampled_from(["mean", "max", "min"])
        options["heads"] = draw(st.none() | fused | indices(spec.heads))
    if "label" in spec.axes or "target" in spec.inputs:
        options["target"] = draw(st.none() | st.sampled_from([*LABELS, *"0123"]))
    if spec.kind == "frame_grid" or "frame" in spec.inputs:
        options["frame"] = draw(st.none() | st.integers(0, 3))
    options["mass"] = draw(st.none() | st.floats(0.01, 1))
    options["top"] = draw(st.none() | st.integers(1, 20))
    if spec.kind in ("tokens", "token_matrix") and "rows" not in options:
        options["words"] = draw(st.booleans())
        options["special"] = draw(st.sampled_from(["keep", "hide"]))
    return {name: value for name, value in options.items() if value is not None}


@pytest.mark.parametrize(
    ("model", "name", "options"),
    [
        ("tiny-text", "cls", {"layers": "0,"}),
        ("tiny-text", "cls", {"layers": "1,", "heads": "2,"}),
        ("tiny-text", "attention", {"heads": "3,", "token": "1"}),
        ("tiny-video", "temporal", {"layers": "all"}),  # of which there is one
        ("tiny-video", "temporal", {"layers": "all", "heads": "0,"}),
        ("tiny-text", "cls", {"mass": "0.123456789012345"}),
        ("tiny-text", "rollout", {"discard": "0.123456789012345", "top": "3"}),
    ],
)
def test_a_list_of_one_and_a_long_number_are_linked_as_they_are(
    client: TestClient, ask: Any, model: str, name: str, options: dict[str, str]
) -> None:
    (shown,) = ask(model, maps=name, inline="true", **options)["predictions"][0]["maps"]
    for word in ("layers", "heads"):
        assert isinstance(shown.get(word), list) == (word in options)
    np.testing.assert_array_equal(numbers(client, shown["links"]["npy"]), np.float32(shown["values"]))
    for option in ("mass", "discard"):
        assert option not in options or f"{option}={options[option]}" in shown["links"]["npy"]
    for link in shown["links"].values():
        assert client.get(link).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_a_link_brings_what_the_answer_says_inline(
    client: TestClient, ask: Any, gallery_predictors: dict[str, Predictor], model: str
) -> None:
    manifest = gallery_predictors[model].manifest
    count = {"tiny-text": len(TEXT) + 2, "tiny-vit": 14, "tiny-video": 18}.get(model, 0)

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        spec = data.draw(st.sampled_from(manifest.maps))
        options = data.draw(chosen(spec, count))
        answer = ask(model, maps=spec.name, inline="true", **options)
        (shown,) = answer["predictions"][0]["maps"]
        values, links = np.array(shown.pop("values"), np.float32), shown.pop("links")
        np.testing.assert_array_equal(numbers(client, links["npy"]), values)
        document = client.get(links["json"]).json()
        np.testing.assert_array_equal(np.array(document.pop("values"), np.float32), values)
        assert document == shown
        drawn = data.draw(st.sampled_from(sorted(links)))
        assert client.get(links[drawn]).status_code == 200
        # The same of a prediction that no map was asked of at first.
        later = ask(model)["id"]
        close(numbers(client, links["npy"].replace(answer["id"], later)), values)

    check()


def test_an_answer_with_every_wish_is_json(client: TestClient) -> None:
    """Indices, numbers and words as a JSON body has them."""
    body = {
        "text": TEXT,
        "maps": ["attention", "rollout", "relevance"],
        "layers": -1,
        "heads": "max",
        "target": 1,
        "rows": [1, 3],
        "discard": 0.25,
        "verify": True,
        "inline": True,
    }
    (one,) = client.post("/v1/models/tiny-text/predict", json=body).json()["predictions"]
    assert [found["name"] for found in one["maps"]] == body["maps"]
    assert one["maps"][0]["rows"] == [1, 3]
    assert one["verification"]["precision"] == "fp32"
