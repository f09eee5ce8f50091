"""Fields of a config have their type and their bounds, or are refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.checkpoint import CheckpointError, Choices
from models.checkpoints.config import Config

READ: dict[str, Callable[[Config], Any]] = {
    "count": lambda config: config.count("field", 7),
    "layers": lambda config: config.layers("field", 7),
    "heads": lambda config: config.heads("field", 7, width=84),
    "token": lambda config: config.token("field", 7),
    "real": lambda config: config.real("field", 7.0),
    "flag": lambda config: config.flag("field", True),
    "activation": lambda config: config.activation("field", "gelu_new"),
    "names": lambda config: config.names("field", "one", "two"),
}
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("count", "layers", "heads", "token"), 7),
    "real": 7.0,
    "flag": True,
    "activation": "gelu_tanh",
    "names": ("one", "two"),
}
GOOD: dict[str, list[tuple[Any, Any]]] = {
    "count": [(1, 1), (2**24, 2**24)],
    "layers": [(1000, 1000)],
    "heads": [(12, 12), (84, 84)],
    "token": [(0, 0), (50264, 50264), (None, 7)],
    "real": [(1e-12, 1e-12), (2, 2.0)],
    "flag": [(False, False), (True, True)],
    "activation": [("relu", "relu"), ("quick_gelu", "quick_gelu"), ("gelu_pytorch_tanh", "gelu_tanh")],
    "names": [(["a", "b"], ("a", "b")), ([], ()), (None, ("one", "two"))],
}
NONSENSE: tuple[Any, ...] = ("7", "", [1], {}, {"a": 1}, -1, -1.5, 10**400, math.nan, math.inf, -math.inf)
BAD: dict[str, tuple[Any, ...]] = {
    "count": (*NONSENSE, 0, 2**24 + 1, True, 2.0, None),
    "layers": (*NONSENSE, 0, 1001, True, 2.0, None),
    "heads": (*NONSENSE, 0, 5, 85, True, 2.0, None),
    "token": (*NONSENSE, 2**24, False, 2.0),
    "real": (*NONSENSE, 0, 0.0, True, None),
    "flag": (*NONSENSE, 0, 1, None),
    "activation": (*NONSENSE, "silu", None, True),
    "names": ("name", {"a": 1}, 3, [1], ["a", None], True),
}


@pytest.mark.parametrize("kind", list(READ))
def test_a_missing_field_takes_the_default(kind: str) -> None:
    assert READ[kind](Config({})) == DEFAULTS[kind]


@pytest.mark.parametrize("kind", list(READ))
def test_a_field_is_read_as_it_stands(kind: str) -> None:
    for value, expected in GOOD[kind]:
        found = READ[kind](Config({"field": value}))
        assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("kind", list(READ))
def test_nonsense_is_refused_by_the_fields_name_and_place(kind: str) -> None:
    for value in BAD[kind]:
        with pytest.raises(CheckpointError, match=r"^some\.json: field "):
            READ[kind](Config({"field": value}, place="some.json"))


def test_a_count_has_the_bound_that_is_asked_for() -> None:
    assert Config({"field": 9}).count("field", most=9) == 9
    with pytest.raises(CheckpointError, match="field is 10, not a number from 1 to 9"):
        Config({"field": 10}).count("field", most=9)


def test_a_field_without_a_default_has_to_be_there() -> None:
    with pytest.raises(CheckpointError, match="field is None, not a number"):
        Config({}).count("field")


def test_code_of_the_models_own_is_refused() -> None:
    with pytest.raises(CheckpointError, match="auto_map: the model brings code of its own"):
        Config({"auto_map": {"AutoModel": "mine.Model"}})


def test_only_what_is_supported_is_accepted() -> None:
    Config({}).only("field", "absolute")
    Config({"field": "absolute"}).only("field", "absolute")
    for value in ("relative", None, ["absolute"], 3):
        with pytest.raises(CheckpointError, match=r"field is .*; supported: 'absolute'"):
            Config({"field": value}).only("field", "absolute")


def test_a_class_of_another_task_is_refused_by_name() -> None:
    for fields in ({}, {"architectures": None}, {"architectures": []}):
        Config(fields).classes("ForRest", "ForPlay")
    Config({"architectures": ["DogForPlay"]}).classes("ForRest", "ForPlay")
    with pytest.raises(CheckpointError, match=r"architectures is DogForWork; .* ForRest or ForPlay$"):
        Config({"architectures": ["DogForWork"]}).classes("ForRest", "ForPlay")
    with pytest.raises(CheckpointError, match="architectures is 'DogForPlay', no list of names"):
        Config({"architectures": "DogForPlay"}).classes("ForPlay")


def test_a_part_is_read_by_its_own_place() -> None:
    config = Config({"vision": {"field": 0}, "none": None, "odd": 3})
    with pytest.raises(CheckpointError, match=r"^config\.json: vision: field is 0"):
        config.part("vision").count("field")
    assert config.part("none").count("field", 3) == config.part("missing").count("field", 3) == 3
    with pytest.raises(CheckpointError, match="odd is no object"):
        config.part("odd")


def test_labels_are_named_in_the_order_of_their_numbers() -> None:
    names = {str(index): f"name {index}" for index in reversed(range(12))}
    found = Config({"id2label": names}).labels(12, Choices())
    assert found == tuple(f"name {index}" for index in range(12))


def test_labels_without_names_are_numbered() -> None:
    assert Config({}).labels(3, Choices()) == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_labels_that_are_numbers_become_words() -> None:
    assert Config({"id2label": {"0": 1, "1": 2.5}}).labels(2, Choices()) == ("1", "2.5")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"0": "a"}, "id2label: 1 names for 2 outputs"),
        ({"0": "a", "1": "b", "2": "c"}, "id2label: 3 names for 2 outputs"),
        ({"0": "a", "2": "b"}, "id2label: its keys are not 0 to 1"),
        ({"a": 0, "b": 1}, "id2label: its keys are not 0 to 1"),
        (["a", "b"], "id2label is no object"),
        ("ab", "id2label is no object"),
        (2, "id2label is no object"),
    ],
)
def test_names_that_are_not_one_for_each_output_are_refused(names: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        Config({"id2label": names}).labels(2, Choices())


@pytest.mark.parametrize(
    "name", [None, ["a"], {"a": "b"}, "half \ud83d", "", " ", "a\x1b[31m", "a\x00", "b\n", "\u202etxt.exe"]
)
def test_a_label_that_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(CheckpointError, match=r"id2label: label 1 is .*, which is no name"):
        Config({"id2label": {"0": "a", "1": name}}).labels(2, Choices())


def test_chosen_labels_go_first(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("x\ny\n")
    choices = Choices(labels=str(file))
    assert Config({"id2label": {"0": "a", "1": "b"}}).labels(2, choices) == ("x", "y")
    with pytest.raises(CheckpointError, match="2 names for 3 outputs"):
        Config({}).labels(3, choices)


@pytest.mark.parametrize(
    ("problem", "outputs", "scoring"),
    [
        (None, 2, "softmax"),
        (None, 1, "sigmoid"),
        ("single_label_classification", 2, "softmax"),
        ("single_label_classification", 1, "sigmoid"),
        ("multi_label_classification", 2, "sigmoid"),
        ("multi_label_classification", 1, "sigmoid"),
        ("regression", 1, "none"),
        ("regression", 3, "none"),
    ],
)
def test_logits_become_scores_as_the_problem_says(problem: str | None, outputs: int, scoring: str) -> None:
    assert Config({"problem_type": problem}).scoring(outputs) == scoring


@pytest.mark.parametrize("problem", ["ranking", 3, ["regression"]])
def test_a_problem_that_nobody_knows_is_refused(problem: Any) -> None:
    with pytest.raises(CheckpointError, match=r"problem_type is .*; supported"):
        Config({"problem_type": problem}).scoring(2)
