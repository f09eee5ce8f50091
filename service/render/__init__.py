"""Attention maps as pictures and pages; pure functions of numpy."""

from service.render.colors import COLORMAPS
from service.render.drawing import FORMATS, NUMBERS, Drawing, render
from service.render.options import RenderOptions
from service.render.scale import SCALES
from service.render.theme import THEMES

__all__ = ["COLORMAPS", "FORMATS", "NUMBERS", "SCALES", "THEMES", "Drawing", "RenderOptions", "render"]
