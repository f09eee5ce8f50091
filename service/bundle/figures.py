"""What was measured of a model: accuracy, maps against the truth, parity, and what a precision costs."""

from __future__ import annotations

from service.bundle.inputs import Frozen


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


class Card(Frozen):
    """Accuracy card, measured on held-out data."""

    data: str
    examples: int
    accuracy: Interval
    per_label: dict[str, float]
    truth: str
    maps: tuple[MapScore, ...]


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
