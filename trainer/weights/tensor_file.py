"""A safetensors file to read: its header, and its tensors as they lie in the file, without copies.

The data is mapped into memory and read by the system as it is touched, so that a file of gigabytes costs no
memory of ours. The price: where another program makes the file shorter, touching what is gone ends the
process (SIGBUS), and nothing in Python can prevent that. So every access looks first whether the file still
has its size, which leaves the moments in which numbers are being computed; a file that is replaced by a
rename, as all careful programs do it, stays whole for us.
"""

import mmap
import os
import stat
import sys
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from contract.errors import (
    FileMissing,
    FileUnreadable,
    WeightsChanged,
    WeightsDamaged,
    WeightsError,
    WeightsFormat,
    WeightsUnsupported,
)
from contract.rules.paths import to_wire
from contract.rules.tensor_header import (
    LENGTH_BYTES,
    Header,
    HeaderInvalid,
    Tensor,
    header_length,
    parse_header,
)
from trainer.weights.dtypes import TORCH_NAMES, number_bytes, torch_dtype

if TYPE_CHECKING:
    import ctypes

    import torch

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0)
#: Windows cannot read at a place without moving the descriptor there.
_seeking: Final = Lock()

_PICKLE: Final = "a pickle of PyTorch"
_CONVERT: Final = (
    "Pickles can run any program, so Lorakeet opens safetensors only. Convert it where torch is installed: "
    'python -c "import sys, torch; from safetensors.torch import save_file; '
    "s = torch.load(sys.argv[1], map_location='cpu', weights_only=True); s = s.get('state_dict', s); "
    "save_file({k: v.clone().contiguous() for k, v in s.items() if hasattr(v, 'clone')}, sys.argv[2])\" "
    "IN.ckpt OUT.safetensors"
)
_UNQUANTISED: Final = "Use the safetensors file that it was made from; GGUF is for inference only."
#: How files of other formats begin, what they are, and what to do.
_BEGINNINGS: Final = (
    (b"PK\x03\x04", _PICKLE, _CONVERT),
    (b"\x80\x02", _PICKLE, _CONVERT),
    (b"\x80\x03", _PICKLE, _CONVERT),
    (b"\x80\x04", _PICKLE, _CONVERT),
    (b"GGUF", "a GGUF file", _UNQUANTISED),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run `git lfs pull`."),
    (b"<!DOCTYPE", "a web page", "Download the file again; some sites need a login."),
    (b"<html", "a web page", "Download the file again; some sites need a login."),
)
_ENDINGS: Final = {
    **dict.fromkeys((".ckpt", ".pt", ".pth", ".bin"), (_PICKLE, _CONVERT)),
    ".gguf": ("a GGUF file", _UNQUANTISED),
}
#: Characters of a key that an error repeats.
_KEY_CHARS: Final = 1000
_LONGEST_BEGINNING: Final = max(len(start) for start, _, _ in _BEGINNINGS)


