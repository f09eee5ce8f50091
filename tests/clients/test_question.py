"""What inputs become on their way, and what is no input."""

from __future__ import annotations

import json
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pytest

from regard_client.question import Question, ask

BUILD = httpx.Client(base_url="http://regard.test").build_request


def sent(question: Question) -> httpx.Request:
    request = BUILD("POST", question.path, **question.body)
    request.read()
    return request


def document(inputs: list[Any], **options: Any) -> Any:
    return json.loads(sent(ask("m", inputs, options)).content)


def test_texts_are_json_with_their_options() -> None:
    assert document(["a", "b"], maps=("cls", "rollout"), layers=[0], timeout=2.5, verify=True) == {
        "text": ["a", "b"],
        "maps": ["cls", "rollout"],
        "layers": [0],
        "timeout": 2.5,
        "verify": True,
    }


def test_pairs_stand_beside_their_texts() -> None:
    assert document(["a", ("b", "c"), ("d", None)]) == {
        "text": ["a", "b", "d"],
        "text_pair": [None, "c", None],
    }
    assert document(["a", ("d", None)]) == {"text": ["a", "d"]}


def test_files_are_a_form_in_their_order_with_options_in_the_query(tmp_path: Path) -> None:
    path = tmp_path / "of my own.png"
    path.write_bytes(b"first")
    request = sent(ask("m", [path, b"second"], {"maps": ["cam", "channel"], "heads": "all", "inline": True}))
    assert dict(request.url.params) == {"maps": "cam,channel", "heads": "all", "inline": "true"}
    head = b"content-type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    parts = message_from_bytes(head + request.content).get_payload()
    assert [part.get_payload(decode=True) for part in parts] == [b"first", b"second"]
    assert b"of my own" not in request.content


def test_names_are_one_part_of_the_path() -> None:
    assert ask("a/b?c", ["x"], {}, version="1#2").path == "/v1/models/a%2Fb%3Fc/versions/1%232/predict"
    assert sent(ask("a/b?c", ["x"], {})).url.raw_path == b"/v1/models/a%2Fb%3Fc/predict"


@pytest.mark.parametrize("one", [3, None, ["a", "b"], ("a",), ("a", 1), (b"x", b"y")])
def test_what_is_no_input_is_a_type_error(one: Any) -> None:
    with pytest.raises(TypeError, match=r"an input"):
        ask("m", [one], {})


@pytest.mark.parametrize("inputs", [["a", b"x"], [Path("x"), ("a", "b")]])
def test_texts_and_files_are_not_mixed(inputs: list[Any]) -> None:
    with pytest.raises(TypeError, match="texts and files"):
        ask("m", inputs, {})


def test_no_input_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no input"):
        ask("m", [], {})


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask("m", [tmp_path / "none.png"], {})
