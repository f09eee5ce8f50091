"""Refinements: what a cut keeps, what hidden tokens held, and how subwords become words."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tokenizers import Tokenizer, models, pre_tokenizers

from service.bundle import KIND_AXES, Kind, MapSpec
from service.decode.item import TextItem
from service.errors import InvalidInput, UnknownOption
from service.maps import SelectedMap
from service.refine import Kept, Refinement, mass_cut, refine, top_cut


def selected(values: np.ndarray, kind: Kind = "tokens", *leading: str) -> SelectedMap:
    axes = (*leading, *KIND_AXES[kind])
    spec = MapSpec(
        name="m",
        kind=kind,
        description="",
        axes=KIND_AXES[kind],
        layers=(),
        default_layer=None,
        heads=None,
        graph="m",
        inputs=("tap",),
        outputs=("m",),
    )
    values = np.asarray(values, np.float32)
    return SelectedMap(spec=spec, kind=kind, values=values, axes=axes, layers="all", heads=None, target=None)


def text_of(text: str, *spans: tuple[int, int], special: tuple[int, ...] = ()) -> TextItem:
    return TextItem(
        tensors={},
        texts=(text,),
        tokens=tuple(text[start:end] or "[S]" for start, end in spans),
        offsets=spans,
        segments=(0,) * len(spans),
        special=tuple(index in special for index in range(len(spans))),
        dropped=(0,),
    )


# [CLS] "un" "believ" "able" " day" [SEP]
UNBELIEVABLE = text_of(
    "unbelievable day", (0, 0), (0, 2), (2, 8), (8, 12), (12, 16), (16, 16), special=(0, 5)
)


def test_nothing_is_changed_by_default() -> None:
    chosen = selected(np.array([0.5, -0.25, 0.75]))
    refined = refine(chosen, Refinement())
    assert (refined.selected, refined.text, refined.special_mass, refined.kept) == (chosen, None, None, None)


def test_a_mass_cut_keeps_the_largest_until_they_hold_the_share() -> None:
    refined = refine(selected([0.1, 0.5, 0.15, 0.25]), Refinement(mass=0.7))
    np.testing.assert_allclose(refined.selected.values, [0, 0.5, 0, 0.25])
    assert refined.kept == Kept(values=2, share=pytest.approx(0.75))


def test_a_cut_of_all_the_mass_keeps_all_of_it() -> None:
    values = np.random.default_rng(3).dirichlet(np.ones(1000))
    kept = refine(selected(values), Refinement(mass=1.0)).kept
    assert kept == Kept(values=1000, share=1.0)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-1, 1, width=16)),
    st.floats(0.01, 1),
)
def test_no_smaller_set_of_values_would_hold_the_mass(values: np.ndarray, mass: float) -> None:
    for row, cut in zip(values, mass_cut(values, mass), strict=True):
        kept = np.sort(cut[cut > 0]).astype(np.float64)
        total = row[row > 0].astype(np.float64).sum()
        assert set(kept) <= set(row.astype(np.float64))
        assert kept.sum() >= mass * total - 1e-12
        assert kept[1:].sum() < mass * total or total == 0  # without the least of them it is too little


def test_the_top_values_stay_with_their_weight() -> None:
    refined = refine(selected([0.1, 0.5, 0.15, 0.25]), Refinement(top=2))
    np.testing.assert_allclose(refined.selected.values, [0, 0.5, 0, 0.25])
    assert refined.kept == Kept(values=2, share=pytest.approx(0.75))
    assert refine(selected([0.1, 0.2]), Refinement(top=99)).kept == Kept(values=2, share=1.0)


def test_of_equal_values_the_first_stay() -> None:
    even = np.full((1, 4), 0.25, np.float32)
    np.testing.assert_array_equal(top_cut(even, 2), [[0.25, 0.25, 0, 0]])
    np.testing.assert_array_equal(mass_cut(even, 0.5), [[0.25, 0.25, 0, 0]])


@pytest.mark.parametrize(
    ("kind", "leading", "apart"),
    [
        ("tokens", (), 0),
        ("tokens", ("layer", "head"), 2),
        ("token_matrix", (), 1),
        ("token_matrix", ("head",), 2),
        ("grid", ("head",), 1),
        ("frame_grid", (), 0),
        ("frame_matrix", (), 1),
    ],
)
def test_every_row_is_a_distribution_of_its_own(kind: Kind, leading: tuple[str, ...], apart: int) -> None:
    shape = (3,) * (len(leading) + len(KIND_AXES[kind]))
    values = np.random.default_rng(1).random(shape)
    cut = refine(selected(values, kind, *leading), Refinement(top=1)).selected.values
    rows = (cut > 0).reshape(*shape[:apart], -1).sum(-1)
    assert (rows == 1).all()


def test_an_empty_map_stays_empty() -> None:
    refined = refine(selected(np.zeros(4)), Refinement(mass=0.5))
    assert not refined.selected.values.any()
    assert refined.kept == Kept(values=0, share=0.0)


def test_hidden_special_tokens_say_what_they_held() -> None:
    values = np.array([0.3, 0.1, 0.2, 0.1, 0.1, 0.2])
    refined = refine(selected(values), Refinement(special="hide"), UNBELIEVABLE)
    np.testing.assert_allclose(refined.selected.values, [0.1, 0.2, 0.1, 0.1], rtol=1e-6)
    assert refined.special_mass == pytest.approx(0.5)
    assert refined.text is not None
    assert refined.text.tokens == ("un", "believ", "able", " day")


def test_a_text_of_special_tokens_alone_cannot_hide_them() -> None:
    nothing = text_of("", (0, 0), (0, 0), special=(0, 1))
    for words in (False, True):
        with pytest.raises(UnknownOption, match="no tokens but special ones") as problem:
            refine(selected(np.array([0.5, 0.5])), Refinement(special="hide", words=words), nothing)
        assert problem.value.field == "special"


def test_special_tokens_of_a_matrix_are_hidden_as_keys_and_as_queries() -> None:
    values = np.full((6, 6), 1 / 6)
    values[0] = [1, 0, 0, 0, 0, 0]  # of a query that is hidden itself: it does not count
    refined = refine(selected(values, "token_matrix"), Refinement(special="hide"), UNBELIEVABLE)
    assert refined.selected.values.shape == (4, 4)
    assert refined.special_mass == pytest.approx(1 / 3)


def test_words_are_sums() -> None:
    values = np.array([0.3, 0.1, 0.2, 0.1, 0.1, 0.2])
    refined = refine(selected(values), Refinement(words=True), UNBELIEVABLE)
    np.testing.assert_allclose(refined.selected.values, [0.3, 0.4, 0.1, 0.2], rtol=1e-6)
    assert refined.text is not None
    assert refined.text.tokens == ("[S]", "unbelievable", " day", "[S]")
    assert refined.text.offsets == ((0, 0), (0, 12), (12, 16), (16, 16))
    assert refined.text.special == (True, False, False, True)


def test_a_matrix_of_words_sums_over_keys_and_averages_over_queries() -> None:
    values = np.random.default_rng(2).dirichlet(np.ones(6), size=(2, 6))  # [head, query, key]
    refined = refine(selected(values, "token_matrix", "head"), Refinement(words=True), UNBELIEVABLE)
    belongs = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    expected = (belongs / belongs.sum(0)).T @ values @ belongs
    np.testing.assert_allclose(refined.selected.values, expected, rtol=1e-6)
    np.testing.assert_allclose(refined.selected.values.sum(-1), 1, rtol=1e-6)


def test_special_tokens_go_first_then_words_are_made_then_cuts() -> None:
    values = np.array([0.3, 0.1, 0.2, 0.1, 0.1, 0.2])
    refined = refine(selected(values), Refinement(special="hide", words=True, top=1), UNBELIEVABLE)
    np.testing.assert_allclose(refined.selected.values, [0.4, 0], rtol=1e-6)
    assert refined.kept == Kept(values=1, share=pytest.approx(0.8))
    assert refined.special_mass == pytest.approx(0.5)


def words_of(text: str, *spans: tuple[int, int]) -> list[str]:
    refined = refine(selected(np.ones(len(spans))), Refinement(words=True), text_of(text, *spans))
    assert refined.text is not None
    return [text[start:end] for start, end in refined.text.offsets]


def characters(text: str) -> list[tuple[int, int]]:
    return [(place, place + 1) for place in range(len(text))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't stop", ["don't", " ", "stop"]),
        ("pi is 3.14", ["pi", " ", "is", " ", "3.14"]),
        ("fn count_words(a);", ["fn", " ", "count_words", "(", "a", ")", ";"]),
        ("naïve", ["naïve"]),
        ("cafe\u0301 x", ["cafe\u0301", " ", "x"]),
        ("東京へカタカナ", ["東", "京", "へ", "カタカナ"]),
        ("Привет мир", ["Привет", " ", "мир"]),
    ],
)
def test_words_are_those_of_unicode(text: str, words: list[str]) -> None:
    assert words_of(text, *characters(text)) == words


def test_a_token_that_carries_its_space_is_of_the_word_behind_it() -> None:
    assert words_of("to infinity", (0, 2), (2, 5), (5, 11)) == ["to", " infinity"]


def test_a_row_of_flags_is_one_word_each_and_takes_no_longer_than_other_text() -> None:
    flags = "\U0001f1eb\U0001f1ee" * 50_000
    for text in ("a" + flags[:40] + "b", "a" + flags[:8] + "b"):
        pairs = [text[at : at + 2] for at in range(1, len(text) - 1, 2)]
        assert words_of(text, *characters(text)) == ["a", *pairs, "b"]
    started = time.perf_counter()
    assert words_of(flags, (0, 2), (2, 4)) == [flags[:2], flags[2:4]]
    assert time.perf_counter() - started < 5  # a minute where each flag walks back to the first


def test_a_token_that_reaches_into_two_words_joins_them() -> None:
    assert words_of("a();b", (0, 1), (1, 3), (3, 5)) == ["a", "()", ";b"]
    assert words_of("can not", (0, 2), (2, 5), (5, 7)) == ["can not"]


def test_tokens_of_one_character_are_one_word() -> None:
    assert words_of("🙂!", (0, 1), (0, 1), (0, 1), (1, 2)) == ["🙂", "!"]


def test_equal_places_in_two_texts_are_different_words() -> None:
    pair = TextItem(
        tensors={},
        texts=("ab", "ab"),
        tokens=("a", "b", "a", "b"),
        offsets=((0, 1), (1, 2), (0, 1), (1, 2)),
        segments=(0, 0, 1, 1),
        special=(False,) * 4,
        dropped=(0, 0),
    )
    refined = refine(selected([0.1, 0.2, 0.3, 0.4]), Refinement(words=True), pair)
    np.testing.assert_allclose(refined.selected.values, [0.3, 0.7], rtol=1e-6)
    assert refined.text is not None
    assert refined.text.segments == (0, 1)


def test_words_of_english_are_those_of_a_tokenizer_that_knows_words() -> None:
    text = "The quick brown fox, unbelievably, jumps over 13 lazy dogs!"
    whole = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    letters = [(start, end) for start, end in characters(text) if text[start] != " "]
    assert words_of(text, *letters) == [text[start:end] for start, end in whole.encode(text).offsets]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"mass": 0.0}, "mass"),
        ({"mass": 1.01}, "mass"),
        ({"mass": float("nan")}, "mass"),
        ({"top": 0}, "top"),
    ],
)
def test_limits_are_named(options: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Refinement(**options)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.limit is not None


@pytest.mark.parametrize(
    ("refinement", "field"), [(Refinement(words=True), "words"), (Refinement(special="hide"), "special")]
)
def test_a_map_that_is_not_of_tokens_has_none_to_merge_or_hide(refinement: Refinement, field: str) -> None:
    with pytest.raises(UnknownOption, match="not over the tokens") as caught:
        refine(selected(np.ones((2, 2)), "grid"), refinement)
    assert caught.value.field == field
    with pytest.raises(UnknownOption, match="all rows") as caught:
        refine(selected(np.ones((2, 6)), "token_matrix"), refinement, UNBELIEVABLE)
    assert caught.value.field == field


def test_a_token_is_found_in_its_word_and_not_where_it_was_hidden() -> None:
    chosen = selected(np.ones(6))
    as_words = refine(chosen, Refinement(words=True), UNBELIEVABLE)
    assert [as_words.place(UNBELIEVABLE, token) for token in range(6)] == [0, 1, 1, 1, 2, 3]
    without = refine(chosen, Refinement(special="hide"), UNBELIEVABLE)
    assert [without.place(UNBELIEVABLE, token) for token in range(6)] == [None, 0, 1, 2, 3, None]
    assert refine(chosen, Refinement(top=1)).place(UNBELIEVABLE, 3) == 3
    assert as_words.place(UNBELIEVABLE, None) is None
