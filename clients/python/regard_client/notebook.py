"""A prediction as HTML for a notebook: bars and drawings, everything from the server escaped."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from regard_client.results import Label, MapInfo, PredictedInput

MEDIA_TYPES = {"svg": "image/svg+xml", "webp": "image/webp", "png": "image/png"}
BAR_PIXELS = 160
CELL = "padding:1px 8px;text-align:left;border:0"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A map as a picture in one of MEDIA_TYPES, or why there is none."""

    format: str = ""
    body: bytes = b""
    failure: str = ""


def best_format(info: MapInfo) -> str | None:
    """What shows a map best of what it comes as: what moves for clips, else what is sharp."""
    order = ("webp", "png") if info.kind == "frame_grid" else ("svg", "png", "webp")
    return next((one for one in order if one in info.links), None)


def page(prediction: PredictedInput, drawings: Mapping[str, Drawing], *, otherwise: str) -> str:
    """The prediction, and each map's drawing or why there is none; `otherwise` says so of the maps left."""
    figures = [_figure(info, drawings.get(info.name, Drawing(failure=otherwise))) for info in prediction.maps]
    title = f"{prediction.model} {prediction.version}, {prediction.timing.total_ms:.1f} ms"
    return (
        f'<div style="font-family:sans-serif"><div style="opacity:.7">{escape(title)}</div>'
        f"{_bars(prediction.top)}{''.join(figures)}</div>"
    )


def _bars(top: Sequence[Label]) -> str:
    largest = max([1.0, *(abs(one.score) for one in top if math.isfinite(one.score))])
    rows = [
        f'<tr style="background:none"><td style="{CELL}">{escape(one.label)}</td><td style="{CELL}">'
        f'<div style="width:{_width(one.score, largest)}px;height:10px;background:#4c78a8"></div></td>'
        f'<td style="{CELL}">{one.score:.3f}</td></tr>'
        for one in top
    ]
    return f'<table style="border:0;margin:4px 0">{"".join(rows)}</table>'


def _width(score: float, largest: float) -> int:
    return round(BAR_PIXELS * abs(score) / largest) if math.isfinite(score) else 0


def _figure(info: MapInfo, drawing: Drawing) -> str:
    what = [info.name]
    if info.layers != "all":
        what.append(f"layer {_words(info.layers)}")
    if info.heads is not None:
        what.append(f"head {_words(info.heads)}")
    if info.target is not None:
        what.append(f"target {info.target}")
    caption = escape(", ".join(what))
    if drawing.body:
        data = b64encode(drawing.body).decode()
        source = f"data:{MEDIA_TYPES[drawing.format]};base64,{data}"
        shown = f'<img src="{source}" alt="{caption}" style="max-width:100%">'
    else:
        shown = f'<div style="opacity:.7">not shown: {escape(drawing.failure)}</div>'
    return (
        '<figure style="display:inline-block;vertical-align:top;margin:4px 12px 4px 0;max-width:100%">'
        f"{shown}<figcaption>{caption}</figcaption></figure>"
    )


def _words(chosen: str | int | tuple[int, ...]) -> str:
    return ", ".join(map(str, chosen)) if isinstance(chosen, tuple) else str(chosen)
