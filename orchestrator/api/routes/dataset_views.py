"""Datasets, images, captions and edits as clients see them."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from contract.base import Reply
from contract.errors import LorakeetError, WireError, from_wire
from orchestrator.api.calls import etag
from orchestrator.api.registry import PREFIX
from orchestrator.clock import rfc3339
from orchestrator.datasets.captions import Caption, Key, text_of
from orchestrator.datasets.images import Image
from orchestrator.datasets.journal import Action, Author, Edit, Entry
from orchestrator.datasets.names import KINDS, CaptionKind
from orchestrator.datasets.table import Counts, Dataset

DatasetId = Annotated[str, msgspec.Meta(pattern=r"^ds_[0-9A-Z]{26}\Z")]
ImageId = Annotated[str, msgspec.Meta(pattern=r"^img_[0-9A-Z]{26}\Z")]
EditId = Annotated[str, msgspec.Meta(pattern=r"^edit_[0-9A-Z]{26}\Z")]

#: Pixels of the thumbnails that lists point to.
_SHOWN_SIZE: Final = 256


class FileProblem(Reply, kw_only=True):
    """What is wrong with a file. Programs branch on `code`; people read `detail`."""

    code: str
    detail: str
    hint: str | None


class DatasetView(Reply, kw_only=True):
    """A dataset. `managed`: its folder is the studio's own, and goes to the trash with it.

    `captioned` and `with_problems` count images; `unwritten` counts captions whose file is still to be
    written. `import_job_id` is of the job that looks at a folder that was just registered.
    """

    id: str
    name: str
    root: str
    path: str
    managed: bool
    images: int
    captioned: int
    with_problems: int
    unwritten: int
    problem: FileProblem | None
    import_job_id: str | None
    created_at: str
    changed_at: str


class CaptionView(Reply, kw_only=True):
    """A caption of an image; `text` is null where there is none. Send `etag` as If-Match to change it.

    `is_written`: its file says the same by now. `problem`: why it cannot be changed.
    """

    kind: CaptionKind
    text: str | None
    etag: str
    is_written: bool
    problem: FileProblem | None


class ImageView(Reply, kw_only=True):
    """An image. `path` is below the dataset's folder; `thumbnail` is the address of a small WEBP of it.

    `width` and `height` are as people see it; they and `format` are null where it cannot be decoded.
    """

    id: str
    dataset_id: str
    path: str
    size_bytes: int
    width: int | None
    height: int | None
    format: str | None
    sha256: str | None
    captions: dict[str, CaptionView]
    thumbnail: str | None
    file: str
    problem: FileProblem | None
    added_at: str


class EditView(Reply, kw_only=True):
    """A change of captions. `changes` counts them; `reverts` is the edit that it undid, and `kept` counts the
    captions that it left because they were changed since."""

    id: str
    dataset_id: str
    action: Action
    author: Author
    job_id: str | None
    reverts: str | None
    changes: int
    kept: int
    created_at: str


class ChangeView(Reply, kw_only=True):
    """One caption of an edit: before and after. `path` is null where the image is forgotten."""

    image_id: str
    path: str | None
    kind: CaptionKind
    before: str | None
    after: str | None
    at: str


def dataset_view(
    dataset: Dataset, counts: Counts, problem: LorakeetError | None, import_job_id: str | None = None
) -> DatasetView:
    """A dataset."""
    return DatasetView(
        id=dataset.id,
        name=dataset.name,
        root=dataset.root,
        path=dataset.path,
        managed=dataset.managed,
        images=counts.images,
        captioned=counts.captioned,
        with_problems=counts.problems,
        unwritten=counts.unwritten,
        problem=problem_view(problem),
        import_job_id=import_job_id,
        created_at=rfc3339(dataset.created_ms),
        changed_at=rfc3339(dataset.changed_ms),
    )


def dataset_etag(dataset: Dataset) -> str:
    """Of what a client can change."""
    return etag(dataset.id, dataset.version)


def image_view(
    image: Image, captions: Mapping[Key, Caption], refused: Mapping[Key, LorakeetError]
) -> ImageView:
    """An image with its captions."""
    keys = [Key(image.id, kind) for kind in KINDS]
    thumbnail = None
    if image.sha256 is not None:
        thumbnail = f"{PREFIX}/thumbnails/{image.sha256}/{_SHOWN_SIZE}.webp"
    return ImageView(
        id=image.id,
        dataset_id=image.dataset_id,
        path=image.path,
        size_bytes=image.size_bytes,
        width=image.width,
        height=image.height,
        format=image.format,
        sha256=image.sha256,
        captions={key.kind: caption_view(captions[key], refused.get(key)) for key in keys if key in captions},
        thumbnail=thumbnail,
        file=f"{PREFIX}/datasets/{image.dataset_id}/images/{image.id}/file",
        problem=problem_view(_error_of(image.problem)),
        added_at=rfc3339(image.added_ms),
    )


def caption_view(caption: Caption, refused: LorakeetError | None) -> CaptionView:
    """A caption. One whose file cannot be used is shown as the journal has it."""
    return CaptionView(
        kind=caption.key.kind,
        text=caption.text,
        etag=caption_etag(caption),
        is_written=caption.is_written,
        problem=problem_view(refused),
    )


def caption_etag(caption: Caption) -> str:
    """Of one state of a caption."""
    return etag(*caption.key, caption.version)


def edit_view(edit: Edit) -> EditView:
    """An edit without its changes."""
    return EditView(
        id=edit.id,
        dataset_id=edit.dataset_id,
        action=edit.action,
        author=edit.author,
        job_id=edit.job_id,
        reverts=edit.reverts,
        changes=edit.changes,
        kept=edit.kept,
        created_at=rfc3339(edit.created_ms),
    )


def change_view(entry: Entry) -> ChangeView:
    """A row of the journal."""
    return ChangeView(
        image_id=entry.image_id,
        path=entry.path,
        kind=entry.kind,
        before=text_of(entry.before),
        after=text_of(entry.after),
        at=rfc3339(entry.at_ms),
    )


def problem_view(error: LorakeetError | None) -> FileProblem | None:
    """What is wrong, for people and programs."""
    return None if error is None else FileProblem(code=error.kind, detail=error.message, hint=error.hint)


def _error_of(kept: dict[str, Any] | None) -> LorakeetError | None:
    return None if kept is None else from_wire(msgspec.convert(kept, WireError))
