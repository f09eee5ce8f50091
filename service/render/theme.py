"""The neutral colours around a map."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import UnknownOption
from service.render.colors import Color

THEMES = ("auto", "light", "dark")


@dataclass(frozen=True, kw_only=True)
class Theme:
    """`page` behind everything, `ink` for text, `faint` for lesser text, `line` for rules and idle bars."""

    page: Color
    ink: Color
    faint: Color
    line: Color


LIGHT = Theme(page=(255, 255, 255), ink=(31, 35, 40), faint=(89, 99, 110), line=(209, 217, 224))
DARK = Theme(page=(21, 24, 30), ink=(236, 239, 244), faint=(154, 164, 178), line=(58, 65, 77))


def check_theme(name: str) -> None:
    """Raise UnknownOption unless there is a theme of this name."""
    if name not in THEMES:
        raise UnknownOption(f"theme must be one of {', '.join(THEMES)}, not {name!r}", field="theme")


def picture_theme(name: str) -> Theme:
    """A picture cannot follow its reader's preference, so "auto" is dark there."""
    return LIGHT if name == "light" else DARK


def page_themes(name: str) -> tuple[Theme, ...]:
    """The themes of a page; of two, the second is for readers who prefer a dark one."""
    return {"auto": (LIGHT, DARK), "light": (LIGHT,), "dark": (DARK,)}[name]
