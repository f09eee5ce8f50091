"""The curves of an evaluation as SVG; needs matplotlib, which the extra `evaluate` brings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.evaluation.ranking import RANDOM, UNIFORM
from service.evaluation.tally import Curve, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = (3.4, 2.9)  # inches
GREYS = {RANDOM: ("0.35", "--"), UNIFORM: ("0.6", ":")}


def draw(found: Evaluation) -> bytes:
    """A row of panels for what is ranked, a column for each way of taking parts away, there and back.

    The same figures give the same bytes. Raises ModuleNotFoundError where matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    ranks = list(dict.fromkeys(curve.ranks for curve in found.curves))
    ways = list(dict.fromkeys(curve.blanking for curve in found.curves))
    width, height = PANEL
    figure = Figure(figsize=(width * 2 * len(ways), height * len(ranks)), layout="constrained")
    axes = figure.subplots(len(ranks), 2 * len(ways), sharey=True, squeeze=False)
    for row, what in zip(axes, ranks, strict=True):
        for place, way in enumerate(ways):
            curves = [curve for curve in found.curves if (curve.ranks, curve.blanking) == (what, way)]
            _panel(row[2 * place], curves, f"without the first, {way}", alone=False)
            _panel(row[2 * place + 1], curves, f"the first alone, {way}", alone=True)
        row[0].set_ylabel("score of the label")
        row[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5), title=what)
    figure.suptitle(f"{found.model}: {found.figures.inputs} inputs of {found.figures.data}")
    out = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "regard", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _panel(axes: Axes, curves: Sequence[Curve], title: str, *, alone: bool) -> None:
    """The curves of every map in one panel; the band is the interval of the mean."""
    for curve in curves:
        points = curve.alone if alone else curve.without
        color, style = GREYS.get(curve.map, (None, "-"))
        label = " ".join(filter(None, (curve.map, curve.layer)))
        (line,) = axes.plot(
            curve.shares, [point.value for point in points], style, color=color, label=label, linewidth=1.2
        )
        low, high = [point.low for point in points], [point.high for point in points]
        axes.fill_between(curve.shares, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_title(title, fontsize="small")
    axes.set_xlabel("share of the parts", fontsize="small")
    axes.tick_params(labelsize="x-small")
    axes.set_ylim(0, 1)
