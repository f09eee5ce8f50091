"""Good files of every format, ways to break them, and a process of its own to decode them in."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from service.settings import DEMO
from tests.load.process import Process, running

ROOT = Path(__file__).parents[2]
SLACK = 48 * 1024**2  # what allocators and libraries keep for themselves
BUDGET = 1024**3  # decode_bytes of the server
CLIENTS = 4  # that send hostile files, side by side
BODY = 40 * 1024**2
PATIENCE = 2.0  # seconds, for a small text
SECONDS = 5  # what one packet, scan or chunk may take after decode_seconds

Cases = dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What became of one file: an HTTP status, seconds, and bytes of memory."""

    name: str
    status: int
    reason: str
    seconds: float
    grown: int
    reserved: int


DecodeAll = Callable[..., dict[str, Decoded]]
Besiege = Callable[..., None]
Mutate = Callable[..., Iterator[tuple[str, bytes]]]


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, rows: bytes, *, bits: int = 8, color: int = 2, interlaced: bool = False
) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def interlaced(image: Image.Image) -> bytes:
    """A PNG in the seven passes of Adam7, which Pillow reads but does not write."""
    values, rows = np.asarray(image), []
    for x, y, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        rows += [b"\0" + row.tobytes() for row in values[y::down, x::across]]
    return png(*image.size, b"".join(rows), interlaced=True)


def write_clip(
    container: str,
    codec: str,
    *,
    pixels: str = "yuv420p",
    frames: int = 12,
    rate: Fraction | int = 10,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    flags: str = "",
    sound: bool = False,
    pictures: bool = True,
) -> bytes:
    """A clip of frames that move, of sound, or of both."""
    with tempfile.NamedTemporaryFile() as file:
        with av.open(
            file.name, "w", format=container, options={"movflags": flags} if flags else {}
        ) as output:
            track: Any = output.add_stream(codec, rate=rate) if pictures else None
            voice = output.add_stream("aac", rate=8000, layout="mono") if sound else None
            if track is not None:
                (track.width, track.height), track.pix_fmt, track.options = size, pixels, options or {}
                for index in range(frames):
                    frame = av.VideoFrame.from_image(scene(*size, seed=index)).reformat(format=pixels)
                    output.mux(track.encode(frame))
                output.mux(track.encode(None))
            if voice is not None:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
                frame.sample_rate = 8000
                output.mux([*voice.encode(frame), *voice.encode(None)])
        return Path(file.name).read_bytes()


@pytest.fixture(scope="session")
def pictures() -> Cases:
    """A small good picture of every kind that is read."""
    image, turned = scene(61, 47), Image.Exif()
    turned[0x0112] = 6
    more = {"save_all": True, "append_images": [scene(61, 47, seed) for seed in (1, 2)]}
    return {
        "jpeg": encode(image, "JPEG", quality=80, exif=turned),
        "jpeg-progressive": encode(image, "JPEG", quality=80, progressive=True),
        "jpeg-cmyk": encode(image.convert("CMYK"), "JPEG"),
        "png": encode(image, "PNG"),
        "png-16": png(61, 47, (b"\0" + bytes(range(244)) + bytes(61 * 2)) * 47, bits=16),
        "png-palette": encode(image.convert("P"), "PNG", transparency=1),
        "png-interlaced": interlaced(image),
        "png-animated": encode(image, "PNG", **more),
        "png-alpha": encode(image.convert("RGBA"), "PNG", exif=turned),
        "webp": encode(image, "WEBP"),
        "webp-lossless": encode(image.convert("RGBA"), "WEBP", lossless=True),
        "webp-animated": encode(image, "WEBP", **more),
        "gif": encode(image, "GIF"),
        "gif-animated": encode(image, "GIF", transparency=0, **more),
    }


