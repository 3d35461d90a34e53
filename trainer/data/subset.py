"""A subset: a folder of pictures with its captions, how often it is repeated, and what is done to it.

Captions come from a file beside a picture, from a file with a line for each (`metadata.jsonl`, as the hub's
image folders have it), or from the words for the subset's class.
"""

import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from contract.errors import FileMissing, FileUnreadable, ManifestInvalid, NoImages
from contract.methods.training.captions import Captions
from contract.methods.training.data import TrainData
from contract.methods.training.subsets import Subset as SubsetSettings
from contract.rules.paths import IMAGE_SUFFIXES, caption_path, to_wire
from trainer.data.bounds import ANYWHERE, Bounds

#: Says nothing of a subset; folders may have names that settings cannot give.
_PLAIN: Final = SubsetSettings(name="plain")
_REPEATED: Final = re.compile(r"(\d+)_(.+)", re.DOTALL)


class Subset(msgspec.Struct, frozen=True, kw_only=True):
    """One folder and everything in it, with what the settings say of it.

    `name` is what people call it. Pictures in the folders `apart` belong to other subsets, or to none.
    """

    name: str
    folder: str
    repeats: int = 1
    class_tokens: str | None = None
    flip: bool = False
    random_crop: bool = False
    captions: Captions = Captions()
    apart: frozenset[str] = frozenset()


class Found(NamedTuple):
    """A file that looks like a picture. `caption` is None where it has none of its own or its class."""

    path: str
    caption: str | None


class _Line(msgspec.Struct):
    """A line of a file of captions; other columns do not matter."""

    file_name: str
    text: str | None = None
    caption: str | None = None


_line: Final = msgspec.json.Decoder(_Line)


def subsets_of(
    folders: Sequence[str],
    settings: Sequence[SubsetSettings] = (),
    data: TrainData | None = None,
    bounds: Bounds = ANYWHERE,
) -> list[Subset]:
    """The subsets of a source, ordered by folder: the folders themselves, those in them named `N_name`, which
    are repeated N times and have the class `name`, and those that `settings` name.

    Those without pictures are left out unless `settings` name them. A folder whose N is 0 is no part of the
    source, as with the reference trainer. Raises FileMissing, FileUnreadable, NoImages, and PathOutsideRoots
    for one that is a link out of `bounds`.
    """
    data = data or TrainData()
    own = {each.name: each for each in settings}
    found: list[Subset] = []
    for source in folders:
        places = _places(source, own)
        apart = frozenset(places.values()) | _left_out(source)
        for name, folder in places.items():
            bounds.check(folder)
            found.append(_subset(name, folder, apart - {folder}, own.get(name), data))
    if unknown := own.keys() - {each.name for each in found}:
        raise FileMissing(
            f"The source has no folder `{min(unknown)}`.",
            where=f"$.params.settings.subsets[{list(own).index(min(unknown))}].name",
            hint="A subset is named by its path from the source on.",
        )
    kept = [each for each in found if each.name in own or next(_files(each), None) is not None]
    if not kept:
        raise _empty(folders[0])
    return kept


def subsets_named(
    places: Mapping[str, str], settings: Sequence[SubsetSettings] = (), data: TrainData | None = None
) -> list[Subset]:
    """The subsets of these names → folders, for files that somebody else has listed."""
    data = data or TrainData()
    own = {each.name: each for each in settings}
    return [
        _subset(name, folder, frozenset(), own.get(name), data) for name, folder in sorted(places.items())
    ]


def pictures_in(subset: Subset, bounds: Bounds = ANYWHERE) -> list[Found]:
    """The pictures of a subset with their captions, ordered by their paths.

    Raises FileMissing, FileUnreadable, NoImages, ManifestInvalid for a wrong line of a file of captions, and
    PathOutsideRoots for captions that a link fetches from outside of `bounds`; pictures are not looked at.
    """
    found: list[Found] = []
    listed: dict[str, dict[str, str]] = {
        name: {} for name in subset.captions.files if not name.startswith(".")
    }
    for folder, inside in _below(subset.folder, subset.apart):
        bounds.check(folder)
        names = frozenset(inside.names)
        for name in listed.keys() & names:
            listed[name] |= _lines(folder, name, bounds)
        found += [
            Found(path, _caption(path, listed, subset, names, bounds)) for path in _pictures(folder, inside)
        ]
    if not found:
        raise _empty(subset.folder)
    return sorted(found)


def _empty(folder: str) -> NoImages:
    named = to_wire(folder)
    return NoImages(f"`{named}` has no images.", where=named)


