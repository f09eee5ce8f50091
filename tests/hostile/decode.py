"""Decodes the files of a folder one after the other, in a process of its own that a bad one may end.

python decode.py FAMILY FOLDER LIMITS: a line of JSON before each file and one after it. Memory is what the
process grew by at its highest, and what the decode had reserved.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.bundle import ImageInput, VideoInput
from service.decode.budget import Budget, Reservation
from service.decode.image import ImageDecoder
from service.decode.limits import Limits
from service.decode.video import VideoDecoder
from service.errors import Problem

PLAIN = {"height": 32, "width": 32, "mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)}


class Watched(Budget):
    """A budget that remembers what the last decode reserved."""

    reserved = 0

    @contextmanager
    def reserve(self, nbytes: int, *, field: str) -> Iterator[Reservation]:
        with super().reserve(nbytes, field=field) as reservation:
            self.reserved = nbytes
            try:
                yield reservation
            finally:
                self.reserved = reservation.nbytes


def memory(row: str) -> int:
    """A row of the process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(row):
            return int(line.split()[1]) * 1024
    raise KeyError(row)


def main(family: str, folder: Path, limits: Limits) -> None:
    budget = Watched(limits)
    decoder: ImageDecoder | VideoDecoder
    if family == "image":
        decoder = ImageDecoder(ImageInput(resize_to=(32, 32), **PLAIN), limits, budget)
    else:
        decoder = VideoDecoder(VideoInput(resize_to=36, frames=4, **PLAIN), limits, budget)
    files = sorted(folder.iterdir())
    for file in [files[0], *files]:  # the first once more: what libraries load for themselves is not counted
        data = file.read_bytes()
        print(json.dumps({"name": file.name}), flush=True)  # noqa: T201
        budget.reserved, reason = 0, ""
        Path("/proc/self/clear_refs").write_text("5")  # the highest is now counted anew
        before, started = memory("VmRSS"), time.perf_counter()
        try:
            decoder.decode(data)
            status = 200
        except Problem as problem:
            status, reason = int(problem.status), problem.detail
        except Exception as error:
            status, reason = 500, repr(error)
        found = {
            "name": file.name,
            "status": status,
            "reason": reason,
            "seconds": time.perf_counter() - started,
            "grown": memory("VmHWM") - before,
            "reserved": budget.reserved,
        }
        print(json.dumps(found), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Limits(**json.loads(sys.argv[3])))
