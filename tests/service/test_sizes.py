"""However many numbers a map has, as JSON there are only so many: what writes them holds up everybody."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from service import sizes

TEXT = "ab"  # and two special tokens: 4 x 4 numbers of attention for each of 4 heads


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MOST_NUMBERS", 64)


@pytest.mark.parametrize(("count", "inline", "status"), [(1, True, 200), (2, True, 400), (2, False, 200)])
def test_an_answer_has_so_many_numbers_inline(
    client: TestClient, count: int, inline: bool, status: int
) -> None:
    body = {"text": [TEXT] * count, "maps": ["attention"], "heads": "all", "inline": inline}
    answer = client.post("/v1/models/tiny-text/predict", json=body)
    assert answer.status_code == status, answer.text
    if status == 400:
        assert (answer.json()["field"], answer.json()["limit"]) == ("inline", 32)


def test_a_map_with_more_numbers_comes_as_bytes_alone(client: TestClient) -> None:
    made = client.post("/v1/models/tiny-text/predict", json={"text": TEXT + "c"}).json()["id"]
    link = f"/v1/predictions/{made}/0/maps/attention"
    refused = client.get(f"{link}.json?head=all").json()
    assert (refused["status"], refused["field"], refused["limit"]) == (400, "format", 64)
    assert client.get(f"{link}.npy?head=all").status_code == 200
    assert client.get(f"{link}.json?head=1").json()["shape"] == [5, 5]


def test_under_v2_too(client: TestClient) -> None:
    inputs = [{"name": "text", "shape": [2], "datatype": "BYTES", "data": [TEXT, TEXT]}]
    body: dict[str, Any] = {"inputs": inputs, "parameters": {"maps": "attention", "heads": "all"}}
    url = "/v2/models/tiny-text/infer"
    refused = client.post(url, json=body)
    assert refused.status_code == 400
    assert "binary" in refused.json()["error"]
    binary = {"name": "attention", "parameters": {"binary_data": True}}
    assert client.post(url, json=body | {"outputs": [binary]}).status_code == 200
