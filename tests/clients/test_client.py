"""Both clients against the application: what they give is what a plain HTTP request gives."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from regard_client import AsyncClient, Client, Input, MapSummary, Problem, TextInfo, VideoInfo
from service.keys import make_key

MODELS = ["code-language", "digit-in-clutter", "digit-motion"]
CLIP = (Path(__file__).parents[2] / "examples" / "blink.mp4").read_bytes()
FIRST = {"code-language": ("rollout", "html"), "digit-in-clutter": ("cam", "png")}
FIRST["digit-motion"] = ("rollout", "webp")
MAGIC = {"png": b"\x89PNG", "webp": b"RIFF", "svg": b"<svg", "html": b"<!doctype html"}


def plain(address: str, path: str, **options: Any) -> Any:
    """What the server says of a prediction's map as JSON."""
    response = httpx.get(f"{address}{path}", params=options, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def nested(value: Any) -> Any:
    """As JSON would have it."""
    return [nested(one) for one in value] if isinstance(value, tuple) else value


def test_models_are_those_served(client: Client, server: str) -> None:
    listed = plain(server, "/v1/models")["models"]
    assert [(one.name, one.version, one.state) for one in client.models()] == [
        (one["name"], one["version"], one["state"]) for one in listed
    ]
    assert {one.name for one in client.models()} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_it_is(client: Client, server: str, name: str) -> None:
    document, model = plain(server, f"/v1/models/{name}"), client.model(name, version="1")
    for field in ("name", "version", "family", "task", "description", "precision", "activation", "card"):
        assert getattr(model, field) == document[field]
    assert list(model.labels) == document["labels"]
    for one, said in zip(model.maps, document["maps"], strict=True):
        fields = ("name", "kind", "description", "axes", "layers", "heads", "formats", "options")
        for field in (*fields, "token_formats"):
            assert nested(getattr(one, field)) == said[field]


@pytest.mark.parametrize("name", MODELS)
def test_a_prediction_is_what_the_server_keeps(
    client: Client, server: str, inputs: Mapping[str, Input], name: str
) -> None:
    asked = [one.name for one in client.model(name).maps][:2]
    prediction = client.predict(name, inputs[name], maps=asked, top_k=3)
    (document,) = (kept := plain(server, f"/v1/predictions/{prediction.id}"))["predictions"]
    assert (prediction.model, prediction.version, prediction.index) == (name, kept["version"], 0)
    assert (prediction.label, prediction.score) == (document["label"], document["score"])
    assert [vars(one) for one in prediction.top] == document["top"]
    assert vars(prediction.timing) == kept["timing"]
    for field, said in document["input"].items():
        value = getattr(prediction.input, field)
        if field == "view":
            assert {key: nested(one) for key, one in vars(value).items()} == said
        else:
            assert nested(value) == said
    assert [one.name for one in prediction.maps] == asked
    for info, said in zip(prediction.maps, document["maps"], strict=True):
        for field in said:
            assert nested(getattr(info, field)) == said[field]


def test_an_answer_may_be_verified(client: Client, server: str, inputs: Mapping[str, Input]) -> None:
    prediction = client.predict("code-language", inputs["code-language"], verify=True)
    (document,) = plain(server, f"/v1/predictions/{prediction.id}")["predictions"]
    assert prediction.verification is not None
    assert vars(prediction.verification) == document["verification"]
    assert client.predict("code-language", "x = 1").verification is None


def test_several_inputs_are_answered_in_order(client: Client, inputs: Mapping[str, Input]) -> None:
    rust, other = inputs["code-language"], "#include <stdio.h>\nint main(void) { return 0; }\n"
    alone = [client.predict("code-language", text).label for text in (rust, other)]
    assert len(set(alone)) == 2
    assert [one.label for one in client.predict("code-language", [rust, other])] == alone
    assert [one.label for one in client.predict("code-language", [other, rust])] == alone[::-1]
    picture = Path(inputs["digit-in-clutter"])
    twice = client.predict("digit-in-clutter", [picture, picture.read_bytes()])
    assert [one.index for one in twice] == [0, 1]
    assert twice[0].top == twice[1].top


def selections(summary: MapSummary) -> list[dict[str, Any]]:
    """Ways to select of a map, one for each rule about its axes."""
    several = summary.name not in ("spatial", "channel", "attention")  # of one shape, and made together
    found: list[dict[str, Any]] = [{}]
    if summary.layers:
        found += [{"layer": 0}, {"layer": -1}]
    if summary.layers[1:] and several:
        found += [{"layer": "all"}, {"layer": "0,1"}]
    if summary.heads:
        found += [{"head": 0}, {"head": "mean"}, {"head": "max"}, {"head": "all"}, {"head": [1, 0]}]
        found += [{"layer": "all", "head": "all"}, {"layer": [-1], "head": [1]}] if several else []
    options = summary.options
    found += [{"target": 0}] if "target" in options else []
    found += [{"frame": 1}] if "frame" in options else []
    found += [{"token": 2}, {"rows": (1, 4), "head": "all"}] if "rows" in options else []
    found += [{"head": "min", "discard": 0.5}] if "discard" in options else []
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_map_is_as_its_document_says(
    client: Client, server: str, inputs: Mapping[str, Input], name: str
) -> None:
    prediction = client.predict(name, inputs[name])
    for summary in client.model(name).maps:
        for options in selections(summary):
            about = f"{summary.name} {options}"
            found = prediction.map(summary.name, **options)
            query = {
                key: "".join(f"{index}," for index in one) if isinstance(one, list) else one
                for key, one in options.items()
            }
            if "rows" in query:
                query["rows"] = "1:4"
            said = plain(server, f"/v1/predictions/{prediction.id}/0/maps/{summary.name}.json", **query)
            assert list(found.axes) == said["axes"], about
            assert found.kind == said["kind"], about
            assert found.values.dtype == np.float32
            assert np.array_equal(found.values, np.array(said["values"], np.float32)), about
            for axis, labels in found.labels.items():
                assert len(labels) == found.values.shape[found.axes.index(axis)], about


def test_axes_have_labels(client: Client, inputs: Mapping[str, Input]) -> None:
    text = client.predict("code-language", inputs["code-language"])
    assert isinstance(text.input, TextInfo)
    found = text.map("cls", layer=[1, 0], head="all")
    layers = client.model("code-language").maps[0].layers
    assert found.labels["layer"] == (layers[1], layers[0])
    assert found.labels["head"] == (0, 1, 2, 3)[: found.values.shape[1]]
    assert found.labels["token"] == text.input.tokens
    assert found.offsets == text.input.offsets
    clip = client.predict("digit-motion", CLIP)
    assert isinstance(clip.input, VideoInfo)
    assert clip.map("importance").labels == {"frame": clip.input.timestamps}
    assert clip.map("importance").offsets is None


def test_words_and_hidden_tokens_come_with_their_own_labels(
    client: Client, inputs: Mapping[str, Input]
) -> None:
    prediction = client.predict("code-language", "fn main() { println!(); }")
    whole = prediction.map("rollout")
    assert isinstance(prediction.input, TextInfo)
    special = np.array(prediction.input.special)
    hidden = prediction.map("rollout", special="hide")
    assert hidden.special_mass == pytest.approx(
        whole.values[special].sum() / whole.values.sum(), rel=1e-5, abs=1e-7
    )
    assert np.array_equal(hidden.values, whole.values[~special])
    assert hidden.labels["token"] == tuple(np.array(prediction.input.tokens)[~special])
    words = prediction.map("rollout", words=True)
    assert len(words.labels["token"]) == len(words.values) == len(words.offsets or ()) < len(whole.values)
    assert words.values.sum() == pytest.approx(whole.values.sum(), rel=1e-5)


def test_a_list_of_one_keeps_its_axis_among_words_too(client: Client) -> None:
    prediction = client.predict("code-language", "fn main() { println!(); }")
    found = prediction.map("cls", layer=[-1], head=[2], words=True)
    assert found.axes == ("layer", "head", "token")
    assert found.values.shape == (1, 1, len(found.labels["token"]))
    assert found.labels["head"] == (2,)


def test_a_map_is_read_when_its_model_is_gone(client: Client) -> None:
    """As after another version took over: what was made before is still kept."""
    prediction = client.predict("code-language", "fn main() {}", maps=["cls"])
    gone = replace(prediction, version="0")
    here, there = prediction.map("cls", head="all"), gone.map("cls", head="all")
    assert np.array_equal(here.values, there.values)
    assert (here.axes, here.kind, here.offsets) == (there.axes, there.kind, there.offsets)
    assert there.labels == {"token": here.labels["token"]}


def test_numbers_cannot_be_written_to(client: Client, inputs: Mapping[str, Input]) -> None:
    found = client.predict("code-language", inputs["code-language"]).map("rollout")
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 1


@pytest.mark.parametrize("name", MODELS)
def test_a_map_is_drawn_in_every_format_it_has(
    client: Client, inputs: Mapping[str, Input], name: str
) -> None:
    prediction = client.predict(name, inputs[name])
    for summary in client.model(name).maps:
        whole = prediction.map(summary.name)
        for format in set(summary.formats) - {"json", "npy"}:
            found = prediction.map(summary.name, token=1) if format in summary.token_formats else whole
            assert getattr(found, format)().lower().startswith(MAGIC[format].lower()), (summary.name, format)


def test_a_drawing_is_of_what_was_selected(client: Client, inputs: Mapping[str, Input]) -> None:
    prediction = client.predict("digit-in-clutter", inputs["digit-in-clutter"])
    seven = prediction.map("cam", target="7")
    assert seven.png(alpha=1.0) != prediction.map("cam", target="1").png(alpha=1.0)
    widths = [Image.open(io.BytesIO(seven.png(size=size))).width for size in (100, 400)]
    assert widths[0] <= 100 < widths[1] <= 400


def test_a_problem_names_field_and_limit(client: Client) -> None:
    with pytest.raises(Problem) as caught:
        client.predict("code-language", "x = 1", top_k=0)
    assert (caught.value.status, caught.value.field, caught.value.limit) == (400, "top_k", 1)
    assert "top_k" in str(caught.value)
    with pytest.raises(Problem) as caught:
        client.model("no such/model")
    assert caught.value.status == 404
    with pytest.raises(Problem) as caught:
        client.predict("code-language", "x = 1").map("no such map")
    assert (caught.value.status, caught.value.field) == (404, "map")


def test_numbers_in_the_answer_are_arrays(client: Client, inputs: Mapping[str, Input]) -> None:
    prediction = client.predict("code-language", inputs["code-language"], maps=["rollout"], inline=True)
    (info,) = prediction.maps
    assert info.values is not None
    assert np.array_equal(info.values, prediction.map("rollout").values)


def test_a_file_of_text_is_a_text(client: Client, inputs: Mapping[str, Input]) -> None:
    path = Path(__file__).parents[2] / "examples" / "snippet.rs"
    assert client.predict("code-language", path).top == client.predict("code-language", path.read_text()).top


def test_keys_are_sent_and_never_shown(serve: Any) -> None:
    secret, key = make_key("one", ["predict"])
    with serve(api_keys=[key]) as address:
        with Client(address) as stranger, pytest.raises(Problem) as caught:
            stranger.models()
        assert (caught.value.status, caught.value.field) == (401, "authorization")
        with Client(address, api_key=secret) as client:
            assert client.predict("code-language", "fn main() {}").map("rollout").values.size
            with pytest.raises(Problem) as caught:
                client.model("none")
            assert secret not in f"{client!r} {vars(client)} {caught.value!r} {caught.value}"


@pytest.mark.parametrize("key", ["", "two words\n", "line\nbreak", "ключ", " secret"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        Client("http://127.0.0.1:1", api_key=key)
    assert not key.strip() or key.strip() not in str(caught.value)


def test_the_asynchronous_client_gives_the_same(
    client: Client, server: str, inputs: Mapping[str, Input]
) -> None:
    async def ask() -> None:
        async with AsyncClient(server) as other:
            assert await other.models() == client.models()
            assert await other.model("digit-motion") == client.model("digit-motion")
            predictions = await asyncio.gather(*(other.predict(name, inputs[name]) for name in MODELS))
            for name, prediction in zip(MODELS, predictions, strict=True):
                expected = client.predict(name, inputs[name])
                assert (prediction.top, prediction.input) == (expected.top, expected.input)
                first, format = FIRST[name]
                found, wanted = await prediction.map(first), expected.map(first)
                assert np.array_equal(found.values, wanted.values)
                assert (found.axes, found.labels) == (wanted.axes, wanted.labels)
                assert await getattr(found, format)() == getattr(wanted, format)()
            several = await other.predict("code-language", ["x = 1", "fn main() {}"])
            assert [one.index for one in several] == [0, 1]
            with pytest.raises(Problem) as caught:
                await other.model("none")
            assert caught.value.status == 404

    asyncio.run(asyncio.wait_for(ask(), 60))
