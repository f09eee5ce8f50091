"""The input of a kept prediction, as the model's decoder read it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.job import Payload
from service.options import gathered, parse_options
from service.originals import original, smaller
from service.predictor import Predictor
from service.render import Drawing, RenderOptions
from service.routes.caching import cache_headers, entity_tag, is_known
from service.routes.request import client, connected, inference
from service.routes.v1 import ERRORS, Id, ItemIndex, predictions, query_parameters

router = APIRouter(prefix="/v1", responses=ERRORS)


class InputOptions(BaseModel):
    """How large an input is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int | Literal["original"] | None = Field(
        None, description="Long side of the picture, or of each frame of a clip, in pixels; never enlarged."
    )


@router.get(
    "/predictions/{id}/{item}/input.webp",
    summary="The picture as it was decoded, or the sampled frames of a clip on one sheet",
    response_class=Response,
    openapi_extra={"parameters": query_parameters(InputOptions)},
)
async def decoded_input(request: Request, key: Id, index: ItemIndex) -> Response:
    options = parse_options(InputOptions, gathered(request.query_params.multi_items()))
    size = RenderOptions(size=options.size).size
    record, found = predictions(request).kept(key, client=client(request)), inference(request)
    tag = entity_tag(key, str(index), "input", str(size))
    headers = cache_headers(tag, found.settings.store_seconds)
    predictor, payload = record.predictor, record.item(index).payload
    if is_known(request, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    async with connected(request), found.under_way(predictor), found.within():
        drawing = await found.in_thread("drawing", predictor, _draw, predictor, payload, size)
    return Response(drawing.body, media_type=drawing.media_type, headers=headers)


def _draw(predictor: Predictor, payload: Payload, size: int | Literal["original"] | None) -> Drawing:
    return original(predictor.canvas(payload, lambda width, height: smaller(width, height, size)), size)
