"""The model repository: NAME/VERSION/ folders, loaded, verified and warmed up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.bundle import BundleError
from service.errors import NotFound
from service.predictor import Predictor
from service.sessions import ProviderError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A folder that is not served, and why."""

    name: str
    version: str
    reason: str


class Registry:
    """What is served. `load` opens one bundle; a broken one is refused with its reason, the others serve."""

    def __init__(self, load: Callable[[Path], Predictor]) -> None:
        self._load = load
        self._predictors: dict[str, Predictor] = {}
        self.refusals: list[Refusal] = []

    def load(self, root: Path) -> None:
        """Load and warm up the newest version of every model; raises BundleError where there is none."""
        folders = _newest(root)
        if not folders:
            raise BundleError(f"{root} holds no model: NAME/VERSION/manifest.json is looked for")
        for folder in folders:
            try:
                self._add(folder)
            except Exception as error:  # whatever is wrong with one bundle must not stop the others
                name, version = folder.parent.name, folder.name
                logger.error("refused %s/%s: %s", name, version, error)
                self.refusals.append(Refusal(name=name, version=version, reason=_reason(error)))

    def _add(self, folder: Path) -> None:
        predictor = self._load(folder)
        manifest = predictor.manifest
        if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
            raise BundleError(f"the manifest says {manifest.name}/{manifest.version}")
        predictor.warm_up()
        self._predictors[manifest.name] = predictor

    @property
    def ready(self) -> bool:
        """Whether every model of the repository is served."""
        return bool(self._predictors) and not self.refusals

    def all(self) -> list[Predictor]:
        """Every model that is served, by name."""
        return [self._predictors[name] for name in sorted(self._predictors)]

    def get(self, name: str) -> Predictor:
        """The model of this name; raises NotFound."""
        if name not in self._predictors:
            have = ", ".join(sorted(self._predictors)) or "none"
            raise NotFound(f"no model {name!r}; served: {have}", field="model")
        return self._predictors[name]


def _reason(error: Exception) -> str:
    """What clients are told: our own words, but not a library's, which name folders of this machine."""
    if isinstance(error, BundleError | ProviderError):
        return str(error)
    return f"the bundle cannot be loaded ({type(error).__name__}); the server's log says why"


def _newest(root: Path) -> list[Path]:
    """The folder of the highest version of each model."""
    versions: dict[str, Path] = {}
    for manifest in sorted(root.glob("*/*/manifest.json")):
        folder = manifest.parent
        if not folder.name.isdecimal() or folder.parent.name.startswith("."):
            continue
        best = versions.get(folder.parent.name)
        if best is None or int(folder.name) > int(best.name):
            versions[folder.parent.name] = folder
    return list(versions.values())
