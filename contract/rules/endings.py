"""Whether a file ends before its format says.

Pillow's own words do not tell: it calls a damaged JPEG truncated, and a truncated WEBP unidentified. Whoever
asks has opened the file; host and kernel must call the same files cut off.
"""

from typing import BinaryIO, Final

_FROM_END: Final = 2  # os.SEEK_END
_TAIL_BYTES: Final = 4096  # programs append a little after the end mark
_MAX_BOXES: Final = 64  # pictures have about five


def ends_early(file: BinaryIO) -> bool:
    """Whether the file should be longer than it is, or lacks the mark that its format ends with.

    Raises OSError where it cannot be read.
    """
    file.seek(0)
    head = file.read(16)
    length = file.seek(0, _FROM_END)
    file.seek(max(0, length - _TAIL_BYTES))
    tail = file.read()
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" not in tail
    if head.startswith(b"GIF8"):
        return not tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 > length
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:6], "little") > length
    return head[4:8] in (b"ftyp", b"jP  ") and _boxes_leave(file, length)


def _boxes_leave(file: BinaryIO, length: int) -> bool:
    """Whether a box of an ISO base media file (AVIF, JPEG 2000; ISO 14496-12, 4.2) ends beyond the file."""
    end = 0
    for _ in range(_MAX_BOXES):
        file.seek(end)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size == 0:  # to the end of the file, wherever that is
            return False
        end += max(size, 8)
        if end >= length:
            return end > length
    return False
