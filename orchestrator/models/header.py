"""Reads the header of a safetensors file, and nothing more of it."""

import os

from contract.rules.tensor_header import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    Header,
    HeaderInvalid,
    Tensor,
    header_length,
    parse_header,
)

__all__ = ["MAX_HEADER_BYTES", "Header", "HeaderInvalid", "Tensor", "parse_header", "read_header"]


def read_header(path: str) -> Header:
    """The header of a file, of which nothing more is read. Raises HeaderInvalid and OSError."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        length = header_length(_read(file.fileno(), LENGTH_BYTES), size)
        raw = _read(file.fileno(), length)
    if len(raw) < length:
        raise HeaderInvalid("It was cut off while it was being read.")
    return parse_header(raw, size - LENGTH_BYTES - length)


def _read(descriptor: int, count: int) -> bytes:
    parts = []
    while count and (part := os.read(descriptor, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
