"""The pictures of a run as they were when it began: found, looked at, and written down for all attempts.

What becomes of the folders later, and of the captions in them, changes nothing of a run that has begun.
"""

import os
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from contract.errors import FileMissing, FileUnreadable, ManifestInvalid
from contract.methods.job import ManifestItem
from contract.rules.paths import to_wire
from trainer.data.bounds import Bounds
from trainer.data.collection import (
    Collection,
    Listed,
    Skipped,
    captioned,
    collect,
    decodable,
    listed_by,
    listed_in,
)
from trainer.data.remembered import Remembered
from trainer.data.subset import Subset, subsets_of
from trainer.run.record import has_record
from trainer.run.request import Request
from trainer.weights.replacing import replace

#: The file in the run's folder: JSON lines of ManifestItem.
PICTURES: Final = "pictures.jsonl"
#: The file in the folder of the caches.
_REMEMBERED: Final = "pictures.json"

Step = Callable[[int, int], None]


class Pictures(NamedTuple):
    """The pictures, and what they are subsets of. Those that were left out at the beginning are known to the
    first attempt alone."""

    collection: Collection
    subsets: list[Subset]


def pictures_of(request: Request, step: Step) -> Pictures:
    """The pictures of a run, the same in every attempt.

    `step` is told how many of how many were looked at, and may raise. Raises what `collect`, `listed_in`,
    `decodable` and `replace` raise, and ManifestInvalid.
    """
    path = os.path.join(request.folder, PICTURES)
    remembered = Remembered(os.path.join(request.cache, _REMEMBERED))
    skipped: list[Skipped] = []
    if not _are_frozen(request):
        found = _found(request, remembered, step)
        skipped = found.collection.skipped
        replace(path, _encoded(found))
    settings = request.settings
    listed, subsets = listed_by(_decoded(path), settings.subsets, settings.data)
    frozen = _looked_at(request, listed, subsets, remembered, step)
    # What was left out once is not written down; what cannot be used since then is known by this look.
    return frozen._replace(collection=frozen.collection._replace(skipped=skipped + frozen.collection.skipped))


def pictures_now(request: Request, step: Step) -> Pictures:
    """Those that the source has now; nothing of the run is written. Raises what `pictures_of` raises."""
    return _found(request, Remembered(os.path.join(request.cache, _REMEMBERED)), step)


def check_source(request: Request) -> None:
    """See that what will be looked for in the source is there; no picture is opened, nothing is written.

    Raises what `listed_in`, `subsets_of` and `captioned` raise.
    """
    if request.plan_only or not _are_frozen(request):
        captioned(*_listed(request))


def _are_frozen(request: Request) -> bool:
    """Before a run has begun nothing follows from its pictures: whoever mended them since has them looked at
    again."""
    return has_record(request.folder) and os.path.lexists(os.path.join(request.folder, PICTURES))


def _listed(request: Request) -> tuple[list[Listed], list[Subset]]:
    """The files of the source, and its subsets."""
    settings = request.settings
    if request.items is not None:
        listed, subsets = listed_by(request.items, settings.subsets, settings.data)
        _check_named(request, subsets)
        return listed, subsets
    bounds = Bounds(request.roots)
    subsets = subsets_of(request.folders or [], settings.subsets, settings.data, bounds)
    return listed_in(subsets, bounds), subsets


def _found(request: Request, remembered: Remembered, step: Step) -> Pictures:
    """Everything that the source has, as far as it can be used."""
    settings = request.settings
    listed, subsets = _listed(request)
    found = _looked_at(request, listed, subsets, remembered, step)
    uncached = [each for each in found.collection.pictures if not _is_cached(request, subsets[each.subset])]
    if not uncached:
        return found
    # Those are decoded while the run goes on; a bad one has to be known before.
    tried = decodable(
        Collection(uncached, []), bad=settings.data.bad_images, max_pixels=request.max_pixels, step=step
    )
    return found._replace(collection=found.collection.without(tried.skipped))


def _looked_at(
    request: Request, listed: Sequence[Listed], subsets: list[Subset], remembered: Remembered, step: Step
) -> Pictures:
    collection = collect(
        listed,
        subsets,
        bad=request.settings.data.bad_images,
        max_pixels=request.max_pixels,
        remembered=remembered,
        bounds=Bounds(request.roots),
        step=step,
    )
    return Pictures(collection, subsets)


def _is_cached(request: Request, subset: Subset) -> bool:
    return request.settings.caching.latents != "off" and not subset.random_crop


def _check_named(request: Request, subsets: Sequence[Subset]) -> None:
    names = {each.name for each in subsets}
    for index, each in enumerate(request.settings.subsets):
        if each.name not in names:
            raise FileMissing(
                f"The source has no pictures of a subset `{each.name}`.",
                where=f"$.params.settings.subsets[{index}].name",
                details={"subsets": sorted(names)[:100]},
            )


def _encoded(found: Pictures) -> bytes:
    items = (
        ManifestItem(
            path=to_wire(each.path),
            sha256=each.sha256,
            caption=each.caption,
            subset=found.subsets[each.subset].name,
        )
        for each in found.collection.pictures
    )
    return b"".join(msgspec.json.encode(item) + b"\n" for item in items)


def _decoded(path: str) -> list[ManifestItem]:
    where = to_wire(path)
    try:
        with open(path, "rb") as file:
            return [_item.decode(line) for line in file]
    except OSError as error:
        raise FileUnreadable(f"`{where}` cannot be read.", where=where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ManifestInvalid(f"`{where}` is damaged.", where=where, hint="Begin a new run.") from None


_item: Final = msgspec.json.Decoder(ManifestItem)
