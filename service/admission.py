"""How many requests are under way, and how large: judged before a body is read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.errors import Overloaded

PACE_WEIGHT = 0.1  # of the latest answer in the moving average of the time from one to the next


@dataclass
class Share:
    """Something of which there is `limit`; whoever holds some may hold as much as is still free.

    So one who takes all they can get leaves half of it, two leave a third, and there is always room for
    another (dynamic thresholds, Choudhury and Hahne 1998).
    """

    name: str
    limit: int
    held: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.held.total()

    def take(self, model: str, amount: int) -> None:
        """Raises Overloaded where there is no room for it."""
        if self.held[model] + amount > self.limit - self.total:
            raise Overloaded(
                f"too much is under way: {self.name} is {self.limit}, shared among the models",
                field=self.name,
                limit=self.limit,
            )
        self.held[model] += amount

    def give_back(self, model: str, amount: int) -> None:
        self.held[model] -= amount
        if not self.held[model]:
            del self.held[model]


class Booking:
    """The room that one request's body has."""

    def __init__(self, share: Share, model: str) -> None:
        self.nbytes = 0
        self._share = share
        self._model = model

    def hold(self, nbytes: int) -> None:
        """So many bytes in all, if that is more than so far; raises Overloaded where there is no room."""
        if nbytes > self.nbytes:
            self._share.take(self._model, nbytes - self.nbytes)
            self.nbytes = nbytes


@dataclass
class _Pace:
    """How long it takes from one answer of a model to the next, while there is something to answer.

    What is refused comes fast, and says nothing.
    """

    last: float | None = None
    seconds: float = 0.0


class Admission:
    """Bounds the requests under way, by count and by bytes of their bodies, and keeps room for each model."""

    def __init__(self, *, requests: int, nbytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests = Share("max_requests", requests)
        self.bytes = Share("max_request_bytes", nbytes)
        self._clock = clock
        self._paces: dict[str, _Pace] = {}

    def __repr__(self) -> str:
        return f"<Admission requests={self.requests.total} bytes={self.bytes.total}>"

    @contextmanager
    def enter(self, model: str, nbytes: int) -> Iterator[Booking]:
        """One request of a model, under way as long as the block lasts; raises Overloaded."""
        self.requests.take(model, 1)
        booking = Booking(self.bytes, model)
        answered = False
        try:
            booking.hold(nbytes)
            yield booking
            answered = True
        finally:
            self.requests.give_back(model, 1)
            self.bytes.give_back(model, booking.nbytes)
            self._ended(model, answered=answered)

    def backlog(self, model: str) -> float:
        """Seconds until what is under way of a model will have been answered, at the present pace."""
        pace = self._paces.get(model)
        return 0.0 if pace is None else self.requests.held[model] * pace.seconds

    def _ended(self, model: str, *, answered: bool) -> None:
        if not self.requests.held[model]:  # from here on, time says nothing
            self._paces.pop(model, None)
        elif answered:
            now, pace = self._clock(), self._paces.setdefault(model, _Pace())
            if pace.last is not None:
                weight = PACE_WEIGHT if pace.seconds else 1
                pace.seconds += (now - pace.last - pace.seconds) * weight
            pace.last = now
