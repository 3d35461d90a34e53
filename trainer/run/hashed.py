"""SHA-256 of the files that a run was made with, computed beside it: they are needed when the first file of
weights is written, and gigabytes of a model are no reason to wait before the first step."""

import hashlib
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from contract.errors import FileUnreadable, LorakeetError, WeightsChanged
from contract.methods.weights import WeightsFile
from contract.rules.paths import to_wire
from trainer.weights.replacing import replace

#: The file in the folder of the caches.
_REMEMBERED: Final = "hashes.json"
#: Bytes that are hashed between two looks whether anybody still wants to know.
_BLOCK: Final = 1 << 22
#: Seconds between two looks at something else.
_LOOK_S: Final = 0.05
_WEIGHTS: Final = ".safetensors"
#: The old hash of web UIs, `ss_sd_model_hash`: of these bytes of a file, so many digits.
_OLD_START, _OLD_BYTES, _OLD_DIGITS = 0x100000, 0x10000, 8


class FileHash(NamedTuple):
    """`sha256` is that of the bytes, or of a folder's files of weights with their names; `old` is short, and
    None of a folder."""

    sha256: str
    old: str | None


class Hashes:
    """Hashes of some files, each computed once, on a thread of its own; a context manager that ends it.

    What was hashed before is remembered by path, size, time of change and number on the disk.
    """

    def __init__(self, cache: str) -> None:
        self._path = os.path.join(cache, _REMEMBERED)
        self._known: dict[str, tuple[list[int], str]] = {}
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError), open(self._path, "rb") as file:
            self._known = _decoder.decode(file.read())
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hashes")
        self._wanted: dict[str, Future[str]] = {}

    def __enter__(self) -> "Hashes":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, *paths: str | None) -> None:
        """Begin to hash what is not known."""
        for path in paths:
            if path is not None and path not in self._wanted:
                self._wanted[path] = self._pool.submit(self._sha256, path)

    def of(self, path: str, waiting: Callable[[], None]) -> FileHash:
        """Waits for it; `waiting` is called meanwhile, and may raise. Raises FileUnreadable."""
        self.begin(path)
        wanted = self._wanted[path]
        while not wait([wanted], timeout=_LOOK_S).done:
            waiting()
        return FileHash(wanted.result(), old_hash(path))

    def check(self, path: str | None, file: WeightsFile | None, waiting: Callable[[], None]) -> None:
        """Raises WeightsChanged where the file at `path` is not the one that is meant, and FileUnreadable."""
        sha256 = None if file is None else file.sha256
        if path is None or sha256 is None or os.path.isdir(path):
            return
        if (found := self.of(path, waiting).sha256) != sha256:
            named = to_wire(path)
            raise WeightsChanged(
                f"`{named}` is not the file that is meant: its SHA-256 is another.",
                where=named,
                details={"wanted": sha256, "found": found},
            )

    def _sha256(self, path: str) -> str:
        if not os.path.isdir(path):
            return self._of_file(path)
        digest = hashlib.sha256()
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(each for each in names if each.endswith(_WEIGHTS)):
                file = os.path.join(folder, name)
                digest.update(f"{to_wire(os.path.relpath(file, path))}\n{self._of_file(file)}\n".encode())
        return digest.hexdigest()

    def _of_file(self, path: str) -> str:
        named = to_wire(os.path.realpath(path))
        try:
            with open(path, "rb", buffering=0) as file:
                stamp = _stamp(file.fileno())
                known = self._known.get(named)
                if known is not None and known[0] == stamp:
                    return known[1]
                sha256 = self._digest(file)
                if _stamp(file.fileno()) == stamp:
                    self._remember(named, stamp, sha256)
        except OSError as error:
            raise FileUnreadable(f"`{named}` cannot be read.", where=named) from error
        return sha256

    def _digest(self, file: io.FileIO) -> str:
        digest, block = hashlib.sha256(), bytearray(_BLOCK)
        while not self._stop.is_set() and (count := file.readinto(block)):
            digest.update(memoryview(block)[:count])
        return digest.hexdigest()

    def _remember(self, named: str, stamp: list[int], sha256: str) -> None:
        if self._stop.is_set():
            return
        self._known[named] = (stamp, sha256)
        # Losing this memory costs time only.
        with suppress(LorakeetError):
            replace(self._path, msgspec.json.encode(self._known))


def old_hash(path: str) -> str | None:
    """The hash that web UIs had before, None of a folder. Raises FileUnreadable.

    Source: `model_hash` of AUTOMATIC1111's and of the reference trainer.
    """
    if os.path.isdir(path):
        return None
    named = to_wire(path)
    try:
        with open(path, "rb") as file:
            file.seek(_OLD_START)
            return hashlib.sha256(file.read(_OLD_BYTES)).hexdigest()[:_OLD_DIGITS]
    except OSError as error:
        raise FileUnreadable(f"`{named}` cannot be read.", where=named) from error


_decoder: Final = msgspec.json.Decoder(dict[str, tuple[list[int], str]])


def _stamp(descriptor: int) -> list[int]:
    status = os.fstat(descriptor)
    return [status.st_size, status.st_mtime_ns, status.st_ino]
