"""The checkpoints of a run: one folder each, whole or not there, named by age and step.

`00003-step-00000120` is the third that the run wrote, so the order of names is that of age, also where a run
went back to an older checkpoint and came past the same step again. No name is ever used twice.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from contract.errors import (
    DiskFull,
    FileMissing,
    FileUnreadable,
    FileUnwritable,
    LorakeetError,
    WeightsDamaged,
    WeightsUnsupported,
)
from contract.rules.paths import to_wire
from trainer.checkpoints import manifest as manifests
from trainer.checkpoints.manifest import FileFacts, Manifest, ManifestUnreadable, Position
from trainer.checkpoints.part import json_name, read_part, write_part
from trainer.checkpoints.state import State
from trainer.checkpoints.unfinished_folder import UnfinishedFolder, clear, remove
from trainer.checkpoints.whole_file import keep
from trainer.weights.tensor_writer import Written

_NAME: Final = re.compile(r"(\d{5,})-step-(\d{8,})")
#: More than any manifest has.
_LONGEST_MANIFEST: Final = 1 << 24

#: Writes a file at a path, down to the disk, as `TensorWriter` does.
WriteFile = Callable[[str], Written]


class Checkpoint(NamedTuple):
    """A whole checkpoint: every file was as the manifest says when it was looked at."""

    name: str
    path: str
    manifest: Manifest

    def state(self, part: str) -> State:
        """A part as it was saved, on the CPU. Raises FileMissing, FileUnreadable and WeightsDamaged."""
        self.file(json_name(part))
        return read_part(self.path, part)

    def file(self, name: str) -> str:
        """The path of a file. Raises FileMissing."""
        if name not in self.manifest.files:
            raise FileMissing(f"The checkpoint `{self.name}` has no `{name}`.", where=to_wire(self.path))
        return os.path.join(self.path, name)


class Newest(NamedTuple):
    """The newest whole checkpoint, None where there is none, and what is wrong with those after it: newest
    first, each with the file at fault in `where`."""

    checkpoint: Checkpoint | None
    damaged: tuple[LorakeetError, ...]


class CheckpointFolder:
    """The folder of a run's checkpoints; it need not exist. For one process and one thread."""

    def __init__(self, path: str) -> None:
        self.path = path

    def names(self) -> list[str]:
        """All that are there, from the oldest on, whole or not. Raises FileUnreadable."""
        try:
            found = [match for name in os.listdir(self.path) if (match := _NAME.fullmatch(name))]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unreadable(self.path) from error
        return [match[0] for match in sorted(found, key=lambda each: (int(each[1]), each[0]))]

    def save(
        self,
        parts: Mapping[str, State],
        position: Position,
        settings: str,
        *,
        files: Mapping[str, WriteFile] | None = None,
        score: float | None = None,
    ) -> Checkpoint:
        """Write a checkpoint of `parts`, and of `files` that others write into it, by name.

        Raises WeightsUnsupported where a part cannot be kept, DiskFull, FileUnwritable and what the writers
        of `files` raise. Nothing of it is left then; only where the disk refuses its name at the very end,
        the whole checkpoint stays.
        """
        if not all(map(manifests.is_plain, (*parts, *(files or {})))):
            raise ValueError("names of files only")
        name = self._next_name(position.step)
        path = os.path.join(self.path, name)
        unfinished = UnfinishedFolder(self.path)
        temporary = unfinished.path
        try:
            facts = _fill(temporary, parts, files or {})
            raw = manifests.encode_manifest(Manifest(position, settings, facts, score))
            manifest = manifests.decode_manifest(raw)
            keep(os.path.join(temporary, manifests.NAME), raw)
            unfinished.publish(name)
        except (DiskFull, FileUnwritable, WeightsUnsupported) as error:
            raise _named(error, to_wire(temporary), to_wire(path)) from error
        finally:
            unfinished.discard()
        return Checkpoint(name, path, manifest)

    def manifest(self, name: str) -> Manifest:
        """What a checkpoint says of itself; its files are not looked at.

        Raises FileMissing, FileUnreadable and WeightsDamaged.
        """
        folder = self._path(name)
        path = os.path.join(folder, manifests.NAME)
        try:
            with open(path, "rb") as file:
                return manifests.decode_manifest(file.read(_LONGEST_MANIFEST))
        except FileNotFoundError:
            raise _damaged(name, path, "its manifest is missing") from None
        except ManifestUnreadable as why:
            raise _damaged(name, path, str(why)) from None
        except OSError as error:
            raise _unreadable(path) from error

    def open(self, name: str) -> Checkpoint:
        """The checkpoint of a name, every byte of which was looked at.

        Raises FileMissing, FileUnreadable, and WeightsDamaged with the file at fault in `where`.
        """
        manifest = self.manifest(name)
        folder = self._path(name)
        for file, facts in sorted(manifest.files.items()):
            _check(name, os.path.join(folder, file), facts)
        return Checkpoint(name, folder, manifest)

    def newest(self) -> Newest:
        """The newest whole one. Raises FileUnreadable where the folder itself cannot be read."""
        damaged: list[LorakeetError] = []
        for name in reversed(self.names()):
            try:
                return Newest(self.open(name), tuple(damaged))
            except (FileMissing, FileUnreadable, WeightsDamaged) as error:
                damaged.append(error)
        return Newest(None, tuple(damaged))

    def is_whole(self, name: str) -> bool:
        """Whether every byte of it is as it was written."""
        with suppress(FileMissing, FileUnreadable, WeightsDamaged):
            self.open(name)
            return True
        return False

    def clear(self) -> None:
        """Remove what processes that are no more have left unfinished, as far as that goes. Never raises."""
        with suppress(OSError):
            clear(self.path)

    def remove(self, name: str) -> None:
        """Remove a checkpoint, all of it at once. Raises FileMissing and FileUnwritable."""
        self._path(name)
        remove(self.path, name)

    def _path(self, name: str) -> str:
        """Raises FileMissing."""
        path = os.path.join(self.path, name)
        if not _NAME.fullmatch(name) or not os.path.isdir(path):
            raise FileMissing(
                f"There is no checkpoint `{to_wire(name)}`.",
                where=to_wire(self.path),
                details={"checkpoints": self.names()},
            )
        return path

    def _next_name(self, step: int) -> str:
        ages = [int(match[1]) for name in self.names() if (match := _NAME.fullmatch(name))]
        return f"{max(ages, default=0) + 1:05d}-step-{step:08d}"


