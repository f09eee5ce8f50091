"""Texts with their attention as SVG: rows of fixed width, for places that take pictures only."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape

from service.decode.item import TEXT_FIELDS
from service.render.colors import color, hexadecimal, ramp
from service.render.lettering import number
from service.render.pieces import Marked, Run
from service.render.text import pair
from service.render.theme import Theme, page_themes

COLUMNS = 100
LEAST_COLUMNS = 72
MOST_ROWS = 200
TAB = 4
LETTER = 8  # pixels of a column
ROW = 22
TYPE = 13
PAD = 20
BAR = 160
RULE = 12  # pixels above and below a line
LINE_BREAK = "\u21b5"
STYLE = (
    f"text{{font:{TYPE}px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre;"
    "dominant-baseline:central}.name{font-weight:600}"
)
STOPS = range(0, 256, 15)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Part of a stretch of text on one row: its column and its width in columns."""

    row: int
    column: int
    width: int
    text: str
    run: Run


def svg(marked: Marked, *, title: str, colormap: str, theme: str) -> str:
    """The texts in rows of COLUMNS, each token on a background that says how much attention it has.

    Two texts stand one below the other under their names. Control characters are left out, and so is what
    lies beyond MOST_ROWS rows, of which each text has its part.
    """
    most = MOST_ROWS // len(marked.texts)
    layouts = [list(cells(marked, segment, most)) for segment in range(len(marked.texts))]
    ends_at = (cell.column + cell.width for layout in layouts for cell in layout if cell.row < most)
    width = 2 * PAD + max([LEAST_COLUMNS, *ends_at]) * LETTER
    parts, top = _header(marked, title, width)
    for segment, layout in enumerate(layouts):
        if segment > 0:
            more, top = _rule(top + RULE, width)
            parts += more
        if len(layouts) > 1:
            parts.append(_text(PAD, top + ROW / 2, TEXT_FIELDS[segment], "name note"))
            top += ROW
        more, top = _rows(layout, marked, most, top)
        parts += more
    used = sorted({*marked.levels, *marked.beside_levels})
    first, *others = (_colors(used, colormap, each) for each in page_themes(theme))
    dark = "".join(f"@media (prefers-color-scheme:dark){{{rules}}}" for rules in others)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + PAD}" '
        f'viewBox="0 0 {width} {top + PAD}" role="img">\n<title>{_escaped(title or "Attention")}</title>\n'
        f"<style>{STYLE}{first}{dark}</style>\n"
        f'<linearGradient id="bar">{"".join(_stops())}</linearGradient>\n'
        f'<rect class="page" width="100%" height="100%" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def cells(marked: Marked, segment: int, most: int) -> Iterator[Cell]:
    """One text laid out, as far as `most` rows and one more."""
    placed = _letters(marked.runs(segment), most)
    for (row, _), group in groupby(placed, key=lambda letter: (letter.row, letter.run.start)):
        letters = list(group)
        yield Cell(
            row=row,
            column=letters[0].column,
            width=sum(letter.width for letter in letters),
            text="".join(letter.text for letter in letters),
            run=letters[0].run,
        )


def _letters(runs: Iterator[Run], most: int) -> Iterator[Cell]:
    """Letters in their places: broken at line breaks and at COLUMNS, wide ones two columns wide."""
    row = column = 0
    for run in runs:
        for letter in run.text:
            if letter == "\n":
                if run.index is not None:
                    yield Cell(row=row, column=column, width=1, text=LINE_BREAK, run=run)
                row, column = row + 1, 0
                continue
            text, width = _letter(letter, column)
            if column + width > COLUMNS:
                row, column = row + 1, 0
                text, width = _letter(letter, column)
            if row > most:
                return
            if text:
                yield Cell(row=row, column=column, width=width, text=text, run=run)
            column += width


def _letter(letter: str, column: int) -> tuple[str, int]:
    """What is drawn for a letter, and its width in columns."""
    if letter == "\t":
        width = TAB - column % TAB
        return " " * width, width
    if not _allowed(letter):
        return "", 0
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return letter, 0
    return letter, 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _allowed(letter: str) -> bool:
    """Whether XML 1.0 may hold the character, control characters aside."""
    code = ord(letter)
    return not (code < 32 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE)


def _rows(layout: Sequence[Cell], marked: Marked, most: int, top: int) -> tuple[list[str], int]:
    """One text from `top` on, and where it ends."""
    rows = 1 + max((cell.row for cell in layout), default=0)
    parts = [_cell(cell, marked, top) for cell in layout if cell.row < most]
    top += min(rows, most) * ROW
    if rows > most:
        parts.append(_text(PAD, top + ROW / 2, f"… more than {most} rows", "note"))
        top += ROW
    return parts, top


