"""The models that are served: loaded, swapped for newer ones, drained and unloaded."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.bundle import BundleError
from service.catalog import Catalog, Entry
from service.errors import InvalidInput, NotFound, Overloaded
from service.loader import Loader
from service.predictor import Predictor, Unloaded
from service.repository import Content, Place, Repository
from service.threads import Threads

Changes = dict[Place, Content | None]  # what folders hold now; None of one that has gone

LOADER = ""  # models are loaded one after the other, as they come
logger = logging.getLogger(__name__)


class Registry:
    """Every version in the repository; without a version, a name means the highest that is ready.

    Models are loaded one after the other in a thread of their own and change hands on the event loop, by one
    assignment: readers in any thread see what was before it or after it. What was replaced is closed as soon
    as no lease holds it. A version that is refused leaves whatever was served before.
    """

    def __init__(
        self,
        root: Path,
        load: Callable[[Path], Predictor],
        *,
        observe: Callable[[Place, Entry | None], None] = lambda place, entry: None,
    ) -> None:
        self._repository = Repository(root)
        self._loader = Loader(open=load)
        self._catalog = Catalog()
        self._observe = observe  # told of every entry that is put, and of its going as None
        self._tried: dict[Place, Content] = {}  # what each folder held when it was last loaded
        self._needed: frozenset[str] = frozenset()  # names that were there when the server started
        self._unloaded: set[str] = set()  # names that were asked to stay away
        self._leases: Counter[Predictor] = Counter()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._loading: set[asyncio.Task[None]] = set()
        self._disposing: set[asyncio.Task[None]] = set()
        self._thread = Threads(name="loader", count=1)
        self._closing = False

    def __repr__(self) -> str:
        entries = " ".join(f"{place}={entry.state}" for place, entry in self._catalog.entries.items())
        return f"<Registry {entries} leases={self._leases.total()}>"

    def open(self) -> None:
        """Load every version, blocking, before anything is served; raises BundleError where there is none."""
        root = self._repository.root
        try:
            found = self._repository.look()
        except OSError as error:
            raise BundleError(f"{root} holds no model: {error.strerror}") from error
        if not found:
            raise BundleError(f"{root} holds no model: NAME/VERSION/manifest.json is looked for")
        self._needed = frozenset(place.name for place in found)
        for place, content in found.items():
            self._tried[place] = content
            self._put(place, self._loader.load(self._repository.folder(place), place, content))

    def entries(self) -> list[Entry]:
        """Every version that is known, by name and from the lowest version to the highest."""
        return list(self._catalog.entries.values())

    def all(self) -> list[Predictor]:
        """The latest version of every model that is served, by name."""
        return list(self._catalog.latest().values())

    def get(self, name: str, version: str | None = None) -> Predictor:
        """A model by name, and by version where one is meant; raises NotFound."""
        return self._catalog.get(name, version)

    @contextmanager
    def lease(self, name: str, version: str | None = None) -> Iterator[Predictor]:
        """A model that stays open until the block ends; on the event loop. Raises NotFound."""
        with self.keep(self.get(name, version)) as predictor:
            yield predictor

    @contextmanager
    def keep(self, predictor: Predictor) -> Iterator[Predictor]:
        """The same for a model already at hand; raises Unloaded where it has gone."""
        if not self._leases[predictor] and not self._serves(predictor):
            raise Unloaded(f"{_place(predictor)} was unloaded")
        self._leases[predictor] += 1
        try:
            yield predictor
        finally:
            self._leases[predictor] -= 1
            if not self._leases[predictor]:
                del self._leases[predictor]
                if not self._serves(predictor) and not self._closing:
                    self._retire(predictor)

    def _serves(self, predictor: Predictor) -> bool:
        entry = self._catalog.entries.get(_place(predictor))
        return entry is not None and entry.served is predictor

    @property
    def refused(self) -> list[str]:
        """Models that the server started with and none of whose versions is served, for they were refused.

        One that comes later and is broken is nobody's loss yet: it must not take the others out of service.
        """
        return [name for name in self._catalog.refused() if name in self._needed]

    async def load(self, name: str) -> None:
        """Load what the repository has under a name, again where it has changed or was refused.

        Raises NotFound where there is nothing, InvalidInput where every version is refused, Overloaded where
        the repository cannot be read.
        """
        await self._shielded(self._load(name))

    async def unload(self, name: str) -> None:
        """Serve a model no more until it is loaded on demand; raises NotFound."""
        await self._shielded(self._unload(name))

    async def refresh(self, seen: Changes | None = None) -> Changes:
        """Look through the repository: what is new or changed is loaded, what has gone is unloaded.

        Of the changes found, which are returned, those alone that were `seen` before; all if None.
        """
        changes = self._changes(await self._look())
        settled = {
            place: content
            for place, content in changes.items()
            if seen is None or (place in seen and seen[place] == content)
        }
        await self._shielded(self._follow(settled))
        return changes

    async def watch(self, seconds: float) -> None:
        """Look every so often, until cancelled. A change counts when it was seen the same twice in a row.

        Someone may be copying. A repository that cannot be read changes nothing.
        """
        seen: Changes = {}
        while True:
            await asyncio.sleep(seconds)
            try:
                seen = await self.refresh(seen)
            except Exception as error:  # the next look may do better
                logger.error("the model repository was not looked through: %s", error)

    async def close(self) -> None:
        """Close every model but those that are held; nobody waits for what is being loaded."""
        self._closing = True
        loading = list(self._loading)
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        for place in self._catalog.entries:
            self._drop(place)
        while self._disposing and not loading:
            await asyncio.wait(self._disposing)
        self._thread.close()

    async def _look(self) -> dict[Place, Content]:
        return await self._thread.run(LOADER, self._repository.look)

    def _changes(self, found: Mapping[Place, Content]) -> Changes:
        """What is new or not as it was when last tried."""
        changes: Changes = {
            place: content for place, content in found.items() if self._tried.get(place) != content
        }
        return changes | {place: None for place in self._catalog.entries if place not in found}

    async def _follow(self, changes: Changes) -> None:
        """Load what is new before what has gone goes."""
        for place, content in sorted(changes.items(), key=lambda change: change[1] is None):
            async with self._locks[place.name]:
                if content is None:
                    self._drop(place)
                elif place.name not in self._unloaded and self._tried.get(place) != content:
                    await self._try(place, content)

    async def _load(self, name: str) -> None:
        try:
            looked = await self._look()
        except OSError as error:
            raise Overloaded("the model repository cannot be read at present", field="models") from error
        found = {place: content for place, content in looked.items() if place.name == name}
        if not found:
            raise NotFound(f"the repository holds no model {name!r}", field="model")
        async with self._locks[name]:
            self._unloaded.discard(name)
            for place, content in found.items():
                entry = self._catalog.entries.get(place)
                if entry is None or entry.reason is not None or self._tried.get(place) != content:
                    await self._try(place, content)
            for place in self._catalog.of(name):
                if place not in found:
                    self._drop(place)
            entries = [self._catalog.entries[place] for place in found]
        if all(entry.reason is not None for entry in entries):
            said = "; ".join(f"version {entry.version}: {entry.reason}" for entry in entries)
            raise InvalidInput(f"model {name} cannot be loaded: {said}", field="model")

    async def _unload(self, name: str) -> None:
        if not self._catalog.of(name):
            raise self._catalog.missing(name)
        async with self._locks[name]:
            self._unloaded.add(name)
            for place in self._catalog.of(name):
                self._drop(place)
                if place not in self._catalog.entries:  # it was refused: nothing has to be drained
                    self._put(place, self._gone(place))

    async def _try(self, place: Place, content: Content) -> None:
        """Load a version and put it in its place; raises Overloaded in a server that ends."""
        if self._closing:
            raise Overloaded("the server is shutting down")
        self._tried[place] = content
        before = self._catalog.entries.get(place)
        old = None if before is None else before.served
        if old is None:
            self._put(place, Entry(name=place.name, version=place.version, state="loading"))
        entry = await self._thread.run(
            LOADER, self._loader.load, self._repository.folder(place), place, content
        )
        if before is None or old is None:
            self._put(place, entry)
        elif entry.served is None:
            reason = f"what the folder holds now is refused: {entry.reason}"
            self._put(place, replace(before, reason=reason))
        else:
            self._put(place, entry)
            self._retire(old)

    def _put(self, place: Place, entry: Entry | None) -> None:
        """The one assignment by which everything changes hands."""
        self._catalog = self._catalog.with_entry(place, entry)
        self._observe(place, entry)

    def _drop(self, place: Place) -> None:
        """Serve a version no more."""
        self._tried.pop(place, None)
        entry = self._catalog.entries.get(place)
        if entry is not None and entry.served is not None:
            self._put(place, replace(entry, state="draining", reason=None))
            self._retire(entry.served)
        elif entry is not None and entry.state != "draining":
            self._put(place, None)

    def _gone(self, place: Place) -> Entry | None:
        """What is said of a version that has gone: of one unloaded on demand, that it was."""
        if place.name not in self._unloaded:
            return None
        return Entry(name=place.name, version=place.version, state="unloaded")

    def _retire(self, predictor: Predictor) -> None:
        """Close a model that is not served any more, unless it is held: whoever lets go last closes it."""
        if not self._leases[predictor]:
            _spawn(self._dispose(predictor), self._disposing)

    async def _dispose(self, predictor: Predictor) -> None:
        await self._thread.run(LOADER, predictor.close)
        place = _place(predictor)
        entry = self._catalog.entries.get(place)
        if entry is not None and entry.predictor is predictor:
            self._put(place, self._gone(place))

    async def _shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """A change that has begun is brought to its end, whoever stops waiting for it.

        Raises Overloaded where the server ends first.
        """
        task = _spawn(work, self._loading)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Overloaded("the server is shutting down") from None
            raise


def _spawn(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """A task that is among these until it is done."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def _place(predictor: Predictor) -> Place:
    return Place(predictor.manifest.name, predictor.manifest.version)
