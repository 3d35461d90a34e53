"""`manifest.json`: what a checkpoint is of, and the size and SHA-256 of each of its files, its own too."""

import hashlib
import re
from typing import Final

import msgspec

NAME: Final = "manifest.json"
#: Another number from the day on which older versions could not read new checkpoints.
FORMAT: Final = 1

_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class ManifestUnreadable(Exception):
    """Raised when a manifest is none; the text says why, for people."""


class FileFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file: its size in bytes, its SHA-256 as lower-case hex."""

    bytes: int
    sha256: str


class Position(msgspec.Struct, frozen=True):
    """Where in the run a checkpoint is: what is done, not what comes next.

    `step` counts the steps of the optimizer from the start of the run, `epoch` the whole epochs, `batch` the
    batches of the epoch that has begun, and `window` those of them whose gradients await the next step.
    """

    step: int
    epoch: int
    batch: int
    window: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """`settings` is a digest of what the run was started with. `score` is what the best are chosen by, where
    there is one: the lower, the better. `files` are those of the folder, by name."""

    position: Position
    settings: str
    files: dict[str, FileFacts]
    score: float | None = None
    format: int = FORMAT
    #: Of the manifest itself, with nothing in this place.
    sha256: str = ""


_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoder: Final = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """The file, with the hash of itself."""
    return _text(msgspec.structs.replace(manifest, sha256=_digest(manifest)))


def decode_manifest(raw: bytes) -> Manifest:
    """The manifest, which is as it was written. Raises ManifestUnreadable."""
    try:
        manifest = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ManifestUnreadable("its manifest is damaged") from None
    if manifest.format > FORMAT:
        raise ManifestUnreadable("a newer version of Lorakeet wrote it")
    if raw != encode_manifest(manifest):
        raise ManifestUnreadable("its manifest was changed")
    if not all(is_plain(name) for name in manifest.files):
        raise ManifestUnreadable("its manifest names files outside of it")
    return manifest


def is_plain(name: str) -> bool:
    """Whether a file of this name lies in the folder itself, on every system."""
    return _FILE.fullmatch(name) is not None


def settings_digest(settings: object) -> str:
    """SHA-256 of settings, a Struct or what JSON can say, whatever the order of keys."""
    return hashlib.sha256(_encoder.encode(settings)).hexdigest()


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(_text(msgspec.structs.replace(manifest, sha256=""))).hexdigest()


def _text(manifest: Manifest) -> bytes:
    return msgspec.json.format(_encoder.encode(manifest), indent=1) + b"\n"
