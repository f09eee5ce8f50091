"""What is known of inputs is found beside them, and a truth that cannot be is refused by its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.dataset import DatasetError, raws, size
from service.truth import Truth, known_inputs


def folder(path: Path, *records: Any, names: tuple[str, ...] = ("a.png", "b/c.png")) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"x")
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    (path / "truth.jsonl").write_text("\n".join(lines))
    return path


def test_a_folders_truth_stands_beside_its_files_and_is_no_input(tmp_path: Path) -> None:
    data = folder(tmp_path, {"file": "b/c.png", "label": "cat", "box": [1, 2, 3.5, 4]}, "")
    assert [raw.place for raw in raws(data)] == ["a.png", "b/c.png"]
    assert size(data) == 2
    (_, first), (_, second) = known_inputs(data)
    assert first is None
    assert second == Truth(place="truth.jsonl, line 1", label="cat", box=(1, 2, 3.5, 4))


def test_only_the_truth_at_the_top_is_one(tmp_path: Path) -> None:
    folder(tmp_path / "deeper", {"file": "a.png"})
    assert [raw.place for raw in raws(tmp_path)] == ["deeper/a.png", "deeper/b/c.png", "deeper/truth.jsonl"]


def test_a_list_of_texts_holds_its_own_truth_among_other_fields(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(
        '{"text": "abc", "label": 3, "span": [0, 2], "source": "x"}\n\n{"text": "d", "place": 1}\n'
    )
    (first, known), (second, nothing) = known_inputs(path)
    assert (first.data, second.data) == ("abc", "d")
    assert known == Truth(place="texts.jsonl, line 1", label=3, span=(0, 2))
    assert nothing == Truth(place="texts.jsonl, line 3")


def test_nothing_is_known_of_plain_texts(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    assert [truth for _, truth in known_inputs(tmp_path / "texts.txt")] == [None, None]


def test_all_that_can_be_known_of_a_clip_is_read(tmp_path: Path) -> None:
    box = [0, 0, 2, 2]
    data = folder(tmp_path, {"file": "a.png", "boxes": [box, None], "frames": [1]})
    (_, known), _ = known_inputs(data)
    assert known is not None
    assert (known.boxes, known.frames) == (((0, 0, 2, 2), None), (1,))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("{", "no JSON"),
        ([], "no object"),
        ({"label": "cat"}, "file: None is no file"),
        ({"file": "z.png"}, "file: 'z.png' is no file"),
        ({"file": "truth.jsonl"}, "file: 'truth.jsonl' is no file"),
        ({"file": ["a.png"]}, "is no file"),
        ({"file": "b/c.png"}, "has a record already"),
        ({"file": "a.png", "boxs": []}, "boxs: Extra"),
        ({"file": "a.png", "box": [1, 2, 3]}, "box"),
        ({"file": "a.png", "box": [3, 2, 1, 4]}, "left < right"),
        ({"file": "a.png", "box": [-1, 2, 1, 4]}, "left < right"),
        ('{"file": "a.png", "box": [0, 0, NaN, 4]}', "box.2"),
        ('{"file": "a.png", "box": [0, 0, 1e999, 4]}', "box.2"),
        ({"file": "a.png", "boxes": []}, "boxes"),
        ({"file": "a.png", "frames": [-1]}, "frames.0"),
        ({"file": "a.png", "frames": []}, "frames"),
        ({"file": "a.png", "span": [3, 3]}, "start < end"),
        ({"file": "a.png", "label": [1]}, "label"),
    ],
)
def test_bad_truth_names_file_and_line(tmp_path: Path, record: Any, words: str) -> None:
    data = folder(tmp_path, {"file": "b/c.png"}, record)
    with pytest.raises(DatasetError, match=r"^truth\.jsonl, line 2: ") as caught:
        list(known_inputs(data))
    assert words in str(caught.value)


def test_bad_truth_among_texts_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n{"text": "abc", "span": [2, 1]}')
    with pytest.raises(DatasetError, match=r"^texts\.jsonl, line 2: span: .*start < end"):
        list(known_inputs(tmp_path / "texts.jsonl"))
