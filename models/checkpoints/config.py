"""The config.json of transformers: fields read with their type and bounds, and what every model has."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from models.activation import Activation
from models.checkpoints.checkpoint import CheckpointError, Choices, Scoring
from models.checkpoints.labels import check_count, check_names, in_order, read_labels, unnamed

# transformers has several names for one function: its "gelu_new" and "gelu_fast" differ in rounding alone.
ACTIVATION_NAMES: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}
LARGEST = 2**24  # of any count in a config: far above every real model, low enough to be built
MOST_LAYERS = 1000
MOST_REAL = sys.float_info.max  # a whole number in JSON may be larger


class Config:
    """Fields of a config by name; what is missing takes the default, what makes no sense is refused."""

    def __init__(self, fields: Mapping[str, Any], *, place: str = "config.json") -> None:
        self._fields = fields
        self._place = place
        if "auto_map" in fields:
            raise CheckpointError(f"{place}: auto_map: the model brings code of its own, which is never run")

    def count(self, name: str, default: int | None = None, *, most: int = LARGEST) -> int:
        """A whole number from 1 to `most`."""
        value = self._fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise CheckpointError(f"{self._place}: {name} is {value!r}, not a number from 1 to {most}")
        return value

    def token(self, name: str, default: int) -> int:
        """A token id."""
        value = self._fields.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST:
            raise CheckpointError(f"{self._place}: {name} is {value!r}, no token id")
        return value

    def layers(self, name: str, default: int | None = None) -> int:
        """A number of layers."""
        return self.count(name, default, most=MOST_LAYERS)

    def heads(self, name: str, default: int | None = None, *, width: int) -> int:
        """A number of heads that divides the width."""
        heads = self.count(name, default)
        if width % heads:
            raise CheckpointError(f"{self._place}: {name} {heads} does not divide the width {width}")
        return heads

    def real(self, name: str, default: float) -> float:
        """A positive number."""
        value = self._fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_REAL:
            raise CheckpointError(f"{self._place}: {name} is {value!r}, not a positive number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._fields.get(name, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self._place}: {name} is {value!r}, neither true nor false")
        return value

    def activation(self, name: str, default: str = "gelu") -> Activation:
        """An activation by transformers' name."""
        value = self._fields.get(name, default)
        if not isinstance(value, str) or value not in ACTIVATION_NAMES:
            known = ", ".join(ACTIVATION_NAMES)
            raise CheckpointError(f"{self._place}: {name} is {value!r}; known: {known}")
        return ACTIVATION_NAMES[value]

    def names(self, name: str, *default: str) -> tuple[str, ...]:
        """A list of names; what is null or missing takes the default."""
        value = self._fields.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise CheckpointError(f"{self._place}: {name} is {value!r}, no list of names")
        return tuple(value)

    def classes(self, *endings: str) -> None:
        """Refuse a model whose class in transformers ends otherwise; old configs name none."""
        names = self.names("architectures")
        if names and not any(name.endswith(endings) for name in names):
            raise CheckpointError(
                f"{self._place}: architectures is {', '.join(names)}; a model is needed whose name ends in "
                f"{' or '.join(endings)}"
            )

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse every value but these; the first is that of a config without the field."""
        value = self._fields.get(name, allowed[0])
        if value not in allowed:
            raise CheckpointError(f"{self._place}: {name} is {value!r}; supported: {allowed[0]!r}")

    def part(self, name: str) -> Config:
        """The config of a part of the model; empty where there is none."""
        fields = self._fields.get(name) or {}
        if not isinstance(fields, dict):
            raise CheckpointError(f"{self._place}: {name} is no object")
        return Config(fields, place=f"{self._place}: {name}")

    def given(self, name: str) -> Any:
        """A field as it stands, or None."""
        return self._fields.get(name)

    def labels(self, count: int, choices: Choices) -> tuple[str, ...]:
        """The labels that were chosen, else the names in id2label, else LABEL_i."""
        if choices.labels is not None:
            return check_count(read_labels(choices.labels), count)
        named = self._fields.get("id2label")
        if named is None:
            return unnamed(count)
        place = f"{self._place}: id2label"
        if not isinstance(named, dict):
            raise CheckpointError(f"{place} is no object")
        # A name may be a number.
        names = [str(name) if isinstance(name, int | float) else name for name in in_order(place, named)]
        return check_count(check_names(place, names), count, place=place)

    def scoring(self, outputs: int) -> Scoring:
        """What turns logits into scores, as the text classification pipeline of transformers chooses."""
        self.only(
            "problem_type", None, "regression", "single_label_classification", "multi_label_classification"
        )
        kind = self._fields.get("problem_type")
        if kind == "regression":
            return "none"
        return "sigmoid" if kind == "multi_label_classification" or outputs == 1 else "softmax"
