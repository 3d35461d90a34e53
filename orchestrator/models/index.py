"""The list of all models: looked for when it is asked for, and each header read once, also over restarts.

As long as the times of change of all folders are the same, a second look is spared, so asking again is cheap;
a file overwritten in its place is seen when the user asks to look again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import anyio.to_thread

from contract.errors import NotFound, StateConflict
from contract.rules.paths import to_wire
from orchestrator.clock import rfc3339
from orchestrator.files.trash import Origin, Trash, Trashed
from orchestrator.models import remembered
from orchestrator.models.detect import Kind
from orchestrator.models.entry import DEMO_TAGGER, Model, model_id
from orchestrator.models.facts import READ, Facts, facts_of
from orchestrator.models.layouts import BUILT_IN, demo_tagger, places
from orchestrator.models.walk import TAGGER_FILES, TAGGER_FORMAT, Found, Walk, changed_ns
from orchestrator.settings import Settings

_NS_IN_MS: Final = 1_000_000
_NOWHERE: Final = Facts(reason="It is a link that leads nowhere.")


class Located(NamedTuple):
    """A model, and where it is as this system names it: below `root_folder`."""

    model: Model
    path: str
    root_folder: str


class _Seen(NamedTuple):
    """What one look has found. As long as these are the settings and nothing of `watched` changes, there is
    nothing else to find."""

    settings: Settings
    watched: dict[str, int]
    facts: dict[remembered.Key, Facts]
    located: dict[str, Located]
    models: list[Model]


class ModelIndex:
    """The models of one data directory. `settings` says what is in force; `changed` is called on the event
    loop when a look has found other models than the one before."""

    def __init__(
        self,
        home: Path,
        settings: Callable[[], Settings],
        trash: Trash,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._home: Final = home
        self._settings: Final = settings
        self._trash: Final = trash
        self._changed: Final = changed
        self._looking: Final = anyio.Lock()
        self._seen: _Seen | None = None
        #: Files whose headers were read so far.
        self.reads = 0

    async def list(
        self, *, kind: Kind | None = None, family: str | None = None, text: str = ""
    ) -> list[Model]:
        """The models that fit, by name; `text` is looked for in name, title and path."""
        seen, wanted = await self._fresh(), text.casefold()
        return [
            each
            for each in seen.models
            if kind in (None, each.kind) and family in (None, each.family) and _has(each, wanted)
        ]

    async def locate(self, name: str) -> Located:
        """A model by its id, and where it is. Raises NotFound."""
        found = (await self._fresh()).located.get(name)
        if found is None:
            raise NotFound(f"There is no model {name}.", where=name)
        return found

    async def named(self, name: str) -> Sequence[Model]:
        """The models of that name: as it is listed, of the file, or of its path from its root or that on."""
        found = (await self._fresh()).models
        return [each for each in found if name in (each.name, *_paths_of(each))]

    async def at(self, root: str, path: str) -> str | None:
        """Where the model is that is listed at `path` below `root`; None where none is."""
        found = (await self._fresh()).located.get(model_id(root, path))
        return None if found is None else found.path

    async def paths(self) -> frozenset[str]:
        """Where all of them are; of a link, where the link is."""
        return frozenset(each.path for each in (await self._fresh()).located.values())

    async def rescan(self) -> None:
        """Look again everywhere, also for files that were overwritten in their place."""
        async with self._looking:
            await self._look()

    async def discard(self, name: str) -> Trashed:
        """Move a model to the trash.

        Raises NotFound, StateConflict for a built-in one, DiskFull, FileUnwritable and FileUnreadable.
        """
        model, path, root_folder = await self.locate(name)
        if model.builtin:
            raise StateConflict(f"{model.name} comes with Lorakeet and cannot be deleted.", where=name)
        origin = Origin(
            kind="model",
            name=model.name,
            root=model.root,
            path=model.path,
            root_folder=to_wire(root_folder),
            at=to_wire(path),
        )
        return await anyio.to_thread.run_sync(self._trash.put, origin)

    async def _fresh(self) -> _Seen:
        async with self._looking:
            seen = self._seen
            if seen is None or not await anyio.to_thread.run_sync(self._is_fresh, seen):
                return await self._look()
            return seen

    def _is_fresh(self, seen: _Seen) -> bool:
        return seen.settings == self._settings() and all(
            changed_ns(path) == before for path, before in seen.watched.items()
        )

    async def _look(self) -> _Seen:
        before = self._seen
        seen = self._seen = await anyio.to_thread.run_sync(self._search, self._settings())
        if before is not None and before.models != seen.models:
            self._changed()
        return seen

    def _search(self, settings: Settings) -> _Seen:
        known = self._seen.facts if self._seen else remembered.load(self._home)
        walk, located = Walk(), dict(_builtin())
        facts: dict[remembered.Key, Facts] = {}
        for place in places(self._home, settings):
            for found in walk.find(place):
                about = facts[found.path, found.stamp or ()] = self._about(found, known)
                model = _model(found, about)
                located[model.id] = Located(model, found.path, place.root_folder)
                if found.format == READ and about.reason is not None:
                    # It may be on its way here, and grow without its folder being any other.
                    walk.watched[found.path] = found.modified_ns
        if facts.keys() != known.keys():
            remembered.save(self._home, facts)
        models = sorted((each.model for each in located.values()), key=place_in_list)
        return _Seen(settings, walk.watched, facts, located, models)

    def _about(self, found: Found, known: dict[remembered.Key, Facts]) -> Facts:
        if found.format == TAGGER_FORMAT:
            return Facts(kind="tagger")
        if found.stamp is None:
            return _NOWHERE
        if about := known.get((found.path, found.stamp)):
            return about
        self.reads += 1
        return facts_of(found.path, found.format)


def place_in_list(model: Model) -> tuple[str, str]:
    """Where a model stands among the others: by name, whatever its letters' size."""
    return model.name.casefold(), model.id


