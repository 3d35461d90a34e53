"""Which image format a file has, by the bytes that it begins with; nothing else reaches a decoder.

Pillow knows more: some of those run a program (EPS) or recognise themselves in almost any bytes (TGA).
"""

import re
from typing import Final

from orchestrator.workers.tasks import Format

#: Bytes that `format_of` needs.
HEAD_BYTES: Final = 16

_MARKS: Final[tuple[tuple[Format, "re.Pattern[bytes]"], ...]] = (
    ("png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("jpeg", re.compile(rb"\xff\xd8\xff")),
    ("webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("gif", re.compile(rb"GIF8[79]a")),
    # HEIF files of the brands `mif1` and `msf1` may hold AV1; their decoder looks further.
    ("avif", re.compile(rb"....ftyp(avi[fs]|m[is]f1)", re.DOTALL)),
    ("bmp", re.compile(rb"BM")),
    ("tiff", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("jpeg2000", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    ("ppm", re.compile(rb"P[1-6]\s")),
)


def format_of(head: bytes) -> Format | None:
    """The format of a file that begins with `head`; None for all others."""
    return next((name for name, mark in _MARKS if mark.match(head)), None)
