"""The Open Inference Protocol: health, metadata, inference, statistics, and the model repository."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.admission import Booking
from service.catalog import Entry
from service.choices import PredictOptions
from service.errors import InvalidInput
from service.inference import Inferred
from service.maps import Selection
from service.predictor import Predictor
from service.routes.calls import of_model
from service.routes.request import admitted, arriving, connected, inference, timing_headers, unready
from service.sizes import check_numbers
from service.v2 import documents, openapi
from service.v2.compression import SMALLEST, accepted, compress, decompress
from service.v2.framing import (
    HEADER_LENGTH,
    InferRequest,
    InferResponse,
    Scalar,
    read_document,
    read_parameters,
    read_request,
)
from service.v2.inputs import read_inputs
from service.v2.outputs import Outputs
from service.v2.parameters import check_supported, map_options, timeout

INLINE_BYTES = 16 * 1024  # read in less time than it takes to ask a thread

router = APIRouter(prefix="/v2", responses=openapi.ERRORS, tags=["Open Inference Protocol"])


@router.get("", summary="The server, and which extensions of the protocol it speaks")
async def server() -> documents.ServerMetadata:
    return documents.server_metadata()


@router.get("/health/live", summary="Whether the process answers")
async def live() -> documents.Live:
    return documents.Live()


@router.get("/health/ready", summary="Whether every model can be asked", response_model=documents.Ready)
async def ready(request: Request) -> Response:
    reason = await unready(request)
    return _unavailable(reason) if reason else JSONResponse(documents.Ready().model_dump())


@router.get("/models/stats", summary="What was inferred so far, by every version that is ready")
async def all_statistics(request: Request) -> documents.StatisticsDocument:
    return _statistics(request, _served(request))


@of_model(router, "/stats", summary="The same of one model", response_model=documents.StatisticsDocument)
async def statistics(request: Request, name: str, version: str | None) -> Any:
    inference(request).registry.get(name, version)
    meant = [one for one in _served(request) if one.name == name and version in (None, one.version)]
    return _statistics(request, meant)


@of_model(router, "", summary="A model's inputs and outputs", response_model=documents.ModelMetadata)
async def metadata(request: Request, name: str, version: str | None) -> Any:
    manifest = inference(request).registry.get(name, version).manifest
    return documents.model_metadata(manifest, [one.version for one in _served(request) if one.name == name])


@of_model(
    router,
    "/config",
    summary="A model's configuration, in Triton's words",
    response_model=documents.ModelConfig,
)
async def config(request: Request, name: str, version: str | None) -> Any:
    found = inference(request)
    return documents.model_config(found.registry.get(name, version).manifest, found.settings.max_items)


@of_model(router, "/ready", summary="Whether a model can be asked", response_model=documents.ModelReady)
async def model_ready(request: Request, name: str, version: str | None) -> Any:
    known = inference(request).registry.entries()
    entries = [one for one in known if one.name == name and version in (None, one.version)]
    if entries and not any(one.served for one in entries):
        return _unavailable(f"model {name}: {'; '.join(map(str, entries))}")
    found = inference(request)
    fault = await found.readiness.check_model(found.registry.get(name, version))
    return _unavailable(fault) if fault else documents.ModelReady(name=name)


@of_model(
    router,
    "/infer",
    method="POST",
    summary="Predictions, and the attention maps that are asked for",
    openapi_extra=openapi.INFER,
    parameters=openapi.HEADERS,
    responses=openapi.INFERRED,
    response_class=Response,
)
async def infer(request: Request, name: str, version: str | None) -> Any:
    found = inference(request)
    started = time.perf_counter()
    async with admitted(request, name, version) as (predictor, booking):
        async with arriving(request):
            body = await request.body()
        async with connected(request), found.within():
            asked = await _read(request, predictor, body, booking)
            options = map_options(asked.parameters)
            check_supported(asked.parameters)
            outputs = Outputs(asked, predictor, options.maps)
            wanted = predictor.wanted(options, outputs.maps)
            payloads = read_inputs(asked.inputs, predictor.manifest, max_items=found.settings.max_items)
            encoding = accepted(request.headers.get("accept-encoding"))
            async with found.within(timeout(asked.parameters)):
                inferred = await found.infer(predictor, payloads, wanted)
                arguments = (predictor, asked, outputs, inferred, options, wanted.selection, encoding)
                if inferred.is_short and not wanted:
                    response = _answer(*arguments)
                else:
                    response = await found.in_thread("answer", predictor, _answer, *arguments)
            found.answered(predictor, inferred, time.perf_counter() - started)
    response.headers.update(timing_headers(predictor, inferred))
    return response


async def _read(request: Request, predictor: Predictor, body: bytes, booking: Booking) -> InferRequest:
    """A request's body, unpacked and with room for that, as its tensors; raises a Problem."""
    found = inference(request)
    encoding = ", ".join(request.headers.getlist("content-encoding"))
    length = request.headers.get(HEADER_LENGTH)
    most = found.settings.max_json_bytes
    if not encoding and len(body) <= INLINE_BYTES:
        return read_request(body, length, max_json_bytes=most)

    unpacked = body
    if encoding:
        largest = found.settings.max_body_bytes
        unpacked = await found.in_thread(
            "answer", predictor, lambda: decompress(body, encoding, max_bytes=largest)
        )
        booking.hold(len(body) + len(unpacked))
    return await found.in_thread(
        "answer", predictor, lambda: read_request(unpacked, length, max_json_bytes=most)
    )