def _cell(cell: Cell, marked: Marked, top: int) -> str:
    x, y, width = PAD + cell.column * LETTER, top + cell.row * ROW, cell.width * LETTER
    index = cell.run.index
    level = None if index is None else marked.levels[index]
    text = ""
    if cell.text.strip():
        kind = f"t{level}" if level is not None else "" if cell.run.seen else "note"
        text = _text(x, y + ROW / 2, cell.text, kind, width)
    if index is None:
        return text
    piece = marked.on_text[index]
    about = _escaped(piece.description)
    kind = f"l{level}{marked.emphasis(piece)}"
    mark = f'<rect class="{kind}" x="{x}" y="{y + 1}" width="{width}" height="{ROW - 2}" rx="3"/>'
    return f"<g><title>{about}</title>{mark}{text}</g>"


def _header(marked: Marked, title: str, width: int) -> tuple[list[str], int]:
    """Title, legend and chips, and where the text begins."""
    top = PAD
    low, high = marked.scale.ends
    legend = f"{marked.scale.caption}  {low}"
    left = width - PAD - (len(high) + 1) * LETTER - BAR
    title = _cut(title or "Attention", (width - 2 * PAD) // LETTER)
    parts = [_text(PAD, top + ROW / 2, title, "name")]
    if len(title) > (left - PAD) // LETTER - len(legend) - 3:
        top += ROW
    parts.append(
        _text(left - (len(legend) + 1) * LETTER, top + ROW / 2, legend, "note", len(legend) * LETTER)
    )
    parts.append(f'<rect x="{left}" y="{top + 5}" width="{BAR}" height="12" rx="6" fill="url(#bar)"/>')
    parts.append(_text(left + BAR + LETTER, top + ROW / 2, high, "note", len(high) * LETTER))
    top += ROW + 8
    if marked.beside:
        chips, rows = _chips(marked, top, width)
        parts += chips
        top += rows * ROW + 8
    rule, top = _rule(top, width)
    return parts + rule, top


def _rule(top: int, width: int) -> tuple[list[str], int]:
    """A line across, and where the text below it begins."""
    return [f'<path class="rule" d="M{PAD} {top}H{width - PAD}"/>'], top + RULE


def _chips(marked: Marked, top: int, width: int) -> tuple[list[str], int]:
    """Tokens beside the text and a note on them, and how many rows they take."""
    parts: list[str] = []
    columns, column, row = (width - 2 * PAD) // LETTER, 0, 0
    for piece, level in zip(marked.beside, marked.beside_levels, strict=True):
        text = "".join(_letter(c, 0)[0] for c in f"{_cut(' '.join(piece.tokens), 16)} {number(piece.value)}")
        column, row = _placed(column, row, len(text) + 2, columns)
        x, y, length = PAD + column * LETTER, top + row * ROW, (len(text) + 2) * LETTER
        kind = f"l{level} chip{marked.emphasis(piece)}"
        parts.append(
            f'<g><title>{_escaped(piece.description)}</title><rect class="{kind}" x="{x}" '
            f'y="{y + 1}" width="{length}" height="{ROW - 2}" rx="{ROW / 2 - 1:g}"/>'
            f"{_text(x + LETTER, y + ROW / 2, text, f't{level}', len(text) * LETTER)}</g>"
        )
        column += len(text) + 3
    note = f"{marked.beside_share:.0%} of the total lies outside the text"
    column, row = _placed(column, row, len(note), columns)
    x, middle = PAD + column * LETTER, top + row * ROW + ROW / 2
    parts.append(_text(x, middle, note, "note", len(note) * LETTER))
    return parts, row + 1


def _placed(column: int, row: int, letters: int, columns: int) -> tuple[int, int]:
    """Where so many letters go that begin here, or in the next row where this one has no room for them."""
    return (0, row + 1) if column and column + letters > columns else (column, row)


def _text(x: float, y: float, text: str, kind: str, length: int | None = None) -> str:
    named = f' class="{kind}"' if kind else ""
    fixed = f' textLength="{length}" lengthAdjust="spacingAndGlyphs"' if length else ""
    return f'<text{named} x="{x:g}" y="{y:g}"{fixed} xml:space="preserve">{_escaped(text)}</text>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(0, length - 1)] + "…"


def _escaped(text: str) -> str:
    return escape("".join(letter for letter in text if _allowed(letter)))


def _stops() -> Iterator[str]:
    for stop in STOPS:
        yield f'<stop class="s{stop}" offset="{stop / 255:.3f}"/>'


def _colors(levels: Sequence[int], colormap: str, theme: Theme) -> str:
    colors = ramp(colormap, theme.page)
    rules = [
        f".page{{fill:{hexadecimal(theme.page)}}}text{{fill:{hexadecimal(theme.ink)}}}",
        f".note{{fill:{hexadecimal(theme.faint)}}}",
        f".rule,.chip{{stroke:{hexadecimal(theme.line)}}}",
        f".q{{stroke:{hexadecimal(theme.ink)};stroke-width:2}}",
        *(f".s{stop}{{stop-color:{hexadecimal(color(colors[stop]))}}}" for stop in STOPS),
    ]
    for level in levels:
        background, text = pair(colormap, theme, level)
        rules.append(f".l{level}{{fill:{hexadecimal(background)}}}.t{level}{{fill:{hexadecimal(text)}}}")
    return "".join(rules)
