"""What a request may choose: of a prediction, and of one of its maps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from service.bundle import MapSpec
from service.maps import Selection
from service.refine import Refinement
from service.render import COLORMAPS, DRAWING, NUMBERS, PICTURES, SCALES, THEMES, RenderOptions


def _words(value: Any) -> Any:
    """A comma-separated string as a list."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names without those that repeat."""
    return tuple(dict.fromkeys(names))


def _several(value: Any) -> Any:
    """ "0,2" as a list, "0," as one of a single index, anything else as it is."""
    return value.removesuffix(",").split(",") if isinstance(value, str) and "," in value else value


def _stretch(value: Any) -> Any:
    """ "3:7" as a start and a stop, anything else as it is."""
    return value.split(":") if isinstance(value, str) and ":" in value else value


Indices = Annotated[tuple[int, ...], Field(min_length=1, max_length=256)]
LayersOption = Annotated[Literal["all"] | int | Indices, BeforeValidator(_several)]
HeadsOption = Annotated[Literal["all", "mean", "max", "min"] | int | Indices, BeforeValidator(_several)]


ONE_QUERY = "One query token of a map of what tokens attend to, from 0."
QUERIES = "Query tokens of such a map, START:STOP or [START, STOP], without STOP; all if left out."
DISCARD = (
    "Of a rollout: the share of each row of attention, the least of it, that is left out, from 0 to below 1."
)


RowsOption = Annotated[tuple[int, int], BeforeValidator(_stretch)]


class RefineOptions(BaseModel):
    """What becomes of a map's numbers after the selection, in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    special: Literal["keep", "hide"] = Field(
        "keep", description="Special tokens of a text: keep or hide; how much they held is `special_mass`."
    )
    words: bool = Field(False, description="A text's tokens as words: sums over keys, means over queries.")
    mass: float | None = Field(
        None, description="Keep the largest values that hold this share of the total, 0 to 1; the rest is 0."
    )
    top: int | None = Field(None, description="Keep so many of the largest values; the rest is 0.")

    @property
    def refinement(self) -> Refinement:
        """The same, checked; raises InvalidInput."""
        return Refinement(special=self.special, words=self.words, mass=self.mass, top=self.top)


class PredictOptions(RefineOptions):
    """Options of a prediction, from the body or the query; the body wins."""

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
    token: int | None = Field(None, ge=0, description=ONE_QUERY)
    rows: RowsOption | None = Field(None, description=QUERIES)
    frame: int | None = Field(None, ge=0, description="Frame of a clip, from 0, of maps within one frame.")
    discard: float = Field(0.0, description=DISCARD)
    verify: bool = Field(
        False,
        description="Prove the attention behind the answer: one layer's softmax made again from its queries "
        "and keys. An answer beyond the tolerance is an error.",
    )
    inline: bool = Field(False, description="Put the maps' numbers into the answer.")
    timeout: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds until the answer has to be there, else it is 504; at most the server's own "
        "`timeout_seconds`, which holds if left out.",
    )

    def selection(self, target: int | None) -> Selection:
        """Which part of the maps is meant; raises InvalidInput."""
        return Selection(
            layers=self.layers,
            heads=self.heads,
            target=target,
            token=self.token,
            rows=self.rows,
            frame=self.frame,
            discard=self.discard,
        )

    @field_validator(
        *(
            "top_k",
            "layers",
            "heads",
            "target",
            "token",
            "rows",
            "frame",
            "discard",
            "mass",
            "top",
            "timeout",
        ),
        mode="before",
    )
    @classmethod
    def _no_boolean(cls, value: Any) -> Any:
        """Python counts true as 1."""
        if any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
            raise ValueError("true and false are no numbers")
        return value


def _read_by(option: str) -> str:
    """The formats that read an option of drawings, in words."""
    return ", ".join(format for format in DRAWING if option in DRAWING[format])


ON_PICTURES = f"Of {' and '.join(PICTURES)} of maps over a picture or frames."


class MapOptions(RefineOptions):
    """How one map is selected, refined and drawn; what a map or a format does not read is refused."""

    layer: LayersOption | None = Field(
        None, description="Layer: an index, -1 the last; several, or all, as numbers or on one sheet."
    )
    head: HeadsOption | None = Field(
        None, description="Head: an index, mean, max or min; several, or all, as numbers or on one sheet."
    )
    target: str | int | None = Field(None, description="Label, for maps that have one per label.")
    token: int | None = Field(None, ge=0, description=ONE_QUERY)
    rows: RowsOption | None = Field(None, description=QUERIES)
    frame: int | None = Field(
        None,
        ge=0,
        description="One frame of a clip, from 0; of a map over a clip's picture that has no frames, the one "
        "it is drawn on.",
    )
    discard: float = Field(0.0, description=DISCARD)
    colormap: str | None = Field(
        None, description=f"Colours: {', '.join(COLORMAPS)}. Of {_read_by('colormap')}."
    )
    alpha: float | None = Field(
        None, description=f"Weight of the map's colour over the picture, 0 to 1. {ON_PICTURES}"
    )
    scale: str | None = Field(
        None, description=f"How numbers become colours: {', '.join(SCALES)}. Of {_read_by('scale')}."
    )
    smooth: bool | None = Field(
        None, description=f"Bilinear between cells, and marked so in the legend. {ON_PICTURES}"
    )
    size: int | Literal["original"] | None = Field(
        None,
        description="Long side in pixels, at most, of a picture, frame, matrix or tile of a sheet: what is "
        "smaller grows by whole numbers. Or original, where there is a picture or frame. "
        f"Of {_read_by('size')}.",
    )
    theme: str | None = Field(
        None, description=f"Colours around the map: {', '.join(THEMES)}. Of {_read_by('theme')}."
    )

    def drawing(self) -> RenderOptions:
        """What the renderer has to know."""
        other = {"layer", "head", "target", "token", "rows", "discard", *RefineOptions.model_fields}
        return RenderOptions(**self.model_dump(exclude=other, exclude_none=True))

    def selection(self, spec: MapSpec, format: str, target: int | None) -> Selection:
        """Which part of a map is meant; a drawing of a clip picks its frame itself. Raises InvalidInput."""
        frame = None if spec.kind == "frame_grid" and format not in NUMBERS else self.frame
        return Selection(
            layers=self.layer,
            heads=self.head,
            target=target,
            token=self.token,
            rows=self.rows,
            frame=frame,
            discard=self.discard,
            names=("layer", "head"),
        )