def _places(source: str, own: Container[str]) -> dict[str, str]:
    """Name → folder of the subsets of a source: itself, and below it those with a name that means one."""
    places = {os.path.basename(os.path.abspath(source)): source}
    for name in _inside(source).names:
        named = _REPEATED.fullmatch(name)
        if named and int(named[1]) and os.path.isdir(path := os.path.join(source, name)):
            places[name] = path
    for folder, _ in _below(source, frozenset()):
        name = os.path.relpath(folder, source).replace(os.sep, "/")
        if name in own:
            places[name] = folder
    return places


def _left_out(source: str) -> frozenset[str]:
    """The folders that are repeated no times."""
    named = ((name, _REPEATED.fullmatch(name)) for name in _inside(source).names)
    return frozenset(os.path.join(source, name) for name, found in named if found and not int(found[1]))


def _subset(
    name: str, folder: str, apart: frozenset[str], own: SubsetSettings | None, data: TrainData
) -> Subset:
    own = own or _PLAIN
    named = _REPEATED.fullmatch(name.rpartition("/")[2])
    repeats, tokens = (max(1, int(named[1])), named[2]) if named else (1, None)
    return Subset(
        name=name,
        folder=folder,
        repeats=repeats if own.repeats is None else own.repeats,
        class_tokens=tokens if own.class_tokens is None else own.class_tokens,
        flip=own.flips(data),
        random_crop=own.crops_randomly(data),
        captions=own.captions(data.captions),
        apart=apart,
    )


def _files(subset: Subset) -> Iterator[str]:
    for folder, inside in _below(subset.folder, subset.apart):
        yield from _pictures(folder, inside)


class _Inside(NamedTuple):
    """What lies in a folder, by name and in that order; `folders` without links to such."""

    names: list[str]
    files: list[str]
    folders: list[str]


def _pictures(folder: str, inside: _Inside) -> Iterator[str]:
    """The paths of what looks like a picture."""
    for name in inside.files:
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith("."):
            yield os.path.join(folder, name)


def _below(folder: str, apart: Container[str]) -> Iterator[tuple[str, _Inside]]:
    """The folder and those in it, but hidden ones and those `apart`; links to folders are not followed."""
    inside = _inside(folder)
    yield folder, inside
    for name in inside.folders:
        path = os.path.join(folder, name)
        if not name.startswith(".") and path not in apart:
            yield from _below(path, apart)


def _inside(folder: str) -> _Inside:
    """Raises FileMissing and FileUnreadable."""
    named = to_wire(folder)
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileMissing(f"The folder `{named}` does not exist.", where=named) from error
    except OSError as error:
        raise FileUnreadable(f"`{named}` cannot be read as a folder.", where=named) from error
    return _Inside(
        [entry.name for entry in found],
        [entry.name for entry in found if _is_file(entry)],
        [entry.name for entry in found if _is_folder(entry)],
    )


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _caption(
    path: str,
    listed: Mapping[str, Mapping[str, str]],
    subset: Subset,
    names: Container[str],
    bounds: Bounds,
) -> str | None:
    for each in subset.captions.files:
        if each in listed:
            text = listed[each].get(os.path.normpath(path))
            if text is not None:
                return text
        elif os.path.basename(beside := caption_path(path, each)) in names:
            return _read(beside, bounds).strip()
    return subset.class_tokens


def _lines(folder: str, name: str, bounds: Bounds) -> dict[str, str]:
    """Path → caption, of a file with a JSON object a line; its file names may lead into folders below."""
    path = os.path.join(folder, name)
    captions = {}
    for number, text in enumerate(_read(path, bounds).split("\n"), 1):
        if not text.strip():
            continue
        try:
            line = _line.decode(text)
        except (msgspec.DecodeError, RecursionError):
            where = f"{to_wire(path)}:{number}"
            raise ManifestInvalid(
                f"`{where}` is not understood.",
                where=where,
                hint='A line is {"file_name": "a.png", "text": "a caption"}.',
            ) from None
        caption = line.caption if line.text is None else line.text
        if caption is not None:
            captions[os.path.normpath(os.path.join(folder, line.file_name))] = caption.strip()
    return captions


def _read(path: str, bounds: Bounds) -> str:
    """A text of UTF-8, with or without a byte order mark, its lines ended as anybody ends them."""
    bounds.check(path)
    named = to_wire(path)
    try:
        # As text it takes twice the time, which counts with ten thousand of them.
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise FileUnreadable(
            f"`{named}` is not text in UTF-8.", where=named, hint="Save it as UTF-8."
        ) from None
    except OSError as error:
        raise FileUnreadable(f"`{named}` cannot be read.", where=named) from error
