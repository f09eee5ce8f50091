"""What is written of an evaluation: a table for a terminal, a page of Markdown, JSON and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from service.bundle import Interval, JudgedMap, MapFigures, Measure, Measured
from service.evaluation.plot import draw
from service.evaluation.ranking import RANDOM, UNIFORM
from service.evaluation.tally import LOWER_IS_BETTER, Evaluation

MEANINGS: dict[Measure, str] = {
    "deletion": "area under the label's score as what the map ranks first is taken away",
    "insertion": "area under the label's score as what the map ranks first is put into a blank input",
    "comprehensiveness": "mean fall of the label's score without the first 1, 5, 10, 20, 50 % of the tokens",
    "sufficiency": "mean fall of the label's score with these tokens alone",
    "pointing": "share of inputs whose highest value lies where the truth is",
    "energy": "share of the map's sum that lies where the truth is",
}
SHORT: dict[Measure, str] = {
    "deletion": "del.",
    "insertion": "ins.",
    "comprehensiveness": "compr.",
    "sufficiency": "suff.",
    "pointing": "point.",
    "energy": "energy",
}
MARKS = {
    "better than random": "+",
    "worse than random": "-",
    "not told apart": " ",
    "too few inputs": "?",
    None: " ",
}
YARDSTICKS = (RANDOM, UNIFORM)


def write(found: Evaluation, folder: Path) -> None:
    """Write maps.md, maps.json and maps.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "maps.svg").write_bytes(draw(found))
    (folder / "maps.json").write_text(found.model_dump_json(indent=2) + "\n")
    (folder / "maps.md").write_text(markdown(found, plot="maps.svg"))


def table(found: Evaluation) -> Table:
    """All measures in short, with a mark where a map is better or worse than random."""
    maps = found.figures.maps
    columns = _columns(maps)
    shown = Table(
        title=escape(_subject(found)),
        caption="↑ higher is better, ↓ lower; + better than random, - worse, ? too few inputs",
        box=None,
    )
    shown.add_column("map", no_wrap=True)
    for name in ("layer", "ranks"):
        shown.add_column(name, overflow="fold")
    for column in columns:
        shown.add_column(_title(*column), justify="right", overflow="fold")
    for row, following in zip(maps, [*maps[1:], None], strict=True):
        by_column = {(one.measure, one.blanking): one for one in row.measures}
        shown.add_row(
            escape(row.map),
            escape(row.layer or ""),
            row.ranks,
            *(_short(by_column.get(column)) for column in columns),
            style="dim" if row.map in YARDSTICKS else None,
            end_section=following is None or following.ranks != row.ranks,
        )
    return shown


def markdown(found: Evaluation, plot: str) -> str:
    """The whole of it; `plot` is the picture's file."""
    figures = found.figures
    lines = [f"# The maps of {found.model}, version {found.version}, judged", "", f"{_subject(found)}."]
    lines += [_context(figures), "", *_legend(figures), ""]
    for measure in MEANINGS:
        lines += _section(measure, figures.maps)
    lines += [f"- `{name}` is not judged: it {why}." for name, why in figures.not_judged.items()]
    lines += ["", f"![The label's score as parts are taken away and put in]({plot})", ""]
    return "\n".join(lines)


def _subject(found: Evaluation) -> str:
    figures = found.figures
    return f"{found.model}: {figures.inputs} inputs of {figures.data}, seed {figures.seed}"


def _context(figures: MapFigures) -> str:
    right = "" if figures.accuracy is None else f"The label is right in {_percent(figures.accuracy)}. "
    return f"{right}The predicted label's score is {_interval(figures.score)}."


def _legend(figures: MapFigures) -> list[str]:
    lines = [
        "Layers are those shown by default, heads averaged, maps of labels those of the predicted one. In "
        "brackets: 95 % intervals, bootstrap over inputs. A verdict is that of the paired difference from "
        "`random`, a map of random numbers; about one in twenty is chance. `uniform` is a map that is the "
        "same everywhere: any order is as good, so the mean of several is taken.",
        "",
    ]
    for way, blanked in figures.blanked.items():
        left = "" if blanked.score is None else f"; with all of it, the score is {_interval(blanked.score)}"
        lines.append(f"- Taken away by `{way}`: {blanked.meaning}{left}.")
    return lines


def _section(measure: Measure, maps: Sequence[JudgedMap]) -> Iterable[str]:
    """The table of one measure: a row for each map, side by side the ways of taking away."""
    rows = [(row, [one for one in row.measures if one.measure == measure]) for row in maps]
    rows = [(row, measured) for row, measured in rows if measured]
    if not rows:
        return
    better = "lower" if measure in LOWER_IS_BETTER else "higher"
    yield from (f"## {measure.capitalize()} ({better} is better)", "", f"The {MEANINGS[measure]}.", "")
    several = rows[0][1]
    head = [f"{one.blanking or measure} | less `random` | verdict" for one in several]
    counted = len({one.inputs for _, measured in rows for one in measured}) > 1
    yield "| map | layer | ranks | " + "inputs | " * counted + " | ".join(head) + " |"
    yield "| --- " * (3 + counted + 3 * len(several)) + "|"
    for row, measured in rows:
        inputs = f"{measured[0].inputs} | " * counted
        cells = " | ".join(_cells(one) for one in measured)
        yield f"| `{row.map}` | {row.layer or ''} | {row.ranks} | {inputs}{cells} |"
    yield ""


def _cells(one: Measured) -> str:
    if one.difference is None:
        return f"{_interval(one.value)} | | "
    return f"{_interval(one.value)} | {_interval(one.difference, signed=True)} | {one.verdict}"


def _columns(maps: Iterable[JudgedMap]) -> list[tuple[Measure, str | None]]:
    met = dict.fromkeys((one.measure, one.blanking) for row in maps for one in row.measures)
    return sorted(met, key=lambda column: list(MEANINGS).index(column[0]))


def _title(measure: Measure, blanking: str | None) -> str:
    arrow = "↓" if measure in LOWER_IS_BETTER else "↑"
    return "\n".join(filter(None, (f"{SHORT[measure]} {arrow}", blanking)))


def _short(one: Measured | None) -> str:
    return "" if one is None else f"{one.value.value:.3f}{MARKS[one.verdict]}"


def _interval(found: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def _percent(found: Interval) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"
