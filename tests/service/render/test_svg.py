from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from service.decode.item import TextItem
from service.render.pieces import marked
from service.render.svg import COLUMNS, LETTER, LINE_BREAK, MOST_ROWS, PAD, ROW, svg

SPACE = "{http://www.w3.org/2000/svg}"


def drawn(
    item: TextItem, values: np.ndarray | None = None, *, title: str = "rollout", theme: str = "auto"
) -> ElementTree.Element:
    if values is None:
        values = np.full(len(item.tokens), 1 / len(item.tokens))
    text = marked(item, values, scale="peak", fixed_range=None)
    return ElementTree.fromstring(svg(text, title=title, colormap="inferno", theme=theme))


def rules(picture: ElementTree.Element) -> list[ElementTree.Element]:
    return picture.findall(f"{SPACE}path[@class='rule']")


def rows(picture: ElementTree.Element) -> list[str]:
    """The text below the rule, one string for each row, spaces from the places of the words."""
    lines: dict[float, list[tuple[float, float, str]]] = {}
    below = float(rules(picture)[0].attrib["d"].split()[1].split("H")[0])
    for text in picture.iter(f"{SPACE}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        if y > below:
            lines.setdefault(y, []).append((x, float(text.attrib.get("textLength", 0)), text.text or ""))
    out = []
    for y in sorted(lines):
        line = ""
        for x, _, text in sorted(lines[y]):
            line = line.ljust(round((x - PAD) / LETTER)) + text
        out.append(line)
    return out


def test_the_rows_are_the_lines_of_the_text(words: Callable[..., TextItem]) -> None:
    found = rows(drawn(words("fn main() {\n    one();\n}")))
    assert found == ["fn main() {" + LINE_BREAK, "    one();" + LINE_BREAK, "}"]


def test_nothing_in_the_text_tokens_or_title_becomes_markup(source: TextItem) -> None:
    evil = replace(source, tokens=tuple(f"</text><script>{token}" for token in source.tokens))
    tags = {element.tag.removeprefix(SPACE) for element in drawn(evil, title="<script>&").iter()}
    assert tags <= {"svg", "title", "style", "linearGradient", "stop", "rect", "text", "path", "g"}


def test_control_characters_are_left_out(words: Callable[..., TextItem]) -> None:
    item = words("a\x00b\x1b[0m\x0b\ufffe\ud800c")
    item = replace(item, tokens=tuple(token + "\x01" for token in item.tokens))
    assert rows(drawn(item, title="x\x02")) == ["ab[0mc"]


def test_every_token_says_its_name_and_value(words: Callable[..., TextItem]) -> None:
    picture = drawn(words("red green"), np.array([0.5, 0.1, 0.3, 0.1]))
    titles = [title.text for title in picture.iter(f"{SPACE}title")]
    assert titles == ["rollout", "[CLS]: 0.5", "[SEP]: 0.1", "red: 0.1", "green: 0.3"]


def test_a_mark_lies_under_its_text(words: Callable[..., TextItem]) -> None:
    for group in drawn(words("one two\n\tthree")).iter(f"{SPACE}g"):
        mark, text = group.find(f"{SPACE}rect"), group.find(f"{SPACE}text")
        assert mark is not None
        if text is None or "chip" in mark.attrib["class"]:
            continue
        assert mark.attrib["x"] == text.attrib["x"]
        assert mark.attrib["width"] == text.attrib["textLength"]


def test_long_lines_are_wrapped_and_lose_nothing(words: Callable[..., TextItem]) -> None:
    text = "".join(f"word{i:03} " for i in range(60)) + "x" * 250
    found = rows(drawn(words(text)))
    assert max(len(row) for row in found) <= COLUMNS
    assert "".join(row.ljust(COLUMNS) for row in found).rstrip() == text


def test_wide_letters_take_two_columns_and_accents_none(words: Callable[..., TextItem]) -> None:
    places = {
        text.text: (
            (float(text.attrib["x"]) - PAD) / LETTER,
            float(text.attrib.get("textLength", 0)) / LETTER,
        )
        for text in drawn(words("你好 e\u0301 x")).iter(f"{SPACE}text")
    }
    assert places["你好"] == (0, 4)
    assert places["e"] == (5, 1)
    assert places["\u0301"] == (6, 0)
    assert places["x"] == (7, 1)


def test_tabs_reach_the_next_stop(words: Callable[..., TextItem]) -> None:
    assert rows(drawn(words("a\tb\n\tc"))) == ["a   b" + LINE_BREAK, "    c"]


def test_long_texts_end_with_a_note(words: Callable[..., TextItem]) -> None:
    found = rows(drawn(words("x\n" * (MOST_ROWS + 50))))
    assert len(found) == MOST_ROWS + 1
    assert found[-1] == f"… more than {MOST_ROWS} rows"


def test_two_texts_stand_in_order_under_their_names(words: Callable[..., TextItem]) -> None:
    picture = drawn(words("red\ngreen", "blue"))
    assert rows(picture) == ["text", "red" + LINE_BREAK, "green", "text_pair", "blue"]
    header, between = (float(rule.attrib["d"].split()[1].split("H")[0]) for rule in rules(picture))
    places = {text.text: float(text.attrib["y"]) for text in picture.iter(f"{SPACE}text")}
    assert header < places["text"] < places["green"] < between < places["text_pair"]
    assert len(rules(drawn(words("red")))) == 1


def test_each_token_colours_its_own_text(words: Callable[..., TextItem]) -> None:
    picture = drawn(words("red green", "green"), np.array([0.0, 0.1, 0.2, 0.0, 0.4, 0.0]))
    marks = [
        (
            text.text,
            title.text,
            mark.attrib["class"],
            float(text.attrib["y"]) - float(mark.attrib["y"]) == (ROW - 2) / 2,
        )
        for group in picture.iter(f"{SPACE}g")
        for title, mark, text in [tuple(group)]
        if "chip" not in mark.attrib["class"]
    ]
    assert marks == [
        ("red", "red: 0.1", "l64", True),
        ("green", "green: 0.2", "l128", True),
        ("green", "green: 0.4", "l255", True),
    ]


def test_a_long_text_leaves_room_for_its_pair(words: Callable[..., TextItem]) -> None:
    half = MOST_ROWS // 2
    found = rows(drawn(words("x\n" * (half + 50), "pair")))
    assert len(found) == half + 4
    assert found[half + 1 :] == [f"… more than {half} rows", "text_pair", "pair"]


@pytest.mark.parametrize("pair", [[], ["z" * 150 + "\nz"]])
@pytest.mark.parametrize("text", ["", "x", "y" * 300])
def test_everything_lies_inside_the_picture(
    words: Callable[..., TextItem], text: str, pair: list[str]
) -> None:
    picture = drawn(words(text, *pair), title="a title " * 30)
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    for mark in picture.iter(f"{SPACE}rect"):
        if mark.attrib["width"] != "100%":
            x, y, wide, high = (float(mark.attrib[name]) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= x + wide <= width
            assert 0 <= y <= y + high <= height
    for written in picture.iter(f"{SPACE}text"):
        length = float(written.attrib.get("textLength", LETTER * len(written.text or "")))
        assert float(written.attrib["x"]) + length <= width


def test_nothing_is_loaded(source: TextItem) -> None:
    for element in drawn(source).iter():
        assert not {name for name in element.attrib if "href" in name or name.startswith("on")}
        assert element.attrib.get("fill", "url(#bar)") == "url(#bar)"
        assert "url(" not in (element.text or "")


def test_no_token_beside_the_text_is_left_out() -> None:
    special = ["<s>", "</s>", "</s>", "</s>", *(f"[unused{number}]" for number in range(12))]
    count = len(special)
    item = TextItem(
        tensors={},
        texts=("word",),
        tokens=("word", *special),
        offsets=((0, 4), *(((4, 4),) * count)),
        segments=(0,) * (1 + count),
        special=(False, *((True,) * count)),
        dropped=(0,),
    )
    picture = drawn(item, np.linspace(0.1, 1, 1 + count))
    chips = [rect for rect in picture.iter(f"{SPACE}rect") if "chip" in rect.attrib.get("class", "")]
    assert len(chips) == len(special)
    width = float(picture.attrib["viewBox"].split()[2])
    assert all(float(chip.attrib["x"]) + float(chip.attrib["width"]) <= width - PAD for chip in chips)
    below = float(rules(picture)[0].attrib["d"].split()[1].split("H")[0])
    assert all(float(chip.attrib["y"]) + float(chip.attrib["height"]) <= below for chip in chips)
    places = {(chip.attrib["x"], chip.attrib["y"]) for chip in chips}
    assert len(places) == len(chips)


def test_a_long_title_has_a_row_of_its_own(words: Callable[..., TextItem]) -> None:
    title = "attention, layers.11.attention, mean of heads, token 17"
    for name, apart in (("rollout", 0), (title, ROW)):
        picture = drawn(words("red green"), title=name)
        first, second, *_ = picture.findall(f"{SPACE}text")
        assert (first.text, float(second.attrib["y"]) - float(first.attrib["y"])) == (name, apart)
