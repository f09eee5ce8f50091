"""Every call of the Open Inference Protocol as tritonclient makes it, sync and async, to a real server."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tritonclient import http
from tritonclient.http import InferInput, InferRequestedOutput, InferResult, aio
from tritonclient.utils import InferenceServerException

from service.settings import DEMO

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = (EXAMPLES / "snippet.rs").read_text()
RAW: dict[str, tuple[str, tuple[bytes, ...]]] = {
    "code-language": ("text", (TEXT.encode(), b"SELECT name FROM users WHERE id = 1;")),
    "digit-in-clutter": ("image", tuple((EXAMPLES / f"digit-{i}.png").read_bytes() for i in (0, 2))),
    "digit-motion": ("video", tuple((EXAMPLES / f"{name}.mp4").read_bytes() for name in ("up", "grow"))),
}
MODELS = list(RAW)

# The asynchronous client leaves answers unread whose status is all it wants to know.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")

Value = TypeVar("Value")
Serve = Callable[[Path, Path], AbstractContextManager[str]]


@pytest.fixture(scope="module")
def address(server: str) -> str:
    return server.removeprefix("http://")


@pytest.fixture(scope="module")
def triton(address: str) -> Iterator[http.InferenceServerClient]:
    client = http.InferenceServerClient(address, concurrency=4)
    yield client
    client.close()


def bytes_input(
    name: str, values: tuple[bytes, ...], *, column: bool = True, binary: bool = True
) -> InferInput:
    array = np.empty((len(values), 1) if column else len(values), object)
    array.flat = values
    return InferInput(name, list(array.shape), "BYTES").set_data_from_numpy(array, binary_data=binary)


def raw_input(model: str) -> InferInput:
    name, values = RAW[model]
    return bytes_input(name, values)


def text_input(*texts: str, **options: bool) -> InferInput:
    return bytes_input("text", tuple(text.encode() for text in texts), **options)


def predict(client: httpx.Client, model: str, index: int, **options: str) -> dict[str, Any]:
    """What /v1 says of one of the raw inputs."""
    types = {"text": "text/plain", "image": "image/png", "video": "video/mp4"}
    name, values = RAW[model]
    reply = client.post(
        f"/v1/models/{model}/predict",
        params={"top_k": "100", **options},
        content=values[index],
        headers={"content-type": types[name]},
    )
    assert reply.status_code == 200, reply.text
    prediction: dict[str, Any] = reply.json()["predictions"][0]
    return prediction


def ask_async(address: str, call: Callable[[aio.InferenceServerClient], Awaitable[Value]]) -> Value:
    """The result of one call of the asynchronous client."""

    async def run() -> Value:
        async with aio.InferenceServerClient(address) as client:
            return await asyncio.wait_for(call(client), 30)

    return asyncio.run(run())


def refused(call: Callable[[], object], status: int) -> str:
    with pytest.raises(InferenceServerException) as caught:
        call()
    assert caught.value.status() == str(status)
    return str(caught.value.message())


def test_the_server_is_live_and_ready(triton: http.InferenceServerClient, address: str) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert ask_async(address, lambda client: client.is_server_live())
    assert ask_async(address, lambda client: client.is_server_ready())


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_ready_and_described(triton: http.InferenceServerClient, address: str, model: str) -> None:
    assert triton.is_model_ready(model)
    assert triton.is_model_ready(model, "1")
    assert not triton.is_model_ready(model, "2")
    assert not triton.is_model_ready("nobody")
    metadata = triton.get_model_metadata(model)
    assert metadata == triton.get_model_metadata(model, "1")
    assert metadata == ask_async(address, lambda client: client.get_model_metadata(model))
    assert (metadata["name"], metadata["versions"]) == (model, ["1"])
    assert metadata["inputs"][0] == {"name": RAW[model][0], "datatype": "BYTES", "shape": [-1, 1]}
    assert [one["name"] for one in metadata["outputs"]] == ["label", "scores", "logits"]
    config = triton.get_model_config(model, "1")
    assert config == ask_async(address, lambda client: client.get_model_config(model))
    assert [one["name"] for one in config["input"]] == [one["name"] for one in metadata["inputs"]]


def test_the_server_names_its_extensions(triton: http.InferenceServerClient, address: str) -> None:
    metadata = triton.get_server_metadata()
    assert metadata == ask_async(address, lambda client: client.get_server_metadata())
    assert metadata["name"] == "regard"
    assert {"binary_tensor_data", "classification", "statistics"} <= set(metadata["extensions"])


@pytest.mark.parametrize("model", MODELS)
def test_raw_input_is_predicted_as_by_v1(
    triton: http.InferenceServerClient, client: httpx.Client, model: str
) -> None:
    result = triton.infer(model, [raw_input(model)], request_id="42")
    head = result.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == (model, "1", "42")
    labels = client.get(f"/v1/models/{model}").json()["labels"]
    scores = result.as_numpy("scores")
    assert (scores.shape, scores.dtype) == ((2, len(labels)), np.float32)
    for row in range(2):
        expected = predict(client, model, row)
        assert result.as_numpy("label")[row].decode() == expected["label"]
        by_label = {one["label"]: one["score"] for one in expected["top"]}
        np.testing.assert_allclose(scores[row], [by_label[label] for label in labels], atol=1e-5)
    powers = np.exp(result.as_numpy("logits"))
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), scores, atol=1e-5)


def same(found: InferResult, expected: InferResult) -> None:
    """What was found is in both, where text that came in JSON is str."""
    for one in found.get_response()["outputs"]:
        values, wanted = found.as_numpy(one["name"]), expected.as_numpy(one["name"])
        if values.dtype == object:
            values, wanted = (
                [text if isinstance(text, str) else text.decode() for text in array.flat]
                for array in (values, wanted)
            )
            assert values == wanted
        else:
            np.testing.assert_allclose(values, wanted, atol=1e-5)


@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("column", [True, False])
def test_binary_and_json_say_the_same(
    triton: http.InferenceServerClient, address: str, binary_input: bool, binary_output: bool, column: bool
) -> None:
    outputs = [
        InferRequestedOutput(name, binary_data=binary_output) for name in ("logits", "label", "rollout")
    ]
    sent = [text_input(TEXT, "x = 1", column=column, binary=binary_input)]
    result = triton.infer("code-language", sent, outputs=outputs)
    for name in ("logits", "label", "rollout"):
        assert ("data" in result.get_output(name)) == (not binary_output)
    same(result, triton.infer("code-language", [text_input(TEXT, "x = 1")], parameters={"maps": "rollout"}))
    same(ask_async(address, lambda client: client.infer("code-language", sent, outputs=outputs)), result)


@pytest.mark.parametrize("response", [None, "gzip", "deflate"])
@pytest.mark.parametrize("request_", [None, "gzip", "deflate"])
def test_bodies_are_packed_both_ways(
    triton: http.InferenceServerClient, address: str, request_: str | None, response: str | None
) -> None:
    plain = triton.infer("code-language", [text_input(TEXT)], parameters={"maps": "cls"})
    options: dict[str, Any] = {
        "parameters": {"maps": "cls"},
        "request_compression_algorithm": request_,
        "response_compression_algorithm": response,
    }
    same(triton.infer("code-language", [text_input(TEXT)], **options), plain)
    same(
        ask_async(address, lambda client: client.infer("code-language", [text_input(TEXT)], **options)), plain
    )


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_answer_is_packed_where_that_was_asked_for(client: httpx.Client, encoding: str) -> None:
    body = {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}],
        "parameters": {"binary_data_output": True, "maps": "cls", "layers": "all", "heads": "all"},
    }
    found = {}
    for accept in ("identity", encoding):
        path = "/v2/models/code-language/infer"
        with client.stream("POST", path, json=body, headers={"accept-encoding": accept}) as reply:
            assert reply.headers.get("content-encoding", "identity") == accept
            assert reply.headers["content-type"] == "application/octet-stream"
            raw = b"".join(reply.iter_raw())
            found[accept] = InferResult.from_response_body(
                raw,
                header_length=int(reply.headers["inference-header-content-length"]),
                content_encoding=reply.headers.get("content-encoding"),
            )
    same(found[encoding], found["identity"])


def test_requests_in_flight_are_answered_each_with_its_own(triton: http.InferenceServerClient) -> None:
    texts = [f"let value = {index};" * (1 + index % 3) for index in range(24)]
    flying = [triton.async_infer("code-language", [text_input(text)], request_id=text) for text in texts]
    # The client holds a connection until the answer on it is taken, and has no more than four.
    results = [one.get_result(timeout=30) for one in flying]
    for text, result in zip(texts, results, strict=True):
        assert result.get_response()["id"] == text
        same(result, triton.infer("code-language", [text_input(text)]))


@pytest.mark.parametrize("model", MODELS)
def test_maps_are_those_of_v1(triton: http.InferenceServerClient, client: httpx.Client, model: str) -> None:
    names = triton.get_model_config(model)["parameters"]["maps"]["string_value"]
    result = triton.infer(model, [raw_input(model)], parameters={"maps": names})
    for row in range(2):
        prediction = predict(client, model, row, maps=names)
        assert [one["name"] for one in prediction["maps"]] == names.split(",")
        for info in prediction["maps"]:
            reply = client.get(info["links"]["npy"])
            expected = np.load(io.BytesIO(reply.content), allow_pickle=False)
            values = result.as_numpy(info["name"])[row]
            seen = tuple(slice(size) for size in expected.shape)
            np.testing.assert_allclose(values[seen], expected, atol=1e-5)
            assert np.count_nonzero(values) == np.count_nonzero(values[seen])
        if model == "code-language":
            tokens = prediction["input"]["tokens"]
            found = [one.decode() for one in result.as_numpy("tokens")[row]]
            assert found[: len(tokens)] == tokens
            assert not any(found[len(tokens) :])


def test_layers_and_heads_are_chosen_as_under_v1(
    triton: http.InferenceServerClient, client: httpx.Client
) -> None:
    parameters = {"maps": "cls", "layers": "all", "heads": "all"}
    result = triton.infer("code-language", [text_input(TEXT)], parameters=parameters)
    (info,) = predict(client, "code-language", 0, inline="true", **parameters)["maps"]
    np.testing.assert_allclose(result.as_numpy("cls")[0], info["values"], atol=1e-5)
    assert result.as_numpy("cls").shape == (1, *info["shape"])


@pytest.mark.parametrize("binary", [True, False])
def test_the_best_labels_are_given_as_classes(triton: http.InferenceServerClient, binary: bool) -> None:
    output = InferRequestedOutput("scores", binary_data=binary, class_count=3)
    classes = triton.infer("digit-in-clutter", [raw_input("digit-in-clutter")], outputs=[output])
    plain = triton.infer("digit-in-clutter", [raw_input("digit-in-clutter")])
    found = classes.as_numpy("scores")
    assert found.shape == (2, 3)
    for row in range(2):
        best = [one.decode() if isinstance(one, bytes) else one for one in found[row]]
        value, index, label = best[0].split(":")
        assert label == plain.as_numpy("label")[row].decode()
        assert float(value) == pytest.approx(plain.as_numpy("scores")[row][int(index)], abs=1e-6)
        assert sorted(best, key=lambda one: -float(one.split(":")[0])) == best


def tensor(name: str, values: np.ndarray, datatype: str, *, binary: bool = True) -> InferInput:
    return InferInput(name, list(values.shape), datatype).set_data_from_numpy(values, binary_data=binary)


@pytest.mark.parametrize("binary", [True, False])
def test_the_tensors_of_a_text_model(triton: http.InferenceServerClient, binary: bool) -> None:
    tokenizer = Tokenizer.from_file(str(DEMO / "code-language" / "1" / "tokenizer.json"))
    texts = [TEXT, "SELECT 1;"]
    rows = [tokenizer.encode(text).ids for text in texts]
    ids = np.zeros((2, max(map(len, rows))), np.int64)
    for row, one in enumerate(rows):
        ids[row, : len(one)] = one
    lengths = np.array([len(one) for one in rows])
    for shape in ((2,), (2, 1)):
        inputs = [
            tensor("input_ids", ids, "INT64", binary=binary),
            tensor("lengths", lengths.reshape(shape), "INT64", binary=binary),
        ]
        found = triton.infer("code-language", inputs, parameters={"maps": "rollout"})
        expected = triton.infer("code-language", [text_input(*texts)], parameters={"maps": "rollout"})
        for name in ("logits", "rollout"):
            np.testing.assert_allclose(found.as_numpy(name), expected.as_numpy(name), atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_the_tensors_of_a_picture_model(triton: http.InferenceServerClient, binary: bool) -> None:
    pictures = []
    for encoded in RAW["digit-in-clutter"][1]:
        with Image.open(io.BytesIO(encoded)) as image:
            assert image.size == (96, 96)
            values = np.asarray(image.convert("RGB"), np.float32) / 255
        pictures.append(((values - 0.5) / 0.25).transpose(2, 0, 1))
    pixels = np.stack(pictures).astype(np.float32)
    found = triton.infer("digit-in-clutter", [tensor("pixels", pixels, "FP32", binary=binary)])
    expected = triton.infer("digit-in-clutter", [raw_input("digit-in-clutter")])
    np.testing.assert_allclose(found.as_numpy("logits"), expected.as_numpy("logits"), atol=1e-4)


def test_the_tensors_of_a_clip_model(triton: http.InferenceServerClient) -> None:
    frames = np.random.default_rng(0).normal(size=(2, 8, 3, 64, 64)).astype(np.float32)
    together = triton.infer("digit-motion", [tensor("frames", frames, "FP32")])
    for row in range(2):
        alone = triton.infer("digit-motion", [tensor("frames", frames[row : row + 1], "FP32")])
        np.testing.assert_allclose(alone.as_numpy("logits")[0], together.as_numpy("logits")[row], atol=1e-4)


def test_errors_reach_the_client_in_words(triton: http.InferenceServerClient, address: str) -> None:
    sent = [text_input(TEXT)]
    assert "no model 'nobody'" in refused(lambda: triton.infer("nobody", sent), 404)
    assert "no version '7'" in refused(lambda: triton.infer("code-language", sent, "7"), 404)
    assert "no version '7'" in refused(lambda: triton.get_model_metadata("code-language", "7"), 404)
    assert "nobody" in refused(lambda: triton.get_inference_statistics("nobody"), 404)
    unknown = [bytes_input("prompt", (b"x",))]
    assert "no input 'prompt'" in refused(lambda: triton.infer("code-language", unknown), 400)
    output = [InferRequestedOutput("embedding")]
    assert "no output 'embedding'" in refused(
        lambda: triton.infer("code-language", sent, outputs=output), 400
    )
    numbers = [tensor("text", np.zeros(1, np.float32), "FP32")]
    assert "BYTES, not FP32" in refused(lambda: triton.infer("code-language", numbers), 400)
    narrow = [tensor("pixels", np.zeros((1, 3, 96, 95), np.float32), "FP32")]
    assert "[1, 3, 96, 95]" in refused(lambda: triton.infer("digit-in-clutter", narrow), 400)
    many = [text_input(*["x"] * 33)]
    assert "max_items is 32" in refused(lambda: triton.infer("code-language", many), 400)
    maps = {"maps": "cam"}
    assert "no map 'cam'" in refused(lambda: triton.infer("code-language", sent, parameters=maps), 400)
    assert "sequence" in refused(lambda: triton.infer("code-language", sent, sequence_id=7), 400)
    assert "priority" in refused(lambda: triton.infer("code-language", sent, priority=2), 400)
    shared = InferInput("text", [1], "BYTES")
    shared.set_shared_memory("region", 8)
    assert "shared memory" in refused(lambda: triton.infer("code-language", [shared]), 400)
    assert "no model 'nobody'" in refused(
        lambda: ask_async(address, lambda client: client.infer("nobody", sent)), 404
    )


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT64", "FP16", "FP64"])
def test_a_datatype_that_no_model_takes_is_named(triton: http.InferenceServerClient, datatype: str) -> None:
    dtypes = {"BOOL": bool, "INT8": np.int8, "UINT64": np.uint64, "FP16": np.float16, "FP64": np.float64}
    values = [tensor("input_ids", np.ones((1, 3), dtypes[datatype]), datatype)]
    assert f"INT64, not {datatype}" in refused(lambda: triton.infer("code-language", values), 400)


def test_what_is_no_request_is_refused_and_the_connection_serves_on(client: httpx.Client) -> None:
    for body in (b"", b"{", b"\xff", b'{"inputs": NaN}', b"[" * 10_000):
        reply = client.post("/v2/models/code-language/infer", content=body)
        assert reply.status_code == 400
        assert list(reply.json()) == ["error"]
    assert client.get("/v2/health/ready").status_code == 200


def test_a_request_that_takes_too_long_is_given_up(triton: http.InferenceServerClient) -> None:
    sent = [text_input(*[TEXT * 20] * 8)]
    assert "no answer within 1e-06 seconds" in refused(
        lambda: triton.infer("code-language", sent, timeout=1), 504
    )
    triton.infer("code-language", sent, timeout=30_000_000)


def test_statistics_count_what_was_asked(triton: http.InferenceServerClient, address: str) -> None:
    def read() -> dict[str, Any]:
        (one,) = triton.get_inference_statistics("code-language", "1")["model_stats"]
        found: dict[str, Any] = one
        return found

    before = read()
    for texts in (["a = 1"], ["b = 2", "c = 3", "d = 4"]):
        triton.infer("code-language", [text_input(*texts)])
    refused(lambda: triton.infer("code-language", [text_input("")]), 400)
    after = read()
    assert after["inference_count"] - before["inference_count"] == 4
    assert 2 <= after["execution_count"] - before["execution_count"] <= 4
    assert after["last_inference"] >= before["last_inference"] > 0
    for stage, count in {"success": 2, "fail": 1, "queue": 2, "compute_infer": 2, "cache_hit": 0}.items():
        was, spent = before["inference_stats"][stage], after["inference_stats"][stage]
        assert spent["count"] - was["count"] == count
        assert (spent["ns"] > was["ns"]) == bool(count)
    sizes = sum(one["compute_infer"]["count"] * one["batch_size"] for one in after["batch_stats"])
    assert sizes >= after["inference_count"]
    listed = triton.get_inference_statistics()["model_stats"]
    assert [one["name"] for one in listed] == sorted(MODELS)
    assert ask_async(address, lambda client: client.get_inference_statistics("code-language"))["model_stats"]


def test_models_are_loaded_and_unloaded_on_demand(serve: Serve, tmp_path: Path, client: httpx.Client) -> None:
    root = tmp_path / "models"
    shutil.copytree(DEMO / "code-language", root / "code-language")
    shutil.copytree(DEMO / "digit-in-clutter", root / "digit-in-clutter")
    with serve(root, tmp_path / "log") as url:
        address = url.removeprefix("http://")
        triton = http.InferenceServerClient(address)
        try:
            _come_and_go(triton, address, root)
        finally:
            triton.close()


def _come_and_go(triton: http.InferenceServerClient, address: str, root: Path) -> None:
    def states() -> dict[tuple[str, str], str]:
        """As soon as nothing is on its way out."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            index = triton.get_model_repository_index()
            if all(one["state"] != "UNLOADING" for one in index):
                return {(one["name"], one["version"]): one["state"] for one in index}
        raise AssertionError(f"not unloaded after 10 s: {index}")

    ready = {("code-language", "1"): "READY", ("digit-in-clutter", "1"): "READY"}
    assert states() == ready
    assert len(ask_async(address, lambda client: client.get_model_repository_index())) == 2
    triton.unload_model("code-language", unload_dependents=True)
    assert not triton.is_model_ready("code-language")
    assert states() == ready | {("code-language", "1"): "UNAVAILABLE"}
    assert "unloaded" in refused(lambda: triton.infer("code-language", [text_input("x")]), 404)
    triton.infer("digit-in-clutter", [raw_input("digit-in-clutter")])
    triton.load_model("code-language")
    assert states() == ready
    triton.infer("code-language", [text_input("x")])

    second = root / "code-language" / "2"
    shutil.copytree(root / "code-language" / "1", second)
    manifest = json.loads((second / "manifest.json").read_text())
    (second / "manifest.json").write_text(json.dumps(manifest | {"version": "2"}))
    triton.load_model("code-language")
    assert states() == ready | {("code-language", "2"): "READY"}
    assert triton.get_model_metadata("code-language")["versions"] == ["1", "2"]
    for version, answering in (("", "2"), ("1", "1"), ("2", "2")):
        result = triton.infer("code-language", [text_input("x")], version)
        assert result.get_response()["model_version"] == answering

    ask_async(address, lambda client: client.unload_model("code-language"))
    ask_async(address, lambda client: client.load_model("code-language"))
    assert triton.is_model_ready("code-language", "2")
    assert "no model 'nobody'" in refused(lambda: triton.load_model("nobody"), 404)
    assert "no model 'nobody'" in refused(lambda: triton.unload_model("nobody"), 404)
    assert "'config'" in refused(lambda: triton.load_model("code-language", config="{}"), 400)
