"""A request's body as payloads and options: JSON, multipart, or the raw bytes of one input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InvalidInput, TooLarge, UnknownOption
from service.predictor import Payload
from service.schemas import PredictOptions

Options = TypeVar("Options", bound=BaseModel)

FIELD_BYTES = 1024**2  # the largest multipart field that is no file


class BodyLimit:
    """Middleware: a body over the limit is refused by its declared length, or as soon as it gets too long."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        read = 0

        async def counted() -> Message:
            nonlocal read
            if declared.isdigit() and int(declared) > self.max_bytes:
                raise self.problem()
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_bytes:
                raise self.problem()
            return message

        await self.app(scope, counted, send)

    def problem(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self.max_bytes} bytes", field="body", limit=self.max_bytes)


async def read_body(request: Request, *, max_items: int) -> tuple[list[Payload], PredictOptions]:
    """Payloads in order and the options of body and query together; raises a Problem."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    query: dict[str, Any] = dict(request.query_params)
    if content_type == "application/json":
        payloads, given = _from_json(await request.body())
    elif content_type == "multipart/form-data":
        payloads, given = await _from_multipart(request, max_items)
    else:
        payloads, given = [_from_raw(await request.body(), content_type, request)], {}
    if len(payloads) > max_items:
        raise TooLarge(f"{len(payloads)} inputs in one request", field="items", limit=max_items)
    return payloads, parse_options(PredictOptions, query | given)


def parse_options(model: type[Options], given: Mapping[str, Any]) -> Options:
    """Options as their model; raises UnknownOption or InvalidInput naming the first field that is wrong."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "options"
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise UnknownOption(f"no option {field!r}; known: {known}", field=field, limit=known) from None
        raise InvalidInput(f"{field}: {first['msg']}", field=field) from None


def _from_json(body: bytes) -> tuple[list[Payload], dict[str, Any]]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is no JSON", field="body") from None
    if not isinstance(document, dict):
        raise InvalidInput("the body is no JSON object", field="body")
    text = document.pop("text", None)
    texts = text if isinstance(text, list) else [text]
    if not texts or not all(isinstance(one, str) for one in texts):
        raise InvalidInput("text: a string, or a list of strings with at least one", field="text")
    return [Payload(data=one, field="text") for one in texts], document


async def _from_multipart(request: Request, max_items: int) -> tuple[list[Payload], dict[str, Any]]:
    payloads: list[Payload] = []
    options: dict[str, Any] = {}
    try:
        form = request.form(max_files=max_items, max_fields=max_items + 16, max_part_size=FIELD_BYTES)
        async with form as parts:
            for name, value in parts.multi_items():
                if isinstance(value, UploadFile):
                    data = await value.read()
                    payloads.append(Payload(data=data, content_type=value.content_type, field=name))
                elif name == "text":
                    payloads.append(Payload(data=value, field="text"))
                else:
                    options[name] = value
    except HTTPException as error:
        raise InvalidInput(f"the body is no sound multipart form: {error.detail}", field="body") from None
    if not payloads:
        raise InvalidInput("the form holds no file and no text", field="body")
    return payloads, options


def _from_raw(body: bytes, content_type: str, request: Request) -> Payload:
    if not content_type.startswith("text/"):
        return Payload(data=body, content_type=content_type or None)
    try:
        return Payload(data=body.decode(), field="text")
    except UnicodeDecodeError:
        raise InvalidInput("text: the body is not UTF-8", field="text") from None
