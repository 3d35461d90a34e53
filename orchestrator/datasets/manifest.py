"""What a job works on of a dataset, frozen at its start: what happens to the dataset then is not its affair.

In the job's folder: `manifest.jsonl`, a line an image; `manifest.json`, written last, with its digest and
what was left out; and `todo.jsonl`, the lines that the next attempt of a tagging still has to do. Blocks.
"""

import hashlib
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.methods.job import ManifestItem
from orchestrator.files import durable

_LINES: Final = "manifest.jsonl"
_HEAD: Final = "manifest.json"
_TODO: Final = "todo.jsonl"
_encode = msgspec.json.Encoder().encode


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """An image that cannot be done, and why: a WireError in plain values."""

    path: str
    error: dict[str, Any]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`skipped` counts the images that were left alone, `left` are those that cannot be done."""

    items: Sequence[ManifestItem]
    skipped: int = 0
    left: Sequence[Left] = ()


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str
    items: int
    skipped: int
    left: list[Left]


def freeze(folder: Path, manifest: Manifest) -> Path:
    """Keep a manifest; the file with its lines. Raises DiskFull and FileUnwritable."""
    lines = _lines(manifest.items)
    durable.replace(folder / _LINES, lines)
    head = _Head(
        sha256=hashlib.sha256(lines).hexdigest(),
        items=len(manifest.items),
        skipped=manifest.skipped,
        left=list(manifest.left),
    )
    durable.replace(folder / _HEAD, _encode(head))
    return folder / _LINES


def frozen(folder: Path) -> Manifest | None:
    """The manifest of an earlier attempt; None where none is whole."""
    try:
        head = msgspec.json.decode((folder / _HEAD).read_bytes(), type=_Head)
        lines = (folder / _LINES).read_bytes()
    except (OSError, msgspec.DecodeError):
        return None
    if hashlib.sha256(lines).hexdigest() != head.sha256:
        return None
    items = [msgspec.json.decode(line, type=ManifestItem) for line in lines.splitlines()]
    return Manifest(items=items, skipped=head.skipped, left=head.left)


def write_todo(
    folder: Path, items: Sequence[ManifestItem], done: Container[str]
) -> tuple[Path, list[ManifestItem]]:
    """The file for the kernel, and its lines: those whose path is not among `done`.

    It has the same name for every attempt: a job that comes again must be the same to a kernel. Raises
    DiskFull and FileUnwritable.
    """
    todo = [item for item in items if item.path not in done]
    durable.replace(folder / _TODO, _lines(todo))
    return folder / _TODO, todo


def _lines(items: Sequence[ManifestItem]) -> bytes:
    return b"".join(_encode(item) + b"\n" for item in items)
