"""What an ONNX file is made of, read without loading it: is it one, and which other files does it name?

This module owns the check that comes before onnxruntime opens a file: a graph may point at tensors in other
files, and onnxruntime would read whatever the path names. It knows neither sessions nor tensors; the bytes
of tensors are stepped over and never touched, so that a file of gigabytes takes milliseconds.

The walk follows the protobuf wire format (protobuf.dev/programming-guides/encoding) along the fields of
onnx.proto that can lead to a tensor (github.com/onnx/onnx, onnx/onnx.proto). It is written for hostile
files: depth, number of fields and length of names are bounded, and memory grows with the depth only.
"""

import mmap
import os
import stat
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import PureWindowsPath
from typing import NamedTuple

from contract.errors import FileUnreadable, ModelExternalData, ModelIncomplete, ModelNotOnnx

__all__ = ["check", "external_files"]

_MAX_DEPTH = 100  # protobuf's own limit: nothing deeper can be loaded
_MAX_FIELDS = 5_000_000  # about five seconds; the largest known taggers have 50,000
_MAX_LOCATION_BYTES = 4096  # Linux's limit for a path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# A location that onnxruntime takes for an address in its own memory (onnxruntime, tensorprotoutils.h).
_MEMORY_LOCATION = "*/_ORT_"


class _Message(Enum):
    """The messages of onnx.proto on a way from the model to a tensor."""

    MODEL = auto()
    TRAINING = auto()
    FUNCTION = auto()
    GRAPH = auto()
    NODE = auto()
    ATTRIBUTE = auto()
    SPARSE = auto()
    TENSOR = auto()
    ENTRY = auto()


_GRAPH_FIELD = 7  # ModelProto.graph
_LEADS_TO: dict[_Message, dict[int, _Message]] = {
    _Message.MODEL: {_GRAPH_FIELD: _Message.GRAPH, 20: _Message.TRAINING, 25: _Message.FUNCTION},
    _Message.TRAINING: {1: _Message.GRAPH, 2: _Message.GRAPH},
    _Message.FUNCTION: {7: _Message.NODE, 11: _Message.ATTRIBUTE},
    _Message.GRAPH: {1: _Message.NODE, 5: _Message.TENSOR, 15: _Message.SPARSE},
    _Message.NODE: {5: _Message.ATTRIBUTE},
    _Message.ATTRIBUTE: {
        5: _Message.TENSOR,
        6: _Message.GRAPH,
        10: _Message.TENSOR,
        11: _Message.GRAPH,
        22: _Message.SPARSE,
        23: _Message.SPARSE,
    },
    _Message.SPARSE: {1: _Message.TENSOR, 2: _Message.TENSOR},
    _Message.TENSOR: {13: _Message.ENTRY},
    _Message.ENTRY: {},
}

_GUESSES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run `git lfs pull`."),
    (b"PK\x03\x04", "a zip or PyTorch file", None),
    (b"GGUF", "a GGUF file", None),
    (b"\x89HDF", "a Keras or HDF5 file", None),
)
_CONVERT = "Lorakeet's taggers need the model as ONNX: look for model.onnx beside it."
_DOWNLOAD = "Download it again; for a private or gated repository a token is needed."


class _Malformed(Exception):
    """Raised when the bytes are not what protobuf and onnx.proto allow; the text says what."""


class _Field(NamedTuple):
    number: int
    wire: int
    start: int  # of a _BYTES payload; elsewhere of nothing that matters here
    end: int


def external_files(path: str) -> list[str]:
    """Every file that tensors of the model at `path` lie in, as written there: each once, in file order.

    Raises ModelNotOnnx, ModelIncomplete (no such file) or FileUnreadable.
    """
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileUnreadable(f"{_name(path)} is not a file.", where=path)
            return _locations(file.fileno(), path)
    except FileNotFoundError as error:
        raise ModelIncomplete(f"{_name(path)} does not exist.", where=path) from error
    except OSError as error:
        raise FileUnreadable(f"{_name(path)} cannot be read.", where=path) from error


def check(path: str, *, allowed_root: str | None = None) -> None:
    """Refuse the file at `path` unless it is an ONNX model whose tensors lie in it or in its folder.

    Links are followed. `allowed_root` is a second folder they may end in: the hub's cache keeps files as
    links from a snapshot to the blobs of the same repository.

    Raises ModelNotOnnx, ModelExternalData, ModelIncomplete (the model or an external file is missing) or
    FileUnreadable, each with `where=path`.
    """
    folder = os.path.dirname(os.path.abspath(path))
    roots = [os.path.realpath(root) for root in (folder, allowed_root) if root is not None]
    for location in external_files(path):
        _check_location(location, path, folder, roots)


