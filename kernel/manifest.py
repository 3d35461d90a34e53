"""The pictures of a job: given inline, or in a manifest of JSON lines."""

import os
import stat
from typing import NamedTuple

import msgspec

from contract.errors import FileMissing, FileUnreadable, InvalidParams, ManifestInvalid, NoImages
from contract.methods.job import ImageInputs, ManifestItem
from contract.rules.paths import to_wire
from contract.validation import decode
from kernel.roots import Roots

_item = msgspec.json.Decoder(ManifestItem)


class Picture(NamedTuple):
    """A picture as the host named it, and where it really is."""

    named: str
    path: str


def pictures_of(inputs: ImageInputs, roots: Roots) -> list[Picture]:
    """Every picture of a job, each under the roots; whether it is there shows when it is read.

    Raises PathNotAbsolute, PathOutsideRoots, ManifestInvalid, NoImages, FileMissing, FileUnreadable.
    """
    if inputs.manifest is not None:
        return _listed(inputs.manifest, roots)
    return [
        Picture(named, roots.resolve(named, f"$.params.inputs.images[{index}]"))
        for index, named in enumerate(inputs.images or ())
    ]


def items_of(manifest: str, roots: Roots) -> list[ManifestItem]:
    """The items of a manifest, with their real paths, each under the roots.

    Raises PathNotAbsolute, PathOutsideRoots, ManifestInvalid, NoImages, FileMissing, FileUnreadable.
    """
    return [msgspec.structs.replace(item, path=to_wire(path)) for item, path in _each(manifest, roots)]


def _listed(manifest: str, roots: Roots) -> list[Picture]:
    return [Picture(item.path, path) for item, path in _each(manifest, roots)]


def _each(manifest: str, roots: Roots) -> list[tuple[ManifestItem, str]]:
    """The items of a manifest, and where each really is."""
    where = "$.params.inputs.manifest"
    path = roots.resolve(manifest, where)
    items = []
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            # Opening a FIFO would wait for ever.
            raise FileUnreadable(f"The manifest `{manifest}` is not a file.", where=where)
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                items.append(_item_of(line, f"{manifest}:{number}", roots))
    except FileNotFoundError:
        raise FileMissing(f"The manifest `{manifest}` does not exist.", where=where) from None
    except OSError as error:
        raise FileUnreadable(f"The manifest `{manifest}` cannot be read.", where=where) from error
    if not items:
        raise NoImages(f"The manifest `{manifest}` lists no images.", where=where)
    return items


def _item_of(line: bytes, where: str, roots: Roots) -> tuple[ManifestItem, str]:
    try:
        item = _item.decode(line)
    except msgspec.ValidationError:
        raise ManifestInvalid(f"{where} is no manifest item: {_wrong_with(line)}.", where=where) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ManifestInvalid(f"{where} is no manifest item: it is not JSON in UTF-8.", where=where) from None
    return item, roots.resolve(item.path, where)


def _wrong_with(line: bytes) -> str:
    try:
        decode(msgspec.json.decode(line), ManifestItem)
    except InvalidParams as error:
        return error.message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "it is not JSON in UTF-8"
    return "it is not understood"