@pytest.fixture(scope="session")
def clips() -> Cases:
    """A small good clip of every kind that is read."""
    quiet = {"x265-params": "log-level=none"}
    return {
        "mp4-h264": write_clip("mp4", "libx264"),
        "mp4-sound": write_clip("mp4", "libx264", sound=True),
        "mp4-fragments": write_clip("mp4", "libx264", flags="frag_keyframe+empty_moov+default_base_moof"),
        "mp4-mpeg4": write_clip("mp4", "mpeg4"),
        "mp4-hevc": write_clip("mp4", "libx265", size=(128, 96), options=quiet),
        "mov-mjpeg": write_clip("mov", "mjpeg", pixels="yuvj420p"),
        "webm-vp8": write_clip("webm", "libvpx"),
        "webm-vp9": write_clip("webm", "libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
        "mkv-h264": write_clip("matroska", "libx264"),
        "gif": write_clip("gif", "gif", pixels="rgb8"),
    }


@pytest.fixture(scope="session")
def clip_writer() -> Callable[..., bytes]:
    """Writes a clip of any container, codec, size, rate and length."""
    return write_clip


@pytest.fixture(scope="session")
def mutate() -> Mutate:
    """Every way to break a file, each several times, the same ones in every run."""

    def mutated(data: bytes, *, seed: int, times: int) -> Iterator[tuple[str, bytes]]:
        random, size = np.random.default_rng(seed), len(data)
        for percent in range(100):
            yield f"cut at {percent} %", data[: size * percent // 100]
        for index in range(times):
            flipped = bytearray(data)
            for _ in range(int(random.choice([1, 1, 2, 8, 40]))):
                flipped[random.integers(size)] ^= 1 << int(random.integers(8))
            yield f"flipped {index}", bytes(flipped)
            start, end = sorted(random.integers(0, size, 2).tolist())
            end = min(end, start + int(random.integers(1, 200)))
            yield f"left out {index}", data[:start] + data[end:]
            yield f"doubled {index}", data[:end] + data[start:]
            yield f"random {index}", data[:start] + random.bytes(end - start) + data[end:]
            place = int(random.integers(0, max(1, size - 4)))
            value = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"][index % 4]
            yield f"extreme {index}", data[:place] + value + data[place + 4 :]
        yield "wrong magic", b"\0\0\0\0" + data[4:]
        yield "behind junk", b"junk" + data
        yield "twice", data + data

    return mutated


@pytest.fixture
def decode_all(tmp_path: Path) -> DecodeAll:
    """Decodes files in a process of its own; sees that each is decoded or refused, in time and in memory."""

    def decode(family: str, cases: Iterable[tuple[str, bytes]], **limits: float) -> dict[str, Decoded]:
        folder = tmp_path / "files"
        folder.mkdir()
        names = []
        for index, (name, data) in enumerate(cases):
            (folder / f"{index:05}").write_bytes(data)
            names.append(name)
        command = [sys.executable, str(Path(__file__).with_name("decode.py"))]
        process = subprocess.run(
            [*command, family, str(folder), json.dumps(limits)],
            cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=1200,
        )  # fmt: skip
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        last = names[int(lines[-1]["name"])] if lines else "the start"
        assert process.returncode == 0, f"ended by signal or error at {last}: {process.stderr[-2000:]}"
        found = {}
        for line in lines[2:]:
            if "status" in line:
                name = names[int(line["name"])]
                found[name] = Decoded(**{**line, "name": name})
        assert len(found) == len(names)
        for one in found.values():
            assert one.status == 200 or 400 <= one.status < 500, one
            assert one.seconds < limits.get("decode_seconds", 20) + SECONDS, one
            assert one.grown <= one.reserved + SLACK, one
        return found

    return decode


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The built-in models, behind limits that let through all that is sent."""
    log = tmp_path_factory.mktemp("server") / "log"
    with running(
        log, DEMO, max_body_bytes=BODY, decode_bytes=BUDGET, decode_seconds=2, timeout_seconds=20
    ) as one:
        yield one


@pytest.fixture
def besiege(server: Process) -> Besiege:
    """Sends files to a model, several at a time; sees that each is answered, and that nobody else notices."""

    def send_all(model: str, cases: Sequence[tuple[str, bytes]]) -> None:
        address = f"http://127.0.0.1:{server.port}/v1/models"
        done, waits, grown = threading.Event(), [], []

        def send(client: httpx.Client, case: tuple[str, bytes]) -> tuple[str, int, str]:
            for _ in range(10):  # who is told to come back when there is memory again does so
                answer = client.post(f"{address}/{model}/predict", content=case[1])
                if answer.status_code != 503:
                    break
                done.wait(float(answer.headers["retry-after"]))
            return case[0], answer.status_code, answer.text

        def ask() -> None:
            with httpx.Client(timeout=60) as client:
                while not done.is_set():
                    started = time.monotonic()
                    answer = client.post(f"{address}/code-language/predict", json={"text": "fn main() {}"})
                    waits.append(time.monotonic() - started)
                    grown.append(server.resident)
                    assert answer.status_code == 200
                    done.wait(0.05)

        with ThreadPoolExecutor(CLIENTS + 1) as pool, httpx.Client(timeout=60) as client:
            before = server.resident
            asking = pool.submit(ask)
            try:
                answers = list(pool.map(lambda case: send(client, case), cases))
            finally:
                done.set()
            asking.result(60)
        for name, status, text in answers:
            assert status == 200 or 400 <= status < 500, f"{name}: {status} {text}"
        bodies = CLIENTS * 3 * BODY
        assert max(grown) - before < BUDGET + bodies + SLACK, f"{(max(grown) - before) >> 20} MiB"
        assert sorted(waits)[len(waits) // 2] < PATIENCE / 4
        assert max(waits) < PATIENCE, f"{max(waits):.2f} s of {len(waits)}"

    return send_all
