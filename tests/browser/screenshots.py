"""Pictures of the page for the README: `python -m tests.browser.screenshots DIR`."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from service.settings import Settings
from tests.browser.chromium import launched, running, show

SIZE = {"width": 1280, "height": 1100}
DRAWN = "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"


def text(page: Page) -> None:
    show(page, "code-language", "A snippet of Rust", map="cls")
    page.get_by_role("gridcell", name="layers.3, head 1").wait_for()


def image(page: Page) -> None:
    show(page, "digit-in-clutter", "A wide picture")


def video(page: Page) -> None:
    show(page, "digit-motion", "A digit that blinks")


def write(folder: Path) -> None:
    """Write page-FAMILY-THEME.png for every family and theme."""
    folder.mkdir(parents=True, exist_ok=True)
    with running(Settings()) as address, launched() as browser:
        for theme in ("light", "dark"):
            for shown in (text, image, video):
                context = browser.new_context(viewport=SIZE, color_scheme=theme)
                page = context.new_page()
                page.goto(address)
                page.wait_for_selector("html[data-ready]")
                shown(page)
                page.evaluate(
                    "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
                )
                picture = folder / f"page-{shown.__name__}-{theme}.png"
                Image.open(BytesIO(page.screenshot())).convert("RGB").save(picture, optimize=True)
                context.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
