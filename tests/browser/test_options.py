"""What the options of a map leave of it is what the server leaves, and the page says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from service.refine import mass_cut, top_cut
from tests.browser.chromium import settle, show

TEXT = "code-language", "A snippet of Rust"
PICTURE = "digit-in-clutter", "A digit in clutter"
CLIP = "digit-motion", "A digit that blinks"


def opened(page: Page, model: str, example: str, *, map: str | None = None) -> Locator:
    """The options of what is shown."""
    show(page, model, example, map=map)
    options = page.locator(".options")
    expect(options).not_to_have_attribute("open", "")
    options.locator("summary").click()
    return options


def path(page: Page) -> str:
    """Where the map is that the page shows, options and all."""
    command = page.locator("#commands code").nth(1).inner_text()
    (found,) = re.findall(r"'http://[^/]+(/v1/predictions/[^']+)'", command)
    return str(found)


def as_format(address: str, format: str) -> str:
    """The same map in another format, without options of a drawing."""
    return re.sub(r"[?&]alpha=[\d.]+", "", re.sub(r"\.(html|png)(?=\?)", f".{format}", address))


REFINE = """async ([values, shape, choice, kind, layout]) => {
    const {refined} = await import("/ui/refine.js");
    const {numbers} = refined({shape, data: Float32Array.from(values)}, choice, kind, layout);
    return {shape: numbers.shape, values: [...numbers.data]};
}"""


@pytest.mark.parametrize("mass", [None, 0.3, 0.9])
@pytest.mark.parametrize("top", [None, 1, 4])
@pytest.mark.parametrize(
    ("model", "example", "map"),
    [(*CLIP, "rollout"), (*CLIP, "message"), (*CLIP, "importance"), (*PICTURE, "cam"), (*PICTURE, "channel")],
)
def test_what_is_kept_is_what_the_server_keeps(
    modules: Page, kept: Kept, mass: float | None, top: int | None, model: str, example: str, map: str
) -> None:
    whole, kind = kept(model, map, {})
    given = {name: value for name, value in (("mass", mass), ("top", top)) if value is not None}
    expected, _ = kept(model, map, given)
    argument = [whole.ravel().tolist(), list(whole.shape), {"mass": mass, "top": top}, kind, None]
    found = modules.evaluate(REFINE, argument)
    assert found["shape"] == list(expected.shape)
    assert np.array_equal(np.float32(found["values"]), expected.ravel())


@pytest.mark.parametrize(
    "row", [[0.25] * 4, [0.0] * 3, [0.5, -1, 0.25, 0.25, -0.5], [-1, -2], [3, 0, 1, 3, 2]], ids=str
)
def test_of_equal_numbers_the_first_are_kept(modules: Page, row: list[float]) -> None:
    values = np.array([row], np.float32)
    for mass, top in ((0.5, None), (1, None), (None, 2), (0.5, 1)):
        expected = values if mass is None else mass_cut(values, mass)
        expected = expected if top is None else top_cut(expected, top)
        choice = {"mass": mass, "top": top}
        found = modules.evaluate(REFINE, [row, [len(row)], choice, "tokens", None])
        assert found["values"] == expected[0].tolist()


Kept = Callable[[str, str, dict[str, Any]], tuple[np.ndarray, str]]


@pytest.fixture(scope="module")
def kept(server: str) -> Iterator[Kept]:
    """The numbers of a map of an example by the server, and the map's kind."""
    examples = {"digit-in-clutter": ("digit-2.png", "image/png"), "digit-motion": ("blink.mp4", "video/mp4")}
    answers: dict[str, str] = {}

    def numbers(model: str, map: str, options: dict[str, Any]) -> tuple[np.ndarray, str]:
        if model not in answers:
            file, kind = examples[model]
            content = client.get(f"/ui/examples/{file}").content
            headers = {"content-type": kind}
            answers[model] = client.post(
                f"/v1/models/{model}/predict", content=content, headers=headers
            ).json()["id"]
        summary = next(one for one in client.get(f"/v1/models/{model}").json()["maps"] if one["name"] == map)
        found = client.get(f"/v1/predictions/{answers[model]}/0/maps/{map}.npy", params=options)
        return np.load(BytesIO(found.raise_for_status().content)), summary["kind"]

    with httpx.Client(base_url=server) as client:
        yield numbers


