"""The header of a safetensors file: names, types and shapes of its tensors, and what was written about it.

Eight bytes say how long the header is, then comes the header as JSON, then the data, which is not read. Every
file is either described or refused with a reason: sizes, offsets and shapes must all agree.
"""

import os
import struct
from collections.abc import Iterable
from typing import Annotated, Final, NamedTuple

import msgspec

#: What the format allows; the largest known headers have some megabytes.
MAX_HEADER_BYTES: Final = 100_000_000
#: Bits of one number of each type.
DTYPE_BITS: Final = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
_METADATA: Final = "__metadata__"
_LENGTH: Final = struct.Struct("<Q")
#: Sizes are 64 bits wide, so a shape that needs more is a lie, whatever follows in it.
_LARGEST: Final = 2**64 - 1

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: `data_offsets` are the first byte of its data and the one after the last."""

    dtype: str
    shape: list[_Size]
    data_offsets: tuple[_Size, _Size]

    @property
    def bytes(self) -> int:
        """The size of its data."""
        return self.data_offsets[1] - self.data_offsets[0]


class Header(NamedTuple):
    """What a file says of itself."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


class HeaderInvalid(Exception):
    """Raised when a file is not a whole safetensors file; the text says why, as a sentence for people."""


_parts: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tensor: Final = msgspec.json.Decoder(Tensor)
_texts: Final = msgspec.json.Decoder(dict[str, str] | None)


def read_header(path: str) -> Header:
    """The header of a file, of which nothing more is read. Raises HeaderInvalid and OSError."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        start = _read(file.fileno(), _LENGTH.size)
        length = _length(start, size)
        raw = _read(file.fileno(), length)
    if len(raw) < length:
        raise HeaderInvalid("It was cut off while it was being read.")
    return parse_header(raw, size - _LENGTH.size - length)


def parse_header(raw: bytes, data_bytes: int) -> Header:
    """The header `raw` of a file that has `data_bytes` bytes behind it. Raises HeaderInvalid."""
    try:
        # As a text: what the decoder skips, it would not check.
        parts = _parts.decode(raw.decode())
        metadata = _texts.decode(parts.pop(_METADATA, _NOTHING)) or {}
        tensors = {name: _tensor.decode(part) for name, part in parts.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HeaderInvalid("Its header is damaged.") from None
    for name, tensor in tensors.items():
        _check_size(name, tensor)
    _check_places(tensors.values(), data_bytes)
    return Header(tensors, metadata)


_NOTHING: Final = msgspec.Raw(b"null")


def _length(start: bytes, size: int) -> int:
    if len(start) < _LENGTH.size:
        raise HeaderInvalid("It is empty." if size == 0 else "It is too short for a model.")
    length: int = _LENGTH.unpack(start)[0]
    if length > MAX_HEADER_BYTES:
        raise HeaderInvalid("It is no safetensors file: its header would be too long.")
    if length > size - _LENGTH.size:
        raise HeaderInvalid("It is not whole: it ends within its header.")
    return length


def _read(descriptor: int, count: int) -> bytes:
    parts = []
    while count and (part := os.read(descriptor, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _check_size(name: str, tensor: Tensor) -> None:
    bits = DTYPE_BITS.get(tensor.dtype)
    if bits is None:
        raise HeaderInvalid(f"It has tensors of an unknown type, {tensor.dtype[:40]!r}.")
    if tensor.bytes < 0 or _numbers(tensor.shape) * bits != tensor.bytes * 8:
        raise HeaderInvalid(f"The size of {name[:200]!r} does not fit its shape.")


def _numbers(shape: list[int]) -> int:
    """The product, without ever computing with monstrous ones."""
    if 0 in shape:
        return 0
    numbers = 1
    for size in shape:
        numbers *= size
        if numbers > _LARGEST:
            raise HeaderInvalid("It has a tensor of an impossible shape.")
    return numbers


def _check_places(tensors: Iterable[Tensor], data_bytes: int) -> None:
    """Every byte behind the header belongs to exactly one tensor: no gaps, no overlaps, nothing left over."""
    end = 0
    for tensor in sorted(tensors, key=lambda each: each.data_offsets):
        if tensor.data_offsets[0] != end:
            raise HeaderInvalid("Its tensors overlap, or there are gaps between them.")
        end = tensor.data_offsets[1]
    if end > data_bytes:
        raise HeaderInvalid(f"It is not whole: {end - data_bytes} bytes are missing at its end.")
    if end < data_bytes:
        raise HeaderInvalid(f"It has {data_bytes - end} bytes at its end that belong to no tensor.")
