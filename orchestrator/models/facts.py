"""What is to be known of a model's file besides its size: what its header says, or why it cannot be used."""

import os
from typing import Final, NamedTuple

from orchestrator.models.detect import Kind, dtype_of, family_of, found_of, kind_of
from orchestrator.models.header import Header, HeaderInvalid, read_header

#: The one format that is read.
READ: Final = "safetensors"
#: By the ending of a file's name, in small letters.
FORMATS: Final = {
    ".safetensors": READ,
    ".sft": READ,
    ".ckpt": "pickle",
    ".pt": "pickle",
    ".pth": "pickle",
    ".bin": "pickle",
    ".gguf": "gguf",
}
#: Why the other formats are not used.
_REFUSED: Final = {
    "pickle": "A pickle can run any program when it is opened. Convert it to safetensors.",
    "gguf": "Its numbers are packed for running only. Use the safetensors file that it was made of.",
}
#: Characters of a text that a header brings along.
_MAX_TEXT: Final = 300


class Facts(NamedTuple):
    """What a file says of itself; `reason` is why it cannot be used, None where it can."""

    kind: Kind | None = None
    family: str | None = None
    dtype: str | None = None
    title: str | None = None
    trigger: str | None = None
    reason: str | None = None


def facts_of(path: str, format: str) -> Facts:
    """Look into a file, or only at its format where that is refused anyway."""
    if format in _REFUSED:
        return Facts(reason=_REFUSED[format])
    try:
        return _of_header(read_header(path))
    except HeaderInvalid as error:
        return Facts(reason=f"It is no whole safetensors file. {error}")
    except OSError as error:
        return Facts(reason=f"It cannot be read: {os.strerror(error.errno or 0)}.")


def _of_header(header: Header) -> Facts:
    said, found = header.metadata, found_of(header)
    return Facts(
        kind=kind_of(header, found),
        family=family_of(header, found),
        dtype=dtype_of(header),
        title=_short(said.get("modelspec.title") or said.get("ss_output_name")),
        trigger=_short(said.get("modelspec.trigger_phrase")),
    )


def _short(text: str | None) -> str | None:
    """A text for people, in one line; None where there is nothing in it."""
    line = " ".join((text or "").split())
    if line in ("", "None"):
        return None
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + " …"
