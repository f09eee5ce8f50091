"""What was measured of a model: accuracy, maps against the truth, parity, and what a precision costs."""

from __future__ import annotations

from typing import Literal

from service.bundle.inputs import Frozen

Measure = Literal["deletion", "insertion", "comprehensiveness", "sufficiency", "pointing", "energy"]
Verdict = Literal["better than random", "not told apart", "worse than random", "too few inputs"]


class Interval(Frozen):
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float


class MapScore(Frozen):
    """Localisation of one map on held-out data; `random` is the yardstick."""

    map: str
    layer: str | None
    pointing: Interval
    energy: Interval


class Measured(Frozen):
    """One measure of a map, as a mean over `inputs` inputs.

    `difference` is the map's less that of random numbers on the same inputs; `verdict` says what its interval
    tells. `blanking` is how parts of the input were taken away, for the measures that do.
    """

    measure: Measure
    blanking: str | None
    inputs: int
    value: Interval
    difference: Interval | None
    verdict: Verdict | None


class JudgedMap(Frozen):
    """The measures of one map: of the layer shown by default, heads averaged; `ranks` is what it orders.

    The maps "random" and "uniform" are the yardsticks: random numbers, and a map that is the same everywhere.
    """

    map: str
    layer: str | None
    ranks: str
    measures: tuple[Measured, ...]


class Blanked(Frozen):
    """A way to take parts of an input away, and the score that is left of it where all are taken."""

    meaning: str
    score: Interval | None


class MapFigures(Frozen):
    """How good a model's maps are: what `regard evaluate` measures.

    `score` is that of the predicted label before anything was taken away, by which its fall is to be judged.
    """

    data: str
    inputs: int
    seed: int
    steps: int
    accuracy: Interval | None
    score: Interval
    blanked: dict[str, Blanked]
    maps: tuple[JudgedMap, ...]
    not_judged: dict[str, str]


class Card(Frozen):
    """Accuracy card, measured on held-out data."""

    data: str
    examples: int
    accuracy: Interval
    per_label: dict[str, float]
    truth: str
    maps: tuple[MapScore, ...]
    judged: MapFigures | None = None


class Deviation(Frozen):
    """Largest absolute distance from a float64 copy of the model, over all verified shapes."""

    exported: float
    torch_fp32: float


class Parity(Frozen):
    """What export measured before it wrote the bundle."""

    shapes: tuple[str, ...]
    attention_nodes: int
    outputs: dict[str, Deviation]
    taps: Deviation
    maps: dict[str, Deviation]


class Agreement(Frozen):
    """How near one bundle is to another on the same `inputs` inputs.

    `labels` is the share of inputs with the same label (with the same set of labels where several may hold;
    None where there are none to agree on); `logit_error` is |a - b| / |b| of the logits, mean and largest;
    `maps` are Pearson correlations per map and layer ("all" for a map over all layers), mean over inputs.
    """

    against: str
    data: str
    inputs: int
    labels: float | None
    logit_error: float
    largest_logit_error: float
    maps: dict[str, dict[str, float]]
