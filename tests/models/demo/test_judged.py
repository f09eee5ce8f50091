"""What was judged comes to stand in the card, in the README and in a page of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.demo import judged
from service.bundle import Card, MapFigures

INTERVAL = {"value": 0.5, "low": 0.4, "high": 0.6}


def measured(measure: str, blanking: str | None, verdict: str | None) -> dict[str, Any]:
    return {
        "measure": measure,
        "blanking": blanking,
        "inputs": 100,
        "value": INTERVAL,
        "difference": None if verdict is None else INTERVAL,
        "verdict": verdict,
    }


def row(name: str, layer: str | None, *verdicts: str | None) -> dict[str, Any]:
    ways = [("deletion", "zero"), ("deletion", "blur"), ("pointing", None)]
    measures = [measured(*way, verdict) for way, verdict in zip(ways, verdicts, strict=True)]
    return {"map": name, "layer": layer, "ranks": "2 x 2 places", "measures": measures}


@pytest.fixture
def figures() -> dict[str, Any]:
    return {
        "data": "set",
        "inputs": 100,
        "seed": 0,
        "steps": 20,
        "accuracy": INTERVAL,
        "score": INTERVAL,
        "blanked": {},
        "maps": [
            row("cam", None, judged.BETTER, judged.BETTER, judged.BETTER),
            row("spatial", "stage4_1", judged.WORSE, "not told apart", judged.BETTER),
            row("random", None, None, None, None),
        ],
        "not_judged": {"channel": "orders channels"},
    }


def test_the_table_counts_what_a_map_is_better_and_worse_in(figures: dict[str, Any]) -> None:
    assert list(judged.table({"digits": figures}))[2:] == [
        "| `digits` | `cam` |  | 2 x 2 places | 2 of 2 | 0 | 50% |  |",
        "| `digits` | `spatial` | `stage4_1` | 2 x 2 places | 0 of 2 | 1 | 50% |  |",
        "| `digits` | `random` |  | 2 x 2 places |  |  | 50% |  |",
    ]


def test_the_table_takes_the_place_of_the_one_before(tmp_path: Path, figures: dict[str, Any]) -> None:
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- judged maps -->\nold\n<!-- end of judged maps -->\nb\n")
    for _ in range(2):
        judged.write_table(path, {"digits": figures})
        lines = path.read_text().splitlines()
        assert (lines[0], lines[-1]) == ("a", "b")
        assert len(lines) == 4 + len(list(judged.table({"digits": figures})))
    assert "old" not in lines
    path.write_text("nothing")
    with pytest.raises(ValueError, match="has 0 places"):
        judged.write_table(path, {"digits": figures})


def test_the_readme_has_a_place_for_the_table() -> None:
    text = (Path(__file__).parents[3] / judged.README).read_text(encoding="utf-8")
    assert len(judged.PLACE.findall(text)) == 1


def test_the_card_of_a_checkpoint_holds_the_figures_and_is_still_one(
    tmp_path: Path, figures: dict[str, Any]
) -> None:
    (weights,) = [folder for name, folder in judged.WEIGHTS.items() if name == "digit-in-clutter"]
    before = json.loads((weights / judged.CHECKPOINT).read_text(encoding="utf-8"))
    (tmp_path / judged.CHECKPOINT).write_text(json.dumps(before))
    judged.write_card(tmp_path, figures)
    after = json.loads((tmp_path / judged.CHECKPOINT).read_text(encoding="utf-8"))
    card = Card.model_validate(after["card"])
    assert card.judged == MapFigures.model_validate(figures)
    before["card"].pop("judged", None)
    after["card"].pop("judged")
    assert after == before


def test_a_page_of_its_own_shows_its_own_plot(tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir()
    (found / "maps.md").write_text("# Maps\n\n![plot](maps.svg)\n")
    (found / "maps.svg").write_text("<svg/>")
    judged.write_page("digits", found, tmp_path / "pages")
    assert (tmp_path / "pages" / "digits.md").read_text() == "# Maps\n\n![plot](digits.svg)\n"
    assert (tmp_path / "pages" / "digits.svg").read_text() == "<svg/>"
