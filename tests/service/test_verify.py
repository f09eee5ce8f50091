"""With `verify` an answer holds the proof of the attention behind it, or there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fastapi.testclient import TestClient

from service.answers import TOLERANCES, verified
from service.app import create_app
from service.errors import VerificationFailed
from service.job import Proof
from service.sessions import DeviceTensor, Program
from service.settings import Settings

TEXT = "fn main() { println!(); }"
PREDICT = "/v1/models/tiny-text/predict"
FLOATS = {"fp32": 1e-5, "int8": 1e-5, "fp16": 5e-3}  # what rounding may leave, by what is served

Tamper = Callable[[Callable[[np.ndarray], np.ndarray]], None]


@pytest.fixture
def tamper(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Tamper:
    """Changes what the fused attention of the text model gives, as a broken device would."""
    predictor = client.app.state.inference.registry.get("tiny-text", None)  # type: ignore[attr-defined]

    class Broken:
        def __init__(self, program: Program, change: Callable[[np.ndarray], np.ndarray]) -> None:
            self.program, self.change = program, change
            self.inputs = program.inputs

        def run(self, feeds: Any, outputs: Any) -> dict[str, DeviceTensor]:
            found = self.program.run(feeds, outputs)
            for name in found:
                if name.endswith(".mixed"):
                    values = np.ascontiguousarray(self.change(found[name].numpy().copy()))
                    found[name] = DeviceTensor(onnxruntime.OrtValue.ortvalue_from_numpy(values))
            return found

    def apply(change: Callable[[np.ndarray], np.ndarray]) -> None:
        monkeypatch.setattr(predictor._graphs, "model", Broken(predictor._graphs.model, change))

    return apply


def failures(client: TestClient) -> tuple[float, int]:
    """Of the text model: those that metrics count as unverified, and all that statistics count."""
    lines = client.get("/metrics").text.splitlines()
    counted = [
        float(line.split()[-1])
        for line in lines
        if line.startswith("regard_failures_total") and "VerificationFailed" in line
    ]
    (found,) = client.get("/v2/models/tiny-text/stats").json()["model_stats"]
    return sum(counted), found["inference_stats"]["fail"]["count"]


@pytest.fixture
def body(picture: bytes, clip: bytes) -> dict[str, dict[str, Any]]:
    """How each family's input is sent."""
    return {
        "text": {"content": TEXT, "headers": {"content-type": "text/plain"}},
        "image": {"content": picture, "headers": {"content-type": "image/png"}},
        "video": {"content": clip, "headers": {"content-type": "video/mp4"}},
    }


@pytest.fixture(params=["fp32", "fp16", "int8"])
def served(
    request: pytest.FixtureRequest, gallery: Path, lowered: Any, settings: Settings
) -> Iterator[Callable[[str], tuple[TestClient, str]]]:
    """A server with a family's tiny model in one precision."""
    opened: list[TestClient] = []

    def serve(family: str) -> tuple[TestClient, str]:
        root = gallery if request.param == "fp32" else lowered(family, request.param).parents[1]
        client = TestClient(create_app(settings.model_copy(update={"models": root})))
        opened.append(client.__enter__())
        return client, request.param

    yield serve
    for client in opened:
        client.__exit__(None, None, None)


@pytest.mark.parametrize("family", ["text", "video"])
def test_an_answer_says_what_was_proven_in_every_precision(
    served: Callable[[str], tuple[TestClient, str]], body: dict[str, Any], family: str
) -> None:
    client, precision = served(family)
    layers = set()
    for _ in range(12):
        response = client.post(f"/v1/models/tiny-{family}/predict?verify=true", **body[family])
        assert response.status_code == 200, response.text
        (one,) = response.json()["predictions"]
        proof = one["verification"]
        assert proof["precision"] == precision
        assert proof["tolerance"] == TOLERANCES[precision]  # type: ignore[index]
        for figure in ("row_sum_error", "output_error"):
            assert 0 <= proof[figure] < FLOATS[precision]
        layers.add(proof["layer"])
    taps = [
        tap["name"]
        for tap in client.app.state.inference.registry.get(  # type: ignore[attr-defined]
            f"tiny-{family}", None
        ).manifest.model_dump()["taps"]
    ]
    assert all(f"{layer}.mixed" in taps for layer in layers)
    assert len(layers) > 1


