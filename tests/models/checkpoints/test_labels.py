"""Labels are read from what people have them in, and nonsense is refused."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from models.checkpoints import labels as module
from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.labels import check_count, read_labels

NAMES = ("tench, Tinca tinca", "great white shark", "日本語")


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(NAMES),
        "\n".join(NAMES) + "\n\n",
        "\r\n".join(NAMES) + "\r\n",
        "\ufeff" + "\n".join(NAMES),
        "\n".join(f"n0144076{index} {name}" for index, name in enumerate(NAMES)),
        "\n".join(f"n0144076{index}\t{name}  " for index, name in enumerate(NAMES)),
        json.dumps(NAMES),
        json.dumps(NAMES, ensure_ascii=False, indent=2),
        json.dumps([["n01440764", name] for name in NAMES]),
        json.dumps(dict(reversed(list(enumerate(NAMES))))),
        json.dumps({index: ["n01440764", name] for index, name in enumerate(NAMES)}),
        "\ufeff" + json.dumps({"model_type": "vit", "id2label": dict(enumerate(NAMES))}),
    ],
)
def test_every_form_gives_the_names_in_order(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.any"
    path.write_bytes(text.encode())
    assert read_labels(str(path)) == NAMES


def test_a_list_may_have_more_than_ten_names(tmp_path: Path) -> None:
    names = tuple(f"name {index}" for index in range(12))
    (tmp_path / "labels.json").write_text(json.dumps(dict(enumerate(names))))
    assert read_labels(str(tmp_path / "labels.json")) == names


def test_imagenet_is_known_by_name_with_its_two_cranes() -> None:
    names = read_labels("imagenet-1k")
    assert len(names) == 1000
    assert (names[0], names[999]) == ("tench, Tinca tinca", "toilet tissue, toilet paper, bathroom tissue")
    assert [name for name, count in Counter(names).items() if count > 1] == ["crane"]
    assert names[134] == names[517] == "crane"


def test_characters_that_end_lines_elsewhere_belong_to_a_name(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("one\u2028more\nزن\u200cها\nnon\u00a0breaking", encoding="utf-8")
    assert read_labels(str(tmp_path / "labels.txt")) == ("one\u2028more", "زن\u200cها", "non\u00a0breaking")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no labels"),
        (" \n \n", "no labels"),
        ("a\n\nb", "label 1 is ''"),
        ("\na\nb", "label 0 is ''"),
        ("a\x1b[31mb", "label 0 is"),
        ("a\x00b", "label 0 is"),
        ("a\tb", "label 0 is"),
        ("[]", "no labels"),
        ("{}", "no labels"),
        ('["a", ""]', "label 1 is ''"),
        ('["a", " "]', "label 1 is ''"),
        ('["a", "\\n"]', "label 1 is ''"),
        ('["a", "b\\nc"]', "label 1 is"),
        ("a\u202egnp.exe", "label 0 is"),
        ("a\u2066b", "label 0 is"),
        ("a\u200bb", "label 0 is"),
        ("a\nb\ufeff", "label 1 is"),
        ('["a", 3]', "label 1 is 3, which is no name"),
        ('["a", null]', "label 1 is None, which is no name"),
        ('["a", ["n01440764", "b", "c"]]', "label 1 is .* which is no name"),
        ('["a", ["n01440764", 3]]', "label 1 is 3, which is no name"),
        ("id,name\n0," + "a" * 200_000, "field larger than field limit"),
        ('["\\ud800"]', "no JSON"),
        ('["a"', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[" + "1" * 5000 + "]", "no JSON"),
        ('{"0": "a", "2": "b"}', "its keys are not 0 to 1"),
        ('{"a": 0, "b": 1}', "its keys are not 0 to 1"),
        ('{"model_type": "bert"}', "its keys are not 0 to 0"),
        ('{"id2label": 5}', "id2label is no object"),
        ('{"id2label": null}', "id2label is no object"),
        ('{"id2label": "ab"}', "id2label is no object"),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"labels\.txt: .*{message}") as refusal:
        read_labels(str(tmp_path / "labels.txt"))
    assert str(refusal.value).isprintable()


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(range(256)))
    with pytest.raises(CheckpointError, match=r"model\.bin: 'utf-8' codec"):
        read_labels(str(tmp_path / "model.bin"))


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "labels.txt").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match=rf"larger than {module.MOST_BYTES} bytes"):
        read_labels(str(tmp_path / "labels.txt"))


@pytest.mark.parametrize(
    "name", ["", ".", "gone.txt", "imagenet-21k", "a\x00b", "x" * 5000, "pipe", "/dev/zero"]
)
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(CheckpointError):
        read_labels(name)


def test_a_wrong_number_of_names_is_refused() -> None:
    assert check_count(NAMES, 3) == NAMES
    with pytest.raises(CheckpointError, match="3 names for 4 outputs"):
        check_count(NAMES, 4)


def test_a_table_of_ids_and_names_is_read_by_its_ids(tmp_path: Path) -> None:
    path = tmp_path / "kinetics.csv"
    path.write_text('id,name\r\n1,air drumming\r\n0,"abseiling, slowly"\r\n')
    assert read_labels(str(path)) == ("abseiling, slowly", "air drumming")


@pytest.mark.parametrize("rows", ["0,a\n2,b", "0,a\n0,b", "0,a,c\n1,b", "0\n1", "a,0"])
def test_a_table_that_does_not_name_every_id_once_is_refused(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "names.csv"
    path.write_text(f"id,name\n{rows}\n")
    with pytest.raises(CheckpointError, match=r"names\.csv: its (rows|keys) are not "):
        read_labels(str(path))
