"""How a folder becomes a model that is ready to serve, or is refused."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from service.bundle import BundleError
from service.catalog import Entry
from service.predictor import Predictor
from service.repository import Content, Place, content_of
from service.sessions import OutOfMemory, ProviderError, memory_errors

logger = logging.getLogger(__name__)


class Loader:
    """Reads, verifies and warms up; `open` is what reads a bundle and opens its graphs."""

    def __init__(self, *, open: Callable[[Path], Predictor]) -> None:
        self._open = open

    def load(self, folder: Path, place: Place, content: Content) -> Entry:
        """One version, ready or refused with its reason; blocks.

        `content` is what the folder was seen to hold: one that is changed meanwhile is refused.
        """
        refused = Entry(name=place.name, version=place.version, state="refused")
        started = time.perf_counter()
        try:
            with memory_errors():
                predictor = self._load(folder, place, content)
        except Exception as error:  # whatever is wrong with one bundle must not stop the others
            logger.error("refused %s: %s", place, error)
            return replace(refused, reason=_reason(error))
        seconds = time.perf_counter() - started
        logger.info("loaded %s in %.1f s", place, seconds)
        return replace(refused, state="ready", predictor=predictor, load_seconds=seconds)

    def _load(self, folder: Path, place: Place, content: Content) -> Predictor:
        predictor = self._open(folder)
        try:
            manifest = predictor.manifest
            if (manifest.name, manifest.version) != place:
                raise BundleError(f"the manifest says {manifest.name}/{manifest.version}")
            if content_of(folder) != content:
                raise BundleError("the folder changed while it was read")
            predictor.warm_up()
        except BaseException:
            predictor.close()
            raise
        return predictor


def _reason(error: Exception) -> str:
    """What clients are told: our own words, but not a library's, which name folders of this machine."""
    if isinstance(error, BundleError | ProviderError | OutOfMemory):
        return str(error)
    return f"the bundle cannot be loaded ({type(error).__name__}); the server's log says why"
