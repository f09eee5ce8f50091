"""Calls under /v2 as JSON, and what is wrong with them; real clients are in tests/end_to_end."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer

import service
from service.app import create_app
from service.settings import Settings
from service.v2.parameters import MAP_OPTIONS

TEXT = "fn main() { println!(); }"
LABELS = ["left", "right", "up", "down"]
FAMILIES = ["text", "image", "video"]

Infer = Callable[..., httpx2.Response]


def text(*texts: str, **changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts), **changes}


@pytest.fixture
def infer(client: TestClient) -> Infer:
    """Sends a request as JSON to the text model, or to another."""

    def send(*inputs: Any, model: str = "tiny-text", **fields: Any) -> httpx2.Response:
        body = json.dumps({"inputs": list(inputs or [text(TEXT)]), **fields})
        return client.post(f"/v2/models/{model}/infer", content=body)

    return send


def outputs(response: httpx2.Response) -> dict[str, np.ndarray]:
    assert response.status_code == 200, response.text
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in response.json()["outputs"]}


def v1(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    response = client.post("/v1/models/tiny-text/predict", json={"top_k": 4, "inline": True, **body})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def test_health_is_told(client: TestClient) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/tiny-text/ready").json() == {"name": "tiny-text", "ready": True}
    assert client.get("/v2/models/tiny-text/versions/1/ready").status_code == 200


@pytest.mark.parametrize("family", FAMILIES)
def test_metadata_and_config_say_the_same(client: TestClient, settings: Settings, family: str) -> None:
    metadata = client.get(f"/v2/models/tiny-{family}").json()
    config = client.get(f"/v2/models/tiny-{family}/versions/1/config").json()
    assert metadata["versions"] == ["1"]
    assert config["max_batch_size"] == settings.max_items
    assert config["parameters"]["maps"]["string_value"].split(",") == [
        one["name"] for one in client.get(f"/v1/models/tiny-{family}").json()["maps"]
    ]
    for kind in ("input", "output"):
        for told, configured in zip(metadata[f"{kind}s"], config[kind], strict=True):
            assert told["name"] == configured["name"]
            assert told["shape"] == [-1, *configured["dims"]]
            assert configured["data_type"] == f"TYPE_{told['datatype'].replace('BYTES', 'STRING')}"


def test_perf_analyzer_can_make_requests_of_the_metadata(client: TestClient) -> None:
    """It refuses inputs without an axis beside the batch, and leaves out only what is optional."""
    for family in FAMILIES:
        metadata = client.get(f"/v2/models/tiny-{family}").json()
        assert all(len(one["shape"]) > 1 for one in metadata["inputs"])
        config = client.get(f"/v2/models/tiny-{family}/config").json()
        assert [one["name"] for one in config["input"] if not one["optional"]] == [family]
        assert config["dynamic_batching"] == {}


def test_predictions_are_those_of_v1(client: TestClient, infer: Infer) -> None:
    texts = [TEXT, "x", "let y = 1;"]
    response = infer(text(*texts), id="seven")
    assert {name: response.json()[name] for name in ("id", "model_name", "model_version")} == {
        "id": "seven",
        "model_name": "tiny-text",
        "model_version": "1",
    }
    found = outputs(response)
    assert list(found) == ["label", "scores", "logits"]
    for row, expected in enumerate(v1(client, text=texts)):
        assert found["label"][row] == expected["label"]
        scores = dict(zip(LABELS, found["scores"][row], strict=True))
        for one in expected["top"]:
            assert scores[one["label"]] == pytest.approx(one["score"], abs=1e-6)
        powers = np.exp(found["logits"][row])
        np.testing.assert_allclose(powers / powers.sum(), found["scores"][row], atol=1e-6)
    for header in ("x-queue-time", "x-inference-time"):
        assert float(response.headers[header]) >= 0
    assert int(response.headers["x-compute-tokens"]) > 3


def test_a_column_of_texts_is_a_row_of_texts(infer: Infer) -> None:
    row = outputs(infer(text(TEXT, "x")))
    for data in ([TEXT, "x"], [[TEXT], ["x"]]):
        column = outputs(infer(text(TEXT, "x", shape=[2, 1], data=data)))
        assert column.keys() == row.keys()
        np.testing.assert_allclose(column["logits"], row["logits"], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"maps": "cls"},
        {"maps": "cls,rollout", "layers": 0},
        {"maps": "cls", "layers": "all", "heads": "all"},
        {"maps": "cls,received", "layers": "-1,0", "heads": "max"},
        {"maps": "cls", "heads": 2, "layers": "-1"},
        {"maps": "relevance,grad_sam", "target": "up"},
        {"maps": "relevance"},
        {"maps": "rollout", "heads": "max", "discard": 0.4},
        {"maps": "attention", "token": 2},
        {"maps": "attention", "token": 0, "heads": "all", "layers": 0},
        {"maps": "cls", "mass": 0.6},
        {"maps": "received,value_norm", "top": 2},
        {"maps": "cls", "verify": True},
    ],
)
def test_maps_are_those_of_v1_padded_with_zeros(
    client: TestClient, infer: Infer, options: dict[str, Any]
) -> None:
    texts = [TEXT, "x"]
    response = infer(text(*texts), parameters=options)
    found = outputs(response)
    expected = v1(client, text=texts, **options)
    longest = max(len(one["input"]["tokens"]) for one in expected)
    assert found["tokens"].shape == (2, longest)
    for row, one in enumerate(expected):
        tokens = one["input"]["tokens"]
        assert list(found["tokens"][row]) == tokens + [""] * (longest - len(tokens))
        for info in one["maps"]:
            values = found[info["name"]][row]
            assert values.shape == (*info["shape"][:-1], longest)
            np.testing.assert_allclose(values[..., : len(tokens)], info["values"], atol=1e-6)
            assert not values[..., len(tokens) :].any()
    assert list(found) == [
        *("label", "scores", "logits"),
        *options["maps"].split(","),
        "tokens",
    ]


@pytest.mark.parametrize("options", [{}, {"rows": "1:3"}, {"rows": "0:3", "heads": "all", "layers": 0}])
def test_slices_are_those_of_v1_padded_with_zeros(
    client: TestClient, infer: Infer, options: dict[str, Any]
) -> None:
    """Every axis of tokens is as long as in the longest text."""
    texts = [TEXT, "x", "def f(x)"]
    found = outputs(infer(text(*texts), parameters={"maps": "attention", **options}))["attention"]
    expected = [
        np.array(one["maps"][0]["values"]) for one in v1(client, text=texts, maps="attention", **options)
    ]
    longest = len(TEXT) + 2
    assert found.shape[-2:] == (longest if not options else expected[0].shape[-2], longest)
    for row, values in enumerate(expected):
        *_, queries, keys = values.shape
        np.testing.assert_allclose(found[row][..., :queries, :keys], values, atol=1e-6)
        assert not found[row][..., keys:].any()
        assert not found[row][..., queries:, :].any()


def test_what_was_verified_is_answered_with_maps_of_clips_too(
    client: TestClient, infer: Infer, clip: bytes
) -> None:
    data = struct.pack("<I", len(clip)) + clip
    tensor = {
        "name": "video",
        "shape": [1, 1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    }
    asked = {"maps": "rollout,attention", "frame": 2, "token": 0, "verify": True}
    head = json.dumps({"inputs": [tensor], "parameters": asked}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    found = outputs(client.post("/v2/models/tiny-video/infer", content=head + data, headers=headers))
    answer = client.post(
        "/v1/models/tiny-video/predict",
        content=clip,
        headers={"content-type": "video/mp4"},
        params={**asked, "verify": "true", "inline": "true"},
    ).json()
    for one in answer["predictions"][0]["maps"]:
        assert (one["axes"], one["frame"]) == (["row", "column"], 2)
        np.testing.assert_allclose(found[one["name"]][0], one["values"], atol=1e-6)


def test_a_map_is_an_output_that_can_be_named(infer: Infer) -> None:
    found = outputs(infer(outputs=[{"name": "rollout"}, {"name": "label"}]))
    assert list(found) == ["rollout", "label", "tokens"]
    both = outputs(infer(outputs=[{"name": "label"}], parameters={"maps": "rollout"}))
    assert list(both) == ["label", "rollout", "tokens"]
    np.testing.assert_allclose(both["rollout"], found["rollout"], atol=1e-6)
    assert list(outputs(infer(outputs=[{"name": "tokens"}]))) == ["tokens"]


def test_the_best_labels_are_written_as_triton_writes_them(infer: Infer) -> None:
    asked = [
        {"name": "scores", "parameters": {"classification": 2}},
        {"name": "logits", "parameters": {"classification": 99}},
    ]
    found = outputs(infer(text(TEXT, "x"), outputs=asked))
    plain = outputs(infer(text(TEXT, "x")))
    assert (found["scores"].shape, found["logits"].shape) == ((2, 2), (2, 4))
    for name in ("scores", "logits"):
        for row, best in enumerate(found[name]):
            order = (-plain[name][row]).argsort()
            for written, index in zip(best, order, strict=False):
                value, position, label = written.split(":")
                assert (int(position), label) == (index, LABELS[index])
                assert float(value) == pytest.approx(plain[name][row][index], abs=1e-5)


def test_pairs_may_stand_beside_texts_alone(scoring_client: TestClient) -> None:
    pair = text("yes", "", name="text_pair")
    body = json.dumps({"inputs": [text(TEXT, "x"), pair]})
    response = scoring_client.post("/v2/models/tiny-pairs/infer", content=body)
    found = outputs(response)
    expected = scoring_client.post(
        "/v1/models/tiny-pairs/predict", json={"text": [TEXT, "x"], "text_pair": ["yes", None]}
    ).json()["predictions"]
    np.testing.assert_allclose(found["scores"].ravel(), [one["score"] for one in expected], atol=1e-6)
    metadata = scoring_client.get("/v2/models/tiny-pairs/config").json()
    assert [one["name"] for one in metadata["input"]][:2] == ["text", "text_pair"]


@pytest.fixture(scope="module")
def ids(repository: Path) -> dict[str, Any]:
    """TEXT as the tiny model's tokens."""
    tokenizer = Tokenizer.from_file(str(repository / "tiny-text" / "1" / "tokenizer.json"))
    ids = tokenizer.encode(TEXT).ids
    return {"name": "input_ids", "shape": [1, len(ids)], "datatype": "INT64", "data": ids}


