"""How the files of a dataset are called: as the system names them, and as they are kept.

What is kept is Unicode, slashes between the parts. A name that is no Unicode is kept as the `file:` URI that
it would travel as from the root of a disk; no relative path begins like that, as it has empty parts.
"""

import os
from typing import Final, Literal

from contract.rules.paths import caption_path, from_wire, to_wire

#: `tags`: what taggers write and trainers read by default; `caption`: sentences.
CaptionKind = Literal["tags", "caption"]
KINDS: Final[tuple[CaptionKind, ...]] = ("tags", "caption")
ENDINGS: Final[dict[CaptionKind, str]] = {"tags": ".txt", "caption": ".caption"}

_URI: Final = "file:///"


def kept(relative: str) -> str:
    """A relative path of this system as it is kept."""
    path = relative.replace(os.sep, "/")
    try:
        path.encode()
    except UnicodeEncodeError:
        return to_wire("/" + path)
    return path


def parts_of(path: str) -> list[str]:
    """The parts of a kept path, as this system names them."""
    plain = from_wire(path)[1:] if path.startswith(_URI) else path
    return plain.split("/")


def stem_of(path: str) -> str:
    """The kept path of an image without its ending: what its caption files are called before theirs."""
    return kept(os.path.normcase(caption_path("/".join(parts_of(path)), "")))


def caption_parts(path: str, kind: CaptionKind) -> list[str]:
    """The parts of the kept path of an image's caption file."""
    return caption_path("/".join(parts_of(path)), ENDINGS[kind]).split("/")
