"""Where predictions wait for their maps to be fetched: in memory, bounded by bytes and by age."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from cachetools import TLRUCache
from ulid import ULID

from service.bundle import MapSpec
from service.decode.view import View
from service.errors import Expired, NotFound
from service.job import Payload
from service.maps import AttentionMap, Made, MapKey, Selection
from service.predictor import Predictor

RECORD_BYTES = 1024  # what a record costs beside its payloads, maps and answer
MAP_BYTES = 1024  # what a map costs beside its numbers


@dataclass(frozen=True, kw_only=True)
class StoredItem:
    """One input with the maps made so far, by how they were made; `predicted` is the index of its best label.

    `view` is how the model saw it, where it was a picture or clip.
    """

    payload: Payload
    view: View | None
    predicted: int
    maps: Mapping[MapKey, AttentionMap]

    @property
    def nbytes(self) -> int:
        return self.payload.nbytes + sum(MAP_BYTES + found.nbytes for found in self.maps.values())

    def target(self, selection: Selection) -> int:
        """The label that a selection means."""
        return self.predicted if selection.target is None else selection.target

    def made(self, spec: MapSpec, selection: Selection) -> Made:
        """How a selection wants a map of this input made."""
        return Made.of(spec, selection, predicted=self.predicted)

    def with_maps(self, maps: Iterable[AttentionMap]) -> StoredItem:
        """The same with further maps."""
        return replace(self, maps={**self.maps, **{found.key: found for found in maps}})


@dataclass(frozen=True, kw_only=True)
class Record:
    """A prediction that was answered: the model that made it, its inputs, and the JSON that was sent.

    `client` is who may read it, by the name of their key; None where nobody needs one.
    """

    predictor: Predictor
    items: tuple[StoredItem, ...]
    answer: bytes
    client: str | None = None

    @property
    def nbytes(self) -> int:
        return RECORD_BYTES + len(self.answer) + sum(item.nbytes for item in self.items)

    def item(self, index: int) -> StoredItem:
        """One input; raises NotFound."""
        if not 0 <= index < len(self.items):
            last = len(self.items) - 1
            raise NotFound(f"items of this prediction are 0 to {last}, not {index}", field="item", limit=last)
        return self.items[index]


class Store:
    """Records by id; the least recently used leave first where bytes run short.

    A record's age is counted from the time in its id, and maps that are added do not make it younger. An id
    that is well formed but not here was kept once: it is Expired (410).
    """

    def __init__(self, *, max_bytes: int, seconds: float, timer: Callable[[], float] = time.time) -> None:
        self._lock = threading.Lock()
        self._seconds = seconds
        self._predictors: dict[str, list[Predictor]] = {}
        self._records: TLRUCache[str, Record] = TLRUCache(
            maxsize=max_bytes, ttu=self._until, timer=timer, getsizeof=lambda record: record.nbytes
        )

    def __repr__(self) -> str:
        return f"<Store records={len(self._records)} bytes={self._records.currsize}>"

    @property
    def records(self) -> int:
        """Predictions that are kept; those whose time is over have left before they are counted."""
        with self._lock:
            return len(self._records)

    @property
    def nbytes(self) -> int:
        """Memory of those."""
        with self._lock:
            return int(self._records.currsize)

    @staticmethod
    def new_id() -> str:
        """An id nobody can guess: a ULID, 48 bits of milliseconds and 80 of chance.

        Made by hand, since the library counts up within a millisecond: neighbours could be guessed.
        """
        milliseconds = time.time_ns() // 1_000_000
        return str(ULID(milliseconds.to_bytes(6, "big") + secrets.token_bytes(10)))

    def put(self, key: str, record: Record) -> bool:
        """Keep a record; False where it alone is larger than the store."""
        with self._lock:
            if record.nbytes > self._records.maxsize:
                return False
            self._follow(record.predictor)
            self._records[key] = record
            return True

    def _follow(self, predictor: Predictor) -> None:
        """Of the versions of a model that were closed, the last one alone keeps its predictions.

        A prediction holds what it was read with, a tokenizer of megabytes maybe: swaps must not add up.
        """
        known = self._predictors.setdefault(predictor.manifest.name, [])
        if predictor in known:
            return
        known.append(predictor)
        for old in [one for one in known if one.closed][:-1]:
            known.remove(old)
            for key in [key for key, record in self._records.items() if record.predictor is old]:
                del self._records[key]

    def get(self, key: str, *, client: str | None = None) -> Record:
        """The record of an id; raises Expired or NotFound. Another client's is as if it were not there."""
        with self._lock:
            record = self._records.get(key)
        if record is not None and record.client == client:
            return record
        try:
            ULID.from_str(key)
        except ValueError:
            raise NotFound(f"{key!r} is no prediction id", field="id") from None
        limit = f"{self._seconds:g} s, {self._records.maxsize} bytes"
        raise Expired("the prediction is no longer kept", field="id", limit=limit)

    def _until(self, key: str, record: Record, now: float) -> float:
        return ULID.from_str(key).timestamp + self._seconds

    def add_maps(self, key: str, index: int, maps: Iterable[AttentionMap]) -> None:
        """Keep further maps of one item, if the record is still here."""
        with self._lock:
            record = self._records.get(key)
            if record is None:
                return
            items = list(record.items)
            items[index] = items[index].with_maps(maps)
            grown = replace(record, items=tuple(items))
            if grown.nbytes <= self._records.maxsize:
                self._records[key] = grown
