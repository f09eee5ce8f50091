"""A text and its pair through the whole application: asked for, answered, drawn, refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from models.checkpoints.checkpoint import Checkpoint
from service.job import Payload

URL = "/v1/models/tiny-pairs/predict"
FIRST, SECOND = "é = 1", "x <b>"


@pytest.fixture(scope="module")
def ask(scoring_client: TestClient) -> Any:
    """Predictions of a JSON body."""

    def post(**document: Any) -> list[dict[str, Any]]:
        response = scoring_client.post(URL, json=document)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["predictions"]
        return found

    return post


@pytest.fixture(scope="module")
def refused(scoring_client: TestClient) -> Any:
    """Sees that a request is refused by field and limit."""

    def check(status: int, field: str, limit: Any = None, **request: Any) -> dict[str, Any]:
        response = scoring_client.post(URL, **request)
        document: dict[str, Any] = response.json()
        assert response.headers["content-type"] == "application/problem+json"
        found = response.status_code, document.get("field"), document.get("limit")
        assert found == (status, field, limit), document
        return document

    return check


def tensors(text: str, pair: str | None = None) -> dict[str, torch.Tensor]:
    """The model's input by hand: a byte is a token, in the order of the byte-level alphabet."""
    table = {byte: 3 + place for place, byte in enumerate(sorted(range(256), key=letter))}
    ids = [1, *(table[byte] for byte in text.encode()), 2]
    types = [0] * len(ids)
    if pair is not None:
        more = [*(table[byte] for byte in pair.encode()), 2]
        ids, types = ids + more, types + [1] * len(more)
    return {
        "input_ids": torch.tensor([ids]),
        "lengths": torch.tensor([len(ids)]),
        "token_types": torch.tensor([types]),
    }


