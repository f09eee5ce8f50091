"""What goes over HTTP under /v1 as an answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from service.bundle import Card, Family, ImageInput, Kind, MapSpec, Parity, TextInput, VideoInput
from service.offers import formats_of, options_of, token_formats_of

SCORE = (
    "As the model's `activation` says: softmax, shares of 1; sigmoid, each label's own from 0 to 1; none, "
    "the value itself (a regression), which may be negative."
)


class Label(BaseModel):
    label: str
    index: int = Field(description="Of the label among the model's, which may have the same name twice.")
    score: float = Field(description=SCORE)


class View(BaseModel):
    """How the model saw a picture or a frame."""

    width: int = Field(description="Of the original, in pixels, its orientation applied.")
    height: int
    model_width: int
    model_height: int
    seen: tuple[float, float, float, float] = Field(
        description="Left, top, right, bottom of what the model saw, in original pixels."
    )


class TextInfo(BaseModel):
    kind: Literal["text"] = "text"
    tokens: list[str]
    offsets: list[tuple[int, int]] = Field(
        description="[start, end) of each token, in characters of the text it is of."
    )
    segments: list[int] = Field(
        description="Which text each token is of: 0 `text`, 1 `text_pair`. A special token is of the text it "
        "closes and lies at its end; one that opens is of `text`."
    )
    special: list[bool] = Field(description="Tokens that are of the model, not of what was written.")
    truncated: bool = Field(description="Whether the model saw less than was sent.")
    dropped_tokens: int = Field(
        description="Cut off the text's end; of a pair off the longer text until both are equally long, then "
        "off both."
    )


class ImageInfo(BaseModel):
    kind: Literal["image"] = "image"
    format: str
    view: View


class VideoInfo(BaseModel):
    kind: Literal["video"] = "video"
    format: str
    view: View
    frames: int = Field(description="Frames in the clip, counted.")
    duration: float = Field(description="Seconds.")
    sampled: list[int] = Field(description="Which frames the model saw.")
    timestamps: list[float] = Field(description="Seconds of the sampled frames.")


class Kept(BaseModel):
    values: int = Field(description="So many stayed above 0.")
    share: float = Field(description="What they hold of the total.")


class MapInfo(BaseModel):
    """What a map is, what was selected of it, and where to fetch it."""

    name: str
    kind: Kind
    description: str
    shape: list[int]
    axes: list[str]
    layers: str | int | list[int] = Field(
        description="Layers the numbers cover; all: over all layers at once."
    )
    heads: str | int | list[int] | None = None
    target: str | None = Field(None, description="The label the map is for, where it has one per label.")
    token: int | None = Field(None, description="The query token whose row this is.")
    rows: tuple[int, int] | None = Field(None, description="The query tokens, without the second number.")
    frame: int | None = Field(None, description="The frame it is of, where it is of one.")
    discard: float | None = Field(None, description="Of a rollout: the share of attention left out.")
    range: tuple[float, float] = Field(description="Smallest and largest number, before any scaling.")
    affine: list[list[float]] | None = Field(
        None, description="2x3 matrix from original pixel (x, y, 1) to (column, row), for maps over places."
    )
    special_mass: float | None = Field(None, description="Share of the total that hidden tokens held.")
    tokens: list[str] | None = Field(
        None, description="What the numbers are of, where tokens were hidden or merged to words."
    )
    offsets: list[tuple[int, int]] | None = Field(None, description="[start, end) of each of these.")
    segments: list[int] | None = Field(None, description="Which text each of these is of.")
    kept: Kept | None = Field(None, description="What `mass` or `top` left.")
    values: Any = Field(None, description="The numbers, nested along `axes`; with inline alone.")
    links: dict[str, str] = Field(description="Where to fetch the map, by format.")


class Prediction(BaseModel):
    label: str = Field(description="The one with the highest score.")
    score: float = Field(description=SCORE)
    top: list[Label] = Field(description="Highest score first.")
    input: TextInfo | ImageInfo | VideoInfo = Field(discriminator="kind")
    maps: list[MapInfo]
    verification: Verification | None = None


class Verification(BaseModel):
    """What one layer's attention is, beside the explicit softmax of its queries and keys."""

    layer: str
    row_sum_error: float = Field(description="The largest distance of a row's sum from 1.")
    output_error: float = Field(
        description="The largest difference of the fused output from softmax(QKt)V, over its largest value."
    )
    tolerance: float
    precision: str


class Timing(BaseModel):
    """Milliseconds; queue, run and maps of the slowest item."""

    total_ms: float
    decode_ms: float
    queue_ms: float
    run_ms: float
    maps_ms: float


class Answer(BaseModel):
    id: str
    model: str
    version: str
    predictions: list[Prediction]
    timing: Timing


class MapSummary(BaseModel):
    name: str
    kind: Kind
    description: str
    axes: list[str]
    layers: list[str]
    heads: int | None
    formats: list[str] = Field(
        description="Every format it comes in. html and svg are of one layer and head; json and npy read no "
        "options of a drawing."
    )
    token_formats: list[str] = Field(
        description="Those of `formats` that are of one query token: they need `token`."
    )
    tokens_before: int | None = Field(
        None, description="Of a map from tokens to patches: how many query tokens stand before the patches."
    )
    options: list[str] = Field(description="What can be chosen of it: layer, head, target, token ...")
    fixed_range: tuple[float, float] | None = Field(
        description="The scale its values have, where they have one."
    )


class ModelSummary(BaseModel):
    """What is served, or why it is not."""

    name: str
    version: str
    state: Literal["loading", "ready", "draining", "refused", "unloaded"]
    reason: str | None = None
    family: Family | None = None
    description: str | None = None


class ModelList(BaseModel):
    models: list[ModelSummary]


class ModelInfo(BaseModel):
    name: str
    version: str
    family: Family
    task: str
    description: str
    labels: list[str]
    activation: Literal["softmax", "sigmoid", "none"] = Field(
        description="What makes scores of logits; none where they are values (a regression)."
    )
    precision: str
    preprocessing: TextInput | ImageInput | VideoInput
    maps: list[MapSummary]
    parity: Parity
    card: Card | None


class ProblemDocument(BaseModel):
    """An error (RFC 9457, `application/problem+json`)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    limit: str | float | None = None


def map_summary(spec: MapSpec) -> MapSummary:
    """What is said of a map before anything was asked of it."""
    return MapSummary(
        name=spec.name,
        kind=spec.kind,
        description=spec.description,
        axes=list(spec.axes),
        layers=list(spec.layers),
        heads=spec.heads,
        tokens_before=spec.tokens_before,
        formats=list(formats_of(spec)),
        token_formats=list(token_formats_of(spec)),
        options=list(options_of(spec)),
        fixed_range=spec.fixed_range,
    )
