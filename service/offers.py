"""What a map offers: what can be chosen of it, and in which formats it comes."""

from __future__ import annotations

from collections.abc import Sequence

from service.bundle import Family, MapSpec
from service.choices import MapOptions, PredictOptions, RefineOptions
from service.errors import UnknownOption
from service.maps import FUSES, ROW_OF
from service.render import FORMATS, OVERLAYS, PICTURES, drawing_options

# Options that choose a part of a map, or how it is made; and what a prediction calls them, of several maps.
CHOICES = ("layer", "head", "target", "token", "rows", "frame", "discard")
CHOSEN = ("layers", "heads", *CHOICES[2:])


def options_of(spec: MapSpec) -> tuple[str, ...]:
    """The options that choose a part of a map, or how it is made."""
    applies = {
        "layer": bool(spec.layers),
        "head": spec.heads is not None or spec.tunable,
        "target": "label" in spec.axes or "target" in spec.inputs,
        "token": spec.sliced,
        "rows": spec.sliced,
        "frame": spec.kind == "frame_grid" or "frame" in spec.inputs,
        "discard": spec.tunable,
    }
    return tuple(option for option, fits in applies.items() if fits)


def formats_of(spec: MapSpec) -> tuple[str, ...]:
    """Every format a map comes in, some of them for one query token alone."""
    return FORMATS[ROW_OF[spec.kind] if spec.sliced else spec.kind]


def token_formats_of(spec: MapSpec) -> tuple[str, ...]:
    """Those that a map comes in for one query token alone."""
    return tuple(format for format in formats_of(spec) if format not in FORMATS[spec.kind])


def check_chosen(specs: Sequence[MapSpec], options: PredictOptions) -> None:
    """Raise UnknownOption for what is chosen or wanted of maps where none that is asked for has it."""
    given = options.model_dump(include={*CHOSEN, *RefineOptions.model_fields}, exclude_defaults=True)
    if given and not specs:
        field = next(iter(given))
        raise UnknownOption(f"{field}: is of maps, and none is asked for", field=field)
    offered = {option for spec in specs for option in options_of(spec)}
    for option, field in zip(CHOICES, CHOSEN, strict=True):
        if field in given and option not in offered:
            raise UnknownOption(f"{field}: no map that is asked for has it to choose", field=field)
    if options.heads not in (None, *FUSES) and all(spec.heads is None for spec in specs):
        raise _fused("heads", next(spec for spec in specs if spec.tunable))


def check_fits(spec: MapSpec, options: MapOptions, format: str, family: Family) -> None:
    """Raise UnknownOption for a format that a map does not have, or an option that is not read there."""
    if format not in (have := formats_of(spec)):
        known = ", ".join(have)
        raise UnknownOption(
            f"map {spec.name} has no format {format!r}; it has {known}", field="format", limit=known
        )
    kind = ROW_OF[spec.kind] if spec.sliced and options.token is not None else spec.kind
    if format not in FORMATS[kind]:
        whole = ", ".join(FORMATS[kind])
        raise UnknownOption(
            f"token: map {spec.name} comes as {format} for one token alone, else as {whole}", field="token"
        )
    drawing = drawing_options(kind, format)
    fits = (*options_of(spec), *RefineOptions.model_fields, *drawing)
    if kind == "grid" and family == "video" and format in PICTURES:
        fits = (*fits, "frame")  # what it is drawn on
    for field in MapOptions.model_fields:
        if field not in options.model_fields_set or field in fits:
            continue
        if field in CHOICES:
            raise UnknownOption(f"map {spec.name} has no {field} to choose", field=field)
        reads = f"of a drawing it reads {', '.join(drawing)}" if drawing else "it is no drawing"
        raise UnknownOption(f"{field}: {format} of map {spec.name} does not read it; {reads}", field=field)
    if options.size == "original" and kind not in OVERLAYS:
        raise UnknownOption(f"size: map {spec.name} is over no picture: a number of pixels", field="size")
    if spec.tunable and options.head not in (None, *FUSES):
        raise _fused("head", spec)


def _fused(field: str, spec: MapSpec) -> UnknownOption:
    ways = ", ".join(FUSES)
    return UnknownOption(f"{field}: map {spec.name} has its heads fused, by {ways}", field=field, limit=ways)
