"""All inputs of a data set, judged side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from service import bundle
from service.bundle import BundleError
from service.dataset import DatasetError, Raw
from service.evaluation.blanking import Blanker
from service.evaluation.probe import Found, Judge
from service.evaluation.tally import Evaluation, tally
from service.predictor import Predictor
from service.sessions import SessionPool
from service.settings import Settings
from service.truth import Truth, known_inputs

AHEAD = 2  # inputs for each thread that are read before their turn


def evaluate(
    folder: Path,
    data: Path,
    settings: Settings,
    *,
    limit: int | None,
    steps: int,
    seed: int,
    advance: Callable[[Found], Found],
) -> Evaluation:
    """How good the maps of a bundle are on the first `limit` inputs; `advance` is called with each when done.

    Raises BundleError, DatasetError, ProviderError and OutOfMemory; before it reads an input where the model
    gives values instead of labels.
    """
    predictor = load(folder, settings)
    judge = Judge(predictor, Blanker(predictor.manifest, folder), steps=steps, seed=seed)
    inputs = islice(known_inputs(data), limit)
    found = list(map(advance, side_by_side(judge, inputs, settings.concurrent_runs)))
    if not found:
        raise DatasetError(f"{data} holds no inputs")
    return tally(found, predictor.manifest, data=data.name, steps=steps, seed=seed)


def side_by_side(judge: Judge, inputs: Iterable[tuple[Raw, Truth | None]], count: int) -> Iterator[Found]:
    """What is measured of each input, in order, `count` at a time."""
    under_way: deque[Future[Found]] = deque()
    threads = ThreadPoolExecutor(count, thread_name_prefix="judge")
    try:
        for index, (raw, truth) in enumerate(inputs):
            under_way.append(threads.submit(judge.judge, index, raw, truth))
            if len(under_way) > AHEAD * count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def load(folder: Path, settings: Settings) -> Predictor:
    """The model of a bundle, with the settings' device and batches; raises BundleError for a regression."""
    manifest = bundle.read(folder)
    if manifest.activation == "none":
        raise BundleError(f"{manifest.name} gives a value, not labels: its maps are not judged")
    return Predictor.load(
        folder,
        SessionPool(device=settings.device, gpu_memory_mib=settings.gpu_memory_mib),
        settings.limits(),
        batch_tokens=settings.tokens_of_a_batch,
        batch_pixels=settings.pixels_of_a_batch,
        batch_tap_bytes=settings.batch_tap_bytes,
    )
