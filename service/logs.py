"""What a server says about itself: one record a line, with the request it belongs to."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Literal, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["auto", "text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
FIELDS = {
    "levelname": "level",
    "name": "logger",
    "exc_info": "exception",
    "stack_info": "stack",
}
# A line break or an escape sequence in what a client sent must not look like a record of ours.
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}

request_id: ContextVar[str] = ContextVar("request_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")


def configure(format: LogFormat, level: LogLevel, stream: TextIO = sys.stderr) -> None:
    """Send every record of the process to a stream, as text or JSON; auto is text on a terminal."""
    as_text = stream.isatty() if format == "auto" else format == "text"
    handler = logging.StreamHandler(stream)
    handler.addFilter(_mark)
    handler.setFormatter(Text() if as_text else Json())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _mark(record: logging.LogRecord) -> bool:
    """Say which request a record belongs to."""
    if identifier := request_id.get():
        record.request_id = identifier
    if trace := trace_id.get():
        record.trace_id = trace
    return True


class Json(JsonFormatter):
    """One object a line: timestamp, level, logger, message, request_id, trace_id, exception, and extras."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields=FIELDS,
            reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's, for terminals
            timestamp=True,
        )


class Text(logging.Formatter):
    """A line for people; only a stack takes more than one, and those are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = self.formatMessage(self._prepared(record))
        if record.exc_info:
            stack = self.formatException(record.exc_info)
            text += "".join(f"\n    {line.translate(CONTROL)}" for line in stack.splitlines())
        return text

    def _prepared(self, record: logging.LogRecord) -> logging.LogRecord:
        record.message = record.getMessage().translate(CONTROL)
        record.asctime = self.formatTime(record)
        if identifier := getattr(record, "request_id", ""):
            record.message += f" [{identifier}]"
        return record
