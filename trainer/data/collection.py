"""All the pictures of a run: found in the subsets, looked at, each known by the hash of its bytes."""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from contract.errors import FileMissing, LorakeetError, NoImages
from contract.methods.job import ManifestItem
from contract.methods.training.data import TrainData
from contract.methods.training.subsets import Subset as SubsetSettings
from contract.rules.buckets import Size
from contract.rules.paths import from_wire, to_wire
from trainer.data.bounds import ANYWHERE, Bounds
from trainer.data.picture import MAX_PIXELS, Facts, changed, decode, look
from trainer.data.remembered import Remembered
from trainer.data.subset import Subset, pictures_in, subsets_named

#: What to do with a picture that cannot be used.
Bad = Literal["skip", "refuse"]
#: Hashing and Pillow release the interpreter's lock; more threads than this wait for the disk.
_THREADS: Final = 8
#: Pictures that a thread looks at in one go: of those that are remembered, a few thousand take a moment.
_AT_ONCE: Final = 16


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Picture(msgspec.Struct, frozen=True):
    """A picture of a run. `subset` counts in the run's subsets from 0, `size` is that which people see, and
    `caption` is what the files say; how it is changed from step to step is the subset's matter.
    """

    path: str
    sha256: str
    size: Size
    subset: int
    repeats: int
    caption: str


class Skipped(NamedTuple):
    """A picture that cannot be used, and why."""

    path: str
    error: LorakeetError


class Collection(NamedTuple):
    """The pictures in the order of subsets and paths, and those that were skipped."""

    pictures: list[Picture]
    skipped: list[Skipped]

    def without(self, skipped: Iterable[Skipped]) -> "Collection":
        """The same without pictures that turned out bad later. Raises NoImages where none is left."""
        bad = list(skipped)
        paths = {each.path for each in bad}
        return _some([each for each in self.pictures if each.path not in paths], self.skipped + bad)


class Listed(NamedTuple):
    """A file of a run before it is looked at. `subset` counts from 0; `sha256` is None where nobody said."""

    subset: int
    path: str
    caption: str | None
    sha256: str | None = None


def listed_in(subsets: Sequence[Subset], bounds: Bounds = ANYWHERE) -> list[Listed]:
    """The files of the subsets' folders. Raises what `pictures_in` raises."""
    return [
        Listed(number, path, caption)
        for number, subset in enumerate(subsets)
        for path, caption in pictures_in(subset, bounds)
    ]


def listed_by(
    items: Iterable[ManifestItem],
    settings: Sequence[SubsetSettings] = (),
    data: TrainData | None = None,
) -> tuple[list[Listed], list[Subset]]:
    """The files of a manifest, in its order, and their subsets. Paths are those of the manifest, resolved."""
    every = list(items)
    places: dict[str, str] = {}
    for item in every:
        places.setdefault(item.subset or "", os.path.dirname(from_wire(item.path)))
    subsets = subsets_named(places, settings, data)
    numbers = {subset.name: number for number, subset in enumerate(subsets)}
    listed = []
    for item in every:
        number = numbers[item.subset or ""]
        caption = subsets[number].class_tokens if item.caption is None else item.caption
        listed.append(Listed(number, from_wire(item.path), caption, item.sha256))
    return listed, subsets


