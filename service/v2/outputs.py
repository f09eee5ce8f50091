"""From what was inferred to the tensors of an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.answers import verified
from service.decode.item import Item, TextItem
from service.errors import InvalidInput
from service.inference import Inferred
from service.maps import Selection
from service.predictor import Predictor
from service.refine import Refinement, refine
from service.v2.datatypes import BYTES, FP32, Array
from service.v2.framing import InferRequest, RequestedOutput, Tensor
from service.v2.signature import outputs

TOKENS = "tokens"
TOKEN_KINDS = ("tokens", "token_matrix")


class Outputs:
    """What a request wants of a model; raises UnknownOption and InvalidInput when made.

    Maps are outputs of their own name; one that has the name of another output is reached as `map.NAME`.
    `tokens` comes with every map over tokens.
    """

    def __init__(self, request: InferRequest, predictor: Predictor, maps: Sequence[str]) -> None:
        self._predictor = predictor
        manifest = predictor.manifest
        own = [one.name for one in outputs(manifest)]
        if manifest.family == "text":
            own.append(TOKENS)
        self._map_names = {
            spec.name: f"map.{spec.name}" if spec.name in own else spec.name for spec in manifest.maps
        }
        asked = {one.name: one for one in request.outputs or ()}
        known = (*own, *self._map_names.values())
        if unknown := [name for name in asked if name not in known]:
            have = ", ".join(known)
            raise InvalidInput(
                f"outputs: model {manifest.name} has no output {unknown[0]!r}; it has {have}",
                field="outputs",
                limit=have,
            )
        self.maps = predictor.check_maps(
            [*maps, *(name for name, output in self._map_names.items() if output in asked)]
        )
        names = list(asked) or [name for name in own if name != TOKENS]
        names += [
            output for name, output in self._map_names.items() if name in self.maps and output not in names
        ]
        if TOKENS not in names and any(
            spec.kind in TOKEN_KINDS for spec in manifest.maps if spec.name in self.maps
        ):
            names.append(TOKENS)
        self._asked = {name: asked.get(name, RequestedOutput(name=name)) for name in names}
        for name, output in self._asked.items():
            if output.classes is not None and name not in ("scores", "logits"):
                raise InvalidInput(
                    f"outputs.{name}.classification: of scores and logits alone",
                    field=f"outputs.{name}.classification",
                )

    def tensors(self, inferred: Inferred, selection: Selection, refinement: Refinement) -> tuple[Tensor, ...]:
        """The answer's outputs, in the order in which they were asked for; raises UnknownOption, and
        VerificationFailed."""
        predictor = self._predictor
        for outcome in inferred.outcomes:
            verified(outcome.proof, predictor.manifest.precision)
        logits = np.stack([outcome.logits for outcome in inferred.outcomes]).astype(np.float32)
        if not np.isfinite(logits).all():
            raise InvalidInput("inputs: so large that the model's logits are not finite", field="inputs")
        scores = np.stack([predictor.scores(outcome.logits) for outcome in inferred.outcomes])
        best = [int(row.argmax()) for row in logits]
        labels = [label.encode() for label in predictor.manifest.labels]
        found = {
            "label": _bytes([[labels[index]] for index in best]).ravel(),
            "scores": scores.astype(np.float32),
            "logits": logits,
        }
        if TOKENS in self._asked:
            found[TOKENS] = _bytes([_tokens(item) for item in inferred.items])
        for name in self.maps:
            rows = [
                refine(outcome.maps[name].select(selection, predicted=predicted), refinement).selected.values
                for outcome, predicted in zip(inferred.outcomes, best, strict=True)
            ]
            found[self._map_names[name]] = _padded(rows)
        return tuple(self._tensor(output, found[name], labels) for name, output in self._asked.items())

    def _tensor(self, output: RequestedOutput, values: Array, labels: Sequence[bytes]) -> Tensor:
        if output.classes is not None:
            return Tensor(name=output.name, datatype=BYTES, values=_classes(values, output.classes, labels))
        datatype = BYTES if values.dtype == object else FP32
        return Tensor(name=output.name, datatype=datatype, values=values)


def _classes(values: Array, count: int, labels: Sequence[bytes]) -> Array:
    """The highest values of each row as "value:index:label", as Triton writes them."""
    order = (-values).argsort(axis=1, kind="stable")[:, :count]
    return _bytes(
        [
            [f"{row[index]:f}:{index}:".encode() + labels[index] for index in best]
            for row, best in zip(values, order, strict=True)
        ]
    )


def _tokens(item: Item) -> list[bytes]:
    assert isinstance(item, TextItem)
    return [token.encode() for token in item.tokens]


def _bytes(rows: Sequence[Sequence[bytes]]) -> Array:
    """BYTES [N, T] of rows, empty where one has fewer than the longest."""
    values = np.full((len(rows), max(map(len, rows))), b"", dtype=object)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
    return values


def _padded(rows: Sequence[Array]) -> Array:
    """[N, ...] of rows, padded with 0 at the end of each axis where they differ in tokens."""
    shape = tuple(max(sizes) for sizes in zip(*(row.shape for row in rows), strict=True))
    values = np.zeros((len(rows), *shape), np.float32)
    for index, row in enumerate(rows):
        values[index][tuple(slice(size) for size in row.shape)] = row
    return values