def letter(byte: int) -> str:
    """What stands for a byte in GPT-2's byte-level alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [other for other in range(256) if other not in printable]
    return chr(byte) if byte in printable else chr(256 + rest.index(byte))


def test_a_pair_is_answered_as_torch_answers_it(ask: Any, regression: Checkpoint) -> None:
    (one,) = ask(text=FIRST, text_pair=SECOND, maps=["cls"], layers="all", heads="all", inline=True)
    inputs = tensors(FIRST, SECOND)
    with torch.no_grad():
        outputs, taps = regression.model(**inputs)
        program = regression.model.programs()["cls"]  # type: ignore[operator]
        rows = program(*({**inputs, **outputs, **taps}[name] for name in program.inputs))
    np.testing.assert_allclose(one["score"], outputs["logits"][0, 0], atol=1e-4)
    expected = torch.stack([layer[0] for layer in rows])  # [L, H, N]
    np.testing.assert_allclose(one["maps"][0]["values"], expected, atol=1e-5)


def test_the_pair_and_its_order_count(ask: Any) -> None:
    scores = [
        ask(**document)[0]["score"]
        for document in (
            {"text": FIRST},
            {"text": FIRST, "text_pair": SECOND},
            {"text": SECOND, "text_pair": FIRST},
            {"text": FIRST, "text_pair": FIRST},
        )
    ]
    assert min(abs(a - b) for i, a in enumerate(scores) for b in scores[:i]) > 1e-2


def test_tokens_say_which_text_they_are_of(ask: Any) -> None:
    (one,) = ask(text=FIRST, text_pair=SECOND)
    found = one["input"]
    assert found["segments"] == [0] * 8 + [1] * 6
    assert [i for i, special in enumerate(found["special"]) if special] == [0, 7, 13]
    assert found["offsets"][:3] == [[0, 0], [0, 1], [0, 1]]
    assert found["offsets"][7:10] == [[5, 5], [0, 1], [1, 2]]
    texts = (FIRST, SECOND)
    for token, segment, (start, end), special in zip(
        found["tokens"], found["segments"], found["offsets"], found["special"], strict=True
    ):
        assert special or texts[segment][start:end] == token


def test_a_text_alone_is_all_of_the_first_segment(ask: Any) -> None:
    (one,) = ask(text="abc", text_pair=None)
    assert one["input"]["segments"] == [0] * 5


def test_lists_are_paired_in_order_and_null_is_no_pair(ask: Any) -> None:
    texts, pairs = ["a", "bb", FIRST, "a"], ["ccc", None, SECOND, "dddd"]
    found = ask(text=texts, text_pair=pairs, maps=["rollout"], inline=True)
    for one, text, pair in zip(found, texts, pairs, strict=True):
        (alone,) = ask(text=text, text_pair=pair, maps=["rollout"], inline=True)
        assert one["input"] == alone["input"]
        np.testing.assert_allclose(one["score"], alone["score"], atol=1e-5)
        np.testing.assert_allclose(one["maps"][0]["values"], alone["maps"][0]["values"], atol=1e-5)
    assert found[1]["input"] == ask(text="bb")[0]["input"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 1, 0, 2)])
def test_a_form_is_paired_in_order(scoring_client: TestClient, ask: Any, order: tuple[int, ...]) -> None:
    """Files are texts too, wherever they stand."""
    parts: list[tuple[str, Any]] = [
        ("text", (None, "a")),
        ("text_pair", (None, "bb")),
        ("text", ("c.txt", b"ccc", "text/plain")),
        ("text_pair", ("d.txt", "é".encode(), "text/plain")),
    ]
    chosen = [parts[index] for index in order]
    texts = [{"a": "a"}.get(part[1][1], "ccc") for part in chosen if part[0] == "text"]
    pairs = [{"bb": "bb"}.get(part[1][1], "é") for part in chosen if part[0] == "text_pair"]
    answer = scoring_client.post(URL, files=[*chosen, ("top_k", (None, "1"))]).json()["predictions"]
    expected = ask(text=texts, text_pair=pairs)
    assert [one["input"] for one in answer] == [one["input"] for one in expected]


def test_a_form_may_hold_a_pair_for_every_input_it_may_hold(scoring_client: TestClient) -> None:
    names = ["text"] * 4 + ["text_pair"] * 4
    for part in ((None, "a"), ("a.txt", b"a", "text/plain")):
        response = scoring_client.post(URL, files=[(name, part) for name in names])
        assert len(response.json()["predictions"]) == 4


def test_a_pair_that_is_too_long_is_cut_at_its_longer_text(ask: Any) -> None:
    (one,) = ask(text="a" * 100, text_pair="b" * 10)
    found = one["input"]
    assert (len(found["tokens"]), found["truncated"], found["dropped_tokens"]) == (64, True, 49)
    assert (found["tokens"].count("a"), found["tokens"].count("b")) == (51, 10)


@pytest.mark.parametrize("format", ["html", "svg"])
def test_both_texts_are_drawn_from_what_is_kept(scoring_client: TestClient, ask: Any, format: str) -> None:
    """The links of a map, and a map that is asked for later: both are made of the pair again."""
    (one,) = ask(text="alpha " * 20, text_pair="beta <b>", maps=["cls"])
    link = one["maps"][0]["links"][format]
    for url in (link, link.partition("?")[0].replace("/maps/cls", "/maps/received")):
        page = scoring_client.get(url)
        assert page.status_code == 200
        texts = re.findall(r">([^<>]+)</(?:p|text|span)>", page.text)
        assert texts.index("text") < texts.index("text_pair")
        assert texts.count("b") == 2
        assert "<b>" not in page.text
        assert "&lt;" in page.text


def test_a_map_fetched_later_is_of_the_pair(scoring_client: TestClient, ask: Any) -> None:
    (one,) = ask(text=FIRST, text_pair=SECOND, maps=["cls"])
    link = one["maps"][0]["links"]["json"].replace("/maps/cls", "/maps/rollout").partition("?")[0]
    (inline,) = ask(text=FIRST, text_pair=SECOND, maps=["rollout"], inline=True)
    later = scoring_client.get(link).json()
    np.testing.assert_allclose(later["values"], inline["maps"][0]["values"], atol=1e-5)


@pytest.mark.parametrize("pair", ["", " ", "\n\u3000"])
def test_an_empty_pair(refused: Any, pair: str) -> None:
    refused(400, "text_pair", json={"text": "a", "text_pair": pair})
    refused(400, "text_pair", json={"text": ["a", "b"], "text_pair": ["c", pair]})
    refused(400, "text_pair", files=[("text", (None, "a")), ("text_pair", (None, pair))])


def test_characters_of_both_texts_together(refused: Any, ask: Any) -> None:
    document = refused(413, "text_pair", 2000, json={"text": "a" * 1000, "text_pair": "b" * 1001})
    assert "2001 characters in both texts" in document["detail"]
    assert ask(text="a" * 1000, text_pair="b" * 1000)
    refused(413, "text", 2000, json={"text": "a" * 2001, "text_pair": "b"})


def test_half_a_surrogate_pair_in_the_pair(refused: Any) -> None:
    body = rb'{"text": "a", "text_pair": "\ud800"}'
    refused(400, "text_pair", content=body, headers={"content-type": "application/json"})


def test_a_pair_that_is_not_utf_8(refused: Any) -> None:
    files = [("text", (None, "a")), ("text_pair", ("b.txt", b"\xff\xfe", "text/plain"))]
    refused(400, "text_pair", files=files)


@pytest.mark.parametrize("pair", [5, {}, True, ["b"], [None], []])
def test_a_pair_of_another_shape_than_its_text(refused: Any, pair: Any) -> None:
    refused(400, "text_pair", json={"text": "a", "text_pair": pair})


@pytest.mark.parametrize("pairs", ["b", 5, {}, ["b", 5], ["b", ["c"]], [{}, None]])
def test_pairs_that_are_no_list_of_strings(refused: Any, pairs: Any) -> None:
    refused(400, "text_pair", json={"text": ["a", "b"], "text_pair": pairs})


@pytest.mark.parametrize("pairs", [[], ["b"], ["b"] * 3, [None]])
def test_lists_of_unequal_lengths(refused: Any, pairs: list[Any]) -> None:
    document = refused(400, "text_pair", 2, json={"text": ["a", "b"], "text_pair": pairs})
    assert f"got {len(pairs)} for 2" in document["detail"]
    if pairs and pairs[0]:
        files = [("text", (None, "a"))] * 2 + [("text_pair", (None, "b"))] * len(pairs)
        refused(400, "text_pair", 2, files=files)


def test_a_pair_without_a_text(refused: Any) -> None:
    refused(400, "text", json={"text_pair": "b"})
    refused(400, "body", files=[("text_pair", (None, "b"))])


def test_a_pair_in_the_query_is_no_option(refused: Any) -> None:
    document = refused(
        400,
        "text_pair",
        "special, words, mass, top, top_k, maps, layers, heads, target, token, rows, frame, discard, "
        "verify, inline, timeout",
        content="a",
        headers={"content-type": "text/plain"},
        params={"text_pair": "b"},
    )
    assert "text_pair" in document["detail"]


def test_a_pair_costs_what_its_bytes_cost() -> None:
    assert Payload(data="abc", pair="de").nbytes == Payload(data="abcde").nbytes
    assert Payload(data=b"abc", pair="de").nbytes == 11


def test_the_description_names_the_pair(scoring_client: TestClient) -> None:
    document = scoring_client.get("/openapi.json").json()
    body = document["paths"]["/v1/models/{name}/predict"]["post"]["requestBody"]
    for kind in ("application/json", "multipart/form-data"):
        assert "text_pair" in body["content"][kind]["schema"]["properties"]
    assert "text_pair" in body["description"]
    assert scoring_client.get("/v1/models/tiny-pairs").json()["preprocessing"]["pairs"] is True
    segments = document["components"]["schemas"]["TextInfo"]["properties"]["segments"]
    assert "text_pair" in segments["description"]
