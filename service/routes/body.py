"""A request's body as payloads and options: JSON, multipart, or the raw bytes of one input."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.choices import PredictOptions
from service.errors import InvalidInput, TooLarge
from service.job import Payload
from service.options import gathered, parse_options
from service.sizes import check_length, read_json

FIELD_BYTES = 1024**2  # the largest multipart field that is no file
OPTION_FIELDS = 16  # multipart fields beside the texts
EXCEEDED = {"Too many files": "max_files", "Too many fields": "max_fields", "Part exceeded": "max_part_size"}


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
            if declared.isdigit():
                check_length(int(declared), self.max_bytes)
            message = await receive()
            read += len(message.get("body", b""))
            check_length(read, self.max_bytes)
            if (booking := scope.get("booking")) is not None:  # of a request that was admitted
                booking.hold(read)
            return message

        await self.app(scope, counted, send)


class FormParser(MultiPartParser):
    """Knows whether the closing boundary came: a form that is cut off must not pass for a shorter one."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_body(
    request: Request, *, max_items: int, max_json_bytes: int
) -> tuple[list[Payload], PredictOptions]:
    """Payloads in order and the options of body and query together; raises a Problem."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    query = gathered(request.query_params.multi_items())
    if content_type == "application/json":
        payloads, given = _from_json(await request.body(), max_items, max_json_bytes)
    elif content_type == "multipart/form-data":
        payloads, given = await _from_multipart(request, max_items)
    else:
        payloads, given = [Payload(data=await request.body(), content_type=content_type)], {}
    _check_items(payloads, max_items)
    return payloads, parse_options(PredictOptions, query | given)


def _check_items(items: Sequence[object], max_items: int) -> None:
    if len(items) > max_items:
        raise TooLarge(f"{len(items)} inputs in one request", field="items", limit=max_items)


def _from_json(body: bytes, max_items: int, max_bytes: int) -> tuple[list[Payload], dict[str, Any]]:
    try:
        document = read_json(body, max_bytes)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is no JSON", field="body") from None
    if not isinstance(document, dict):
        raise InvalidInput("the body is no JSON object with a field text", field="body")
    if "text" not in document:
        raise InvalidInput(f"no field text; got {', '.join(document)[:80] or 'none'}", field="text")
    text = document.pop("text")
    texts = text if isinstance(text, list) else [text]
    _check_items(texts, max_items)
    if not texts or not all(isinstance(one, str) for one in texts):
        raise InvalidInput("text: a string, or a list of strings with at least one", field="text")
    payloads = [Payload(data=one, field="text") for one in texts]
    pair = document.pop("text_pair", None)
    if pair is None:
        return payloads, document
    pairs = pair if isinstance(pair, list) else [pair]
    if isinstance(pair, list) != isinstance(text, list) or not all(
        one is None or isinstance(one, str) for one in pairs
    ):
        raise InvalidInput(
            "text_pair: a string beside a string, or a list of strings and nulls beside a list",
            field="text_pair",
        )
    return _paired(payloads, pairs), document


async def _from_multipart(request: Request, max_items: int) -> tuple[list[Payload], dict[str, Any]]:
    payloads: list[Payload] = []
    pairs: list[str] = []
    options: list[tuple[str, str]] = []
    async with _form(request, max_items) as parts:
        for name, value in parts.multi_items():
            if name == "text_pair":
                pairs.append(await _second_text(value))
            elif isinstance(value, UploadFile):
                data = await value.read()
                payloads.append(Payload(data=data, content_type=value.content_type, field=name))
            elif name == "text":
                payloads.append(Payload(data=value, field="text"))
            else:
                options.append((name, value))
    if not payloads:
        raise InvalidInput("the form holds no file and no text", field="body")
    return _paired(payloads, pairs) if pairs else payloads, gathered(options)


async def _second_text(value: UploadFile | str) -> str:
    """A form's `text_pair`, which may be a file as a text may; raises InvalidInput."""
    if isinstance(value, str):
        return value
    try:
        return (await value.read()).decode()
    except UnicodeDecodeError:
        raise InvalidInput("text_pair: the bytes are not UTF-8", field="text_pair") from None


def _paired(payloads: Sequence[Payload], pairs: Sequence[str | None]) -> list[Payload]:
    """Each payload with the second text of its place; raises InvalidInput where one has none."""
    if len(pairs) != len(payloads):
        raise InvalidInput(
            f"text_pair: one for each text; got {len(pairs)} for {len(payloads)}",
            field="text_pair",
            limit=len(payloads),
        )
    return [replace(payload, pair=pair) for payload, pair in zip(payloads, pairs, strict=True)]


@asynccontextmanager
async def _form(request: Request, max_items: int) -> AsyncIterator[FormData]:
    """A whole form, its files open; raises InvalidInput and TooLarge."""
    parts = 2 * max_items  # each text may have its text_pair
    limits = {"max_files": parts, "max_fields": parts + OPTION_FIELDS, "max_part_size": FIELD_BYTES}
    parser = FormParser(request.headers, request.stream(), **limits)
    try:
        form = await parser.parse()
    except UnicodeError:  # the client's own idea of a charset
        raise InvalidInput("the form's charset is not that of its fields", field="body") from None
    except MultiPartException as error:
        # The parser says which limit it was in words alone.
        for start, name in EXCEEDED.items():
            if error.message.startswith(start):
                raise TooLarge(f"the form: {error.message}", field="body", limit=limits[name]) from None
        raise InvalidInput(f"the body is no sound multipart form: {error.message}", field="body") from None
    try:
        if not parser.ended:
            raise InvalidInput("the multipart form is cut off", field="body")
        yield form
    finally:
        await form.close()