def _fill(folder: str, parts: Mapping[str, State], files: Mapping[str, WriteFile]) -> dict[str, FileFacts]:
    """Write everything but the manifest; what it has to say of the files. Raises what `save` does."""
    facts: dict[str, FileFacts] = {}
    for part, state in parts.items():
        for file, size, sha256 in write_part(folder, part, state):
            facts[file] = FileFacts(size, sha256)
    for file, write in files.items():
        written = write(os.path.join(folder, file))
        facts[file] = FileFacts(written.bytes, written.sha256)
    return facts


def _check(name: str, path: str, facts: FileFacts) -> None:
    file = os.path.basename(path)
    try:
        if (size := os.stat(path).st_size) != facts.bytes:
            raise _damaged(name, path, f"`{file}` has {size} bytes instead of {facts.bytes}")
        with open(path, "rb", buffering=0) as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        raise _damaged(name, path, f"`{file}` is missing") from None
    except OSError as error:
        raise _unreadable(path) from error
    if sha256 != facts.sha256:
        raise _damaged(name, path, f"the content of `{file}` was changed")


def _damaged(name: str, path: str, why: str) -> WeightsDamaged:
    return WeightsDamaged(
        f"The checkpoint `{name}` is damaged: {why}.", where=to_wire(path), details={"checkpoint": name}
    )


def _named(error: LorakeetError, temporary: str, path: str) -> LorakeetError:
    """The same of the name that people know."""
    return type(error)(
        error.message.replace(temporary, path),
        where=(error.where or temporary).replace(temporary, path),
        hint=error.hint,
        details=error.details,
    )


def _unreadable(path: str) -> FileUnreadable:
    return FileUnreadable(f"`{to_wire(path)}` cannot be read.", where=to_wire(path))