@pytest.mark.parametrize("family", ["text", "image", "video"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_map_is_made_in_lower_precision_too(
    lowered: Any, settings: Settings, body: dict[str, Any], family: str, precision: str
) -> None:
    root = lowered(family, precision).parents[1]
    with TestClient(create_app(settings.model_copy(update={"models": root}))) as client:
        names = [one["name"] for one in client.get(f"/v1/models/tiny-{family}").json()["maps"]]
        tuned = [{"heads": "max", "discard": "0.9999"}, {"discard": "0.5", "token": "0"}]
        for how in ({}, *(tuned if family != "image" else [])):  # a CBAM has no attention to be tuned
            response = client.post(
                f"/v1/models/tiny-{family}/predict",
                params={"maps": ",".join(names), "inline": "true", **how},
                **body[family],
            )
            assert response.status_code == 200, response.text
            for found in response.json()["predictions"][0]["maps"]:
                assert np.isfinite(np.array(found["values"], float)).all(), found["name"]


def test_a_vision_transformer_is_verified_too(gallery_client: TestClient, body: dict[str, Any]) -> None:
    response = gallery_client.post("/v1/models/tiny-vit/predict?verify=true", **body["image"])
    assert response.json()["predictions"][0]["verification"]["output_error"] < 1e-5


def test_without_being_asked_nothing_is_proven(client: TestClient) -> None:
    (one,) = client.post(PREDICT, json={"text": TEXT}).json()["predictions"]
    assert "verification" not in one


def test_every_input_of_a_request_is_verified(client: TestClient) -> None:
    texts = ["a", TEXT, "é" * 20]
    found = client.post(PREDICT, json={"text": texts, "verify": True}).json()["predictions"]
    assert all(one["verification"]["output_error"] < 1e-5 for one in found)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one number": lambda mixed: np.where(np.arange(mixed.size).reshape(mixed.shape) == 37, 9.0, mixed),
    "a scale": lambda mixed: 1.01 * mixed,
    "heads mixed up": lambda mixed: mixed[..., ::-1],
    "tokens mixed up": lambda mixed: mixed[:, ::-1],
    "not finite": lambda mixed: np.where(mixed == mixed.max(), np.nan, mixed),
    "infinite": lambda mixed: np.where(mixed == mixed.max(), np.inf, mixed),
    "nothing": lambda mixed: 0 * mixed,
}


@pytest.mark.parametrize("change", CHANGES)
def test_attention_that_is_not_the_softmax_is_no_answer(
    client: TestClient, tamper: Tamper, change: str
) -> None:
    before = failures(client)
    kept = client.app.state.inference.store.records  # type: ignore[attr-defined]
    tamper(lambda mixed: CHANGES[change](mixed).astype(np.float32))
    response = client.post(PREDICT, json={"text": TEXT, "verify": True, "maps": ["cls"]})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["field"], document["limit"]) == ("verify", TOLERANCES["fp32"])
    assert "layers." in document["detail"]
    assert "is not the softmax of its queries and keys" in document["detail"]
    assert client.app.state.inference.store.records == kept  # type: ignore[attr-defined]
    inputs = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}]
    asked = {"inputs": inputs, "parameters": {"verify": True}}
    response = client.post("/v2/models/tiny-text/infer", json=asked)
    assert response.status_code == 500
    assert "is not the softmax" in response.json()["error"]
    assert failures(client) == (before[0] + 2, before[1] + 2)
    assert client.post(PREDICT, json={"text": TEXT}).status_code == 200  # who does not ask is not told


def test_one_input_that_is_not_proven_fails_its_request_alone(client: TestClient, tamper: Tamper) -> None:
    """Of a batch of several requests the others are answered."""

    def change(mixed: np.ndarray) -> np.ndarray:
        mixed[0] *= 2
        return mixed

    tamper(change)
    found = client.post(PREDICT, json={"text": [TEXT, TEXT], "verify": True})
    assert found.status_code == 500


def test_a_model_without_softmax_attention_says_so(client: TestClient, refused: Any, body: Any) -> None:
    document = refused(
        lambda: client.post("/v1/models/tiny-image/predict?verify=true", **body["image"]),
        400,
        field="verify",
    )
    assert "tiny-image" in document["detail"]
    answer = client.post(
        "/v2/models/tiny-image/infer",
        json={
            "inputs": [{"name": "pixels", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0.0] * 3072}],
            "parameters": {"verify": True},
        },
    )
    assert answer.status_code == 400
    assert "verify" in answer.json()["error"]


@pytest.mark.parametrize(
    ("row_sum_error", "output_error", "fails"),
    [
        (0.0, 0.0, False),
        (1e-4, 1e-4, False),
        (1.1e-4, 0.0, True),
        (0.0, 1.1e-4, True),
        (float("nan"), 0.0, True),
        (0.0, float("nan"), True),
        (0.0, float("inf"), True),
    ],
)
def test_beyond_the_tolerance_and_without_a_figure_there_is_no_proof(
    row_sum_error: float, output_error: float, fails: bool
) -> None:
    proof = Proof(layer="layers.0", row_sum_error=row_sum_error, output_error=output_error)
    if not fails:
        found = verified(proof, "fp32")
        assert found is not None
        assert (found.row_sum_error, found.output_error) == (row_sum_error, output_error)
        return
    with pytest.raises(VerificationFailed) as caught:
        verified(proof, "fp32")
    assert (caught.value.field, caught.value.limit) == ("verify", 1e-4)
