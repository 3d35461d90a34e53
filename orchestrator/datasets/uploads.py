"""Uploads into a dataset: spooled, looked at by a worker, put into its folder, and only then known.

Captions that come beside images go through the journal. What is refused is so by itself; the rest is taken.
"""

import os
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterable, Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import anyio
import msgspec
from anyio import to_thread

from contract.errors import (
    CaptionUnreadable,
    DiskFull,
    FileMissing,
    ImageInvalid,
    LorakeetError,
    NotFound,
    WireError,
    from_wire,
)
from contract.rules.paths import IMAGE_SUFFIXES, to_wire
from orchestrator.clock import now_ms
from orchestrator.datasets import images, journal
from orchestrator.datasets.captioning import Captioning, Scene
from orchestrator.datasets.captions import MAX_BYTES, Caption, Key
from orchestrator.datasets.images import Image
from orchestrator.datasets.index import BATCH, Index
from orchestrator.datasets.journal import Change, Edit
from orchestrator.datasets.names import ENDINGS, KINDS, CaptionKind, stem_of
from orchestrator.datasets.place import Place, place_of
from orchestrator.datasets.placing import Placed, place
from orchestrator.datasets.spool import Part, spooled
from orchestrator.datasets.table import Dataset, find
from orchestrator.files.durable import unwritten
from orchestrator.files.filenames import safe_name
from orchestrator.files.roots import Roots
from orchestrator.store.database import Database
from orchestrator.workers.tasks import Picture

#: Makes the ids of what an upload makes.
NewId = Callable[[str], str]
Status = Literal["created", "already_there", "refused"]


class Uploaded(msgspec.Struct, kw_only=True):
    """What became of one file. `image` is the image that it is, or whose caption it is."""

    name: str
    status: Status
    image: Image | None = None
    error: LorakeetError | None = None


class _Checked(NamedTuple):
    """A picture that may be put into the folder."""

    part: Part
    picture: Picture


class Uploads:
    """Made once a studio; `folder` is where uploads are spooled, on the disk of the data directory."""

    def __init__(
        self, folder: Path, control: Database, roots: Roots, index: Index, captioning: Captioning
    ) -> None:
        self._folder = folder
        self._control = control
        self._roots = roots
        self._index = index
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._captioning = captioning

    async def receive(
        self, dataset: Dataset, content_type: str, body: AsyncIterable[bytes], max_bytes: int, new_id: NewId
    ) -> list[Uploaded]:
        """Take a multipart body; what became of each file, in their order.

        Raises MediaTypeWrong, BodyInvalid, BodyTooLarge, DiskFull and FileMissing; then nothing was taken.
        """
        where = await to_thread.run_sync(place_of, self._roots, dataset)
        async with spooled(self._folder / new_id("upload"), content_type, body, max_bytes) as parts:
            results = {part: _unchecked(part) for part in parts}
            pictures = [part for part in parts if _ending(part.name) in IMAGE_SUFFIXES]
            checked = await self._check(pictures, results)
            # From here on every step leaves something behind, which has to become known.
            with anyio.CancelScope(shield=True):
                await self._put_images(dataset, where, checked, results, new_id)
                await self._put_captions(dataset, parts, results, new_id)
            return [results[part] for part in parts]

    async def _check(self, parts: Sequence[Part], results: dict[Part, Uploaded]) -> list[_Checked]:
        """Let workers look at the pictures; those that are some."""
        checked = []
        for start in range(0, len(parts), BATCH):
            some = parts[start : start + BATCH]
            spool = Place(str(some[0].path.parent), ())
            for part, file in zip(
                some, await self._index.scan(spool, [to_wire(str(each.path)) for each in some]), strict=True
            ):
                if file.picture is not None:
                    checked.append(_Checked(part, file.picture))
                elif file.error is not None:
                    results[part] = _refused(part, _as_named(file.error, part))
        return checked

    async def _put_images(
        self,
        dataset: Dataset,
        where: Place,
        checked: Sequence[_Checked],
        results: dict[Part, Uploaded],
        new_id: NewId,
    ) -> None:
        if not checked:
            return
        async with self._locks[dataset.id]:
            known = {each.path: each for each in await self._known(dataset)}
            stems = {each.stem for each in known.values() if each.removed_ms is None}
            placed = await to_thread.run_sync(_place_all, dataset, where, checked, stems)
            made: list[Image] = []
            for each, outcome in zip(checked, placed, strict=True):
                if isinstance(outcome, LorakeetError):
                    results[each.part] = _refused(each.part, outcome)
                    continue
                image = _image(dataset, each.picture, outcome, known.get(outcome.name), new_id)
                status: Status = "created" if outcome.is_new else "already_there"
                known[image.path] = image
                made.append(image)
                results[each.part] = Uploaded(name=each.part.name, status=status, image=image)
            await self._control.write(lambda db: _put(db, dataset, made))
        for outcome in placed:
            if isinstance(outcome, DiskFull):
                raise outcome

    async def _put_captions(
        self, dataset: Dataset, parts: Sequence[Part], results: dict[Part, Uploaded], new_id: NewId
    ) -> None:
        captions = [part for part in parts if _kind(part.name) is not None]
        if not captions:
            return
        owners = _owners(await self._known(dataset), results)
        changes: dict[Key, tuple[Part, Change]] = {}
        for part in captions:
            try:
                change = await to_thread.run_sync(_change, part, owners)
            except LorakeetError as error:
                results[part] = _refused(part, error)
                continue
            changes[change.key] = (part, change)
            results[part] = Uploaded(
                name=part.name, status="already_there", image=owners[stem_of(safe_name(part.name))]
            )
        edit = Edit(id=new_id("edit"), dataset_id=dataset.id, action="upload", author="user")
        await self._write(dataset, edit, changes, results)

    async def _write(
        self,
        dataset: Dataset,
        edit: Edit,
        changes: dict[Key, tuple[Part, Change]],
        results: dict[Part, Uploaded],
    ) -> None:
        def transact(db: sqlite3.Connection, scene: Scene) -> list[Caption]:
            due = [change for key, (_, change) in changes.items() if key not in scene.refused]
            for key in scene.refused.keys() & changes.keys():
                part = changes[key][0]
                results[part] = _refused(part, scene.refused[key])
            return journal.apply(db, edit, due)

        ids = list(dict.fromkeys(key.image_id for key in changes))
        changed = await self._captioning.change(dataset, ids, KINDS, transact)
        for caption in changed:
            results[changes[caption.key][0]].status = "created"
        if changed:
            self._captioning.tell(edit, len(changed))

    async def _known(self, dataset: Dataset) -> list[Image]:
        """Those that are gone included: an image that comes back is the same one."""
        return await self._control.read(lambda db: images.all_images(db, dataset.id))


