from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL.PngImagePlugin import PngImageFile

from service.bundle import ImageInput, VideoInput
from service.decode.budget import Budget
from service.decode.image import ImageDecoder
from service.decode.limits import Limits
from service.decode.video import VideoDecoder
from service.errors import Overloaded, TooLarge

TOTAL = 6400  # 400 of it for small input, which is at most 100
PLAIN = {"height": 8, "width": 8, "resize_to": (8, 8), "mean": (0, 0, 0), "std": (1, 1, 1)}


def budget(seconds: float = 10) -> Budget:
    return Budget(Limits(decode_bytes=TOTAL, decode_seconds=seconds))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_memory_is_given_back_also_after_an_error() -> None:
    shared = budget()
    with shared.reserve(3000, field="image"):
        assert repr(shared) == "<Budget held=3000 waiting=0>"
    with pytest.raises(ZeroDivisionError), shared.reserve(3000, field="image"):
        _ = 1 / 0
    assert repr(shared) == "<Budget held=0 waiting=0>"


def test_never_more_is_held_than_there_is(threads: ThreadPoolExecutor) -> None:
    shared, lock = budget(), threading.Lock()
    held, most = 0, 0

    def decode(nbytes: int) -> None:
        nonlocal held, most
        with shared.reserve(nbytes, field="image"):
            with lock:
                held += nbytes
                most = max(most, held)
            time.sleep(0)
            with lock:
                held -= nbytes

    sizes = np.random.default_rng(0).integers(1, 6000, 600).tolist()
    list(threads.map(decode, sizes))
    assert 5000 < most <= TOTAL
    assert repr(shared) == "<Budget held=0 waiting=0>"


def test_who_waits_is_served_in_order(threads: ThreadPoolExecutor) -> None:
    shared, served = budget(), []

    def decode(nbytes: int) -> None:
        with shared.reserve(nbytes, field="image"):
            served.append(nbytes)

    with shared.reserve(5000, field="image"):
        waiting = []
        for nbytes in (6000, 200, 5900, 300):  # 200 would fit, but must not starve the 6000 before it
            waiting.append(threads.submit(decode, nbytes))
            until(lambda: shared.waiting == len(waiting))
    for one in waiting:
        one.result(10)
    assert served == [6000, 200, 5900, 300]


def test_small_input_never_waits_for_large(threads: ThreadPoolExecutor) -> None:
    shared = budget()
    with shared.reserve(6000, field="video"):
        late = threads.submit(lambda: shared.reserve(6000, field="video").__enter__())
        until(lambda: shared.waiting == 1)
        with shared.reserve(100, field="text"), shared.reserve(100, field="text"):
            assert shared.waiting == 1
    late.result(10)


def test_waiting_ends_in_a_refusal_that_says_when_to_come_again(threads: ThreadPoolExecutor) -> None:
    shared = budget(seconds=0.05)
    with shared.reserve(6000, field="video"):
        with pytest.raises(Overloaded, match=r"0\.05 seconds") as caught, shared.reserve(200, field="image"):
            pass
        assert caught.value.field == "image"
    assert repr(shared) == "<Budget held=0 waiting=0>"
    with shared.reserve(6000, field="video"):
        pass


def test_more_than_all_of_it_is_too_large() -> None:
    with (
        pytest.raises(TooLarge, match=f"decode_bytes is {TOTAL}") as caught,
        budget().reserve(6001, field="v"),
    ):
        pass
    assert (caught.value.field, caught.value.limit) == ("v", TOTAL)


def test_who_holds_memory_gets_more_at_once_or_not_at_all(threads: ThreadPoolExecutor) -> None:
    shared = budget()
    with shared.reserve(3000, field="video") as one:
        one.grow(2000)
        one.grow(-5)
        assert repr(shared) == "<Budget held=5000 waiting=0>"
        with shared.reserve(500, field="image"), pytest.raises(Overloaded):
            one.grow(1000)
        with pytest.raises(TooLarge, match="decode_bytes"):
            one.grow(2000)
    assert repr(shared) == "<Budget held=0 waiting=0>"


def test_a_picture_waits_for_memory_before_it_is_decoded(
    picture: bytes, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(decode_bytes=60_000)
    shared = Budget(limits)
    decoder = ImageDecoder(ImageInput(**PLAIN), limits, shared)
    with pytest.raises(TooLarge, match="decode_bytes is 10000"):
        ImageDecoder(ImageInput(**PLAIN), Limits(decode_bytes=10_000)).decode(picture)
    loaded = threading.Event()
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda image: (loaded.set(), load(image))[1])
    with shared.reserve(50_000, field="image"):
        waiting = threads.submit(decoder.decode, picture)
        until(lambda: shared.waiting == 1)
        assert not loaded.is_set()
    assert waiting.result(10).tensors["pixels"].shape == (3, 8, 8)
    assert loaded.is_set()
    assert repr(shared) == "<Budget held=0 waiting=0>"


def test_a_clip_reserves_what_its_header_says(clip: bytes) -> None:
    spec = VideoInput(frames=4, **PLAIN)
    with pytest.raises(TooLarge, match="decode_bytes") as caught:
        VideoDecoder(spec, Limits(decode_bytes=10**6)).decode(clip)
    assert (caught.value.field, caught.value.limit) == ("video", 10**6)
    assert VideoDecoder(spec, Limits(decode_bytes=10**8)).decode(clip).total == 6
