"""The judged maps of the default models, where people read of them: `python -m models.demo.judged DIR`.

DIR/NAME has what `regard evaluate --out` wrote of a model. Its figures go into the card of the model's
checkpoint, its page and plot to docs/maps, and a short table of all models into the README.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.demo.code_language import recipe as code_language
from models.demo.digit_in_clutter import recipe as digit_in_clutter
from models.demo.digit_motion import recipe as digit_motion

WEIGHTS = {recipe.NAME: recipe.WEIGHTS for recipe in (code_language, digit_in_clutter, digit_motion)}
README, PAGES = Path("README.md"), Path("docs/maps")
CHECKPOINT, FIGURES = "checkpoint.json", "maps.json"
PLACE = re.compile(r"(<!-- judged maps -->\n).*?(<!-- end of judged maps -->)", re.DOTALL)
HEAD = "| model | map | layer | ranks | better than random | worse | pointing game | energy inside |"
BETTER, WORSE = "better than random", "worse than random"

Figures = Mapping[str, Any]


def write_card(weights: Path, figures: Figures) -> None:
    """Put the figures into a checkpoint's card, in place of those that are there."""
    path = weights / CHECKPOINT
    document = json.loads(path.read_text(encoding="utf-8"))
    document["card"]["judged"] = figures
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_page(name: str, found: Path, folder: Path) -> None:
    """Copy a model's page and plot, which then have the model's name."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (found / "maps.md").read_text(encoding="utf-8")
    (folder / f"{name}.md").write_text(text.replace("(maps.svg)", f"({name}.svg)"), encoding="utf-8")
    shutil.copyfile(found / "maps.svg", folder / f"{name}.svg")


def write_table(path: Path, figures: Mapping[str, Figures]) -> None:
    """Replace the table between the two comments of a page; raises ValueError where they are not there."""
    text, count = PLACE.subn(
        lambda place: place[1] + "\n".join(table(figures)) + "\n" + place[2],
        path.read_text(encoding="utf-8"),
    )
    if count != 1:
        raise ValueError(f"{path} has {count} places for the table")
    path.write_text(text, encoding="utf-8")


def table(figures: Mapping[str, Figures]) -> Iterable[str]:
    """A row for each map of each model, as Markdown."""
    yield HEAD
    yield "| --- " * (HEAD.count("|") - 1) + "|"
    for name, found in figures.items():
        for row in found["maps"]:
            places = {one["measure"]: one["value"]["value"] for one in row["measures"]}
            cells = [
                f"`{name}`",
                f"`{row['map']}`",
                f"`{row['layer']}`" if row["layer"] else "",
                row["ranks"],
                *verdicts([one["verdict"] for one in row["measures"] if one["blanking"] is not None]),
                *(
                    f"{places[measure]:.0%}" if measure in places else ""
                    for measure in ("pointing", "energy")
                ),
            ]
            yield f"| {' | '.join(cells)} |"


def verdicts(found: list[str | None]) -> tuple[str, str]:
    """In how many of the measures of faithfulness a map is better than random, and in how many worse."""
    if None in found:
        return "", ""
    return f"{found.count(BETTER)} of {len(found)}", str(found.count(WORSE))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("found", type=Path, help="folder with what was written of each model")
    found = parser.parse_args().found
    figures = {}
    for name, weights in WEIGHTS.items():
        figures[name] = json.loads((found / name / FIGURES).read_text(encoding="utf-8"))["figures"]
        write_card(weights, figures[name])
        write_page(name, found / name, PAGES)
    write_table(README, figures)


if __name__ == "__main__":
    main()
