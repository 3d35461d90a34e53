"""The header of a safetensors file: names, types and shapes of its tensors, and what was written about it.

Eight bytes say how long the header is, then comes the header as JSON, then the data. Every header is either
described or refused with a reason: sizes, offsets and shapes must all agree. Nothing here reads a file.
Format: https://github.com/huggingface/safetensors#format.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

#: What the format allows; the largest known headers have some megabytes.
MAX_HEADER_BYTES: Final = 100_000_000
#: The bytes before the header, which say how long it is.
LENGTH_BYTES: Final = 8
#: Bits of one number of each type, in the order of the format's own list: its library writes the tensors of
#: the last types first.
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
_PLACES: Final = {dtype: place for place, dtype in enumerate(DTYPE_BITS)}
_METADATA: Final = "__metadata__"
#: Characters of a name that a text for people repeats.
_SHOWN: Final = 200
_LENGTH: Final = struct.Struct("<Q")
#: Sizes are 64 bits wide, so a shape that needs more is a lie, whatever follows in it.
_LARGEST: Final = 2**64 - 1
#: The library pads its headers with spaces to a multiple of this, so that the data is aligned.
_ALIGNMENT: Final = 8

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
    """Raised when a header is none of a whole safetensors file; the text says why, for people. `key` is the
    tensor at fault, where it is one."""

    def __init__(self, why: str, key: str | None = None) -> None:
        super().__init__(why)
        self.key = key


_parts: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tensor: Final = msgspec.json.Decoder(Tensor)
_texts: Final = msgspec.json.Decoder(dict[str, str] | None)
_encoder: Final = msgspec.json.Encoder()


def header_length(start: bytes, size: int) -> int:
    """The length in bytes of the header of a file of `size` bytes that begins with `start`.

    Raises HeaderInvalid.
    """
    if len(start) < LENGTH_BYTES:
        raise HeaderInvalid("It is empty." if size == 0 else "It is too short for a model.")
    length: int = _LENGTH.unpack(start[:LENGTH_BYTES])[0]
    if length > MAX_HEADER_BYTES:
        raise HeaderInvalid("Its header would be too long.")
    if length > size - LENGTH_BYTES:
        raise HeaderInvalid("It ends within its header.")
    return length


def parse_header(raw: bytes, data_bytes: int) -> Header:
    """The header `raw` of a file that has `data_bytes` bytes behind it. Raises HeaderInvalid."""
    try:
        # As a text: what the decoder skips, it would not check.
        parts = _parts.decode(raw.decode())
        metadata = _texts.decode(parts.pop(_METADATA, _NOTHING)) or {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HeaderInvalid("Its header is damaged.") from None
    tensors = {name: _decoded(name, part) for name, part in parts.items()}
    for name, tensor in tensors.items():
        _check_size(name, tensor)
    _check_places(tensors, data_bytes)
    return Header(tensors, metadata)


def encode_header(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, keep_empty: bool = False
) -> bytes:
    """The header of a file with these tensors, as the format's library writes it: its length first, compact
    JSON, padded. `__metadata__` without any is left out unless `keep_empty`. Raises HeaderInvalid.
    """
    parts: dict[str, object] = {_METADATA: dict(metadata)} if metadata or keep_empty else {}
    parts |= tensors
    try:
        raw = _encoder.encode(parts)
    except UnicodeEncodeError:
        raise HeaderInvalid("A name or text in its header is no valid Unicode.") from None
    raw += b" " * (-len(raw) % _ALIGNMENT)
    if len(raw) > MAX_HEADER_BYTES:
        raise HeaderInvalid("Its header would be longer than the format allows.")
    return _LENGTH.pack(len(raw)) + raw


def data_bytes(dtype: str, shape: Sequence[int]) -> int:
    """The size of the data of a tensor. Raises HeaderInvalid where it is no whole number of bytes, and for
    types and sizes that the format does not have.
    """
    bits = _numbers(shape) * _bits(dtype)
    if bits % 8:
        raise HeaderInvalid("It has a tensor whose data would end within a byte.")
    return bits // 8


def library_order(dtype: str, name: str) -> tuple[int, str]:
    """The key by which the format's library sorts the tensors of a file: last type first, then by name.

    Raises HeaderInvalid for types that the format does not have.
    """
    _bits(dtype)
    return -_PLACES[dtype], name


_NOTHING: Final = msgspec.Raw(b"null")


def _bits(dtype: str) -> int:
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        raise HeaderInvalid(f"It has tensors of an unknown type, {dtype[:40]!r}.")
    return bits


def _decoded(name: str, part: msgspec.Raw) -> Tensor:
    try:
        return _tensor.decode(part)
    except (msgspec.DecodeError, RecursionError):
        raise HeaderInvalid(f"Its header is damaged where it describes {_shown(name)}.", name) from None


def _check_size(name: str, tensor: Tensor) -> None:
    try:
        bits = _numbers(tensor.shape) * _bits(tensor.dtype)
    except HeaderInvalid as invalid:
        raise HeaderInvalid(f"{str(invalid).removesuffix('.')}: {_shown(name)}.", name) from None
    if tensor.bytes < 0 or bits != tensor.bytes * 8:
        raise HeaderInvalid(f"The size of {_shown(name)} does not fit its shape.", name)


def _shown(name: str) -> str:
    return repr(name[:_SHOWN])


def _numbers(shape: Sequence[int]) -> int:
    """The product, without ever computing with monstrous ones."""
    if 0 in shape:
        return 0
    numbers = 1
    for size in shape:
        numbers *= size
        if numbers > _LARGEST:
            raise HeaderInvalid("It has a tensor of an impossible shape.")
    return numbers


def _check_places(tensors: Mapping[str, Tensor], data_bytes: int) -> None:
    """Every byte behind the header belongs to exactly one tensor: no gaps, no overlaps, nothing left over."""
    end, cut = 0, ""
    for name in sorted(tensors, key=lambda name: tensors[name].data_offsets):
        start, following = tensors[name].data_offsets
        if start != end:
            problem = "overlap" if start < end else "leave gaps"
            raise HeaderInvalid(f"Its tensors {problem} where {_shown(name)} begins.", name)
        end = following
        if end > data_bytes and not cut:
            cut = name
    if end > data_bytes:
        missing = end - data_bytes
        raise HeaderInvalid(f"{missing} bytes are missing at its end, from {_shown(cut)} on.", cut)
    if end < data_bytes:
        raise HeaderInvalid(f"It has {data_bytes - end} bytes at its end that belong to no tensor.")
