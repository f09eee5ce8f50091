"""JSON beside the weights is read within limits."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.document import MOST_BYTES, read_json


def test_an_object_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "config.json").write_bytes(mark + '{"name": "ü😀"}'.encode())
        assert read_json(tmp_path / "config.json") == {"name": "ü😀"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"weights",
        b"[1]",
        b'"a"',
        b"null",
        b'{"a": 1',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b"\x00" * 100,
    ],
)
def test_what_is_no_object_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"^config\.json: "):
        read_json(tmp_path / "config.json")


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match=rf"^config\.json: larger than {MOST_BYTES} bytes$"):
        read_json(tmp_path / "config.json")


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    config = {"model_type": "bert", "hidden_size": 768, "id2label": {"0": "a", "1": "ü"}, "eps": 1e-12}
    data, chance = json.dumps(config).encode(), random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 2, 5])):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "config.json").write_bytes(damaged)
        try:
            read_json(tmp_path / "config.json")
        except CheckpointError:
            refused += 1
    assert 20 < refused < 200


def test_what_a_file_says_reaches_no_terminal_as_it_stands() -> None:
    said = str(CheckpointError("key \x1b[31m\n\r\x00\u202e\ud800 ü 日本 x"))
    assert said == r"key \x1b[31m\n\r\x00\u202e\ud800 ü 日本 x"
