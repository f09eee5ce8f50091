"""Attention maps as pictures and pages; pure functions of numpy."""

from service.render.colors import COLORMAPS
from service.render.drawing import Drawing, render
from service.render.formats import FORMATS, NUMBERS, formats
from service.render.options import RenderOptions
from service.render.overlay import fit
from service.render.scale import SCALES
from service.render.theme import THEMES

__all__ = [
    "COLORMAPS",
    "FORMATS",
    "NUMBERS",
    "SCALES",
    "THEMES",
    "Drawing",
    "RenderOptions",
    "fit",
    "formats",
    "render",
]
