"""A text of 4,096 tokens stays fluid: no task of the page is long, and attention comes in slices."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.browser.chromium import settle

MOST = 3  # requests for attention under way for one pane: one that is waited for, and those that end
ATTENTION = "**/maps/attention.npy*"
BUDGET = 200  # milliseconds that any one task of the page may take
LINES = [f"let value_{line:03} = [{line}, {line + 1}] + other_{line % 7};" for line in range(400)]
WATCH = """
window.tasks = [];
new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((task) => task.duration)))
    .observe({type: "longtask", buffered: true});
"""


@pytest.fixture
def long(visit: Callable[..., Page], long_server: str) -> Page:
    """The page with as many tokens as the model takes."""
    page = visit(long_server, script=WATCH)
    page.fill("#text", "\n".join(LINES))
    page.get_by_role("button", name="Look").click()
    settle(page)
    return page


def longest(page: Page) -> float:
    """The longest task since this was asked last."""
    return max([0.0, *page.evaluate("window.tasks.splice(0)")])


def test_maps_are_switched_and_tokens_hovered_within_the_budget(long: Page, asked: Any) -> None:
    page = long
    assert page.locator(".t").count() > 3900
    expect(page.locator(".unseen")).to_have_count(1)
    shown = longest(page)
    for name in ("cls", "rollout", "received", "cls"):
        page.get_by_role("combobox", name="Map", exact=True).select_option(name)
        settle(page)
    expect(page.get_by_role("gridcell")).to_have_count(4 * 5)
    switched = longest(page)
    box = page.locator(".text-view").bounding_box()
    assert box is not None
    for _ in range(2):  # the second time the rows are there
        for step in range(60):
            page.mouse.move(box["x"] + 60 + 3 * step, box["y"] + 60 + 5 * step)
        expect(page.locator(".readout")).to_contain_text("attends to", timeout=30_000)
    hovered = longest(page)
    page.locator(".options summary").click()
    for share in ("0.9", "0.5", "0.2"):
        page.get_by_label("Keep the largest").fill(share)
        settle(page)
    page.get_by_label("Whole words").check()
    expect(page.locator(".text .t", has_text="value_").first).to_be_visible()
    refined = longest(page)
    tasks = {"shown": shown, "switched": switched, "hovered": hovered, "refined": refined}
    assert tasks == dict.fromkeys(tasks, pytest.approx(0, abs=BUDGET))
    rows = [re.search(r"rows=(\d+)%3A(\d+)", one) for one in asked() if "attention" in one]
    assert rows
    assert all(row is not None and int(row[2]) - int(row[1]) == 64 for row in rows)
    assert [one for one in asked() if "/maps/" in one and ".npy" not in one and "words=true" not in one] == []


def test_a_quick_pointer_leaves_few_requests_and_no_abandoned_ones(long: Page) -> None:
    page = long
    held: list[Route] = []
    under_way: set[Request] = set()

    def hold(route: Route) -> None:
        held.append(route)
        under_way.add(route.request)

    page.route(ATTENTION, hold)
    page.on("requestfailed", lambda request: under_way.discard(request))
    tokens = page.locator(".text .t")
    most = 0
    for at in range(8):  # far from each other: each in a block of its own
        with page.expect_request(ATTENTION):
            tokens.nth(100 * at + 20).hover()
        most = max(most, len(under_way))
    assert most <= MOST
    for at in range(720, 724):  # in the block of the last one
        tokens.nth(at).hover()
    held[-1].continue_()
    expect(page.locator(".readout")).to_contain_text("attends to", timeout=30_000)
    assert len({route.request.url for route in held}) == len(held) == 8
    under_way.discard(held[-1].request)
    with page.expect_request(ATTENTION):
        tokens.nth(1500).hover()
    with page.expect_event("requestfailed", lambda request: request == held[-1].request):
        page.mouse.move(0, 0)
    assert under_way == set()
