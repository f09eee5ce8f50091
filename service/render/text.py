"""Texts with their attention as a page of HTML: no script, nothing loaded, every letter escaped."""

from __future__ import annotations

import html

from service.decode.item import TEXT_FIELDS
from service.render.colors import Color, color, hexadecimal, ink, ramp
from service.render.lettering import number
from service.render.pieces import Marked, Run
from service.render.theme import Theme, page_themes

STYLE = """\
body{margin:0;font:14px/1.5 system-ui,sans-serif}
main{max-width:72em;margin:0 auto;padding:1.25em 1.5em}
h1{font-size:1em;font-weight:600;margin:0 0 .5em}
p{margin:0 0 .75em}
.legend,.beside{display:flex;flex-wrap:wrap;align-items:center;gap:.5em;font-size:.9em;\
font-variant-numeric:tabular-nums}
.bar{width:12em;height:.8em;border-radius:.4em}
.chip{padding:0 .55em;border-radius:1em;font-family:ui-monospace,monospace;font-size:.9em}
pre{margin:1em 0 0;padding-top:1em;font:14px/1.7 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;\
white-space:pre-wrap;overflow-wrap:anywhere;tab-size:4}
.field{margin:1.5em 0 0}
.field+pre{margin-top:.25em}
pre span{border-radius:3px;padding:.12em 0;box-decoration-break:clone;-webkit-box-decoration-break:clone}
.q{outline:2px solid;outline-offset:1px}
.line::before{content:"\\21b5";font-size:.8em}
"""

# A browser would drop these, or take them for something else; their pictures stand in Unicode from U+2400.
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {127: 0x2421}


def page(marked: Marked, *, title: str, colormap: str, theme: str) -> str:
    """The texts as they were written, each token on a background that says how much attention it has.

    What lies beside them (special tokens) stands above with its share of the total. Two texts stand one
    below the other under their names.
    """
    used = sorted({*marked.levels, *marked.beside_levels})
    heading = escaped(title) or "Attention"
    texts = "".join(written(marked, segment) for segment in range(len(marked.texts)))
    return "".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{heading}</title>\n<style>\n{STYLE}{style(used, colormap, theme)}</style>\n</head>\n",
            f"<body>\n<main>\n<h1>{heading}</h1>\n{legend(marked)}{beside(marked)}",
            f"{texts}</main>\n</body>\n</html>\n",
        )
    )


def style(levels: list[int], colormap: str, theme: str) -> str:
    """The colours of a page in its themes: class l0 to l255 for the levels that are used."""
    first, *others = (_colors(levels, colormap, each) for each in page_themes(theme))
    scheme = {"auto": "light dark", "light": "light", "dark": "dark"}[theme]
    dark = "".join(f"@media (prefers-color-scheme:dark){{\n{rules}}}\n" for rules in others)
    return f":root{{color-scheme:{scheme}}}\n{first}{dark}"


def _colors(levels: list[int], colormap: str, theme: Theme) -> str:
    colors = ramp(colormap, theme.page)
    stops = ",".join(hexadecimal(color(colors[stop])) for stop in range(0, 256, 15))
    rules = [
        f"body{{background:{hexadecimal(theme.page)};color:{hexadecimal(theme.ink)}}}",
        f".note,.unseen{{color:{hexadecimal(theme.faint)}}}",
        f".bar{{background:linear-gradient(90deg,{stops});box-shadow:0 0 0 1px {hexadecimal(theme.line)}}}",
        f".chip{{box-shadow:0 0 0 1px {hexadecimal(theme.line)}}}",
        f"pre{{border-top:1px solid {hexadecimal(theme.line)}}}",
    ]
    for level in levels:
        background, text = pair(colormap, theme, level)
        rules.append(f".l{level}{{background:{hexadecimal(background)};color:{hexadecimal(text)}}}")
    return "".join(f"{rule}\n" for rule in rules)


def pair(colormap: str, theme: Theme, level: int) -> tuple[Color, Color]:
    """Background and text of a level from 0 to 255; their contrast is 4.5 or more."""
    background = color(ramp(colormap, theme.page)[level])
    return background, ink(background, prefer=theme.ink)


def legend(marked: Marked) -> str:
    low, high = marked.scale.ends
    return (
        f'<p class="legend"><span>{low}</span><span class="bar"></span>'
        f'<span>{high}</span><span class="note">{marked.scale.caption}</span></p>\n'
    )


def beside(marked: Marked) -> str:
    """Tokens that cover no text, as chips with their values; nothing where there are none."""
    if not marked.beside:
        return ""
    chips = "".join(
        f'<span class="chip l{level}{marked.emphasis(piece)}" title="{escaped(piece.description)}">'
        f"{escaped(' '.join(piece.tokens))} {number(piece.value)}</span>"
        for piece, level in zip(marked.beside, marked.beside_levels, strict=True)
    )
    share = f"{marked.beside_share:.0%} of the total lies outside the text"
    return f'<p class="beside">{chips}<span class="note">{share}</span></p>\n'


def written(marked: Marked, segment: int) -> str:
    """One text, under its name where there are two."""
    name = f'<p class="field note">{TEXT_FIELDS[segment]}</p>\n' if len(marked.texts) > 1 else ""
    text = "".join(stretch(run, marked) for run in marked.runs(segment))
    # A browser drops the first line break of a pre, so it gets one that is not the text's.
    return f'{name}<pre dir="auto">\n{text}</pre>\n'


def stretch(run: Run, marked: Marked) -> str:
    text = escaped(run.text)
    if not run.seen:
        return f'<span class="unseen" title="not seen by the model">{text}</span>'
    if run.index is None:
        return text
    line = " line" if "\n" in run.text else ""
    piece = marked.on_text[run.index]
    kind = f"l{marked.levels[run.index]}{line}{marked.emphasis(piece)}"
    return f'<span class="{kind}" title="{escaped(piece.description)}">{text}</span>'


def escaped(text: str) -> str:
    """Text for HTML, inside elements and quoted attributes."""
    return html.escape(text.translate(CONTROLS)).replace("\r", "&#13;")