def test_tokens_give_what_their_text_gives(ids: dict[str, Any], infer: Infer) -> None:
    count = ids["shape"][1]
    padded = {**ids, "shape": [1, count + 3], "data": [*ids["data"], 7, 7, 7]}
    lengths = {"name": "lengths", "shape": [1], "datatype": "INT64", "data": [count]}
    types = {**padded, "name": "token_types", "data": [0] * (count + 3)}
    expected = outputs(infer(parameters={"maps": "cls"}))
    for inputs in ([ids], [padded, lengths], [lengths, padded, types]):
        found = outputs(infer(*inputs, parameters={"maps": "cls"}))
        np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-5)
        np.testing.assert_allclose(found["cls"], expected["cls"], atol=1e-5)
        assert found["tokens"].shape == expected["tokens"].shape


IDS = {"name": "input_ids", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}
WRONG: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "an unknown input": ([{**IDS, "name": "pixels"}], {}, "no input 'pixels'; it has text, input_ids"),
    "both forms": ([text(TEXT), IDS], {}, "either text, or input_ids and lengths"),
    "a part of a form": ([{**IDS, "name": "lengths"}], {}, "either text"),
    "a pair for a model of one": ([text(TEXT), text("x", name="text_pair")], {}, "no input 'text_pair'"),
    "another datatype": ([{**IDS, "datatype": "INT32"}], {}, "inputs.input_ids.datatype: INT64, not INT32"),
    "numbers for text": ([{**IDS, "name": "text"}], {}, "inputs.text.datatype: BYTES"),
    "too many axes": ([text(TEXT, shape=[1, 1, 1])], {}, "inputs.text.shape: [1, 1, 1] is not [-1, 1]"),
    "no axis at all": ([text(TEXT, shape=[])], {}, "inputs.text.shape: [] is not"),
    "two texts a row": ([text("a", "b", shape=[1, 2])], {}, "inputs.text.shape: [1, 2] is not [-1, 1]"),
    "tokens without rows": ([{**IDS, "shape": [2]}], {}, "inputs.input_ids.shape: [2] is not [-1, -1]"),
    "other rows": (
        [IDS, {**IDS, "name": "lengths", "shape": [2]}],
        {},
        "inputs.lengths.shape: [2] is not [-1, 1], with the same rows",
    ),
    "more rows than max_items": ([text(*"abcde")], {}, "inputs.text.shape: 5 rows, max_items is 4"),
    "a token nobody knows": ([{**IDS, "data": [1, 259]}], {}, "inputs.input_ids: row 0"),
    "too many tokens": (
        [{**IDS, "shape": [1, 65], "data": [1] * 65}],
        {},
        "inputs.input_ids: 65 tokens, the model takes 64",
    ),
    "an empty text": ([text(" ")], {}, "the text is empty"),
    "an unknown output": ([text(TEXT)], {"outputs": [{"name": "cam"}]}, "no output 'cam'; it has label"),
    "classes of labels": (
        [text(TEXT)],
        {"outputs": [{"name": "label", "parameters": {"classification": 1}}]},
        "outputs.label.classification",
    ),
    "classes of a map": (
        [text(TEXT)],
        {"outputs": [{"name": "cls", "parameters": {"classification": 1}}]},
        "outputs.cls.classification",
    ),
    "an unknown map": ([text(TEXT)], {"parameters": {"maps": "cam"}}, "no map 'cam'; it has"),
    "a number for maps": ([text(TEXT)], {"parameters": {"maps": 1}}, "maps: "),
    "true for a layer": ([text(TEXT)], {"parameters": {"layers": True}}, "layers: "),
    "a fraction for a head": ([text(TEXT)], {"parameters": {"heads": 1.5}}, "heads: "),
    "an unknown layer": ([text(TEXT)], {"parameters": {"maps": "cls", "layers": 9}}, "layers: map cls has 2"),
    "an unknown head": ([text(TEXT)], {"parameters": {"maps": "cls", "heads": "some"}}, "heads"),
    "an unknown label": ([text(TEXT)], {"parameters": {"target": "sideways"}}, "no label 'sideways'"),
    "a token below 0": ([text(TEXT)], {"parameters": {"maps": "attention", "token": -1}}, "token: "),
    "a token behind the last": (
        [text("x")],
        {"parameters": {"maps": "attention", "token": 3}},
        "token: the input has 3 tokens, from 0 to 2",
    ),
    "true for a token": ([text(TEXT)], {"parameters": {"maps": "attention", "token": True}}, "token: "),
    "a word for a token": ([text(TEXT)], {"parameters": {"maps": "attention", "token": "a"}}, "token: "),
    "rows without an end": ([text(TEXT)], {"parameters": {"maps": "attention", "rows": "1:"}}, "rows: "),
    "rows that end before they start": (
        [text("x")],
        {"parameters": {"maps": "attention", "rows": "2:1"}},
        "rows: the input has 3 tokens",
    ),
    "rows of one text that another has not": (
        [text(TEXT, "x")],
        {"parameters": {"maps": "attention", "rows": "3:9"}},
        "rows: the input has 3 tokens",
    ),
    "rows and a token": (
        [text(TEXT)],
        {"parameters": {"maps": "attention", "rows": "0:1", "token": 0}},
        "token and rows",
    ),
    "slices of all layers": (
        [text(TEXT)],
        {"parameters": {"maps": "attention", "layers": "all"}},
        "layers: map attention is made of one layer at a time",
    ),
    "a number for rows": ([text(TEXT)], {"parameters": {"maps": "attention", "rows": 3}}, "rows: "),
    "a frame below 0": ([text(TEXT)], {"parameters": {"frame": -1}}, "frame: "),
    "all discarded": ([text(TEXT)], {"parameters": {"discard": 1}}, "discard must be from 0 to below 1"),
    "as good as all discarded": (
        [text(TEXT)],
        {"parameters": {"maps": "rollout", "discard": 1 - 1e-12}},
        "discard must be from 0 to below 1",
    ),
    "a word for a share": ([text(TEXT)], {"parameters": {"discard": "much"}}, "discard: "),
    "no mass": ([text(TEXT)], {"parameters": {"maps": "cls", "mass": 0}}, "mass must be above 0"),
    "too much mass": (
        [text(TEXT)],
        {"parameters": {"maps": "cls", "mass": 1.01}},
        "mass must be above 0 and at most 1",
    ),
    "a top of none": ([text(TEXT)], {"parameters": {"maps": "cls", "top": 0}}, "top must be 1 or more"),
    "maybe verified": ([text(TEXT)], {"parameters": {"verify": "maybe"}}, "verify: "),
    "verified thrice": ([text(TEXT)], {"parameters": {"verify": 3}}, "verify: "),
    "a list for a parameter": ([text(TEXT)], {"parameters": {"maps": ["cls"]}}, "parameters: 'maps'"),
    "a negative timeout": ([text(TEXT)], {"parameters": {"timeout": -1}}, "timeout"),
    "a fraction for a timeout": ([text(TEXT)], {"parameters": {"timeout": 0.5}}, "timeout"),
    "true for a timeout": ([text(TEXT)], {"parameters": {"timeout": True}}, "timeout"),
    "a timeout beyond all bounds": ([text(TEXT)], {"parameters": {"timeout": 10**400}}, "timeout"),
    "a sequence": ([text(TEXT)], {"parameters": {"sequence_id": 7}}, "parameters.sequence_id"),
    "a sequence by name": ([text(TEXT)], {"parameters": {"sequence_id": "a"}}, "parameters.sequence_id"),
    "the start of a sequence": ([text(TEXT)], {"parameters": {"sequence_start": True}}, "sequence_start"),
    **{
        f"{name} of /v1": ([text(TEXT)], {"parameters": {"maps": "cls", name: value}}, f"parameters.{name}: ")
        for name, value in (
            *(
                ("words", True),
                ("special", "hide"),
                ("top_k", 1),
                ("inline", True),
                ("layer", 0),
                ("head", 0),
            ),
            *(("size", 64), ("theme", "dark")),
        )
    },
    "a priority": ([text(TEXT)], {"parameters": {"priority": 1}}, "parameters.priority"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told_and_nothing_runs(
    client: TestClient, infer: Infer, good: Any, settings: Settings, wrong: str
) -> None:
    inputs, fields, said = WRONG[wrong]
    before = repr(client.app.state.inference.admission)  # type: ignore[attr-defined]
    response = infer(*inputs, **fields)
    assert response.status_code == 400, response.text
    assert list(response.json()) == ["error"]
    assert said in response.json()["error"]
    for leak in ("Traceback", ".py", str(settings.models), str(Path(service.__file__).parent)):
        assert leak not in response.text
    assert repr(client.app.state.inference.admission) == before  # type: ignore[attr-defined]
    assert v1(client, text=TEXT, inline=False) == good


def test_what_clients_send_without_meaning_it_is_no_fault(infer: Infer) -> None:
    parameters = {
        **{"timeout": 0, "priority": 0, "sequence_id": 0, "sequence_start": False, "sequence_end": False},
        **{"mine": "passes", "also": 1.5},
    }
    outputs(infer(parameters=parameters, model_name="tiny-text", outputs=[]))


@pytest.mark.parametrize("field", ["text", "text_pair"])
def test_text_is_utf8(scoring_client: TestClient, field: str) -> None:
    sizes = {"text": b"ok", "text_pair": b"ok"} | {field: b"\xff\xfe"}
    data = b"".join(struct.pack("<I", len(one)) + one for one in sizes.values())
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": 4 + len(one)},
                }
                for name, one in sizes.items()
            ]
        }
    ).encode()
    response = scoring_client.post(
        "/v2/models/tiny-pairs/infer",
        content=head + data,
        headers={"inference-header-content-length": str(len(head))},
    )
    assert response.status_code == 400
    assert response.json() == {"error": f"inputs.{field}: row 0 is not UTF-8"}


