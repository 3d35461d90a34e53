"""What encoders made of pictures and texts, kept on the disk by what it was made of, for this run and others.

A cache is a folder of shards: safetensors files of some hundred entries, each written whole or not at all,
under a name of its own and never changed. The index is what the shards' headers say, read anew by everybody,
so a kill at any moment loses at most what was not written yet, and runs that share a folder cannot disturb
each other: at worst two encode the same, and either is right.

Torch is imported by what handles tensors, not by the index.
"""

import hashlib
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import msgspec

from contract.errors import FileUnwritable, LorakeetError, WeightsChanged
from contract.rules.paths import to_wire
from trainer.weights.dtypes import bytes_of, code_of
from trainer.weights.tensor_file import TensorFile, open_weights
from trainer.weights.tensor_writer import TensorSpec, TensorWriter
from trainer.weights.unfinished import unwritten

if TYPE_CHECKING:
    import torch

#: Entries of a shard, and its size in bytes, at most; a process that is killed loses no more than this.
SHARD_ITEMS: Final = 256
SHARD_BYTES: Final = 256 << 20
#: Seconds after which a shard is written however small it is: with a slow encoder, entries are dear.
SHARD_SECONDS: Final = 60.0

_SUFFIX: Final = ".safetensors"
_MARK: Final = "lorakeet_cache"
_VERSION: Final = "1"
_FOLDER_CHARS: Final = 16
#: Files kept open; each takes a descriptor, of which a process has about a thousand.
_MOST_OPEN: Final = 64


