"""The memory of all decodes of a server together, handed out before it is taken."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from service.decode.limits import Limits
from service.errors import Overloaded, TooLarge

SMALL = 64  # a decode is small where it takes at most this part of the budget, and
KEPT = 16  # this part is kept for small ones, so that no clip or large picture keeps a text waiting


class Budget:
    """`decode_bytes` of memory for the threads that decode, first come first served.

    A decode reserves what it takes at its peak, once, before it takes it. So whoever holds memory never waits
    for more, and all that wait are served in the end.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        kept = limits.decode_bytes // KEPT
        self._small = Lane(kept)
        self._large = Lane(limits.decode_bytes - kept)

    def __repr__(self) -> str:
        return f"<Budget held={self._small.held + self._large.held} waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        """Threads that wait for memory."""
        return self._small.waiting + self._large.waiting

    @contextmanager
    def reserve(self, nbytes: int, *, field: str) -> Iterator[Reservation]:
        """Hold so much memory while the block lasts; `field` is what is decoded.

        Raises TooLarge for more than there ever is, Overloaded after `decode_seconds` without room.
        """
        limits = self._limits
        lane = self._small if nbytes <= limits.decode_bytes // SMALL else self._large
        lane.check(nbytes, limits, field)
        if not lane.enter(nbytes, limits.decode_seconds):
            raise Overloaded(f"no memory to decode it in for {limits.decode_seconds:g} seconds", field=field)
        reservation = Reservation(lane, nbytes, limits=limits, field=field)
        try:
            yield reservation
        finally:
            lane.leave(reservation.nbytes)


class Reservation:
    """Memory that one decode holds."""

    def __init__(self, lane: Lane, nbytes: int, *, limits: Limits, field: str) -> None:
        self.nbytes = nbytes
        self._lane = lane
        self._limits = limits
        self._field = field

    def grow(self, nbytes: int) -> None:
        """Hold more, where a file turns out to be another than its header said.

        Raises TooLarge, and Overloaded where it is not there at once: who holds memory must not wait.
        """
        if nbytes <= 0:
            return
        self._lane.check(self.nbytes + nbytes, self._limits, self._field)
        if not self._lane.try_enter(nbytes):
            raise Overloaded("no memory to decode it in at present", field=self._field)
        self.nbytes += nbytes


class Lane:
    """Bytes that threads wait for in the order in which they came."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def check(self, nbytes: int, limits: Limits, field: str) -> None:
        """Raise TooLarge for more than there ever is."""
        if nbytes > self.total:
            raise TooLarge(
                f"decoding it takes up to {nbytes} bytes of memory, decode_bytes is {limits.decode_bytes}, "
                f"1/{KEPT} of it for small input alone",
                field=field,
                limit=limits.decode_bytes,
            )

    def enter(self, nbytes: int, seconds: float) -> bool:
        """Wait for these bytes; False where they were not free in time."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                free = self._changed.wait_for(
                    lambda: self._queue[0] is ticket and self.held + nbytes <= self.total, seconds
                )
                if free:
                    self.held += nbytes
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
            return free

    def try_enter(self, nbytes: int) -> bool:
        """Take these bytes if they are free, before all that wait."""
        with self._changed:
            free = self.held + nbytes <= self.total
            self.held += nbytes * free
            return free

    def leave(self, nbytes: int) -> None:
        with self._changed:
            self.held -= nbytes
            self._changed.notify_all()
