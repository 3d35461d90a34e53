"""Paths on the wire and under roots, as pure functions of text; nothing here looks at a disk.

JSON is Unicode, file names need not be. A path that is not valid Unicode travels as a `file:` URI whose bytes
are percent-encoded (RFC 8089), which every language can write and read. In Python such a path carries lone
surrogates: on POSIX each stands for a byte (PEP 383), on Windows for itself, as names there are 16-bit units
(WTF-8). The text says which: a drive's letter and its bare colon, `file:///C:/`, are Windows', and so are two
slashes, `file:////server/share/`, where surrogates follow. POSIX paths are written `C%3A` and `%2F` there.
"""

import posixpath
from typing import Final

from contract.errors import PathNotAbsolute

_SCHEME: Final = "file://"
#: File name endings of pictures, lower case. Decoding goes by content; this only chooses files in folders.
IMAGE_SUFFIXES: Final = frozenset(
    ".jpg .jpeg .jfif .png .webp .bmp .gif .tif .tiff .avif .jp2 .ppm .pgm".split()
)


def to_wire(path: str) -> str:
    """`path` as it travels."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return _windows_uri(path) if is_windows(path) else _posix_uri(path)
    return path


def from_wire(text: str) -> str:
    """The path that `text` stands for. Raises PathNotAbsolute for a `file:` URI with a host."""
    if not text.startswith("file:"):
        return text
    from urllib.parse import unquote_to_bytes

    rest = text[len("file:") :]
    path = rest[2:] if rest.startswith("//") else rest
    if not path.startswith("/"):
        raise PathNotAbsolute(f"`{text}` is no local file URI.", where=text)
    raw = unquote_to_bytes(path)
    has_drive = _has_drive(path[1:])
    if has_drive or (path.startswith("//") and _has_surrogates(raw)):
        return _windows_path(raw[1:] if has_drive else raw, text)
    return raw.decode("utf-8", "surrogateescape")


def _posix_uri(path: str) -> str:
    from urllib.parse import quote  # the rare path only: 2 ms of every start otherwise

    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # No path of POSIX: the bare name of a file on Windows, for a message to a person.
        raw = path.encode("utf-8", "surrogatepass")
    uri = quote(raw)
    return _SCHEME + ("/%2F" + uri[2:] if uri.startswith("//") else uri)


def _windows_uri(path: str) -> str:
    from urllib.parse import quote

    uri = quote(path.replace("\\", "/").encode("utf-8", "surrogatepass"))
    return _SCHEME + (uri if uri.startswith("//") else f"/{uri[:1]}:{uri.removeprefix(uri[:1] + '%3A')}")


def _windows_path(raw: bytes, text: str) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass").replace("/", "\\")
    except UnicodeDecodeError:
        raise PathNotAbsolute(f"`{text}` is no name that Windows can have.", where=text) from None


def _has_surrogates(raw: bytes) -> bool:
    try:
        text = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return any("\ud800" <= char <= "\udfff" for char in text)


def is_windows(path: str) -> bool:
    """Whether `path` is absolute as Windows writes paths."""
    return _has_drive(path) or path.startswith("\\\\")


def _has_drive(path: str) -> bool:
    return path[:1].isascii() and path[:1].isalpha() and path[1:3] in (":\\", ":/")


def check_plain(path: str) -> None:
    """Raises PathNotAbsolute unless `path` is absolute and free of `..` and NUL."""
    if not (path.startswith("/") or is_windows(path)):
        raise PathNotAbsolute(f"`{to_wire(path)}` is not an absolute path.")
    parts = path.replace("\\", "/").split("/") if is_windows(path) else path.split("/")
    if ".." in parts or "\0" in path:
        what = "`..`" if ".." in parts else "a NUL"
        raise PathNotAbsolute(f"`{to_wire(path)}` contains {what}; send the path that is meant.")


def is_under(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies in it; both resolved and absolute, of one flavour."""
    if is_windows(root):
        path, root = (each.replace("\\", "/").casefold() for each in (path, root))
    root = posixpath.normpath(root)
    return path == root or path.startswith(root.rstrip("/") + "/")


def caption_path(image: str, extension: str) -> str:
    """The caption file beside `image`: same folder, same stem."""
    head, dot, tail = image.rpartition(".")
    stem = (
        head if dot and "/" not in tail and "\\" not in tail and head[-1:] not in ("", "/", "\\") else image
    )
    return stem + extension