def key_of(*parts: str | int | float | bool | None) -> str:
    """The key of what is made of `parts`, as 64 hex digits: their order and types count."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def folder_of(root: str, *parts: str | int | float | bool | None) -> str:
    """The folder in `root` for everything made by one model in one way, so that the index of what others
    made need not be read.
    """
    return os.path.join(root, key_of(*parts)[:_FOLDER_CHARS])


def seed_of(key: str) -> int:
    """A seed for whatever chance has to do with an entry: the same in every run, whatever batch it is in."""
    return int(key[:15], 16)


class Damaged(NamedTuple):
    """A shard that cannot be used, which is left where it is, and why."""

    path: str
    error: LorakeetError


class Cache:
    """The entries in a folder, each some named tensors. Threads may share it; also a context manager."""

    def __init__(self, folder: str) -> None:
        """Make the folder where it is missing, and read what is there. Raises FileUnwritable."""
        self.folder = folder
        self.damaged: list[Damaged] = []
        self._shards: dict[str, dict[str, list[str]]] = {}
        self._where: dict[str, str] = {}
        self._open: OrderedDict[str, TensorFile] = OrderedDict()
        self._lock = threading.Lock()
        try:
            os.makedirs(folder, exist_ok=True)
        except (OSError, ValueError) as error:
            raise unwritten(error, folder) from error
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that are not there, each once, in their order."""
        return [key for key in dict.fromkeys(keys) if key not in self._where]

    def refresh(self) -> None:
        """Look for shards that others have written since, and forget those that are gone.

        What cannot be read is noted in `damaged` and counts as missing. Raises FileUnwritable where the
        folder cannot be read.
        """
        try:
            names = {name for name in os.listdir(self.folder) if name.endswith(_SUFFIX)}
        except OSError as error:
            named = to_wire(self.folder)
            raise FileUnwritable(f"The cache `{named}` cannot be read.", where=named) from error
        with self._lock:
            for name in self._shards.keys() - names:
                self._forget(name)
            known = self._shards.keys() | {os.path.basename(each.path) for each in self.damaged}
            for name in sorted(names - known):
                self._index(name)

    def read(self, key: str) -> dict[str, "torch.Tensor"]:
        """The tensors of an entry, on the CPU, as copies.

        Raises WeightsChanged where it is not there: its shard was taken away or damaged since it was indexed.
        Everything in that shard counts as missing then.
        """
        with self._lock:
            name = self._where.get(key)
            if name is None:
                raise _gone(self.folder)
            try:
                file = self._opened(name)
                parts = self._shards[name][key]
                return {part: file.tensor(f"{key}.{part}").clone() for part in parts}
            except (LorakeetError, KeyError) as error:
                self._forget(name)
                raise _gone(os.path.join(self.folder, name)) from error

    def close(self) -> None:
        """Let go of the files; the cache can be used again."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def add(self, name: str, entries: Mapping[str, list[str]]) -> None:
        """Take the shard `name`, written just now, into the index."""
        with self._lock:
            self._note(name, entries)

    def _index(self, name: str) -> None:
        path = os.path.join(self.folder, name)
        try:
            with open_weights(path) as file:
                is_ours = file.header.metadata.get(_MARK) == _VERSION
                names = file.names if is_ours else []
        except LorakeetError as error:
            # Gone since the folder was listed: somebody has cleaned up.
            if os.path.lexists(path):
                self.damaged.append(Damaged(path, error))
            return
        entries: dict[str, list[str]] = {}
        for each in names:
            key, _, part = each.partition(".")
            entries.setdefault(key, []).append(part)
        self._note(name, entries)

    def _note(self, name: str, entries: Mapping[str, list[str]]) -> None:
        self._shards[name] = dict(entries)
        for key in entries:
            self._where.setdefault(key, name)

    def _forget(self, name: str) -> None:
        for key in self._shards.pop(name, ()):
            if self._where.get(key) == name:
                del self._where[key]
        for other, entries in self._shards.items():
            for key in entries:
                self._where.setdefault(key, other)
        if (file := self._open.pop(name, None)) is not None:
            file.close()

    def _opened(self, name: str) -> TensorFile:
        file = self._open.pop(name, None) or open_weights(os.path.join(self.folder, name))
        self._open[name] = file
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return file


def _gone(path: str) -> WeightsChanged:
    where = to_wire(path)
    return WeightsChanged(
        f"`{where}` was taken away or changed while it was needed.",
        where=where,
        hint="Start again: what was in it is then computed anew.",
    )


class CacheWriter:
    """A context manager that gathers entries into shards of `cache`; for one thread.

    What ends the block early, such as a canceled job, still has the finished entries written, so that they
    need not be made again.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        items: int = SHARD_ITEMS,
        max_bytes: int = SHARD_BYTES,
        seconds: float = SHARD_SECONDS,
    ) -> None:
        self._cache = cache
        self._items = items
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._held: dict[str, dict[str, torch.Tensor]] = {}
        self._bytes = 0
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()
            return
        # The first error is the one to tell.
        with suppress(LorakeetError):
            self.flush()

    def put(self, key: str, tensors: Mapping[str, "torch.Tensor"]) -> None:
        """Keep the tensors of an entry, copied to the CPU. Raises DiskFull and FileUnwritable."""
        if key in self._cache or key in self._held:
            return
        held = {part: tensor.detach().to("cpu", copy=True).contiguous() for part, tensor in tensors.items()}
        self._held[key] = held
        self._bytes += sum(tensor.nbytes for tensor in held.values())
        is_due = time.monotonic() - self._since >= self._seconds
        if len(self._held) >= self._items or self._bytes >= self._max_bytes or is_due:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one shard. Raises DiskFull and FileUnwritable."""
        self._since = time.monotonic()
        if not self._held:
            return
        held, self._held, self._bytes = self._held, {}, 0
        tensors = {f"{key}.{part}": each for key, parts in held.items() for part, each in parts.items()}
        specs = [TensorSpec(name, code_of(each.dtype), tuple(each.shape)) for name, each in tensors.items()]
        name = secrets.token_hex(16) + _SUFFIX
        with TensorWriter(os.path.join(self._cache.folder, name), specs, {_MARK: _VERSION}) as writer:
            for spec in writer.order:
                writer.write(bytes_of(tensors[spec.name]))
            writer.finish()
        self._cache.add(name, {key: list(parts) for key, parts in held.items()})
