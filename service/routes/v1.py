"""Regard's own API: models, predictions, and their maps drawn or as numbers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel

from service.catalog import Entry
from service.choices import MapOptions, PredictOptions
from service.offers import check_fits
from service.options import gathered, parse_options
from service.predictions import Predictions
from service.render import MEDIA_TYPES
from service.routes.body import read_body
from service.routes.caching import cache_headers, entity_tag, is_known
from service.routes.calls import of_model
from service.routes.request import admitted, arriving, client, connected, inference, timing_headers
from service.schemas import (
    Answer,
    ModelInfo,
    ModelList,
    ModelSummary,
    ProblemDocument,
    map_summary,
)

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDocument, "content": {"application/problem+json": {}}}
    for status in (400, 401, 403, 404, 408, 410, 413, 415, 422, 503, 504)
}

UNVERIFIED = ERRORS[400] | {"description": "With `verify`: attention that is not the softmax it should be."}

PREDICT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": (
            "A text or several as JSON, one input as it is (text/plain, a picture, a clip), or several as "
            "a multipart form. A model whose `preprocessing` says `pairs` takes a `text_pair` beside each "
            "`text`. Options stand in the JSON body, in form fields or in the query; the body wins."
        ),
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["text"],
                    "properties": {
                        "text": {
                            "anyOf": [
                                {"type": "string"},
                                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                            ]
                        },
                        "text_pair": {
                            "description": "The second text of each pair: a string beside a string, a list "
                            "of the same length beside a list; null where a text stands alone.",
                            "anyOf": [
                                {"type": "string"},
                                {
                                    "type": "array",
                                    "items": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                                    "minItems": 1,
                                },
                                {"type": "null"},
                            ],
                        },
                        **PredictOptions.model_json_schema()["properties"],
                    },
                }
            },
            "text/plain": {"schema": {"type": "string"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "text": {"type": "array", "items": {"type": "string"}},
                        "text_pair": {
                            "description": "One for each text, in the same order.",
                            "type": "array",
                            "items": {"type": "string"},
                        },
                    },
                }
            },
            **{
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in (
                    "image/jpeg",
                    "image/png",
                    "image/webp",
                    "image/gif",
                    "video/mp4",
                    "video/webm",
                    "video/quicktime",
                )
            },
        },
    }
}

# Pages and drawings hold the client's own text: escaped, and no script, request or form of any kind.
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'"

AXES = "x-map-axes"
DRAWN: dict[str, Any] = {
    "description": "The map in this format.",
    "headers": {
        AXES: {
            "schema": {"type": "string"},
            "description": "Of npy (little-endian float32): names of the axes, separated by commas.",
        }
    },
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in (*MEDIA_TYPES.values(), "application/octet-stream")
    }
    | {"application/json": {"schema": {"$ref": "#/components/schemas/MapInfo"}}},
}

Id = Annotated[str, Path(alias="id", description="Of the prediction.")]
ItemIndex = Annotated[int, Path(alias="item", description="Which input of the request, from 0.")]

router = APIRouter(prefix="/v1", responses=ERRORS)


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """What OpenAPI says of options that are read from the query as a model."""
    properties: dict[str, dict[str, Any]] = model.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "description": schema.pop("description", ""), "schema": schema}
        for name, schema in properties.items()
    ]


def predictions(request: Request) -> Predictions:
    """Predictions that are made and kept."""
    found: Predictions = request.app.state.predictions
    return found


@router.get("/models", summary="What is served, and what was refused")
async def models(request: Request) -> ModelList:
    return ModelList(models=[_summary(entry) for entry in inference(request).registry.entries()])


def _summary(entry: Entry) -> ModelSummary:
    manifest = None if entry.predictor is None else entry.predictor.manifest
    return ModelSummary(
        name=entry.name,
        version=entry.version,
        state=entry.state,
        reason=entry.reason,
        family=None if manifest is None else manifest.family,
        description=None if manifest is None else manifest.description,
    )


@of_model(router, "", summary="A model: labels, input, maps, parity, accuracy", response_model=ModelInfo)
async def model(request: Request, name: str, version: str | None) -> ModelInfo:
    manifest = inference(request).registry.get(name, version).manifest
    return ModelInfo(
        name=manifest.name,
        version=manifest.version,
        family=manifest.family,
        task=manifest.task,
        description=manifest.description,
        labels=list(manifest.labels),
        activation=manifest.activation,
        precision=manifest.precision,
        preprocessing=manifest.preprocessing,
        maps=[map_summary(spec) for spec in manifest.maps],
        parity=manifest.parity,
        card=manifest.card,
    )


@of_model(
    router,
    "/predict",
    method="POST",
    summary="Predictions with attention maps",
    openapi_extra=PREDICT_BODY,
    parameters=query_parameters(PredictOptions),
    response_model=Answer,
    responses={500: UNVERIFIED},
)
async def predict(request: Request, name: str, version: str | None) -> Response:
    async with admitted(request, name, version) as (predictor, _):
        async with arriving(request):
            settings = inference(request).settings
            payloads, options = await read_body(
                request, max_items=settings.max_items, max_json_bytes=settings.max_json_bytes
            )
        async with connected(request):
            answered = await predictions(request).predict(
                predictor, payloads, options, client=client(request)
            )
    headers = timing_headers(predictor, answered.inferred)
    return Response(answered.body, media_type="application/json", headers=headers)


@router.get("/predictions/{id}", summary="A prediction again, while it is kept", response_model=Answer)
async def kept(request: Request, key: Id) -> Response:
    record = predictions(request).kept(key, client=client(request))
    return Response(record.answer, media_type="application/json")


@router.get(
    "/predictions/{id}/{item}/maps/{map}.{format}",
    summary="One map, drawn on the original input or as numbers",
    response_class=Response,
    openapi_extra={"parameters": query_parameters(MapOptions)},
    responses={200: DRAWN, 304: {"description": "What the client has under this entity tag still holds."}},
)
async def attention_map(
    request: Request,
    key: Id,
    index: ItemIndex,
    name: Annotated[str, Path(alias="map", description="A map of the model, by name.")],
    format: Annotated[str, Path(description="One of the map's `formats`.")],
) -> Response:
    options = parse_options(MapOptions, gathered(request.query_params.multi_items()))
    record = predictions(request).kept(key, client=client(request))
    spec = record.predictor.spec(name)
    check_fits(spec, options, format, record.predictor.manifest.family)
    target = None if options.target is None else record.predictor.target(options.target)
    selection = options.selection(spec, format, target)
    selection.check(spec)
    record.item(index)
    tag = entity_tag(key, str(index), name, format, options.model_dump_json())
    headers = cache_headers(tag, inference(request).settings.store_seconds)
    if format in ("html", "svg"):  # of a 304 too, whose headers take the place of those that were kept
        headers["content-security-policy"] = SANDBOX
    if is_known(request, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    async with connected(request):
        drawing = await predictions(request).draw(
            key,
            index,
            name,
            format,
            selection,
            options.refinement,
            options.drawing(),
            client=client(request),
        )
    if drawing.axes:
        headers[AXES] = ",".join(drawing.axes)
    return Response(drawing.body, media_type=drawing.media_type, headers=headers)
