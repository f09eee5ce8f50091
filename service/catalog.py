"""What is known of every model version at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.errors import NotFound
from service.predictor import Predictor
from service.repository import Place

State = Literal["loading", "ready", "draining", "refused", "unloaded"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One version of a model; `load_seconds` is what it took to read, verify and warm it up.

    `reason` says why it was refused; of a version that is ready, why the newer content of its folder was.
    """

    name: str
    version: str
    state: State
    reason: str | None = None
    predictor: Predictor | None = None
    load_seconds: float | None = None

    @property
    def served(self) -> Predictor | None:
        """What answers requests, if something does."""
        return self.predictor if self.state == "ready" else None

    def __str__(self) -> str:
        return f"version {self.version} is {self.state}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Catalog:
    """Entries in order of names, and from the lowest version to the highest; never changed, but replaced."""

    entries: Mapping[Place, Entry] = field(default_factory=dict)

    def with_entry(self, place: Place, entry: Entry | None) -> Catalog:
        """The same but for one version, which has gone where its entry is None."""
        entries = {one: known for one, known in self.entries.items() if one != place}
        if entry is not None:
            entries[place] = entry
        return Catalog({one: entries[one] for one in sorted(entries, key=lambda one: one.order)})

    def of(self, name: str) -> dict[Place, Entry]:
        """The versions of one model."""
        return {place: entry for place, entry in self.entries.items() if place.name == name}

    def latest(self) -> dict[str, Predictor]:
        """The highest version that is ready, by name."""
        return {one.name: one.served for one in self.entries.values() if one.served is not None}

    def get(self, name: str, version: str | None) -> Predictor:
        """A version of a model, the latest where none is named; raises NotFound."""
        if version is None:
            found = self.latest().get(name)
        else:
            entry = self.entries.get(Place(name, version))
            found = None if entry is None else entry.served
        if found is None:
            raise self.missing(name, version)
        return found

    def missing(self, name: str, version: str | None = None) -> NotFound:
        """Why something is not served."""
        known = self.of(name)
        if not known:
            have = ", ".join(self.latest()) or "none"
            return NotFound(f"no model {name!r}; served: {have}", field="model")
        if version is None:
            return NotFound(
                f"model {name} is not served: {'; '.join(map(str, known.values()))}", field="model"
            )
        entry = known.get(Place(name, version))
        if entry is None:
            have = ", ".join(place.version for place in known)
            return NotFound(f"model {name} has no version {version!r}; it has {have}", field="version")
        return NotFound(f"model {name} is not served: {entry}", field="version")

    def refused(self) -> list[str]:
        """Models none of whose versions is served, because they were refused."""
        served = self.latest()
        refused = {entry.name for entry in self.entries.values() if entry.state == "refused"}
        return sorted(refused - set(served))