def _answer(
    predictor: Predictor,
    asked: InferRequest,
    outputs: Outputs,
    inferred: Inferred,
    options: PredictOptions,
    selection: Selection,
    encoding: str | None,
) -> Response:
    tensors = outputs.tensors(inferred, selection, options.refinement)
    binary = frozenset(one.name for one in tensors if asked.binary(one.name))
    check_numbers(sum(one.values.size for one in tensors if one.name not in binary), field="binary_data")
    body, length = InferResponse(
        model_name=predictor.manifest.name,
        model_version=predictor.manifest.version,
        id=asked.id,
        outputs=tensors,
        binary=binary,
    ).write()
    headers = {}
    if length is not None:
        headers[HEADER_LENGTH] = str(length)
    if encoding is not None and len(body) >= SMALLEST:
        headers["content-encoding"] = encoding
        body = compress(body, encoding)
    media_type = "application/json" if length is None else "application/octet-stream"
    return Response(body, media_type=media_type, headers=headers)


@router.post("/repository/index", summary="Every version in the repository", openapi_extra=openapi.INDEX)
async def index(request: Request) -> list[documents.IndexEntry]:
    document = await _document(request)
    only_ready = document.get("ready", False)
    if not isinstance(only_ready, bool):
        raise InvalidInput("ready: true or false", field="ready")
    return [
        documents.index_entry(one)
        for one in inference(request).registry.entries()
        if one.served or not only_ready
    ]


@router.post(
    "/repository/models/{name}/load",
    summary="Load what the repository holds of a model",
    openapi_extra=openapi.LOAD,
    response_class=Response,
)
async def load(request: Request, name: str) -> Response:
    for parameter in await _parameters(request):
        raise InvalidInput(
            f"parameters.{parameter[:80]!r}: a model is loaded as it was exported, without any",
            field="parameters",
        )
    await inference(request).registry.load(name)
    return Response()


@router.post(
    "/repository/models/{name}/unload",
    summary="Serve a model no more until it is loaded again",
    openapi_extra=openapi.UNLOAD,
    response_class=Response,
)
async def unload(request: Request, name: str) -> Response:
    for parameter, value in (await _parameters(request)).items():
        if parameter != "unload_dependents" or not isinstance(value, bool):
            raise InvalidInput(
                f"parameters.{parameter[:80]!r}: unload_dependents alone, true or false", field="parameters"
            )
    await inference(request).registry.unload(name)
    return Response()


async def _parameters(request: Request) -> dict[str, Scalar]:
    return read_parameters(await _document(request), "parameters")


async def _document(request: Request) -> dict[str, object]:
    """A small JSON body, of which there need be none."""
    async with arriving(request):
        body = await request.body()
    most = inference(request).settings.max_json_bytes
    return read_document(body, max_json_bytes=most) if body else {}


def _served(request: Request) -> list[Entry]:
    return [one for one in inference(request).registry.entries() if one.served]


def _statistics(request: Request, entries: list[Entry]) -> documents.StatisticsDocument:
    counted = inference(request).statistics
    return documents.StatisticsDocument.model_validate(
        {"model_stats": [counted.of(one.name, one.version).document() for one in entries]}
    )


def _unavailable(reason: str) -> JSONResponse:
    return JSONResponse(documents.ErrorDocument(error=reason).model_dump(), HTTPStatus.SERVICE_UNAVAILABLE)
