"""What goes over HTTP under /v1: options in, answers out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from service.bundle import Card, Family, ImageInput, Kind, MapSpec, Parity, TextInput, VideoInput

SCORE = (
    "As the model's `activation` says: softmax, shares of 1; sigmoid, each label's own from 0 to 1; none, "
    "the value itself (a regression), which may be negative."
)


def _words(value: Any) -> Any:
    """A comma-separated string as a list."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names without those that repeat."""
    return tuple(dict.fromkeys(names))


def _indices(value: Any) -> Any:
    """ "2" as an index, "0,1" as several, anything else as it is."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",")]
    try:
        numbers = tuple(int(part) for part in parts)
    except ValueError:
        return value
    return numbers[0] if len(numbers) == 1 else numbers


Indices = Annotated[tuple[int, ...], Field(min_length=1, max_length=256)]
LayersOption = Annotated[Literal["all"] | int | Indices, BeforeValidator(_indices)]
HeadsOption = Annotated[Literal["all", "mean", "max", "min"] | int | Indices, BeforeValidator(_indices)]


class PredictOptions(BaseModel):
    """Options of a prediction, from the body or the query; the body wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_k: int = Field(5, ge=1, le=1000, description="How many labels to list, highest score first.")
    maps: Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_once)] = Field(
        (), max_length=32, description="Maps to make, by name. Others can be fetched later."
    )
    layers: LayersOption | None = Field(
        None, description="Layers of the maps in the answer: an index, several, or all; -1 is the last."
    )
    heads: HeadsOption | None = Field(
        None, description="Heads of the maps in the answer: an index, several, all, mean, max or min."
    )
    target: str | int | None = Field(
        None,
        description="Label, by name or index, of maps that have one per label; the one with the highest "
        "score if left out.",
    )
    inline: bool = Field(False, description="Put the maps' numbers into the answer.")
    timeout: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds until the answer has to be there, else it is 504; at most the server's own "
        "`timeout_seconds`, which holds if left out.",
    )

    @field_validator("top_k", "layers", "heads", "target", "timeout", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any) -> Any:
        """Python counts true as 1."""
        if any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
            raise ValueError("true and false are no numbers")
        return value


class Label(BaseModel):
    label: str
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
    range: tuple[float, float] = Field(description="Smallest and largest number, before any scaling.")
    affine: list[list[float]] | None = Field(
        None, description="2x3 matrix from original pixel (x, y, 1) to (column, row), for maps over places."
    )
    values: Any = Field(None, description="The numbers, nested along `axes`; with inline alone.")
    links: dict[str, str] = Field(description="Where to fetch the map, by format.")


class Prediction(BaseModel):
    label: str = Field(description="The one with the highest score.")
    score: float = Field(description=SCORE)
    top: list[Label] = Field(description="Highest score first.")
    input: TextInfo | ImageInfo | VideoInfo = Field(discriminator="kind")
    maps: list[MapInfo]


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
    formats: list[str]


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


def map_summary(spec: MapSpec, formats: tuple[str, ...]) -> MapSummary:
    """What is said of a map before anything was asked of it."""
    return MapSummary(
        name=spec.name,
        kind=spec.kind,
        description=spec.description,
        axes=list(spec.axes),
        layers=list(spec.layers),
        heads=spec.heads,
        formats=list(formats),
    )
