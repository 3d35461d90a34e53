"""The recipe of a training, as its files of weights carry it: everything that it takes to do it again.

It has no folder of anybody's machine: of every file it has the name and the SHA-256. Nothing in it depends on
the time, so that a training that is repeated says the same.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from contract.base import Reply
from contract.errors import SettingsInvalid
from contract.methods.train import TrainSettings
from contract.methods.train_file import TrainFile, as_table
from contract.methods.training.source import TrainSource, TrainTarget
from contract.methods.weights import WeightsFile
from contract.validation import Contradiction

#: Another number from the day on which older versions could not read it.
RECIPE_FORMAT: Final = 1
#: Of more pictures than this only their digest is kept: a header should not outweigh the weights.
MAX_PICTURES: Final = 2000

#: Where settings name a file: the fields from the settings on.
FileField = Literal["model.base", "model.vae", "network.start_from"]
#: Digits of the digest of a caption: enough to tell whether it was changed.
_CAPTION_DIGITS: Final = 16


class UsedFile(Reply, kw_only=True, omit_defaults=True):
    """A file that was trained with; the SHA-256 of a folder is that of its files of weights with their
    names."""

    name: str
    sha256: str | None = None
    is_folder: bool = False


class UsedPicture(Reply, array_like=True):
    """A picture that was trained on: SHA-256 of its file, its subset counted from 0, how often it is seen in
    an epoch, and the digest of its caption."""

    sha256: str
    subset: int
    repeats: int
    caption: str


class UsedPictures(Reply, kw_only=True, omit_defaults=True):
    """The pictures in their order, which the run follows from. `digest` is that of all of them; `each` is
    left out where there are more than MAX_PICTURES."""

    count: int
    subsets: list[str]
    digest: str
    each: list[UsedPicture] | None = None


class TrainRecipe(Reply, kw_only=True, tag="train", tag_field="kind"):
    """`name` is that of the output. In `settings` the paths are names. `compute` is the type that was
    computed in on a `device` of a kind (cpu, cuda), `versions` are those of packages by name. `continued` is
    a training that began with a checkpoint of another: the recipe alone does not give the same again.
    """

    format: int = RECIPE_FORMAT
    name: str
    settings: TrainSettings
    base: UsedFile
    vae: UsedFile | None = None
    start_from: UsedFile | None = None
    pictures: UsedPictures
    steps: int
    epochs: int
    compute: str
    device: str
    versions: dict[str, str]
    continued: bool = False


class WantedFile(NamedTuple):
    """A file that the training needs again, and the field that names it."""

    field: FileField
    name: str
    sha256: str | None
    is_folder: bool


def caption_digest(caption: str) -> str:
    """What a recipe has of a caption."""
    return hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()[:_CAPTION_DIGITS]


def used_pictures(subsets: Sequence[str], pictures: Iterable[UsedPicture]) -> UsedPictures:
    """What a recipe has of the pictures; `subsets` are the names of the subsets."""
    every = list(pictures)
    digest = hashlib.sha256()
    for picture in every:
        digest.update(msgspec.json.encode(picture) + b"\n")
    each = every if len(every) <= MAX_PICTURES else None
    return UsedPictures(count=len(every), subsets=list(subsets), digest=digest.hexdigest(), each=each)


def encode_recipe(recipe: TrainRecipe) -> str:
    """As it stands in the metadata; the same recipe is the same text."""
    return msgspec.json.encode(recipe, order="sorted").decode()


def decode_recipe(text: str, where: str) -> TrainRecipe:
    """The recipe that the metadata of the file `where` has. Raises SettingsInvalid where it is none of a
    training, or none that this version can read."""
    try:
        kind = msgspec.json.decode(text, type=_Kind)
        if kind.kind is None:
            raise SettingsInvalid(
                f"`{where}` has the recipe of a merge, not of a training.",
                where=where,
                hint=f"`lorakeet merge {where}` does that again.",
            )
        if kind.format <= RECIPE_FORMAT:
            return msgspec.json.decode(text, type=TrainRecipe)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise SettingsInvalid(f"The recipe in `{where}` cannot be read.", where=where) from None
    raise SettingsInvalid(f"The recipe in `{where}` is of a newer version of Lorakeet.", where=where)


def wanted_files(recipe: TrainRecipe) -> list[WantedFile]:
    """The files that have to be there to repeat it."""
    found: list[tuple[FileField, UsedFile | None]] = [
        ("model.base", recipe.base),
        ("model.vae", recipe.vae),
        ("network.start_from", recipe.start_from),
    ]
    return [
        WantedFile(field, used.name, used.sha256, used.is_folder) for field, used in found if used is not None
    ]


def without_places(settings: TrainSettings, used: Mapping[FileField, UsedFile]) -> TrainSettings:
    """The settings with what was used, by name and hash, in place of paths. A folder has no hash there: no
    other file could be meant."""
    return _placed(
        settings,
        {
            field: WeightsFile(path=each.name, sha256=None if each.is_folder else each.sha256)
            for field, each in used.items()
        },
    )


def as_training_table(
    recipe: TrainRecipe, *, files: Mapping[FileField, str] | None = None, folders: Sequence[str] = ()
) -> dict[str, Any]:
    """The tables of the TOML that repeats it. `files` are the paths of those that are wanted, as far as they
    were found: of others the name stays. `folders` are the sources; without them there is no `[source]`.
    """
    settings = recipe.settings
    places = {
        wanted.field: WeightsFile(path=path, sha256=None if wanted.is_folder else wanted.sha256)
        for wanted in wanted_files(recipe)
        if (path := (files or {}).get(wanted.field)) is not None
    }
    tables = {name: getattr(_placed(settings, places), name) for name in settings.__struct_fields__}
    source = TrainSource(folders=list(folders)) if folders else None
    return as_table(TrainFile(**tables, source=source, output=_target(recipe.name)))


def _placed(settings: TrainSettings, files: Mapping[FileField, WeightsFile]) -> TrainSettings:
    for field, file in files.items():
        table, _, name = field.partition(".")
        changed = msgspec.structs.replace(getattr(settings, table), **{name: file})
        settings = msgspec.structs.replace(settings, **{table: changed})
    return settings


def _target(name: str) -> TrainTarget | None:
    """None for a name that a host gave and a person could not."""
    try:
        return TrainTarget(name=name)
    except Contradiction:
        return None


class _Kind(msgspec.Struct):
    kind: str | None = None
    format: int = RECIPE_FORMAT
