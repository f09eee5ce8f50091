"""One record a line, as text or JSON, with the request it belongs to; nobody else can write one."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from service import logs

FAKE = '\n2026-01-01 00:00:00,000 ERROR service: fake\r\n{"level": "ERROR"}\x1b[31m\u2028\u2029\x85\x0b\x0c'
logger = logging.getLogger("some.place")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The root logger as the tests have it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture
def request_context() -> Iterator[None]:
    tokens = logs.request_id.set("a-request"), logs.trace_id.set("a" * 32)
    yield
    logs.request_id.reset(tokens[0])
    logs.trace_id.reset(tokens[1])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(message: str) -> None:
    try:
        raise ValueError(message)
    except ValueError:
        logger.exception("failed: %s", message)


@pytest.mark.usefixtures("request_context")
def test_a_record_is_one_object_with_the_request_it_belongs_to() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logger.info("took %d ms", 3, extra={"status": 200})
    (record,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", record.pop("timestamp"))
    assert record == {
        "level": "INFO",
        "logger": "some.place",
        "message": "took 3 ms",
        "status": 200,
        "request_id": "a-request",
        "trace_id": "a" * 32,
    }


def test_outside_of_requests_a_record_names_none() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logger.info("started")
    assert lines(stream)[0].keys() == {"timestamp", "level", "logger", "message"}


def test_a_stack_is_one_field() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    fail("a\nb")
    (record,) = lines(stream)
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith("ValueError: a\nb")
    assert "exc_info" not in record


def test_what_a_client_sends_makes_no_record_of_its_own() -> None:
    as_json, as_text = io.StringIO(), io.StringIO()
    logs.configure("json", "info", as_json)
    logger.info("path %s", FAKE, extra={"path": FAKE})
    fail(FAKE)
    assert [record["message"][:4] for record in lines(as_json)] == ["path", "fail"]
    logs.configure("text", "info", as_text)
    logger.info("path %s", FAKE)
    fail(FAKE)
    written = as_text.getvalue()
    records = [line for line in written.splitlines() if not line.startswith("    ")]
    assert len(records) == 2
    assert not set(written) & set("\r\x1b\u2028\u2029\x85\x0b\x0c")


@pytest.mark.usefixtures("request_context")
def test_text_names_the_request_too() -> None:
    stream = io.StringIO()
    logs.configure("text", "info", stream)
    logger.warning("slow")
    assert re.fullmatch(r"\S+ \S+ WARNING some\.place: slow \[a-request\]\n", stream.getvalue())


@pytest.mark.parametrize(("stream", "is_text"), [(Terminal(), True), (io.StringIO(), False)])
def test_auto_is_text_on_a_terminal(stream: io.StringIO, is_text: bool) -> None:
    logs.configure("auto", "info", stream)
    logger.info("a")
    assert stream.getvalue().startswith("{") == (not is_text)


def test_the_level_is_the_least_that_is_said() -> None:
    stream = io.StringIO()
    logs.configure("json", "warning", stream)
    logger.info("quiet")
    logger.warning("loud")
    logging.getLogger("uvicorn.error").warning("too", extra={"color_message": "\x1b[1mtoo"})
    assert [record["message"] for record in lines(stream)] == ["loud", "too"]
    assert "color_message" not in lines(stream)[1]