def _place_all(
    dataset: Dataset, where: Place, checked: Sequence[_Checked], stems: set[str]
) -> list[Placed | LorakeetError]:
    """Put every picture into the folder, and bring their names to the disk. `stems` are those that are taken.

    Raises DiskFull, FileUnwritable and FileMissing.
    """
    outcomes: list[Placed | LorakeetError] = []
    try:
        if dataset.managed:
            where.folder.mkdir(exist_ok=True)
        with where.opened() as folder:
            for each in checked:
                name = safe_name(each.part.name)
                try:
                    placed = place(folder, str(each.part.path), name, each.picture.sha256, stems)
                    stems.add(stem_of(placed.name))
                    outcomes.append(placed)
                except LorakeetError as error:
                    outcomes.append(error)
            folder.sync()
    except FileNotFoundError:
        raise FileMissing("The dataset's folder is not there.", where=to_wire(str(where.folder))) from None
    except OSError as error:
        raise unwritten(error, where.folder) from error
    return outcomes


def _put(db: sqlite3.Connection, dataset: Dataset, made: Sequence[Image]) -> None:
    """Raises NotFound where the dataset was deleted meanwhile."""
    if find(db, dataset.id) is None:
        raise NotFound("The dataset is not there any more.", where=dataset.id)
    images.put(db, made)


def _image(dataset: Dataset, picture: Picture, placed: Placed, known: Image | None, new_id: NewId) -> Image:
    return Image(
        id=known.id if known else new_id("img"),
        dataset_id=dataset.id,
        path=placed.name,
        stem=stem_of(placed.name),
        size_bytes=placed.size_bytes,
        mtime_ns=placed.mtime_ns,
        sha256=picture.sha256,
        width=picture.width,
        height=picture.height,
        format=picture.format,
        problem=None,
        added_ms=known.added_ms if known else now_ms(),
        removed_ms=None,
    )


def _owners(known: Sequence[Image], results: dict[Part, Uploaded]) -> dict[str, Image]:
    """By stem, whose caption a file of it is: of the first image of this upload that was sent under it, else
    of the one that has it."""
    owners = {each.stem: each for each in known if each.removed_ms is None and "/" not in each.path}
    sent = [(stem_of(safe_name(part.name)), each.image) for part, each in results.items()]
    return owners | {stem: image for stem, image in reversed(sent) if image is not None}


def _change(part: Part, owners: dict[str, Image]) -> Change:
    """What a caption file asks for. Raises FileMissing and CaptionUnreadable."""
    kind, stem = _kind(part.name), stem_of(safe_name(part.name))
    assert kind is not None
    if stem not in owners:
        raise FileMissing(
            "There is no image of that name.", where=part.name, hint="Upload the image with it, or before."
        )
    try:
        if os.stat(part.path).st_size > MAX_BYTES:
            raise CaptionUnreadable(f"It has more than {MAX_BYTES} bytes.", where=part.name)
        return Change(Key(owners[stem].id, kind), part.path.read_bytes().decode())
    except UnicodeDecodeError:
        raise CaptionUnreadable(
            "It is not text in UTF-8.", where=part.name, hint="Convert it to UTF-8."
        ) from None


def _unchecked(part: Part) -> Uploaded:
    """What becomes of a file that is neither."""
    endings = " ".join(sorted(IMAGE_SUFFIXES | set(ENDINGS.values())))
    return _refused(
        part,
        ImageInvalid("Its name is not that of a picture.", where=part.name, hint=f"Known are {endings}."),
    )


def _refused(part: Part, error: LorakeetError) -> Uploaded:
    return Uploaded(name=part.name, status="refused", error=error)


def _as_named(error: WireError, part: Part) -> LorakeetError:
    """A worker's error, in which the spooled file has the name that the client gave it."""
    made = from_wire(error)
    made.message = made.message.replace(repr(part.path.name), repr(part.name))
    made.where = part.name
    return made


def _ending(name: str) -> str:
    return os.path.splitext(safe_name(name))[1].lower()


def _kind(name: str) -> CaptionKind | None:
    return next((kind for kind, ending in ENDINGS.items() if _ending(name) == ending), None)
