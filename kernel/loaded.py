"""Models that stay in memory between jobs: one of a kind, reused while it is the same, or released."""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any


class _Model:
    def __init__(self, kind: str, name: str, key: Hashable, value: Any) -> None:
        self.kind, self.name, self.key, self.value = kind, name, key, value
        self.users = 0


class LoadedModels:
    """By kind of engine, the model that was used last. `changed` is called when the set has changed."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}

    @property
    def names(self) -> list[str]:
        with self._lock:
            return sorted(model.name for model in self._models.values())

    @contextmanager
    def use(self, kind: str, name: str, key: Hashable, load: Callable[[], Any]) -> Iterator[Any]:
        """The model of that key, loaded if another or none is in memory; `key` says when it is the same."""
        model = self._find(kind, key) or self._load(kind, name, key, load)
        model.users += 1
        try:
            yield model.value
        finally:
            model.users -= 1

    def unload(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Forget models by name, all if none is named; those that are free now, and those still in use."""
        with self._lock:
            gone = [model for model in self._models.values() if not names or model.name in names]
            for model in gone:
                del self._models[model.kind]
        unloaded = sorted(model.name for model in gone if not model.users)
        in_use = sorted(model.name for model in gone if model.users)
        if gone:
            self._changed()
        return unloaded, in_use

    def _find(self, kind: str, key: Hashable) -> _Model | None:
        with self._lock:
            model = self._models.get(kind)
            return model if model is not None and model.key == key else None

    def _load(self, kind: str, name: str, key: Hashable, load: Callable[[], Any]) -> _Model:
        # The old model goes before the new one comes: both together may not fit into memory.
        with self._lock:
            gone = self._models.pop(kind, None)
        if gone is not None:
            self._changed()
            del gone
        model = _Model(kind, name, key, load())
        with self._lock:
            self._models[kind] = model
        self._changed()
        return model
