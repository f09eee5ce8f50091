"""Attention maps as pictures and pages; pure functions of numpy."""

from service.render.colors import COLORMAPS
from service.render.drawing import MEDIA_TYPES, Drawing, render
from service.render.formats import DRAWING, FORMATS, NUMBERS, OVERLAYS, PICTURES, drawing_options, formats
from service.render.options import RenderOptions
from service.render.overlay import fit
from service.render.scale import SCALES
from service.render.theme import THEMES

__all__ = [
    "COLORMAPS",
    "DRAWING",
    "FORMATS",
    "MEDIA_TYPES",
    "NUMBERS",
    "OVERLAYS",
    "PICTURES",
    "SCALES",
    "THEMES",
    "Drawing",
    "RenderOptions",
    "drawing_options",
    "fit",
    "formats",
    "render",
]
