"""Predictions are kept, bounded by bytes and by age."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest
from ulid import ULID

from service.bundle import MapSpec
from service.errors import Expired, NotFound
from service.job import Payload
from service.maps import AttentionMap, Made
from service.predictor import Predictor
from service.store import MAP_BYTES, RECORD_BYTES, Record, Store, StoredItem

SPEC = MapSpec(
    name="cls",
    kind="tokens",
    description="",
    axes=("token",),
    layers=(),
    default_layer=None,
    heads=None,
    graph="cls",
    inputs=(),
    outputs=("cls",),
)


class Model:
    """Stands for a predictor."""

    def __init__(self, name: str) -> None:
        self.manifest = type("Manifest", (), {"name": name})
        self.closed = False


def model(name: str = "m") -> Predictor:
    return cast("Predictor", Model(name))


PREDICTOR = model()


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def id(self) -> str:
        """An id of this moment."""
        return str(ULID.from_timestamp(self.now))


def attention_map(nbytes: int, **made: Any) -> AttentionMap:
    return AttentionMap(spec=SPEC, layers=(np.zeros(nbytes // 4, np.float32),), made=Made(**made))


def record(nbytes: int = 10_000, items: int = 1) -> Record:
    """A record that takes so many bytes."""
    rest = nbytes - RECORD_BYTES
    first = StoredItem(payload=Payload(data=b"x" * rest), view=None, predicted=0, maps={})
    empty = StoredItem(payload=Payload(data=b""), view=None, predicted=0, maps={})
    return Record(predictor=PREDICTOR, items=(first, *[empty] * (items - 1)), answer=b"")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    """Room for three records of 10 kB, for a minute."""
    return Store(max_bytes=30_000, seconds=60, timer=clock)


def test_a_record_is_found_again(store: Store, clock: Clock) -> None:
    key, kept = clock.id(), record()
    assert store.put(key, kept)
    assert store.get(key) is kept
    assert repr(store) == "<Store records=1 bytes=10000>"


def test_the_least_recently_used_leaves_where_bytes_run_short(store: Store, clock: Clock) -> None:
    first, second, third, fourth = (clock.id() for _ in range(4))
    for key in (first, second, third):
        store.put(key, record())
    store.get(first)
    store.put(fourth, record())
    with pytest.raises(Expired):
        store.get(second)
    assert [store.get(key).nbytes for key in (first, third, fourth)] == [10_000] * 3


def test_bytes_are_those_of_inputs_maps_and_the_answer() -> None:
    maps = {one.key: one for one in (attention_map(400), attention_map(800, target=1))}
    item = StoredItem(payload=Payload(data=b"x" * 50), view=None, predicted=0, maps=maps)
    text = StoredItem(payload=Payload(data="abc"), view=None, predicted=0, maps={})
    kept = Record(predictor=PREDICTOR, items=(item, text), answer=b"y" * 7000)
    assert kept.nbytes == RECORD_BYTES + 50 + 400 + 800 + 2 * MAP_BYTES + 3 * 4 + 7000


def test_a_record_larger_than_the_store_is_not_kept_and_displaces_nothing(store: Store, clock: Clock) -> None:
    small, large = clock.id(), clock.id()
    store.put(small, record())
    assert not store.put(large, record(30_001))
    assert store.get(small)
    with pytest.raises(Expired):
        store.get(large)


def test_age_expires(store: Store, clock: Clock) -> None:
    key = clock.id()
    store.put(key, record())
    clock.now += 59
    assert store.get(key)
    clock.now += 2
    with pytest.raises(Expired, match="no longer kept") as caught:
        store.get(key)
    assert (caught.value.field, caught.value.limit) == ("id", "60 s, 30000 bytes")
    store.put(clock.id(), record())
    assert repr(store) == "<Store records=1 bytes=10000>"


def test_further_maps_are_kept_and_counted_but_make_nothing_younger(store: Store, clock: Clock) -> None:
    key = clock.id()
    store.put(key, record(items=2))
    clock.now += 59
    one, other = attention_map(4000, target=1), attention_map(4000, target=2)
    store.add_maps(key, 1, [one])
    store.add_maps(key, 1, [other])
    assert [dict(item.maps) for item in store.get(key).items] == [{}, {one.key: one, other.key: other}]
    assert repr(store) == f"<Store records=1 bytes={18_000 + 2 * MAP_BYTES}>"
    clock.now += 2
    with pytest.raises(Expired):
        store.get(key)


def test_maps_that_do_not_fit_are_left_out(store: Store, clock: Clock) -> None:
    key = clock.id()
    store.put(key, record())
    store.add_maps(key, 0, [attention_map(40_000)])
    assert store.get(key).items[0].maps == {}


def test_maps_of_a_record_that_has_left_are_left_out(store: Store, clock: Clock) -> None:
    store.add_maps(clock.id(), 0, [attention_map(400)])
    assert repr(store) == "<Store records=0 bytes=0>"


@pytest.mark.parametrize("key", ["", "x", "0" * 25, "0" * 27, "Z" * 26, "U" * 26, "é" * 26, "../../etc"])
def test_what_is_no_id_is_not_found(store: Store, key: str) -> None:
    with pytest.raises(NotFound) as caught:
        store.get(key)
    assert caught.value.field == "id"


def test_new_ids_are_all_different() -> None:
    assert len({Store.new_id() for _ in range(100)}) == 100


@pytest.mark.parametrize("index", [-1, 2, 10**30])
def test_an_item_that_is_not_there_is_not_found(index: int) -> None:
    kept = record(items=2)
    with pytest.raises(NotFound, match="0 to 1") as caught:
        kept.item(index)
    assert (caught.value.field, caught.value.limit) == ("item", 1)


def test_ids_of_one_moment_are_no_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who knows one prediction's id must not be able to count up to the next one's."""
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    chance = [int.from_bytes(ULID.from_str(Store.new_id()).bytes[6:], "big") for _ in range(50)]
    assert min(abs(one - other) for one, other in itertools.combinations(chance, 2)) > 2**40


def found(store: Store, key: str) -> bool:
    try:
        store.get(key)
    except Expired:
        return False
    return True


def test_of_closed_versions_the_last_alone_keeps_its_predictions() -> None:
    store = Store(max_bytes=10**6, seconds=100)
    models = [model(name) for name in ("a", "a", "a", "a", "b")]
    keys = [Store.new_id() for _ in models]
    for key, made in zip(keys, models, strict=True):
        for one in models[: models.index(made)]:
            cast("Any", one).closed = True
        assert store.put(key, Record(predictor=made, items=(), answer=b""))
    assert [found(store, key) for key in keys] == [False, False, True, True, True]