def test_words_and_shares_are_those_of_the_server(page: Page, server: str) -> None:
    options = opened(page, *TEXT, map="cls")
    options.get_by_label("Whole words").check()
    options.get_by_label("Hide special tokens").check()
    options.get_by_label("Keep the largest").fill("0.7")
    options.get_by_label("Keep at most").fill("20")
    settle(page)
    map = httpx.get(server + as_format(path(page), "json")).raise_for_status().json()
    assert (len(map["tokens"]), map["kept"]["values"]) == (len(map["values"]), 20)
    expect(page.locator(".legend")).to_contain_text(f"20 of {len(map['tokens'])} kept")
    expect(page.locator(".legend")).to_contain_text(f"special tokens held {100 * map['special_mass']:.1f} %")
    order = np.argsort(-np.array(map["values"]), kind="stable")[:3]
    highest = ", ".join(f"“{map['tokens'][at].strip()}” ({map['values'][at]:.3g})" for at in order)
    expect(page.locator(".readout")).to_have_text(f"Highest: {highest}")
    shown = page.locator(".text .t").all_text_contents()
    text = page.input_value("#text")
    assert shown == [text[start:end] for start, end in map["offsets"]]
    expect(page.locator(".text-view .chips")).to_have_count(0)


def test_a_word_attends_as_its_tokens_do_in_the_mean(page: Page, server: str) -> None:
    options = opened(page, *TEXT, map="cls")
    options.get_by_label("Whole words").check()
    settle(page)
    page.locator(".text .t", has_text="count_words").first.hover()
    expect(page.locator(".readout")).to_contain_text("attends to")
    matrix = httpx.get(
        server + re.sub(r"/maps/cls\.html", "/maps/attention.json", path(page)), timeout=30
    ).json()
    query = [token.strip() for token in matrix["tokens"]].index("count_words")
    largest = max(matrix["values"][query])
    expect(page.locator(".readout")).to_contain_text(f"({largest:.3g})")


def test_the_least_attention_is_left_out_of_a_rollout(page: Page, server: str, asked: Any) -> None:
    options = opened(page, *CLIP)
    before = page.locator(".readout").inner_text()
    slider = options.get_by_label("Discard the least attention")
    slider.focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    settle(page)
    assert slider.get_attribute("aria-valuetext") == "10 %"
    expect(page.locator(".readout")).not_to_have_text(before)
    assert any(one.endswith("rollout.npy?discard=0.1") for one in asked())
    numbers = httpx.get(server + as_format(path(page), "npy")).raise_for_status().content
    expect(page.locator(".readout")).to_contain_text(f"({np.load(BytesIO(numbers)).max():.3g})")
    choose(page, "cls")
    expect(slider).to_be_hidden()  # another map has nothing to discard


def choose(page: Page, map: str) -> None:
    page.get_by_role("combobox", name="Map", exact=True).first.select_option(map)
    settle(page)


def test_options_are_of_one_map_and_reset_in_one_click(page: Page) -> None:
    options = opened(page, *TEXT)
    reset = options.get_by_role("button", name="Reset")
    expect(reset).to_be_disabled()
    highest = page.locator(".readout").first
    before = highest.inner_text()
    options.get_by_label("Keep at most").fill("2")
    options.get_by_label("Whole words").check()
    settle(page)
    expect(options.locator("summary")).to_have_text("Options" + "top 2, words")
    expect(highest).not_to_have_text(before)
    reset.click()
    settle(page)
    expect(highest).to_have_text(before)
    expect(options.get_by_label("Keep at most")).to_have_value("")
    expect(options.get_by_label("Whole words")).not_to_be_checked()
    expect(reset).to_be_disabled()
    expect(options.locator("summary")).to_be_focused()
    page.get_by_role("button", name="Compare").click()
    second = page.locator(".options").nth(1)
    second.locator("summary").click()
    second.get_by_label("Whole words").check()
    expect(options.get_by_label("Whole words").first).not_to_be_checked()


@pytest.mark.parametrize(("typed", "kept"), [("2.5", "2"), ("0", ""), ("1e21", "100"), ("-3", "")])
def test_a_number_that_cannot_be_is_put_back(page: Page, typed: str, kept: str) -> None:
    options = opened(page, *TEXT)
    box = options.get_by_label("Keep at most")
    box.press_sequentially(typed)
    box.press("Enter")
    expect(box).to_have_value(kept)
    settle(page)
    expect(options.locator("summary")).to_have_text("Options" + (f"top {kept}" if kept else ""))
    expect(page.get_by_role("alert")).to_have_count(0)


WORD = "count_words"


def attends(page: Page, pane: int = 0) -> Locator:
    """What is said of the place that is looked at."""
    return page.locator(".pane").nth(pane).locator(".readout span", has_text="attends to")


def test_a_held_word_becomes_its_first_token_where_words_are_shown_no_more(page: Page) -> None:
    options = opened(page, *TEXT, map="cls")
    words = options.get_by_label("Whole words")
    page.locator(".text .t", has_text="count").first.hover()
    of_token = attends(page).inner_text()
    words.check()
    settle(page)
    page.locator(".text .t", has_text=WORD).first.click()
    page.mouse.move(0, 0)
    expect(attends(page)).to_contain_text(f"“{WORD}”")
    words.uncheck()
    settle(page)
    expect(attends(page)).to_have_text(of_token)


