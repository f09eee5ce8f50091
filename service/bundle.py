"""The bundle: one folder per model version, the one contract between export and service.

    manifest.json   this module's `Manifest`
    model.onnx      the fused graph: predictions and taps (its weights beside it, where they are large)
    maps/NAME.onnx  taps to maps, one graph per map
    tokenizer.json  text families

A bundle holds no pickle and no code, and nothing that its manifest does not name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

Family = Literal["text", "image", "video"]
Precision = Literal["fp32", "fp16", "int8"]
Kind = Literal["tokens", "token_matrix", "grid", "channels", "frames", "frame_matrix", "frame_grid"]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# What is left of each kind of map once layer, head and label are chosen.
KIND_AXES: dict[Kind, tuple[str, ...]] = {
    "tokens": ("token",),
    "token_matrix": ("query_token", "key_token"),
    "grid": ("row", "column"),
    "channels": ("channel",),
    "frames": ("frame",),
    "frame_matrix": ("query_frame", "key_frame"),
    "frame_grid": ("frame", "row", "column"),
}

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
BLOCK = 1024**2


class BundleError(Exception):
    """A folder that is no sound bundle; says what is wrong and where."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TextInput(Frozen):
    """Text to `input_ids` [B, N] and `lengths` [B] (and `token_types` [B, N])."""

    kind: Literal["text"] = "text"
    max_tokens: int = Field(gt=0, description="The model's positions, special tokens included.")
    pad_id: int = Field(0, ge=0)
    token_types: bool = False
    pairs: bool = Field(False, description="Whether a text may come with a second one, `text_pair`.")


class PictureInput(Frozen):
    """What pictures and frames go through: RGB, resize, centre crop, (x / 255 - mean) / std.

    `resize_to` is the shorter side after a resize that keeps the aspect, or height and width after one that
    does not. `height` and `width` are the crop's; where its margins are odd, `crop` says on which side the
    smaller one lies: "floor" left and above (transformers), "even" as the halves round to even (torchvision).
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    resize_to: PositiveInt | tuple[PositiveInt, PositiveInt]
    crop: Literal["floor", "even"] = "floor"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class ImageInput(PictureInput):
    """A picture to `pixels` [B, 3, H, W]."""

    kind: Literal["image"] = "image"


class VideoInput(PictureInput):
    """A clip to `frames` [B, T, 3, H, W]: frame floor((i + 0.5) N / T) of N for i in 0..T-1."""

    kind: Literal["video"] = "video"
    frames: int = Field(gt=0)


class TensorSpec(Frozen):
    """A graph's input or output; an axis is a name where its size varies, else its size."""

    name: str
    dtype: Literal["float32", "float16", "int64"]
    axes: tuple[str | int, ...]


class Tap(TensorSpec):
    """A tensor the model computes anyway and hands to map programs: what it is and of which layer."""

    layer: str
    kind: str


class MapSpec(Frozen):
    """A map: `maps/NAME.onnx` turns the tensors `inputs` (taps, model inputs) into `outputs`.

    `axes` are those of one output after the batch. A map with `layers` has one output for each, in order;
    `default_layer` is the index shown when none is asked for. `fixed_range` is the scale on which the map
    is drawn where its values have one (gates).
    """

    name: Name
    kind: Kind
    description: str
    axes: tuple[str, ...]
    layers: tuple[str, ...]
    default_layer: int | None
    heads: int | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fixed_range: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.outputs) != (len(self.layers) or 1) or len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"map {self.name}: one output for each layer, or one for all")
        if self.default_layer is not None and not 0 <= self.default_layer < len(self.layers):
            raise ValueError(f"map {self.name}: default_layer {self.default_layer} is no layer")
        if (self.heads is not None) != ("head" in self.axes):
            raise ValueError(f"map {self.name}: heads, and an axis of that name, or neither")
        kept = KIND_AXES[self.kind]
        if self.axes not in [(*free, *kept) for free in ((), ("head",), ("label",), ("head", "label"))]:
            raise ValueError(f"map {self.name}: axes {self.axes} do not end in {kept}, those of {self.kind}")
        return self

    @staticmethod
    def path(name: str) -> str:
        """Where a map's graph lies in the bundle."""
        return f"maps/{name}.onnx"


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


class Provenance(Frozen):
    """Where the weights came from and what exported them."""

    source: str
    sha256: Sha256
    tools: dict[str, str]


class Description(Frozen):
    """A model: what goes in, what comes out, and which maps its taps allow.

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
    card: Card | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.preprocessing.kind != self.family:
            raise ValueError(f"preprocessing is for {self.preprocessing.kind}, the family is {self.family}")
        names = [spec.name for spec in self.maps]
        if len(set(names)) < len(names):
            raise ValueError("two maps have one name")
        return self

    def map(self, name: str) -> MapSpec | None:
        """The map of this name, if the model has it."""
        return next((spec for spec in self.maps if spec.name == name), None)


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

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or name == MANIFEST:
                raise ValueError(f"file {name!r} is not inside the bundle")
        return files


def digest(*paths: Path) -> str:
    """SHA-256 of files one after the other, in hex."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                found.update(block)
    return found.hexdigest()


def read(folder: Path) -> Manifest:
    """The manifest of a bundle all of whose files are there, unchanged, and named in it.

    Raises BundleError.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BundleError(f"{folder.name}: {MANIFEST} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{folder.name}: {MANIFEST}: {place}: {first['msg']}") from error
    check_files(folder, manifest)
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise BundleError unless the folder holds exactly the files the manifest names, unchanged."""
    entries = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in entries:
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{folder.name}: {path.relative_to(folder)} is a link or no plain file")
    found = {path.relative_to(folder).as_posix() for path in entries} - {MANIFEST}
    needed = {MODEL, *(MapSpec.path(spec.name) for spec in manifest.maps)}
    needed |= {TOKENIZER} if manifest.family == "text" else set()
    for name in sorted((needed | set(manifest.files)) - found):
        raise BundleError(f"{folder.name}: {name} is missing")
    for name in sorted((needed | found) - set(manifest.files)):
        raise BundleError(f"{folder.name}: {name} is not named in the manifest")
    for name, expected in manifest.files.items():
        if digest(folder / name) != expected:
            raise BundleError(f"{folder.name}: {name} does not match its checksum")
