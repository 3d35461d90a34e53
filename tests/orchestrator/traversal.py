"""Paths that try to leave a root, as data: whatever takes a path from a client is tried with each of them.

`plant` puts what they aim at into place: files with `CANARY` outside of a root, and links to them inside.
"""

import os
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

#: What must never be read through a root.
CANARY: Final = b"a canary that must stay outside\n"
#: The folder beside a root that holds it, and what holds it there.
OUTSIDE: Final = "outside"
SECRET: Final = "secret.png"

_UPS: Final = (
    "..",
    "../..",
    "../../..",
    "../../../../../../../../../../../..",
    "a/..",
    "a/../..",
    "a/b/../../..",
    "./..",
    ".././..",
    "..//..",
    "...",
    "....",
    ".. ",
    ". .",
    "..\t",
    "..;",
    "..%00",
    "..\0",
    "%2e%2e",
    "%2e.",
    ".%2e",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "%u002e%u002e",
    "．．",
    "‥",
    "..\u200b",
    "..\u00a0",
    "\u202e..",
    "~",
    "~root",
    "$HOME",
    "${HOME}",
    "%USERPROFILE%",
    "`pwd`",
)
_TARGETS: Final = (f"{OUTSIDE}/{SECRET}", "etc/passwd", "secrets", "control.db")
_SEPARATORS: Final = ("/", "\\", "//", "/./", "\\/", "%2f", "%5c", "／", "∕")

_ABSOLUTE: Final = (
    "/",
    "//",
    "/etc/passwd",
    "//etc/passwd",
    "///etc/passwd",
    "/./etc/passwd",
    "/proc/self/environ",
    "/proc/self/cwd/pyproject.toml",
    "/proc/self/root/etc/passwd",
    "/dev/fd/0",
    "/dev/stdin",
    "/dev/zero",
    "\\etc\\passwd",
    "\\\\server\\share\\secret.png",
    "//server/share/secret.png",
    "\\\\?\\C:\\Windows\\win.ini",
    "\\\\.\\C:\\Windows\\win.ini",
    "\\\\.\\PhysicalDrive0",
    "//?/C:/Windows/win.ini",
    "C:",
    "C:\\",
    "C:/",
    "C:secret.png",
    "C:\\Windows\\win.ini",
    "C:/Windows/win.ini",
    "c:/windows/win.ini",
    "Z:/secret.png",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "file:/etc/passwd",
    "file:etc/passwd",
    "file:///%2e%2e/etc/passwd",
    "http://127.0.0.1/",
    "data:text/plain,x",
)

_DEVICES: Final = (
    "CON",
    "con",
    "PRN",
    "AUX",
    "NUL",
    "nul.png",
    "NUL.tar.gz",
    "CON .png",
    "COM1",
    "COM9.png",
    "COM0",
    "COM¹",
    "LPT1",
    "LPT9.txt",
    "LPT³.png",
    "CONIN$",
    "CONOUT$",
    "CLOCK$",
    "folder/NUL",
    "folder/con.png",
    "aux/photo.png",
)

_ODD: Final = (
    "",
    ".",
    "./",
    "./photo.png",
    "photo.png/",
    "photo.png/.",
    "photo.png/..",
    "folder//photo.png",
    "folder/./photo.png",
    "folder/../photo.png",
    " ",
    "photo.png ",
    "photo.png.",
    "photo.png...",
    "photo.png. . .",
    "folder /photo.png",
    "folder./photo.png",
    "photo.png\0",
    "photo.png\0.txt",
    "\0",
    "photo\n.png",
    "photo\r\n.png",
    "photo\x01.png",
    "photo\x7f.png",
    "photo\x85.png",
    "photo\x1b[2J.png",
    "folder\\photo.png",
    "photo.png::$DATA",
    "photo.png:stream",
    "folder::$INDEX_ALLOCATION/photo.png",
    "a" * 256,
    "a" * 252 + ".png",
    "é" * 128,
    "a/" * 2_000 + "photo.png",
    "../" * 1_000 + "etc/passwd",
    "/".join(["folder"] * 1_000),
)

#: Through links that `plant` puts into the root.
_LINKED: Final = (
    f"link-to-folder/{SECRET}",
    f"link-to-folder/../{OUTSIDE}/{SECRET}",
    "link-to-folder",
    "link-to-file.png",
    "link-to-parent",
    f"link-to-parent/{OUTSIDE}/{SECRET}",
    "link-to-root",
    f"link-to-root/link-to-folder/{SECRET}",
    "link-to-slash/etc/passwd",
    "link-to-itself",
    "link-to-itself/photo.png",
    "link-to-nothing",
    f"folder/link-to-folder/{SECRET}",
    "folder/link-to-file.png",
    "link-within/photo.png",
    "link-to-photo.png",
    "photo.png/secret.png",
)


def _payloads() -> Iterator[str]:
    for up, separator in product(_UPS, _SEPARATORS):
        yield f"{up}{separator}{_TARGETS[0]}"
    for up, target in product(_UPS, _TARGETS[1:]):
        yield f"{up}/{target}"
    yield from (*_ABSOLUTE, *_DEVICES, *_ODD, *_LINKED)


#: None of them names anything that may be read.
PAYLOADS: Final = tuple(dict.fromkeys(_payloads()))


def plant(root: Path) -> None:
    """Fill `root` with a photo, a folder and links; and put what must not be reached beside it."""
    outside = root.parent / OUTSIDE
    for folder in (outside, root / "folder"):
        folder.mkdir(parents=True, exist_ok=True)
    (outside / SECRET).write_bytes(CANARY)
    (root / "photo.png").write_bytes(b"inside")
    (root / "folder" / "photo.png").write_bytes(b"inside")
    for where in (root, root / "folder"):
        _link(where / "link-to-folder", outside)
        _link(where / "link-to-file.png", outside / SECRET)
    _link(root / "link-to-parent", root.parent)
    _link(root / "link-to-root", root)
    _link(root / "link-to-slash", Path("/"))
    _link(root / "link-to-itself", root / "link-to-itself")
    _link(root / "link-to-nothing", root / "nothing")
    _link(root / "link-within", root / "folder")
    _link(root / "link-to-photo.png", root / "photo.png")


def swap(folder: Path, link: Path, stop: threading.Event) -> None:
    """Let a folder and a link to the outside take each other's place, again and again."""
    aside = folder.with_name("aside")
    while not stop.is_set():
        os.rename(folder, aside)
        os.rename(link, folder)
        os.rename(folder, link)
        os.rename(aside, folder)


def _link(at: Path, target: Path) -> None:
    if not os.path.lexists(at):
        at.symlink_to(target)