def test_each_side_of_a_comparison_reads_a_place_by_its_own_tokens(page: Page) -> None:
    show(page, *TEXT, map="cls")
    page.locator(".text .t", has_text="count").first.hover()
    of_token = attends(page).inner_text()
    page.get_by_role("button", name="Compare").click()
    choose(page, "cls")
    second = page.locator(".pane").nth(1)
    second.get_by_role("combobox", name="Map", exact=True).select_option("cls")
    second.locator(".options summary").click()
    second.get_by_label("Whole words").check()
    settle(page)
    second.locator(".text .t", has_text=WORD).first.hover()
    expect(attends(page, 0)).to_have_text(of_token)
    of_word = attends(page, 1).inner_text()
    assert WORD in of_word
    page.locator(".pane").nth(0).locator(".text .t", has_text="count").first.hover()
    expect(attends(page, 1)).to_have_text(of_word)


def test_no_file_is_offered_for_a_mean_of_rows(page: Page) -> None:
    options = opened(page, *TEXT, map="attention")
    options.get_by_label("Whole words").check()
    settle(page)
    expect(page.locator("#files a")).not_to_have_count(0)
    page.locator(".text .t", has_text=WORD).first.click()
    page.mouse.move(0, 0)
    expect(page.locator("#files")).to_contain_text("mean of several tokens' rows")
    expect(page.locator("#files a")).to_have_count(0)
    expect(page.locator("#commands code")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#files a")).not_to_have_count(0)
    expect(page.locator("#commands code").nth(1)).to_contain_text("token=0")


def test_a_text_of_special_tokens_alone_is_not_shown_without_them(page: Page) -> None:
    def special(route: Route) -> None:
        answer = route.fetch()
        document = answer.json()
        read = document["predictions"][0]["input"]
        read["special"] = [True] * len(read["tokens"])
        route.fulfill(response=answer, json=document)

    page.route("**/predict", special)
    options = opened(page, *TEXT)
    options.get_by_label("Hide special tokens").check()
    problem = page.locator(".pane").get_by_role("alert")
    expect(problem).to_contain_text("special tokens alone")
    options.get_by_label("Whole words").check()
    expect(problem).to_contain_text("special tokens alone")
    expect(page.locator(".readout")).to_be_empty()
    options.get_by_role("button", name="Reset").click()
    settle(page)
    expect(problem).to_have_count(0)
    expect(page.locator(".readout")).to_contain_text("Highest")


def test_options_are_part_of_the_commands(page: Page) -> None:
    options = opened(page, *TEXT)
    options.get_by_label("Discard the least attention").fill("0.5")
    options.get_by_label("Hide special tokens").check()
    options.get_by_label("Whole words").check()
    page.get_by_label("Verify the attention").check()
    expect(page.get_by_text("Attention verified")).to_be_visible()
    settle(page)
    ask, fetch = page.locator("#commands code").all_inner_texts()
    asked = json.loads(ask[ask.index("{") : ask.rindex("}") + 1].replace("'\\''", "'"))
    chosen = {"discard": 0.5, "special": "hide", "words": True, "verify": True}
    assert {name: asked[name] for name in chosen} == chosen
    assert "discard=0.5&special=hide&words=true" in fetch
    show(page, *TEXT, map="cls")
    page.get_by_role("combobox", name="Layer").select_option("0")
    settle(page)
    ask = page.locator("#commands code").first.inner_text()
    assert json.loads(ask[ask.index("{") : ask.rindex("}") + 1].replace("'\\''", "'"))["layers"] == 0


def test_an_answer_is_verified_when_it_is_asked_for(page: Page, asked: Any) -> None:
    show(page, *CLIP)
    expect(page.get_by_text("Attention verified")).to_have_count(0)
    with page.expect_response("**/predict*") as answer:
        page.get_by_label("Verify the attention").check()
    proof = answer.value.json()["predictions"][0]["verification"]
    expect(page.locator("#status")).to_contain_text("Attention verified.")
    facts = page.locator(".proof .facts")
    for word in (proof["layer"], proof["precision"], "Row sums off by", "Outputs off by", "Tolerance"):
        expect(facts).to_contain_text(word)
    page.select_option("#model", label=PICTURE[0])
    expect(page.get_by_label("Verify the attention")).to_be_hidden()
    show(page, *PICTURE)  # it has no attention to verify: nothing is asked of it
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_question_under_way_is_the_one_that_is_verified(page: Page) -> None:
    show(page, *TEXT)
    asked = []

    def hold(route: Route) -> None:
        asked.append(route.request.post_data_json)
        if asked[-1]["verify"]:
            route.continue_()  # the question before it stays without an answer

    page.route("**/predict", hold)
    page.fill("#text", "SELECT name FROM people;")
    with page.expect_request("**/predict"):
        page.get_by_role("button", name="Look").click()
    page.get_by_label("Verify the attention").check()
    expect(page.locator(".bars .label").first).to_have_text("sql")
    assert [(one["text"], one["verify"]) for one in asked] == [
        ("SELECT name FROM people;", False),
        ("SELECT name FROM people;", True),
    ]
