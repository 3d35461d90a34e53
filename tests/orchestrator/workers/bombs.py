"""Small files that want to be large: of memory, or of time."""

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from PIL import Image

from tests.builders.pictures import photo


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    whole, rest = divmod(count, len(block))
    parts = [packer.compress(block) for _ in range(whole)]
    return b"".join([*parts, packer.compress(bytes(rest)), packer.flush()])


def png(width: int, height: int, *, pixels: bytes | None = None, before: Iterable[bytes] = ()) -> bytes:
    """Black, a thousandth of its size, in RGB."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = _chunk(b"IDAT", _zeros(height * (1 + 3 * width)) if pixels is None else pixels)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + body + _chunk(b"IEND", b"")


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again."""
    content = _saved(photo("coffee").resize((64, 48)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    scan, end = content[last:-2], content[-2:]
    return content[:last] + scan * (count - content.count(b"\xff\xda") + 1) + end


def _gif_of_frames() -> bytes:
    frame = _saved(Image.new("P", (2000, 2000)), "GIF")
    at = frame.index(b",")
    return frame[:at] + frame[at:-1] * 2000 + b";"


def _gif_of_size() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + bytes(9) + b"\2\0;"


def _bmp_of_size() -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head


def _webp_of_size() -> bytes:
    body = b"VP8X" + struct.pack("<IB", 10, 0) + bytes(3) + b"\xff\x3f\0" + b"\xff\x3f\0"
    image = _saved(Image.new("RGB", (8, 8)), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body + image) + 4) + b"WEBP" + body + image


def _jpeg_of_size() -> bytes:
    content = bytearray(_saved(Image.new("RGB", (8, 8)), "JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    return bytes(content)


def _tiff_of_size() -> bytes:
    content = _saved(Image.new("RGB", (8, 8)), "TIFF")
    for tag in (256, 257):
        at = content.index(struct.pack("<HH", tag, 3)) if struct.pack("<HH", tag, 3) in content else -1
        at = content.index(struct.pack("<HH", tag, 4)) if at < 0 else at
        content = content[: at + 2] + struct.pack("<HII", 4, 1, 2**32 - 1) + content[at + 12 :]
    return content


def _jp2_of_size() -> bytes:
    content = bytearray(_saved(Image.new("RGB", (8, 8)), "JPEG2000"))
    at = content.index(b"ihdr")
    content[at + 4 : at + 12] = b"\xff" * 8
    at = content.index(b"\xff\x51")
    content[at + 6 : at + 14] = b"\x7f" + b"\xff" * 3 + b"\x7f" + b"\xff" * 3
    return bytes(content)


def _avif_of_size(*, said: int, real: int) -> bytes:
    content = bytearray(_saved(Image.new("RGB", (real, real)), "AVIF", speed=10))
    at = content.index(b"ispe")
    content[at + 8 : at + 16] = struct.pack(">II", said, said)
    return bytes(content)


def _tiff_of_loops() -> bytes:
    """The next directory of the only one is itself."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 8) + b"\x08\0\0\0"


#: By name. None of them may do more than be refused, or decoded within the limits.
BOMBS: Final[dict[str, Callable[[], bytes]]] = {
    "1 to 1000.png": lambda: png(7000, 7000),
    "just over the limit.png": lambda: png(9000, 9000),
    "of size.png": lambda: png(2**31 - 1, 2**31 - 1, pixels=b""),
    "one row.png": lambda: png(2**31 - 1, 1, pixels=b""),
    "text.png": lambda: png(8, 8, before=[_chunk(b"zTXt", b"a\0\0" + _zeros(300 << 20))]),
    "texts.png": lambda: png(8, 8, before=[_chunk(b"zTXt", b"a\0\0" + _zeros(1 << 20))] * 200),
    "profile.png": lambda: png(8, 8, before=[_chunk(b"iCCP", b"a\0\0" + _zeros(300 << 20))]),
    "frames.gif": _gif_of_frames,
    "of size.gif": _gif_of_size,
    "of size.bmp": _bmp_of_size,
    "of size.webp": _webp_of_size,
    "of size.jpg": _jpeg_of_size,
    "scans.jpg": lambda: with_scans(80_000),
    "of size.tif": _tiff_of_size,
    "loops.tif": _tiff_of_loops,
    "of size.jp2": _jp2_of_size,
    "of size.avif": lambda: _avif_of_size(said=60_000, real=8),
    "larger than it says.avif": lambda: _avif_of_size(said=8, real=4000),
    "of size.ppm": lambda: b"P6 999999999 999999999 255\n",
    "comment.ppm": lambda: b"P6\n#" + b" " * (4 << 20),
    "number.ppm": lambda: b"P6 " + b"9" * 100_000 + b" 1 255\n",
}