def _check_location(location: str, path: str, folder: str, roots: list[str]) -> None:
    details = {"location": _printable(location)}
    if not _is_plain(location) or not _lies_in(os.path.join(folder, location), roots):
        raise ModelExternalData(
            f"{_name(path)} wants to read {location!r}, which is outside its folder.",
            where=path,
            hint="Use a model from a source you trust, with its data files beside it.",
            details=details,
        )
    if not os.path.isfile(os.path.join(folder, location)):
        raise ModelIncomplete(
            f"{_name(path)} needs the file {location!r} beside it.",
            where=path,
            hint="Download the whole repository.",
            details=details,
        )


def _is_plain(location: str) -> bool:
    """Relative, on every system, without `..`, NUL or a meaning of its own to onnxruntime."""
    windows = PureWindowsPath(location)  # splits at both kinds of slash
    if not location or "\0" in location or location.startswith(_MEMORY_LOCATION):
        return False
    return not windows.drive and not windows.root and ".." not in windows.parts


def _lies_in(path: str, roots: list[str]) -> bool:
    real = os.path.realpath(path)
    return any(real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _locations(descriptor: int, path: str) -> list[str]:
    if os.fstat(descriptor).st_size == 0:
        raise ModelNotOnnx(f"{_name(path)} is empty.", where=path, hint=_DOWNLOAD)
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        try:
            return list(dict.fromkeys(_walk(data)))
        except _Malformed as error:
            what, hint = _guess(data)
            raise ModelNotOnnx(
                f"{_name(path)} is {what}.", where=path, hint=hint, details={"reason": str(error)}
            ) from error


def _walk(data: mmap.mmap) -> Iterator[str]:
    """The locations in a ModelProto, depth first.

    `stack` holds the messages being read: what each is, where to go on, where it ends.
    """
    stack = [(_Message.MODEL, 0, len(data))]
    graphs = 0
    for _ in range(_MAX_FIELDS):
        while stack and stack[-1][1] == stack[-1][2]:
            stack.pop()
        if not stack:
            break
        message, position, end = stack.pop()
        field = _field(data, position, end)
        stack.append((message, field.end, end))
        child = _LEADS_TO[message].get(field.number) if field.wire == _BYTES else None
        if child is _Message.ENTRY:
            yield from _location(data, field.start, field.end)
        elif child is not None:
            graphs += message is _Message.MODEL and child is _Message.GRAPH
            stack.append((child, field.start, field.end))
            if len(stack) > _MAX_DEPTH:
                raise _Malformed(f"messages nested more than {_MAX_DEPTH} deep")
    if stack:
        raise _Malformed(f"more than {_MAX_FIELDS} fields")
    if not graphs:
        raise _Malformed("no graph")


def _location(data: mmap.mmap, position: int, end: int) -> Iterator[str]:
    """The value of a StringStringEntryProto {key = 1, value = 2} whose key is `location`.

    A field that comes twice counts once, the last time, as protobuf has it.
    """
    spans = {1: (end, end), 2: (end, end)}
    while position < end:
        field = _field(data, position, end)
        if field.wire == _BYTES:
            spans[field.number] = field.start, field.end
        position = field.end
        if len(spans) > 16:
            raise _Malformed("an entry of many fields")
    if _text(data, *spans[1]) == "location":
        start, stop = spans[2]
        if stop - start > _MAX_LOCATION_BYTES:
            raise _Malformed(f"the name of an external file is longer than {_MAX_LOCATION_BYTES} bytes")
        yield _text(data, start, stop)


def _text(data: mmap.mmap, start: int, end: int) -> str:
    return data[start : min(end, start + _MAX_LOCATION_BYTES)].decode("utf-8", "surrogateescape")


def _field(data: mmap.mmap, position: int, end: int) -> _Field:
    """The field at `position`, within a message that ends at `end`."""
    tag, position = _varint(data, position, end)
    number, wire = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise _Malformed("a field of an impossible number")
    start = position
    if wire == _VARINT:
        _, position = _varint(data, position, end)
    elif wire == _FIXED64:
        position += 8
    elif wire == _FIXED32:
        position += 4
    elif wire == _BYTES:
        length, start = _varint(data, position, end)
        position = start + length
    else:
        raise _Malformed("a field of a type that ONNX does not have")
    if position > end:
        raise _Malformed("a field that reaches beyond its message: the file is cut short or damaged")
    return _Field(number, wire, start, position)


def _varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    """The number at `position`, at most ten bytes of seven bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _Malformed("a number that reaches beyond its message: the file is cut short or damaged")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _Malformed("a number of more than ten bytes")


def _guess(data: mmap.mmap) -> tuple[str, str]:
    """What a file that is no ONNX model is instead, and what to do about it."""
    head = data[:512]
    for magic, what, hint in _GUESSES:
        if head.startswith(magic):
            return what, hint or _CONVERT
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps an error page", _DOWNLOAD
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < len(data):
        return "a safetensors file", _CONVERT
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle", _CONVERT
    return "not an ONNX model, or a damaged one", _DOWNLOAD


def _name(path: str) -> str:
    """The file's own name, quoted and printable."""
    return repr(os.path.basename(path))


def _printable(text: str) -> str:
    """`text` as every encoder of JSON takes it: bytes that are no UTF-8 written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
