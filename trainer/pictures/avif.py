"""How large the frames in an AVIF really are.

libavif decodes whatever frame lies there and scales it to what the container says, and the container may
say anything. So this reads the container (ISO 14496-12, 8.11: `iinf`, `iloc`) and the sequence headers (AV1
bitstream specification, 5.3 to 5.5) that the decoder will go by. What is written in an unusual way, for
which no encoder of stills is known, stays unknown; the caller must then expect the worst.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_MAX_BOXES = 256
_MAX_META_BYTES = 1 << 20
_MAX_OBUS = 1024  # of one picture: a few, and its tile groups
_HEAD_BYTES = 32  # an OBU's header and the beginning of a sequence header
_SEQUENCE_HEADER = 1


class Frame(NamedTuple):
    """Pixels as coded, before any rotation."""

    width: int
    height: int


class _Unknown(Exception):
    """Raised when the size of a frame cannot be told."""


class _Bits:
    """Numbers of so many bits, from the first bit of `data` on."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, 8 * at

    def read(self, count: int) -> int:
        first, self.at = self.at, self.at + count
        if self.at > 8 * len(self.data):
            raise _Unknown
        window = int.from_bytes(self.data[first // 8 : -(-self.at // 8)], "big")
        return window >> (-self.at % 8) & (1 << count) - 1

    def read_leb128(self) -> int:
        value = 0
        for shift in range(0, 56, 7):
            byte = self.read(8)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        return value


def largest_frame(file: BinaryIO) -> Frame | None:
    """The largest frame that decoding `file` may meet; None where that cannot be told."""
    try:
        meta = _meta(file)
        children = {name: _Bits(meta, start) for name, start in _boxes(meta, 4)}
        images, places = _images(meta, children[b"iinf"]), _places(children[b"iloc"])
        frames = [frame for each in images for frame in _frames(file, *places[each])]
    except (_Unknown, KeyError, OverflowError, OSError):
        return None
    return max(frames, key=lambda frame: frame.width * frame.height, default=None)


def _meta(file: BinaryIO) -> bytes:
    """The content of the file's `meta`. A file with tracks is a sequence, and unknown."""
    found, at = b"", 0
    for _ in range(_MAX_BOXES):
        file.seek(at)
        size, name = int.from_bytes(file.read(4), "big"), file.read(4)
        if name == b"meta" and 8 <= size <= _MAX_META_BYTES:
            found = file.read(size - 8)
        if name == b"" or size == 0:
            return found
        if name == b"moov" or size < 8:
            break
        at += size
    raise _Unknown


def _boxes(data: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    """Name and start of the content of every box in `data` from `at` on."""
    while at < len(data):
        head = _Bits(data, at)
        size, name = head.read(32), data[at + 4 : at + 8]
        if size < 8:
            raise _Unknown
        yield name, at + 8
        at += size


def _images(meta: bytes, iinf: _Bits) -> list[int]:
    """The ids of the items that are AV1 pictures."""
    version, _ = iinf.read(8), iinf.read(24)
    iinf.read(32 if version else 16)
    found = []
    # The box may end before `meta` does; then boxes of other names follow.
    for name, start in _boxes(meta, iinf.at // 8):
        if name != b"infe":
            break
        entry = _Bits(meta, start)
        version, _ = entry.read(8), entry.read(24)
        item, _, kind = entry.read(32 if version == 3 else 16), entry.read(16), entry.read(32)
        if kind == int.from_bytes(b"av01", "big"):
            found.append(item)
    return found


def _places(iloc: _Bits) -> dict[int, tuple[int, int]]:
    """Item → where in the file it lies, and how many bytes; only of items that are in one piece."""
    version, _ = iloc.read(8), iloc.read(24)
    offset_size, length_size, base_size, index_size = (8 * iloc.read(4) for _ in range(4))
    places: dict[int, tuple[int, int]] = {}
    for _ in range(iloc.read(32 if version == 2 else 16)):
        item = iloc.read(32 if version == 2 else 16)
        method = iloc.read(16) & 15 if version else 0
        _, base = iloc.read(16), iloc.read(base_size)
        for extent in range(iloc.read(16)):
            iloc.read(index_size if version else 0)
            place = base + iloc.read(offset_size), iloc.read(length_size)
            if extent or method or item in places:
                raise _Unknown
            places[item] = place
    return places


def _frames(file: BinaryIO, at: int, length: int) -> Iterator[Frame]:
    """The frame of every sequence header among the OBUs of an item: the decoder goes by the last one."""
    end = at + length
    for _ in range(_MAX_OBUS):
        if at >= end:
            return
        file.seek(at)
        bits = _Bits(file.read(_HEAD_BYTES))
        _, kind, has_extension, has_size, _ = (bits.read(count) for count in (1, 4, 1, 1, 1))
        bits.read(8 * has_extension)
        size = bits.read_leb128() if has_size else end - at - bits.at // 8
        at += bits.at // 8 + size
        if kind == _SEQUENCE_HEADER:
            yield _frame(bits)
    raise _Unknown


def _frame(bits: _Bits) -> Frame:
    """The size in a sequence header. Only the reduced one, of stills, binds its frame to it."""
    _, _, is_reduced = bits.read(3), bits.read(1), bits.read(1)
    if not is_reduced:
        raise _Unknown
    _, width_bits, height_bits = bits.read(5), bits.read(4) + 1, bits.read(4) + 1
    return Frame(bits.read(width_bits) + 1, bits.read(height_bits) + 1)