def _model(found: Found, about: Facts) -> Model:
    prefix = found.place.prefix
    path = to_wire(f"{prefix}/{found.relative}" if prefix else found.relative)
    return Model(
        id=model_id(found.place.root, path),
        name=to_wire(_name(found.relative, found.format)),
        kind=about.kind or found.place.kind_at(found.relative),
        family=about.family,
        root=found.place.root,
        path=path,
        format=found.format,
        dtype=about.dtype,
        title=about.title,
        trigger=about.trigger,
        size_bytes=found.size_bytes,
        modified_at=rfc3339(found.modified_ns // _NS_IN_MS),
        loadable=about.reason is None,
        reason=about.reason,
        is_link=found.is_link,
        builtin=False,
    )


def _builtin() -> Iterator[tuple[str, Located]]:
    folder = demo_tagger()
    if folder is None:
        return
    at = [os.stat(os.path.join(folder, name)) for name in TAGGER_FILES]
    model = Model(
        id=DEMO_TAGGER,
        name="demo-tagger",
        kind="tagger",
        family=None,
        root=BUILT_IN,
        path="demo-tagger",
        format=TAGGER_FORMAT,
        dtype=None,
        title="Demo tagger",
        trigger=None,
        size_bytes=sum(each.st_size for each in at),
        modified_at=rfc3339(max(each.st_mtime_ns for each in at) // _NS_IN_MS),
        loadable=True,
        reason=None,
        is_link=False,
        builtin=True,
    )
    yield DEMO_TAGGER, Located(model, folder, os.path.dirname(folder))


def _name(relative: str, format: str) -> str:
    name = relative.rpartition("/")[2]
    return name if format == TAGGER_FORMAT else os.path.splitext(name)[0]


def _paths_of(model: Model) -> tuple[str, str, str]:
    return model.path.rpartition("/")[2], model.path, f"{model.root}/{model.path}"


def _has(model: Model, wanted: str) -> bool:
    return not wanted or any(
        wanted in (text or "").casefold() for text in (model.name, model.title, model.path)
    )
