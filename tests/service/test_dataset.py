"""A data set is read as a bundle's inputs, in order, or refused by the name of what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.bundle import BundleError
from service.dataset import DatasetError, read_inputs
from service.job import Payload
from service.predictor import Predictor


@pytest.fixture
def bundles(repository: Path) -> dict[str, Path]:
    """The tiny bundles by family."""
    return {family: repository / f"tiny-{family}" / "1" for family in ("text", "image", "video")}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def lengths(bundle: Path, data: Path, limit: int | None = None) -> list[int]:
    """The tokens of each text without [CLS] and [SEP]: of the tiny tokenizer, its bytes."""
    return [int(feeds["lengths"][0]) - 2 for feeds in read_inputs(bundle, data, limit)]


def test_every_file_below_a_folder_is_an_input_in_sorted_order(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    files = {
        "b": b"xx",
        "a/z": b"x",
        "c.txt": b"xxxx",
        "a/b/c": b"xxx",
        ".hidden": b"x" * 9,
        ".a/b": b"x" * 8,
    }
    assert lengths(bundles["text"], written(tmp_path, files)) == [3, 1, 2, 4]
    assert lengths(bundles["text"], tmp_path, 3) == [3, 1, 2]


def test_a_text_file_is_a_list_of_texts(bundles: dict[str, Path], tmp_path: Path) -> None:
    path = written(tmp_path, {"texts.txt": "one\r\n\n  \nçé\n\tfour".encode()}) / "texts.txt"
    assert lengths(bundles["text"], path) == [3, 4, 5]


def test_a_json_list_has_texts_on_its_lines(bundles: dict[str, Path], tmp_path: Path) -> None:
    lines = [{"text": "a\nb", "label": 3}, {"text": "é", "text_pair": None}]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)))
    assert lengths(bundles["text"], path) == [3, 2]


@pytest.mark.parametrize("family", ["image", "video"])
def test_files_become_what_a_request_would(
    bundles: dict[str, Path],
    predictors: dict[str, Predictor],
    tmp_path: Path,
    picture: bytes,
    clip: bytes,
    family: str,
) -> None:
    content = {"image": picture, "video": clip}[family]
    (feeds,) = read_inputs(bundles[family], written(tmp_path, {"one": content}))
    item = predictors[family].decode(Payload(data=content))
    assert feeds.keys() == item.tensors.keys()
    for name, tensor in item.tensors.items():
        np.testing.assert_array_equal(feeds[name], tensor[None])


@pytest.mark.parametrize(
    ("family", "files", "data", "words"),
    [
        ("image", {"set/a/b": b"text"}, "set", "a/b: "),
        ("video", {"set/b.mp4": b"\x00\x00\x00\x18ftypisom"}, "set", "b.mp4: "),
        ("text", {"set/b": b"\xff\xfe"}, "set", "b: not UTF-8"),
        ("text", {"set/b": b" \n"}, "set", "b: the text is empty"),
        ("text", {"t.txt": b"ok\n\xff\n"}, "t.txt", "t.txt, line 2: not UTF-8"),
        ("text", {"t.jsonl": b'{"text": "a"}\n{"text": \n'}, "t.jsonl", "t.jsonl, line 2: no JSON"),
        ("text", {"t.jsonl": b"[" * 100_000}, "t.jsonl", "t.jsonl, line 1: no JSON"),
        ("text", {"t.jsonl": b'\n["text"]'}, "t.jsonl", "t.jsonl, line 2: no object"),
        ("text", {"t.jsonl": b'{"text": 3}'}, "t.jsonl", "t.jsonl, line 1: no object"),
        ("text", {"t.jsonl": b'{"text": "a", "text_pair": 3}'}, "t.jsonl", "t.jsonl, line 1: no object"),
        ("text", {"t.jsonl": b'{"text": "a", "text_pair": "b"}'}, "t.jsonl", "t.jsonl, line 1: "),
        ("image", {"t.jsonl": b'{"text": "a"}'}, "t.jsonl", "t.jsonl, line 1: a text, but the model"),
        ("text", {"t.csv": b"a"}, "t.csv", "t.csv is neither a folder nor"),
        ("text", {}, "nothing", "nothing is neither a folder nor"),
        ("text", {"set/.hidden": b"a"}, "set", "set holds no inputs"),
        ("text", {"t.txt": b"\n \n"}, "t.txt", "t.txt holds no inputs"),
    ],
)
def test_what_cannot_be_read_is_named(
    bundles: dict[str, Path], tmp_path: Path, family: str, files: dict[str, bytes], data: str, words: str
) -> None:
    written(tmp_path, files)
    with pytest.raises(DatasetError) as caught:
        list(read_inputs(bundles[family], tmp_path / data))
    assert words in str(caught.value)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        list(read_inputs(tmp_path, tmp_path))