class TensorFile:
    """A safetensors file, open until `close`; also a context manager. Threads may share it.

    `data_start` is the offset in the file of the first byte of data, `size` the file's size in bytes, and
    `names` are the tensors in the order of their data.
    """

    def __init__(self, path: str, descriptor: int, header: Header, data_start: int, size: int) -> None:
        """Takes the descriptor over. `open_weights` makes these. Raises OSError."""
        self.path = path
        self.header = header
        self.data_start = data_start
        self.size = size
        self.names = sorted(header.tensors, key=lambda name: header.tensors[name].data_offsets)
        self._descriptor = descriptor
        self._identity = _identity(os.fstat(descriptor))
        self._map = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        self._whole: torch.Tensor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def where(self) -> str:
        """The path as it travels."""
        return to_wire(self.path)

    @property
    def identity(self) -> tuple[int, int]:
        """Which file of the system it is, by whatever name: device and number on it."""
        return self._identity[:2]

    @property
    def data_bytes(self) -> int:
        """The size of the data of all tensors."""
        return self.size - self.data_start

    def head(self) -> bytes:
        """The file up to its data. Raises WeightsChanged and FileUnreadable."""
        head = bytearray(self.data_start)
        self.read(-self.data_start, memoryview(head))
        return bytes(head)

    def close(self) -> None:
        """Let go of the file. Tensors and views that are still held stay valid."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        self._whole = None
        self._view.release()
        # The mapping goes with the last tensor that looks into it.
        with suppress(BufferError):
            self._map.close()

    def raw(self, name: str) -> memoryview:
        """The bytes of a tensor, uncopied. Raises WeightsChanged where the file became shorter."""
        start, end = self._place(self.header.tensors[name])
        return self._view[start:end]

    def tensor(self, name: str) -> "torch.Tensor":
        """A tensor in its stored type and shape, on the CPU, uncopied where it lies aligned in the file.

        It must never be written to: the memory is the file's, and writing to it ends the process. Raises
        WeightsChanged where the file became shorter, WeightsUnsupported for types that torch has not.
        """
        import torch

        facts = self.header.tensors[name]
        if facts.dtype not in TORCH_NAMES:
            raise self._unsupported(name, facts.dtype)
        dtype = torch_dtype(facts.dtype)
        start, end = self._place(facts)
        if start == end:
            try:
                return torch.empty(facts.shape, dtype=dtype)
            except RuntimeError:
                # Nothing at all, of a shape that has more numbers than torch can count.
                raise self._unsupported(name, f"of shape {facts.shape}"[:200]) from None
        numbers = self._bytes()[start:end]
        if start % number_bytes(facts.dtype):
            # Offset by less than a number, which the format allows and torch does not.
            numbers = numbers.clone()
        return numbers.view(dtype).reshape(facts.shape)

    def read(self, start: int, into: memoryview) -> None:
        """Fill `into`, of bytes, with the data of the file from its byte `start` on; `start` 0 is the first
        byte behind the header.

        For what is only passed on: through a small buffer it is as fast as the mapping, and safe where the
        file becomes shorter. Raises WeightsChanged and FileUnreadable.
        """
        at = self.data_start + start
        try:
            while into:
                if not (count := _read_at(self._descriptor, at, into)):
                    raise self._changed()
                at += count
                into = into[count:]
        except OSError as error:
            raise _unreadable(self.path) from error

    def expect(self, name: str) -> None:
        """Tell the system that a tensor is wanted soon, so that it reads ahead."""
        start, end = self._place(self.header.tensors[name])
        if start < end and sys.platform != "win32":
            first = start - start % mmap.PAGESIZE
            with suppress(OSError):
                self._map.madvise(mmap.MADV_WILLNEED, first, end - first)

    def check_unchanged(self) -> None:
        """Raises WeightsChanged where the file was written to since it was opened.

        Another file that has taken its name meanwhile does not count: what was read is still whole.
        """
        if _identity(os.fstat(self._descriptor)) != self._identity:
            raise self._changed()

    def is_current(self) -> bool:
        """Whether the name still leads to this very file, unchanged."""
        try:
            return _identity(os.stat(self.path)) == self._identity
        except OSError:
            return False

    def _place(self, facts: Tensor) -> tuple[int, int]:
        """Where the data of a tensor lies in the file."""
        start, end = facts.data_offsets
        if os.fstat(self._descriptor).st_size < self.size:
            raise self._changed()
        return self.data_start + start, self.data_start + end

    def _unsupported(self, name: str, what: str) -> WeightsUnsupported:
        return WeightsUnsupported(
            f"`{name}` in `{self.where}` is {what}, which cannot be computed with.",
            where=self.where,
            details={"key": name},
        )

    def _bytes(self) -> "torch.Tensor":
        """The whole file as one tensor of bytes, of which all others are views."""
        import torch

        if self._whole is None:
            self._whole = torch.frombuffer(_claimed_writable(self._view), dtype=torch.uint8)
        return self._whole

    def _changed(self) -> WeightsChanged:
        return WeightsChanged(
            f"`{self.where}` was changed while it was being read.",
            where=self.where,
            hint="Run it again once nothing else writes to the file.",
        )


def open_weights(path: str) -> TensorFile:
    """Open a safetensors file, of which only the header is read.

    Raises FileMissing, FileUnreadable, WeightsFormat for other formats, and WeightsDamaged.
    """
    named = to_wire(path)
    try:
        # A pipe or a device would keep whoever opens it waiting.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileUnreadable(f"`{named}` is not a file.", where=named)
        descriptor = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileMissing(f"`{named}` does not exist.", where=named) from error
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error
    try:
        return _opened(path, descriptor)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise _unreadable(path) from error
        raise


def _opened(path: str, descriptor: int) -> TensorFile:
    size = os.fstat(descriptor).st_size
    start = _read(descriptor, _LONGEST_BEGINNING)
    try:
        length = header_length(start, size)
        os.lseek(descriptor, LENGTH_BYTES, os.SEEK_SET)
        raw = _read(descriptor, length)
        if len(raw) < length:
            raise HeaderInvalid("It was cut off while it was being read.")
        header = parse_header(raw, size - LENGTH_BYTES - length)
    except HeaderInvalid as invalid:
        raise _refusal(path, start, invalid) from None
    return TensorFile(path, descriptor, header, LENGTH_BYTES + length, size)


def _refusal(path: str, start: bytes, why: HeaderInvalid) -> WeightsError:
    """What a user is told of a file that is no whole safetensors file."""
    named = to_wire(path)
    guesses = [(what, hint) for beginning, what, hint in _BEGINNINGS if start.startswith(beginning)]
    if not guesses and (ending := os.path.splitext(path)[1].lower()) in _ENDINGS:
        guesses.append(_ENDINGS[ending])
    if guesses:
        what, hint = guesses[0]
        return WeightsFormat(f"`{named}` is {what}, no safetensors file.", where=named, hint=hint)
    return WeightsDamaged(
        f"`{named}` is no whole safetensors file. {why}",
        where=named,
        hint="Download or copy it again.",
        details={} if why.key is None else {"key": why.key[:_KEY_CHARS]},
    )


def _read(descriptor: int, count: int) -> bytes:
    parts = []
    while count and (part := os.read(descriptor, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _read_at(descriptor: int, at: int, into: memoryview) -> int:
    if sys.platform != "win32":
        return os.preadv(descriptor, [into], at)
    with _seeking:
        os.lseek(descriptor, at, os.SEEK_SET)
        part = os.read(descriptor, len(into))
    into[: len(part)] = part
    return len(part)


def _unreadable(path: str) -> FileUnreadable:
    named = to_wire(path)
    return FileUnreadable(f"`{named}` cannot be read.", where=named)


def _identity(facts: os.stat_result) -> tuple[int, int, int, int]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _claimed_writable(view: memoryview) -> "ctypes.Array[ctypes.c_char]":
    """The same memory as a buffer that says it can be written to.

    Torch warns of any other, once a process and through a global filter that threads cannot set aside; a
    private copy-on-write mapping would count as memory of ours, and be refused for large files.
    """
    import ctypes

    import numpy

    address = numpy.frombuffer(view, numpy.uint8).ctypes.data
    array = (ctypes.c_char * len(view)).from_address(address)
    # Keeps the mapping open for as long as torch holds the array.
    vars(array)["view"] = view[:]
    return array
