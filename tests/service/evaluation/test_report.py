"""What is written of an evaluation says all that was measured, and the same figures give the same files."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from service.bundle import Blanked, Interval, JudgedMap, MapFigures, Measured
from service.evaluation.plot import draw
from service.evaluation.report import markdown, table, write
from service.evaluation.tally import Curve, Evaluation


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.01, high=value + 0.02)


def measured(
    value: float, difference: float | None, verdict: str | None, measure: str, way: str | None
) -> Measured:
    return Measured(
        measure=measure,  # type: ignore[arg-type]
        blanking=way,
        inputs=100 if way else 25,
        value=interval(value),
        difference=None if difference is None else interval(difference),
        verdict=verdict,  # type: ignore[arg-type]
    )


def judged(name: str, layer: str | None, verdict: str | None) -> JudgedMap:
    difference = None if verdict is None else 0.2
    return JudgedMap(
        map=name,
        layer=layer,
        ranks="12 x 12 places",
        measures=(
            measured(0.1234, difference, verdict, "deletion", "zero"),
            measured(0.234, difference, verdict, "deletion", "blur"),
            measured(0.75, difference, verdict, "pointing", None),
        ),
    )


def curve(name: str) -> Curve:
    points = tuple(map(interval, (0.9, 0.5, 0.1)))
    return Curve(
        map=name,
        layer=None,
        ranks="12 x 12 places",
        blanking="zero",
        shares=(0.0, 0.5, 1.0),
        without=points,
        alone=points[::-1],
    )


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(
        model="digits",
        version="3",
        figures=MapFigures(
            data="held-out",
            inputs=100,
            seed=7,
            steps=20,
            accuracy=interval(0.955),
            score=interval(0.9),
            blanked={"zero": Blanked(meaning="grey pixels", score=interval(0.2))},
            maps=(
                judged("cam", None, "better than random"),
                judged("spatial", "stage4_1", "worse than random"),
                judged("random", None, None),
                judged("uniform", None, "not told apart"),
            ),
            not_judged={"channel": "orders channels"},
        ),
        curves=tuple(map(curve, ("cam", "spatial", "random", "uniform"))),
    )


def test_the_page_has_every_figure_with_its_interval_and_verdict(evaluation: Evaluation) -> None:
    page = markdown(evaluation, "maps.svg")
    for words in (
        "# The maps of digits, version 3, judged",
        "100 inputs of held-out, seed 7",
        "right in 95.5% (94.5% to 97.5%)",
        "`zero`: grey pixels; with all of it, the score is 0.200 (0.190 to 0.220)",
        "## Deletion (lower is better)",
        "## Pointing (higher is better)",
        "`channel` is not judged: it orders channels",
        "(maps.svg)",
        "| `random` |  | 12 x 12 places |",
        "| `uniform` |  | 12 x 12 places |",
    ):
        assert words in page, words
    (row,) = [
        line for line in page.splitlines() if line.startswith("| `spatial` | stage4_1") and "0.123" in line
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[3:] == [
        "0.123 (0.113 to 0.143)",
        "+0.200 (+0.190 to +0.220)",
        "worse than random",
        "0.234 (0.224 to 0.254)",
        "+0.200 (+0.190 to +0.220)",
        "worse than random",
    ]


def test_every_row_of_a_table_has_as_many_cells(evaluation: Evaluation) -> None:
    lines = markdown(evaluation, "maps.svg").splitlines()
    for start in (index for index, line in enumerate(lines) if line.startswith("| map")):
        rows = []
        for line in lines[start:]:
            if not line.startswith("|"):
                break
            rows.append(line.count("|"))
        assert len(rows) == 6
        assert len(set(rows)) == 1, rows


def test_the_terminal_shows_every_map_in_eighty_columns(evaluation: Evaluation) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(evaluation))
    shown = console.export_text()
    for words in ("cam", "spatial", "stage4_1", "random", "uniform", "0.123+", "0.234-", "0.750+"):
        assert words in shown, shown


def test_the_plot_is_one_svg_without_anything_from_elsewhere(evaluation: Evaluation) -> None:
    drawn = draw(evaluation)
    root = ElementTree.fromstring(drawn)
    assert root.tag.endswith("svg")
    text = " ".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("text"))
    for words in ("cam", "random", "uniform", "without the first, zero", "the first alone, zero"):
        assert words in text, text
    links = [value for node in root.iter() for name, value in node.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)


@pytest.mark.parametrize("part", ["without", "alone"])
def test_both_curves_are_drawn(evaluation: Evaluation, part: str) -> None:
    first, *others = evaluation.curves
    higher = first.model_copy(update={part: tuple(map(interval, (0.2, 0.3, 0.4)))})
    assert draw(evaluation) != draw(evaluation.model_copy(update={"curves": (higher, *others)}))


def test_the_same_figures_give_the_same_files(evaluation: Evaluation, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(evaluation, tmp_path / name / "deeper")
    for name in ("maps.md", "maps.json", "maps.svg"):
        one, two = (tmp_path / part / "deeper" / name for part in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert Evaluation.model_validate_json(one.with_name("maps.json").read_text()) == evaluation
