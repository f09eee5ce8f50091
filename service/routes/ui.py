"""The web page at `/` and the files it is made of."""

from __future__ import annotations

import base64
import json
from functools import cache
from http import HTTPStatus
from pathlib import Path

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from starlette.staticfiles import StaticFiles

from service.bundle import KIND_AXES
from service.maps import ROW_OF
from service.render.colors import COLORMAPS, DEFAULT_COLORMAP, DIVERGING, ramp, table
from service.render.scale import SCALES, default_scale
from service.render.theme import DARK, LIGHT
from service.routes.caching import entity_tag, is_known

FOLDER = Path(__file__).parents[1] / "ui"
METHODS = ["GET", "HEAD"]
NO_CACHE = {"cache-control": "no-cache"}  # kept by the browser, and asked for again each time by its ETag
TYPES = {  # what a system knows of these differs from one to the next
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".rs": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no string becomes HTML or a script, whoever wrote it
        "trusted-types 'none'",
    )
)

router = APIRouter(include_in_schema=False)
files = StaticFiles(directory=FOLDER)


@router.api_route("/", methods=METHODS)
async def page(request: Request) -> Response:
    response = await files.get_response("index.html", request.scope)
    response.headers.update(NO_CACHE | {"content-security-policy": PAGE_POLICY})
    return response


@router.api_route("/ui/colors.json", methods=METHODS)
async def colors(request: Request) -> Response:
    """Colour maps, so that the page has those of the drawings and no others."""
    body = colors_document()
    tag = entity_tag(body)
    headers = NO_CACHE | {"etag": tag}
    if is_known(request, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.api_route("/ui/{path:path}", methods=METHODS)
async def file(request: Request, path: str) -> Response:
    """Raises HTTPException 404 for what is not there, or lies elsewhere."""
    response = await files.get_response(path, request.scope)
    response.headers.update(NO_CACHE)
    if "content-type" in response.headers:
        response.headers["content-type"] = TYPES[Path(path).suffix]
    return response


@cache
def colors_document() -> str:
    """Every colour map as 256 x 3 bytes in base64, by name; `ramps` are those for text on either page.

    `usual` is the scale that suits each kind of map.
    """
    ramps = {
        theme: {name: _bytes(ramp(name, colors.page)) for name in COLORMAPS}
        for theme, colors in (("light", LIGHT), ("dark", DARK))
    }
    document = {
        "default": DEFAULT_COLORMAP,
        "diverging": DIVERGING,
        "scales": SCALES,
        "usual": {kind: default_scale(ROW_OF.get(kind, kind)) for kind in KIND_AXES},
        "tables": {name: _bytes(table(name)) for name in COLORMAPS},
        "ramps": ramps,
    }
    return json.dumps(document, separators=(",", ":"))


def _bytes(colors: NDArray[np.uint8]) -> str:
    return base64.b64encode(colors.tobytes()).decode()
