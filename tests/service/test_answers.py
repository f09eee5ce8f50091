"""What is said of scores: shares, independent labels, and values that may be negative."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.answers import prediction
from service.choices import PredictOptions
from service.job import Job, Outcome, Payload
from service.maps import Selection
from service.predictor import Predictor

TEXT = "fn main() { println!(); }"
LABELS = ["left", "right", "up", "down"]


@pytest.fixture(scope="module")
def logits(predictors: dict[str, Predictor]) -> np.ndarray:
    """What the tiny text model says of TEXT, without a server."""
    predictor = predictors["text"]
    (outcome,) = predictor.run([Job(item=predictor.decode(Payload(data=TEXT)))])
    assert outcome.logits.min() < 0 < outcome.logits.max()
    return outcome.logits


def ask(client: TestClient, model: str, **options: Any) -> Any:
    response = client.post(f"/v1/models/{model}/predict", json={"text": TEXT, **options})
    assert response.status_code == 200, response.text
    return response.json()["predictions"][0]


def scores(prediction: Any) -> list[float]:
    """In the order of the labels."""
    found = {one["label"]: one["score"] for one in prediction["top"]}
    return [found[label] for label in LABELS]


@pytest.mark.parametrize("model", ["tiny-none", "tiny-sigmoid"])
def test_the_highest_score_comes_first(scoring_client: TestClient, model: str) -> None:
    one = ask(scoring_client, model, top_k=3)
    top = [found["score"] for found in one["top"]]
    assert top == sorted(top, reverse=True)
    assert len(top) == 3
    assert (one["label"], one["score"]) == (one["top"][0]["label"], one["top"][0]["score"])


def test_values_are_the_logits(scoring_client: TestClient, logits: np.ndarray) -> None:
    np.testing.assert_allclose(scores(ask(scoring_client, "tiny-none")), logits, atol=1e-5)


def test_labels_that_may_hold_together_have_scores_of_their_own(
    scoring_client: TestClient, logits: np.ndarray
) -> None:
    found = scores(ask(scoring_client, "tiny-sigmoid"))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert abs(sum(found) - 1) > 0.01


def test_shares_add_up_to_one(client: TestClient, logits: np.ndarray) -> None:
    found = scores(ask(client, "tiny-text"))
    np.testing.assert_allclose(found, np.exp(logits) / np.exp(logits).sum(), atol=1e-5)


def test_a_single_negative_value_is_an_answer_with_its_maps(scoring_client: TestClient) -> None:
    one = ask(scoring_client, "tiny-pairs", maps=["cls", "rollout"], inline=True)
    assert one["score"] < -1
    assert (one["label"], one["top"]) == (
        "likeness",
        [{"label": "likeness", "index": 0, "score": one["score"]}],
    )
    for found in one["maps"]:
        assert "target" not in found
        for link in found["links"].values():
            assert scoring_client.get(link).status_code == 200


@pytest.mark.parametrize(
    ("model", "activation"), [("tiny-pairs", "none"), ("tiny-none", "none"), ("tiny-sigmoid", "sigmoid")]
)
def test_a_model_says_what_its_scores_are(
    scoring_client: TestClient, client: TestClient, model: str, activation: str
) -> None:
    assert scoring_client.get(f"/v1/models/{model}").json()["activation"] == activation
    assert client.get("/v1/models/tiny-text").json()["activation"] == "softmax"
    schemas = scoring_client.get("/openapi.json").json()["components"]["schemas"]
    for schema in ("Label", "Prediction"):
        assert activation in schemas[schema]["properties"]["score"]["description"]


def test_of_two_sure_labels_the_surer_one_is_predicted(scoring_client: TestClient) -> None:
    """Their scores are both 1; the target of a map is the same label."""
    inference = scoring_client.app.state.inference  # type: ignore[attr-defined]
    predictor = inference.registry.get("tiny-sigmoid", None)
    logits = np.array([50.0, 70.0, -3.0, 60.0], np.float32)
    found = prediction(
        predictor,
        predictor.decode(Payload(data=TEXT)),
        Outcome(logits=logits, maps={}, maps_seconds=0.0),
        PredictOptions(top_k=3),
        Selection(),
        url="",
        inputs=1,
    )
    assert [one.label for one in found.top] == ["right", "down", "left"]
    assert [one.score for one in found.top] == [1, 1, 1]
