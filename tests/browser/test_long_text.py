"""A text of 4,096 tokens stays fluid: no task of the page is long, and attention comes in slices."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import settle

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
    page = visit(long_server, ready=False)
    page.add_init_script(WATCH)
    page.reload()
    page.wait_for_selector("html[data-ready]")
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
    assert {"shown": shown, "switched": switched, "hovered": hovered} == {
        "shown": pytest.approx(0, abs=BUDGET),
        "switched": pytest.approx(0, abs=BUDGET),
        "hovered": pytest.approx(0, abs=BUDGET),
    }
    rows = [re.search(r"rows=(\d+)%3A(\d+)", one) for one in asked() if "attention" in one]
    assert rows
    assert all(row is not None and int(row[2]) - int(row[1]) == 64 for row in rows)


def test_numbers_never_come_as_json(long: Page, asked: Any) -> None:
    long.locator(".text .t").nth(40).hover()
    expect(long.locator(".readout")).to_contain_text("attends to", timeout=30_000)
    assert [one for one in asked() if "/maps/" in one and ".npy" not in one] == []
