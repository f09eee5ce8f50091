"""How many requests are under way, and how large: judged before a body is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.errors import Overloaded


@dataclass
class Share:
    """Something of which there is `limit`; whoever holds some may hold as much as is still free.

    So one who takes all they can get leaves half of it, two leave a third, and there is always room for
    another (dynamic thresholds, Choudhury and Hahne 1998).
    """

    limit: int
    held: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.held.total()

    def fits(self, name: str, amount: int) -> bool:
        return self.held[name] + amount <= self.limit - self.total

    def take(self, name: str, amount: int) -> None:
        self.held[name] += amount

    def give_back(self, name: str, amount: int) -> None:
        self.held[name] -= amount
        if not self.held[name]:
            del self.held[name]


class Admission:
    """Bounds the requests under way, by count and by bytes of their bodies, and keeps room for each model."""

    def __init__(self, *, requests: int, nbytes: int) -> None:
        self.requests = Share(requests)
        self.bytes = Share(nbytes)

    def __repr__(self) -> str:
        return f"<Admission requests={self.requests.total} bytes={self.bytes.total}>"

    @contextmanager
    def enter(self, model: str, nbytes: int, retry_after: Callable[[], float]) -> Iterator[None]:
        """One request of a model, under way as long as the block lasts.

        Raises Overloaded, with the seconds that `retry_after` gives.
        """
        for share, amount, field_, what in (
            (self.requests, 1, "max_requests", "requests under way"),
            (self.bytes, nbytes, "max_request_bytes", "bytes of requests under way"),
        ):
            if not share.fits(model, amount):
                raise Overloaded(
                    f"too many {what}: there is room for {share.limit}, shared among the models",
                    field=field_,
                    limit=share.limit,
                    retry_after=retry_after(),
                )
        self.requests.take(model, 1)
        self.bytes.take(model, nbytes)
        try:
            yield
        finally:
            self.requests.give_back(model, 1)
            self.bytes.give_back(model, nbytes)
