"""Safetensors files of any header, written as the format has it and not by the reader under test."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "U8": 1, "I64": 8}

#: Name → (dtype, shape).
Tensors = Mapping[str, tuple[str, list[int]]]


def header_of(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> tuple[dict[str, Any], int]:
    """The header of a file with these tensors, and the size of its data."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, size = end, _BYTES[dtype]
        for each in shape:
            size *= each
        end += size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return header, end


def in_bytes(header: Any, data_bytes: int) -> bytes:
    """A file of this header and so much data."""
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + b"\0" * data_bytes


def write_model(
    path: Path, tensors: Tensors | None = None, metadata: Mapping[str, str] | None = None
) -> Path:
    """A whole file, sparse on the disk; by default with one small tensor."""
    header, size = header_of({"x": ("F16", [2])} if tensors is None else tensors, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(in_bytes(header, 0))
        file.truncate(file.tell() + size)
    return path
