"""Whether the pictures in some folders, and their texts, are those that a LoRA was trained on.

Texts are looked for as the kernel does: in files beside the pictures, in files with a line for each, or in
the name of the subset.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from contract.errors import FileMissing
from contract.methods.training.recipe import TrainRecipe, UsedPicture, caption_digest
from contract.rules.paths import IMAGE_SUFFIXES, caption_path, from_wire, to_wire
from orchestrator.cli.recipes import sha256_of

_REPEATED: Final = re.compile(r"\d+_(.+)", re.DOTALL)


class Compared(NamedTuple):
    """How many pictures are `lost`, and which have `other_captions`; None where nobody can tell."""

    lost: int | None = None
    other_captions: list[str] | None = None


class _Place(NamedTuple):
    """A picture, and the folder of its source."""

    path: str
    source: str


class _Line(msgspec.Struct):
    """A line of a file of captions; other columns do not matter."""

    file_name: str
    text: str | None = None
    caption: str | None = None


_line: Final = msgspec.json.Decoder(_Line)


def compared(recipe: TrainRecipe, folders: Sequence[str]) -> Compared:
    """The pictures of a recipe with those in `folders`, which are as they travel. Raises FileMissing."""
    if not folders or recipe.pictures.each is None:
        return Compared()
    there: dict[str | None, list[_Place]] = {}
    for folder in folders:
        for place in _pictures_in(folder):
            there.setdefault(sha256_of(place.path), []).append(place)
    texts = _Texts(recipe)
    found = [(each, there[each.sha256]) for each in recipe.pictures.each if each.sha256 in there]
    other = [places[0].path for each, places in found if not any(texts.are(each, place) for place in places)]
    lost = {each.sha256 for each in recipe.pictures.each} - there.keys()
    return Compared(len(lost), [to_wire(path) for path in other])


def _pictures_in(folder: str) -> Iterator[_Place]:
    local = from_wire(folder)
    if not os.path.isdir(local):
        raise FileMissing(f"There is no folder {folder}.", where=folder)
    for parent, _, names in os.walk(local):
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield _Place(os.path.join(parent, name), local)


class _Texts:
    """The texts of pictures as the settings of a recipe find them."""

    def __init__(self, recipe: TrainRecipe) -> None:
        self._files = recipe.settings.data.captions.files
        self._subsets = recipe.pictures.subsets
        self._class_tokens = {each.name: each.class_tokens for each in recipe.settings.subsets}
        self._listed: dict[str, Mapping[str, str]] = {}

    def are(self, picture: UsedPicture, place: _Place) -> bool:
        """Whether the text is that which the recipe has."""
        return caption_digest(self._of(place, self._subsets[picture.subset])) == picture.caption

    def _of(self, place: _Place, subset: str) -> str:
        for each in self._files:
            if each.startswith("."):
                text = _read(caption_path(place.path, each))
            else:
                text = self._in_lists(place, subset, each)
            if text is not None:
                return text.strip()
        said = self._class_tokens.get(subset)
        named = _REPEATED.fullmatch(subset.rpartition("/")[2])
        return (named[1] if named else "") if said is None else said

    def _in_lists(self, place: _Place, subset: str, name: str) -> str | None:
        """What the files of that name say from the picture's folder up to that of its subset."""
        top = os.path.join(place.source, *subset.split("/"))
        folder = os.path.dirname(place.path)
        while True:
            text = self._lines(folder, name).get(os.path.normpath(place.path))
            if text is not None or folder in (top, place.source):
                return text
            folder = os.path.dirname(folder)

    def _lines(self, folder: str, name: str) -> Mapping[str, str]:
        """Path → text, of a file with a JSON object a line. What is wrong with one, a training says."""
        path = os.path.join(folder, name)
        if path not in self._listed:
            found: dict[str, str] = {}
            for line in (_read(path) or "").split("\n"):
                with suppress(msgspec.DecodeError, RecursionError):
                    said = _line.decode(line)
                    text = said.caption if said.text is None else said.text
                    if text is not None:
                        found[os.path.normpath(os.path.join(folder, said.file_name))] = text
            self._listed[path] = found
        return self._listed[path]


def _read(path: str) -> str | None:
    """None for a file that is not there, or no text."""
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8-sig") as file:
        return file.read()
    return None