@pytest.mark.parametrize(
    ("family", "name", "shape"),
    [("image", "pixels", [1, 3, 32, 31]), ("video", "frames", [1, 5, 3, 32, 32])],
)
def test_pictures_have_the_shape_of_the_model(infer: Infer, family: str, name: str, shape: list[int]) -> None:
    tensor = {"name": name, "shape": shape, "datatype": "FP32", "data": [0.5] * int(np.prod(shape))}
    response = infer(tensor, model=f"tiny-{family}")
    assert response.status_code == 400
    assert f"inputs.{name}.shape: {shape} is not [-1, " in response.json()["error"]


def test_values_that_no_logits_come_of_are_told(infer: Infer) -> None:
    values = np.where(np.arange(3 * 32 * 32) % 2, 3e38, -3e38)
    tensor = {"name": "pixels", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": values.tolist()}
    response = infer(tensor, model="tiny-image")
    assert response.status_code == 400
    assert "logits are not finite" in response.json()["error"]


@pytest.mark.parametrize(("family", "name"), [("image", "image"), ("video", "video")])
def test_media_that_cannot_be_read_is_a_fault_of_the_media(infer: Infer, family: str, name: str) -> None:
    response = infer(text("no picture", name=name), model=f"tiny-{family}")
    assert response.status_code == 415
    assert list(response.json()) == ["error"]


PACK = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", PACK)
def test_a_packed_body_is_unpacked_within_the_limit(
    client: TestClient, settings: Settings, encoding: str
) -> None:
    def send(body: bytes) -> httpx2.Response:
        headers = {"content-encoding": encoding}
        return client.post("/v2/models/tiny-text/infer", content=PACK[encoding](body), headers=headers)

    sound = json.dumps({"inputs": [text(TEXT)]}).encode()
    assert send(sound).status_code == 200
    response = send(sound + b" " * settings.max_body_bytes)
    assert response.status_code == 413
    assert str(settings.max_body_bytes) in response.json()["error"]
    assert send(b"{").status_code == 400


def test_an_encoding_that_is_not_read_is_415(client: TestClient) -> None:
    for encoding in ("br", "gzip, deflate"):
        response = client.post(
            "/v2/models/tiny-text/infer", content=b"{}", headers={"content-encoding": encoding}
        )
        assert response.status_code == 415
        assert "gzip, deflate" in response.json()["error"]
    twice = client.post(
        "/v2/models/tiny-text/infer",
        content=b"{}",
        headers=[("content-encoding", "gzip"), ("content-encoding", "gzip")],
    )
    assert twice.status_code == 415


@pytest.mark.parametrize(
    "path",
    [
        "models/nobody",
        "models/nobody/config",
        "models/nobody/ready",
        "models/nobody/stats",
        "models/tiny-text/versions/9",
        "models/tiny-text/versions/9/ready",
        "models/tiny-text/versions/x/config",
        "models/tiny-text/versions/9/stats",
        "nothing",
    ],
)
def test_what_is_not_there_is_404(client: TestClient, path: str) -> None:
    response = client.get(f"/v2/{path}")
    assert response.status_code == 404
    assert list(response.json()) == ["error"]


def test_a_model_that_is_not_there_is_said_before_its_body_is_read(infer: Infer) -> None:
    response = infer(text("x" * 100_000), model="nobody")
    assert (response.status_code, list(response.json())) == (404, ["error"])


@pytest.mark.parametrize(
    ("call", "body", "said"),
    [
        ("index", "[]", "no JSON object"),
        ("index", '{"ready": 1}', "ready"),
        ("models/tiny-text/load", "x", "no JSON"),
        ("models/tiny-text/load", '{"parameters": []}', "parameters"),
        ("models/tiny-text/load", '{"parameters": {"config": "{}"}}', "'config'"),
        ("models/tiny-text/load", '{"parameters": {"file:1/model.onnx": "AAAA"}}', "'file:1/model.onnx'"),
        ("models/tiny-text/unload", '{"parameters": {"unload_dependents": "yes"}}', "unload_dependents"),
        ("models/tiny-text/unload", '{"parameters": {"force": true}}', "'force'"),
    ],
)
def test_calls_of_the_repository_take_what_they_know(
    client: TestClient, call: str, body: str, said: str
) -> None:
    response = client.post(f"/v2/repository/{call}", content=body)
    assert response.status_code == 400
    assert said in response.json()["error"]
    assert client.get("/v2/models/tiny-text/ready").status_code == 200


def test_the_index_names_what_was_refused_and_can_leave_it_out(
    text_repository: Path, settings: Settings
) -> None:
    broken = text_repository / "tiny-text" / "2"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    with TestClient(create_app(settings.model_copy(update={"models": text_repository}))) as client:
        ready, refused = client.post("/v2/repository/index").json()
        assert ready == {"name": "tiny-text", "version": "1", "state": "READY", "reason": ""}
        assert (refused["version"], refused["state"]) == ("2", "UNAVAILABLE")
        assert refused["reason"]
        assert client.post("/v2/repository/index", content='{"ready": true}').json() == [ready]
        response = client.get("/v2/models/tiny-text/versions/2/ready")
        assert response.status_code == 503
        assert refused["reason"] in response.json()["error"]
        assert client.get("/v2/models/tiny-text").json()["versions"] == ["1"]
        assert [one["version"] for one in client.get("/v2/models/stats").json()["model_stats"]] == ["1"]


def test_a_version_is_in_the_path_alone(client: TestClient) -> None:
    assert client.get("/v2/models/tiny-text", params={"version": "9"}).status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}/infer"):
        (call,) = paths[path].values()
        named = {one["name"] for one in call["parameters"] if one["in"] != "header"}
        assert {f"{{{name}}}" in path for name in named} == {True}


def test_openapi_says_what_there_is(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    infer = paths["/v2/models/{name}/infer"]["post"]
    assert {"application/json", "application/octet-stream"} == set(infer["requestBody"]["content"])
    assert {"200", "400", "401", "403", "404", "413", "415", "422", "503", "504"} <= set(infer["responses"])
    assert sum(len(methods) for path, methods in paths.items() if path.startswith("/v2")) == 17


def test_what_a_request_may_say_is_documented(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    call = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert [one["name"].lower() for one in call["parameters"]] == ["name", "inference-header-content-length"]
    schema = call["requestBody"]["content"]["application/json"]["schema"]
    known = {"timeout", "binary_data_output", *MAP_OPTIONS}
    assert schema["properties"]["parameters"]["properties"].keys() == known
    assert "500" in call["responses"]
