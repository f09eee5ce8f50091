"""What anybody would ask a server that has just been started; only Python's own modules."""

from __future__ import annotations

import http.client
import json
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

RUST = """\
use std::io;

fn main() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    println!("{}", line.trim());
    Ok(())
}
"""
PNG = b"\x89PNG\r\n\x1a\n"
STARTS = {
    "png": re.compile(re.escape(PNG)),
    "html": re.compile(rb"\s*<!doctype html", re.IGNORECASE),
    "json": re.compile(rb"\s*\{"),
}


class Server:
    """One address and the questions put to it."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def fetch(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ready(self) -> bool:
        try:
            return self.fetch("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> bytes:
        status, body = self.fetch("GET", path)
        if status != 200:
            raise AssertionError(f"GET {path}: {status} {body[:500]!r}")
        return body

    def predict(self, path: str, body: bytes, kind: str) -> dict[str, Any]:
        """The prediction of the one item that was sent."""
        status, answer = self.fetch("POST", path, body, kind)
        if status != 200:
            raise AssertionError(f"POST {path}: {status} {answer[:500]!r}")
        (prediction,) = json.loads(answer)["predictions"]
        if not (isinstance(prediction["label"], str) and 0 < prediction["score"] <= 1):
            raise AssertionError(f"POST {path}: no prediction in {answer[:500]!r}")
        return dict(prediction)


def picture(side: int = 96) -> bytes:
    """A PNG of an upright white bar on black, a one to whoever reads digits."""
    bar = range(side * 9 // 20, side * 11 // 20)
    row = b"".join(b"\xff\xff\xff" if x in bar else b"\0\0\0" for x in range(side))
    inside = range(side // 4, side * 3 // 4)
    rows = b"".join(b"\0" + (row if y in inside else bytes(3 * side)) for y in range(side))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def check_map(server: Server, prediction: dict[str, Any], name: str, formats: tuple[str, ...]) -> str:
    """Fetch the one map that was asked for, in every format; says so."""
    (drawn,) = prediction["maps"]
    if drawn["name"] != name:
        raise AssertionError(f"asked for {name}, got {drawn['name']}")
    for format in formats:
        body = server.get(drawn["links"][format])
        if not STARTS[format].match(body):
            raise AssertionError(f"{name}.{format} begins with {body[:40]!r}")
    return f"its {name} map comes as {', '.join(formats)}"


def everything(server: Server) -> Iterator[str]:
    """Ask it all; what holds, one by one. Raises AssertionError or OSError where something does not."""
    server.get("/healthz")
    yield "it is alive"
    page = server.get("/").decode()
    for part in re.findall(r'(?:src|href)="(/ui/[^"]+)"', page):
        server.get(part)
    yield "its page is there, and all that it is made of"
    question = json.dumps({"text": RUST, "maps": ["rollout"]}).encode()
    prediction = server.predict("/v1/models/code-language/predict", question, "application/json")
    if prediction["label"] != "rust":
        raise AssertionError(f"a text in Rust is {prediction['label']}")
    yield f"a text is {prediction['label']} ({prediction['score']:.2f})"
    yield check_map(server, prediction, "rollout", ("html", "json"))
    prediction = server.predict("/v1/models/digit-in-clutter/predict?maps=cam", picture(), "image/png")
    yield f"a picture is {prediction['label']} ({prediction['score']:.2f})"
    yield check_map(server, prediction, "cam", ("png", "json"))
