"""Writes a safetensors file: all of it appears under its name at once, or nothing does.

The header is known before the first tensor, so the data goes straight to the disk in the order of the file;
of it, only small pieces are held, until there are enough of them. It is hashed on a thread that follows what
is written.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from contract.errors import FileUnwritable, OutputIsInput, WeightsChanged, WeightsUnsupported
from contract.rules.paths import to_wire
from contract.rules.tensor_header import (
    Header,
    HeaderInvalid,
    Tensor,
    data_bytes,
    encode_header,
    library_order,
)
from trainer.weights.follower import Follower
from trainer.weights.hashes import LEGACY_HASH, MODEL_HASH, legacy_hash
from trainer.weights.tensor_file import TensorFile
from trainer.weights.unfinished import Unfinished, exists, unwritten

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Bytes: what is below goes to the disk with what comes next, as soon as that is enough together.
_SMALL: Final = 1 << 16
_ENOUGH: Final = 1 << 20


class TensorSpec(NamedTuple):
    """A tensor that will be written; `dtype` is a code of safetensors, as F16."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Written(NamedTuple):
    """A file that was written: its size in bytes and its SHA-256 as lower-case hex."""

    path: str
    bytes: int
    sha256: str


class TensorWriter:
    """A context manager; whatever ends it before `finish` leaves nothing of the file. For one thread."""

    def __init__(
        self,
        path: str,
        tensors: Iterable[TensorSpec],
        metadata: Mapping[str, str],
        *,
        overwrite: bool = False,
        inputs: Iterable[TensorFile] = (),
        replaces: TensorFile | None = None,
        adapter_hashes: bool = False,
        keep_order: bool = False,
    ) -> None:
        """Begin the file. `order` is that of the tensors in it: as given where `keep_order`, else as the
        format's library writes them, from its last type to its first, then by name.

        `inputs` are checked at the end: an output of files that changed meanwhile is none. `path` may be one
        of them only where it `replaces` that one, which is closed in the end. `adapter_hashes` fills in
        `sshs_model_hash` and `sshs_legacy_hash`. Raises OutputExists, OutputIsInput, DiskFull,
        FileUnwritable, WeightsUnsupported.
        """
        self._path = path
        self._named = to_wire(path)
        self._inputs = list(inputs)
        self._replaces = replaces
        self._overwrite = overwrite or replaces is not None
        self._check_place()
        self._adapter_hashes = adapter_hashes
        unknown = {MODEL_HASH: "0" * 64, LEGACY_HASH: "0" * 8} if adapter_hashes else {}
        self._metadata = dict(metadata) | unknown
        self.order = list(tensors)
        try:
            if not keep_order:
                self.order.sort(key=lambda each: library_order(each.dtype, each.name))
            self._tensors = _placed(self.order)
            head = encode_header(self._tensors, self._metadata)
        except HeaderInvalid as invalid:
            raise WeightsUnsupported(
                f"`{self._named}` cannot be written. {invalid}", where=self._named
            ) from None
        self._begin(head)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, data: "Buffer") -> None:
        """The next bytes of the data, in the order of the file and in pieces of any size; `data` may be used
        again at once. Raises DiskFull and FileUnwritable.
        """
        with memoryview(data) as view:
            if self._written + len(self._held) + view.nbytes > self._size:
                raise ValueError("more data than the tensors have")
            # Python casts no view of nothing.
            if view.nbytes:
                with view.cast("B") as rest:
                    self._hold(rest)

    def finish(self) -> Written:
        """Bring the file to the disk and to its name.

        Raises WeightsChanged where an input changed, OutputExists where a file appeared under the name,
        DiskFull and FileUnwritable. Whatever it raises, nothing of the file is left.
        """
        try:
            self._put_held()
            if self._written != self._size:
                raise ValueError(f"{self._size - self._written} bytes of data are missing")
            self._check_inputs()
            sha256 = self._hashed() if self._adapter_hashes else self._synced()
            if self._replaces is not None:
                # Windows replaces no file that is open.
                self._replaces.close()
            self._file.publish(overwrite=self._overwrite)
        except OSError as error:
            raise unwritten(error, self._path) from error
        finally:
            self.discard()
        return Written(self._path, self._size, sha256)

    def discard(self) -> None:
        """Leave nothing of the file, unless it is finished."""
        self._follower.stop()
        self._file.discard()

    def _check_place(self) -> None:
        """Raises OutputIsInput, OutputExists and FileUnwritable."""
        try:
            facts = os.lstat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError) as error:
            # A name that no file can have: known now, not after the work is done.
            raise unwritten(error, self._path) from error
        taken = (facts.st_dev, facts.st_ino)
        if any(file.identity == taken for file in self._inputs if file is not self._replaces):
            raise OutputIsInput(
                f"`{self._named}` is an input and cannot be the output, too.",
                where=self._named,
                hint="Name another file for the output.",
            )
        if not self._overwrite:
            raise exists(self._path)
        if not stat.S_ISREG(facts.st_mode) or not os.access(self._path, os.W_OK):
            raise FileUnwritable(f"`{self._named}` cannot be overwritten.", where=self._named)

    def _begin(self, head: bytes) -> None:
        """Set the place on the disk aside, and write the header."""
        self._data_start = len(head)
        self._size = len(head) + sum(each.bytes for each in self._tensors.values())
        self._written = 0
        self._held = bytearray()
        self._file = Unfinished(self._path)
        try:
            self._file.reserve(self._size)
            self._put(memoryview(head))
            self._follower = self._follow(self._data_start if self._adapter_hashes else 0)
        except BaseException as error:
            self._file.discard()
            if isinstance(error, OSError):
                raise unwritten(error, self._path) from error
            raise

    def _follow(self, start: int) -> Follower:
        follower = Follower(self._file.name, start)
        follower.advance(self._written)
        return follower

    def _put(self, data: memoryview) -> None:
        while data:
            count = os.write(self._file.descriptor, data)
            data = data[count:]
            self._written += count

    def _hold(self, data: memoryview) -> None:
        """Keep small pieces until there are enough of them to be worth a call of the system."""
        if data.nbytes < _SMALL:
            self._held += data
            if len(self._held) >= _ENOUGH:
                self._put_held()
        else:
            self._put_held()
            self._append(data)

    def _put_held(self) -> None:
        held, self._held = self._held, bytearray()
        if held:
            self._append(memoryview(held))

    def _append(self, data: memoryview) -> None:
        try:
            self._put(data)
        except OSError as error:
            raise unwritten(error, self._path) from error
        self._follower.advance(self._written)

    def _check_inputs(self) -> None:
        for file in self._inputs:
            file.check_unchanged()
        if self._replaces is not None and not self._replaces.is_current():
            raise WeightsChanged(
                f"`{self._named}` was changed by somebody else meanwhile, so it was left alone.",
                where=self._named,
            )

    def _synced(self) -> str:
        """Bring everything to the disk; the SHA-256 of the file, which is computed meanwhile."""
        os.fsync(self._file.descriptor)
        return self._follower.finish()

    def _hashed(self) -> str:
        """Write the hashes of the data into the header, which has room for them, then as `_synced`.

        What follows the header has been hashed by now; the whole file is hashed anew, as it begins with them.
        """
        header = Header(self._tensors, self._metadata)
        hashes = {MODEL_HASH: self._follower.finish(), LEGACY_HASH: legacy_hash(header, self._read)}
        head = encode_header(self._tensors, self._metadata | hashes)
        os.lseek(self._file.descriptor, 0, os.SEEK_SET)
        written, self._written = self._written, 0
        self._put(memoryview(head))
        self._written = written
        self._follower = self._follow(0)
        return self._synced()

    def _read(self, start: int, count: int) -> bytes:
        """A piece of the data that was written."""
        os.lseek(self._file.descriptor, self._data_start + start, os.SEEK_SET)
        return os.read(self._file.descriptor, count)


def _placed(specs: Iterable[TensorSpec]) -> dict[str, Tensor]:
    """The tensors at their places in the data. Raises HeaderInvalid."""
    placed: dict[str, Tensor] = {}
    end = 0
    for name, dtype, shape in specs:
        start, end = end, end + data_bytes(dtype, shape)
        if name in placed:
            raise HeaderInvalid(f"It would have two tensors named {name[:200]!r}.")
        placed[name] = Tensor(dtype, list(shape), (start, end))
    return placed
