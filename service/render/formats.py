"""In which formats maps come."""

from __future__ import annotations

from service.bundle import Kind

PICTURES = ("png", "webp")
NUMBERS = ("json", "npy")  # made where the numbers are, not here
FORMATS: dict[Kind, tuple[str, ...]] = {
    "tokens": ("html", "svg", *PICTURES, *NUMBERS),
    "token_matrix": (*PICTURES, *NUMBERS),
    "grid": (*PICTURES, *NUMBERS),
    "grid_matrix": NUMBERS,
    "channels": (*PICTURES, *NUMBERS),
    "frames": (*PICTURES, *NUMBERS),
    "frame_matrix": (*PICTURES, *NUMBERS),
    "frame_grid": (*PICTURES, *NUMBERS),
}
# What is read of how to draw, by format; of pictures these on all, and those on pictures and frames alone.
DRAWING: dict[str, tuple[str, ...]] = {
    "html": ("colormap", "scale", "theme"),
    "svg": ("colormap", "scale", "theme"),
    "png": ("colormap", "scale", "theme", "size"),
    "webp": ("colormap", "scale", "theme", "size"),
    "json": (),
    "npy": (),
}
OVERLAYS: tuple[Kind, ...] = ("grid", "frame_grid")
OF_OVERLAYS = ("alpha", "smooth")
# Kinds of which several layers and heads can be drawn on one sheet.
SHEETS: tuple[Kind, ...] = ("tokens", "token_matrix", "grid", "frame_matrix", "frame_grid")


def drawing_options(kind: Kind, format: str) -> tuple[str, ...]:
    """The options of a drawing that a format of a map reads."""
    return DRAWING[format] + (OF_OVERLAYS if kind in OVERLAYS and format in PICTURES else ())


def formats(kind: Kind, *, several: bool = False) -> tuple[str, ...]:
    """The formats of one map, or of one with axes of layers or heads."""
    if not several:
        return FORMATS[kind]
    return (*PICTURES, *NUMBERS) if kind in SHEETS else NUMBERS