def collect(
    listed: Sequence[Listed],
    subsets: Sequence[Subset],
    *,
    bad: Bad = "refuse",
    max_pixels: int = MAX_PIXELS,
    remembered: Remembered | None = None,
    bounds: Bounds = ANYWHERE,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Collection:
    """The pictures of a run. `step` is told how many of how many were looked at, and may raise.

    Files that `remembered` knows unchanged are not read, and links out of `bounds` never. Raises what `look`
    raises where bad pictures are refused, then too PathOutsideRoots for such links and ManifestInvalid for a
    file that is not the one that was listed; FileMissing for a caption that the subset's settings want, and
    NoImages where no picture is left.
    """
    wanted, skipped = captioned(listed, subsets)
    pictures: list[Picture] = []

    def looked_at(each: Listed) -> Picture | Skipped:
        return _picture(each, subsets[each.subset], max_pixels, remembered, bounds)

    with closing(in_threads(looked_at, wanted, at_once=_AT_ONCE)) as results:
        for done, seen in enumerate(results, 1):
            if isinstance(seen, Picture):
                pictures.append(seen)
            elif bad == "refuse":
                raise seen.error
            else:
                skipped.append(seen)
            step(done, len(wanted))
    if remembered is not None:
        remembered.save()
    return _some(pictures, skipped)


def decodable(
    collection: Collection,
    *,
    bad: Bad = "refuse",
    max_pixels: int = MAX_PIXELS,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Collection:
    """The same without pictures that cannot be decoded to their end, which only decoding tells.

    For runs that do not cache latents, so that such a picture is known before the first step. Raises what
    `decode` raises where bad pictures are refused, and NoImages where none is left.
    """

    def tried(picture: Picture) -> Skipped | None:
        try:
            decode(picture.path, max_pixels=max_pixels, sha256=picture.sha256)
        except LorakeetError as error:
            return Skipped(picture.path, error)
        return None

    skipped = []
    with closing(in_threads(tried, collection.pictures)) as results:
        for done, found in enumerate(results, 1):
            if found is not None and bad == "refuse":
                raise found.error
            skipped += [] if found is None else [found]
            step(done, len(collection.pictures))
    return collection.without(skipped)


def in_threads(
    work: Callable[[_Item], _Result], items: Sequence[_Item], *, at_once: int = 1
) -> Generator[_Result, None, None]:
    """`work` of each of `items`, in their order, a few at a time; what is left is not begun once it is closed
    or one raises. A thread takes `at_once` of them, which pays where handing over is most of the work.
    """

    def some(start: int) -> list[_Result]:
        return [work(item) for item in items[start : start + at_once]]

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for results in pool.map(some, range(0, len(items), at_once)):
                yield from results
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def captioned(listed: Sequence[Listed], subsets: Sequence[Subset]) -> tuple[list[Listed], list[Skipped]]:
    """Those with a caption, or in no need of one, and those left out for want of it.

    Raises FileMissing where the subset's settings want one, and NoImages where everything is left out.
    """
    wanted, skipped = [], []
    for each in listed:
        missing = subsets[each.subset].captions.missing
        if each.caption is not None or missing == "empty":
            wanted.append(each)
        elif missing == "refuse":
            raise _uncaptioned(each.path)
        else:
            skipped.append(Skipped(each.path, _uncaptioned(each.path)))
    if not wanted:
        raise _unusable(skipped)
    return wanted, skipped


def _picture(
    listed: Listed, subset: Subset, max_pixels: int, remembered: Remembered | None, bounds: Bounds
) -> Picture | Skipped:
    try:
        bounds.check(listed.path)
        facts = _facts(listed, max_pixels, remembered)
    except LorakeetError as error:
        return Skipped(listed.path, error)
    caption = listed.caption or ""
    return Picture(listed.path, facts.sha256, facts.size, listed.subset, subset.repeats, caption)


def _facts(listed: Listed, max_pixels: int, remembered: Remembered | None) -> Facts:
    look_at = look if remembered is None else remembered.look
    facts = look_at(listed.path, max_pixels=max_pixels)
    if listed.sha256 not in (None, facts.sha256):
        raise changed(listed.path)
    return facts


def _uncaptioned(path: str) -> FileMissing:
    named = to_wire(path)
    return FileMissing(
        f"`{named}` has no caption.",
        where=named,
        hint="Write one, give its subset `class_tokens`, or set `data.captions.missing` to empty or skip.",
    )


def _some(pictures: list[Picture], skipped: list[Skipped]) -> Collection:
    if not pictures:
        raise _unusable(skipped)
    return Collection(pictures, skipped)


def _unusable(skipped: Sequence[Skipped]) -> NoImages:
    names = ", ".join(f"`{to_wire(each.path)}`" for each in skipped[:3])
    return NoImages(
        f"None of the {len(skipped)} images can be used, such as {names}.",
        details={"images": [to_wire(each.path) for each in skipped[:1000]]},
    )
