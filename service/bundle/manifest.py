"""The manifest: everything the service has to know of a model version."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from service.bundle.figures import Agreement, Card, Parity
from service.bundle.inputs import Frozen, ImageInput, TextInput, VideoInput
from service.bundle.maps import PROOF, MapSpec, Name, ProofSpec, Tap, TensorSpec

Family = Literal["text", "image", "video"]
Precision = Literal["fp32", "fp16", "int8"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MANIFEST = "manifest.json"


class Provenance(Frozen):
    """Where the weights came from and what exported them."""

    source: str
    sha256: Sha256
    tools: dict[str, str]


class Description(Frozen):
    """A model: what goes in, what comes out, which maps its taps allow, and what proves its attention.

    `activation` turns logits into scores; "none" leaves them as they are (regression).
    """

    name: Name
    version: Annotated[str, Field(pattern=r"^[0-9]+$")]
    family: Family
    architecture: str
    parameters: int
    description: str
    labels: tuple[str, ...] = Field(min_length=1)
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    preprocessing: Annotated[TextInput | ImageInput | VideoInput, Field(discriminator="kind")]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    taps: tuple[Tap, ...]
    maps: tuple[MapSpec, ...]
    proof: ProofSpec | None
    card: Card | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.preprocessing.kind != self.family:
            raise ValueError(f"preprocessing is for {self.preprocessing.kind}, the family is {self.family}")
        names = [spec.name for spec in self.maps]
        if len(set(names)) < len(names):
            raise ValueError("two maps have one name")
        return self

    @model_validator(mode="after")
    def _made_of_what_there_is(self) -> Self:
        known = {tensor.name for tensor in (*self.taps, *self.inputs)}
        for spec in self.maps:
            for layer in range(len(spec.layers)) if spec.sliced else (0,):
                _check_known(f"map {spec.name}", spec.taps(layer).values(), known)
        if self.proof is not None:
            for name in self.proof.layers:
                _check_known("proof", self.proof.taps(name).values(), known)
        return self

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of all graphs under `maps/`."""
        names = dict.fromkeys(graph for spec in self.maps for graph in spec.graphs)
        return (*names, PROOF) if self.proof else tuple(names)

    def map(self, name: str) -> MapSpec | None:
        """The map of this name, if the model has it."""
        return next((spec for spec in self.maps if spec.name == name), None)


def _check_known(what: str, tensors: Iterable[str], known: Collection[str]) -> None:
    """Raise ValueError unless all that a graph is made of is there."""
    if missing := [name for name in tensors if name not in known]:
        raise ValueError(f"{what} is made of {missing[0]!r}, which is neither a tap nor an input")


class Manifest(Description):
    """Everything the service has to know of a model version.

    `max_batch` is the most inputs of one run: 1 where activations are quantised by the range of the whole
    batch, so that a neighbour would change an answer. `parity` is of the fp32 graphs; a lower precision has
    its `agreement` with them too.
    """

    schema_version: Literal[1] = 1
    task: Literal["classification"] = "classification"
    precision: Precision = "fp32"
    max_batch: Literal[1] | None = None
    parity: Parity
    agreement: Agreement | None = None
    provenance: Provenance
    files: dict[str, Sha256]

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if set(self.parity.maps) != {spec.name for spec in self.maps}:
            raise ValueError("parity is not that of the maps")
        return self

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or name == MANIFEST:
                raise ValueError(f"file {name!r} is not inside the bundle")
        return files
