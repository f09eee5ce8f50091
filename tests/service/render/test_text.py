from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from service.decode.item import TextItem
from service.render.pieces import marked
from service.render.svg import svg
from service.render.text import page

VOID = {"meta", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """A page as a browser reads it: the text of its pre, the spans in it, and every tag that occurs."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.pres: list[str] = []
        self.names: list[str] = []
        self.named = False
        self.chips: list[str] = []
        self.spans: list[tuple[dict[str, str | None], str]] = []
        self.style = ""
        self.feed(source)
        self.close()
        assert self.open == []
        self.pres = [pre.removeprefix("\n") for pre in self.pres]  # the first line break does not count

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)
        if tag == "span":
            self.spans.append((dict(attrs), ""))
        if tag == "pre":
            self.pres.append("")
        self.named = ("class", "field note") in attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:
            self.pres[-1] += data
        elif self.named and data.strip():
            self.names.append(data)
        if self.open and self.open[-1] == "span":
            attrs, text = self.spans[-1]
            self.spans[-1] = (attrs, text + data)
        if self.open and self.open[-1] == "style":
            self.style += data

    @property
    def pre(self) -> str:
        (text,) = self.pres
        return text

    def on(self, text: str) -> list[dict[str, str | None]]:
        return [attrs for attrs, inside in self.spans if inside == text]


def drawn(item: TextItem, values: np.ndarray, *, title: str = "rollout", theme: str = "auto") -> Page:
    return Page(source_of(item, values, title=title, theme=theme))


def source_of(item: TextItem, values: np.ndarray, *, title: str = "rollout", theme: str = "auto") -> str:
    text = marked(item, values, scale="peak", fixed_range=None)
    return page(text, title=title, colormap="inferno", theme=theme)


def uniform(item: TextItem) -> np.ndarray:
    return np.full(len(item.tokens), 1 / len(item.tokens))


def test_the_page_shows_the_text_as_it_was_written(source: TextItem) -> None:
    assert drawn(source, uniform(source)).pres == list(source.texts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\nx",
        "a\r\nb\rc",
        "\ttab\t",
        "你好 wörld 👩‍👩‍👧",
        "&amp; &lt;b&gt; &#60;",
        "'\"</pre></style>",
    ],
)
def test_awkward_texts_are_shown_as_they_were_written(words: Callable[..., TextItem], text: str) -> None:
    item = words(text)
    assert drawn(item, uniform(item)).pre == text


def test_nothing_in_the_text_tokens_or_title_becomes_markup(words: Callable[..., TextItem]) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    item = words(evil)
    item = replace(item, tokens=tuple(f'"><script>{token}' for token in item.tokens))
    result = drawn(item, uniform(item), title=evil)
    assert result.tags <= {"html", "head", "meta", "title", "style", "body", "main", "h1", "p", "span", "pre"}
    assert result.attributes <= {"lang", "charset", "name", "content", "class", "title", "dir"}


def test_nothing_is_loaded(source: TextItem) -> None:
    written = source_of(source, uniform(source))
    assert not re.search(r"url\(|@import|https?:|src=|href=|<script|<link|<iframe", written)


def test_every_token_says_its_name_and_value(words: Callable[..., TextItem]) -> None:
    result = drawn(words("red green"), np.array([0.5, 0.1, 0.3, 0.1]))
    assert [attrs["title"] for attrs in result.on("green")] == ["green: 0.3"]


def test_the_strongest_token_has_the_strongest_colour(words: Callable[..., TextItem]) -> None:
    result = drawn(words("red green blue"), np.array([0.5, 0.0, 0.3, 0.15, 0.05]))
    assert [result.on(word)[0]["class"] for word in ("red", "green", "blue")] == ["l0", "l255", "l128"]


def test_special_tokens_do_not_pale_the_text_and_their_mass_is_said(words: Callable[..., TextItem]) -> None:
    result = drawn(words("red green"), np.array([0.6, 0.02, 0.08, 0.3]))
    assert result.on("green")[0]["class"] == "l255"
    assert [attrs["title"] for attrs in result.on("[CLS] 0.6")] == ["[CLS]: 0.6"]
    assert result.on("[SEP] 0.3")
    assert result.on("90% of the total lies outside the text")
    assert "[CLS]" not in result.pre


def test_pieces_of_one_character_are_drawn_once_with_their_sum() -> None:
    item = TextItem(
        tensors={},
        texts=("a你b",),
        tokens=("a", "ä½", "ł", "b"),
        offsets=((0, 1), (1, 2), (1, 2), (2, 3)),
        segments=(0,) * 4,
        special=(False,) * 4,
        dropped=(0,),
    )
    result = drawn(item, np.array([0.1, 0.2, 0.3, 0.4]))
    assert result.pre == "a你b"
    assert [attrs["title"] for attrs in result.on("你")] == ["ä½ + ł: 0.5"]
    assert result.on("你")[0]["class"] == "l255"


def test_text_between_tokens_is_left_alone(words: Callable[..., TextItem]) -> None:
    result = drawn(words("red   green"), uniform(words("red   green")))
    assert "   " not in [text for _, text in result.spans]
    assert result.pre == "red   green"


def test_what_the_model_did_not_see_is_marked(words: Callable[..., TextItem]) -> None:
    result = drawn(words("seen unseen tail", keep=1), np.array([0.2, 0.6, 0.2]))
    assert result.on(" unseen tail")[0]["class"] == "unseen"
    assert result.pre == "seen unseen tail"


def test_two_texts_stand_in_order_under_their_names(words: Callable[..., TextItem]) -> None:
    item = words("\nred green ", "green\r\n<b>blue")
    result = drawn(item, uniform(item))
    assert result.names == ["text", "text_pair"]
    assert result.pres == list(item.texts)
    assert drawn(words("red"), np.ones(3)).names == []


def test_each_token_colours_its_own_text(words: Callable[..., TextItem]) -> None:
    item = words("red green", "green red")
    result = drawn(item, np.array([0.0, 0.1, 0.2, 0.0, 0.4, 0.3, 0.0]))
    assert [attrs["title"] for attrs in result.on("red")] == ["red: 0.1", "red: 0.3"]
    assert [attrs["title"] for attrs in result.on("green")] == ["green: 0.2", "green: 0.4"]
    assert [attrs["class"] for attrs in result.on("green")] == ["l128", "l255"]


def test_pieces_of_one_text_are_not_mixed_with_the_others() -> None:
    item = TextItem(
        tensors={},
        texts=("你a", "abc"),
        tokens=("ä½", "ł", "abc"),
        offsets=((0, 2), (1, 2), (0, 3)),
        segments=(0, 0, 1),
        special=(False,) * 3,
        dropped=(0, 0),
    )
    result = drawn(item, np.array([0.2, 0.3, 0.5]))
    assert result.pres == ["你a", "abc"]
    assert [attrs["title"] for attrs in result.on("你a")] == ["ä½ + ł: 0.5"]
    assert [attrs["title"] for attrs in result.on("abc")] == ["abc: 0.5"]


def test_what_was_not_seen_is_marked_in_each_text_of_its_own(words: Callable[..., TextItem]) -> None:
    item = words("one two three ", "four ", keep=2)
    result = drawn(item, uniform(item))
    assert [text for attrs, text in result.spans if attrs.get("class") == "unseen"] == [" three "]
    item = words("one ", "two three four", keep=1)
    result = drawn(item, uniform(item))
    assert [text for attrs, text in result.spans if attrs.get("class") == "unseen"] == [" three four"]
    assert result.pres == list(item.texts)


def test_a_line_break_with_attention_can_be_seen(words: Callable[..., TextItem]) -> None:
    item = words("a\nb")
    result = drawn(item, np.array([0, 0.1, 0.8, 0.1, 0]))
    assert result.on("\n")[0]["class"] == "l255 line"


def test_control_characters_become_their_pictures(words: Callable[..., TextItem]) -> None:
    item = words("a\x00b\x1b\x7f")
    assert drawn(item, uniform(item)).pre == "a␀b␛␡"


def rules(css: str) -> dict[str, tuple[str, str]]:
    found = re.findall(r"\.(l\d+)\{background:(#\w{6});color:(#\w{6})\}", css)
    return {name: (background, text) for name, background, text in found}


def wcag_luminance(color: str) -> float:
    share = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_on_every_background_reaches_the_contrast_of_wcag_aa(words: Callable[..., TextItem]) -> None:
    item = words(" ".join(["word"] * 300))
    css = drawn(item, np.linspace(0, 1, len(item.tokens))).style
    light, dark = css.split("@media (prefers-color-scheme:dark)")
    assert len(rules(light)) == len(rules(dark)) == 256
    for background, text in (*rules(light).values(), *rules(dark).values()):
        low, high = sorted([wcag_luminance(background), wcag_luminance(text)])
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_every_level_in_use_has_a_rule(source: TextItem) -> None:
    values = np.random.default_rng(0).dirichlet(np.ones(len(source.tokens)))
    result = drawn(source, values)
    classes = " ".join(attrs.get("class") or "" for attrs, _ in result.spans).split()
    used = {name for name in classes if name[1:].isdigit()}
    assert used
    assert used <= set(rules(result.style))


@pytest.mark.parametrize(("theme", "page_color"), [("light", "#ffffff"), ("dark", "#15181e")])
def test_a_page_can_be_fixed_to_one_theme(source: TextItem, theme: str, page_color: str) -> None:
    css = drawn(source, uniform(source), theme=theme).style
    assert "@media" not in css
    assert f"body{{background:{page_color}" in css


def test_a_map_of_another_length_is_an_error(source: TextItem) -> None:
    with pytest.raises(ValueError, match="3 values"):
        drawn(source, np.ones(3))


def test_the_query_is_outlined_and_nothing_else(words: Callable[..., TextItem]) -> None:
    item = words("red green", "green red")
    values = np.full(len(item.tokens), 0.1)
    for token, outlined in ((2, ["green"]), (4, ["green"]), (0, ["[CLS]"]), (None, [])):
        text = marked(item, values, scale=None, fixed_range=None, query=token)
        source = page(text, title="", colormap="inferno", theme="auto")
        found = re.findall(r'<span class="[^"]* q" title="([^":]*): 0.1">', source)
        assert found == outlined
        picture = svg(text, title="", colormap="inferno", theme="auto")
        assert picture.count(' q" x=') == len(outlined)


def test_a_query_in_a_piece_of_several_tokens_outlines_the_piece() -> None:
    item = TextItem(
        tensors={},
        texts=("a你b",),
        tokens=("a", "ä½", "ł", "b"),
        offsets=((0, 1), (1, 2), (1, 2), (2, 3)),
        segments=(0,) * 4,
        special=(False,) * 4,
        dropped=(0,),
    )
    text = marked(item, np.ones(4), scale=None, fixed_range=None, query=2)
    assert text.query is text.on_text[1]


def test_nearly_uniform_attention_leaves_a_text_nearly_blank(words: Callable[..., TextItem]) -> None:
    item = words(" ".join(["word"] * 50))
    even = np.random.default_rng(0).uniform(0.95, 1.05, len(item.tokens))
    peaked = even.copy()
    peaked[7] = 9
    for values, most in ((even, 26), (peaked, 255)):
        text = marked(item, values, scale=None, fixed_range=None)
        assert text.scale.name == "above"
        assert max(text.levels) <= most
    assert text.levels[6] == 255
    assert max(level for i, level in enumerate(text.levels) if i != 6) < 10
