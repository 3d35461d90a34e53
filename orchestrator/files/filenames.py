"""Names of files and folders: which a client may send, and what becomes of one that an upload brings.

Pure functions of text. The rules are the strictest of all systems, so that a dataset made here can be copied
anywhere, and so that no name means something else to the system that reads it.
"""

import os
import re
import unicodedata
from typing import Final

#: Bytes of a name on every common file system, and of a relative path.
MAX_NAME_BYTES: Final = 255
MAX_PATH_BYTES: Final = 2_048
#: Of a name that we make: room for a number, and for the endings of programs that write beside it.
_MADE_BYTES: Final = 200
#: What Windows takes for a device, whatever ending follows.
_DEVICE: Final = re.compile(
    r"(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])[ .]*(\..*)?", re.IGNORECASE
)
_DRIVE: Final = re.compile(r"[A-Za-z]:.*", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: Characters that no name on Windows can have, and those that make a name read backwards.
_UNWANTED: Final = re.compile(
    r'[<>:"|?*\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]'
)


def name_problem(name: str) -> str | None:
    """What is wrong with one part of a path that a client sent; None if nothing is."""
    if not name:
        return "has an empty part"
    if name in (".", ".."):
        return f"has the part `{name}`"
    if "/" in name or "\\" in name:
        return "has a backslash; write slashes"
    if _CONTROL.search(name):
        return "has a control character"
    if name[-1] in ". ":
        return "has a part that ends with a dot or a blank"
    if _DEVICE.fullmatch(name):
        return f"names a device of Windows, `{name}`"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has a part of more than {MAX_NAME_BYTES} bytes"
    return None


def path_problem(path: str) -> str | None:
    """What is wrong with a relative path of a client, slashes between its parts; None if nothing is."""
    if path.startswith("/"):
        return "is absolute"
    if _DRIVE.fullmatch(path):
        return "begins with a drive"
    # More than any of them; what follows would only be slow.
    if len(path) > MAX_PATH_BYTES:
        return f"has more than {MAX_PATH_BYTES} bytes"
    return next((problem for part in path.split("/") if (problem := name_problem(part))), None)


def leads_out(path: str) -> bool:
    """Whether a path that is refused was on its way out of its root."""
    parts = re.split(r"[/\\]", path)
    return path.startswith(("/", "\\")) or ".." in parts or _DRIVE.fullmatch(path) is not None


def safe_name(given: str) -> str:
    """A name that every system takes, near to what a client gave; its folders are dropped."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", given))[-1]
    stem, ending = os.path.splitext(_UNWANTED.sub("_", last).strip(" .") or "file")
    ending = ending.rstrip(" .")
    stem = _cut(stem, _MADE_BYTES - len(ending.encode())).rstrip(" .") or "file"
    name = stem + ending if len(ending.encode()) < _MADE_BYTES else stem
    return f"_{name}" if _DEVICE.fullmatch(name) else name


def slug(title: str) -> str:
    """A name for a folder, made of a title: small letters, digits, hyphens; whatever the script."""
    words = re.split(r"[^\w]+|_", unicodedata.normalize("NFC", title).lower())
    made = _cut("-".join(word for word in words if word), _MADE_BYTES // 2).strip("-")
    if not made or _DEVICE.fullmatch(made):
        return f"dataset-{made}".rstrip("-")
    return made


def numbered(name: str, number: int) -> str:
    """`photo.jpg` as the `number`th of its name: `photo-2.jpg`; the first keeps it."""
    stem, ending = os.path.splitext(name)
    return name if number == 1 else f"{stem}-{number}{ending}"


def _cut(text: str, size: int) -> str:
    """As much of the beginning as fits into `size` bytes of UTF-8."""
    return text.encode()[: max(size, 0)].decode(errors="ignore")
