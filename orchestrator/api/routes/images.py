"""Images of a dataset: lists, uploads, originals."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request

from contract.base import Reply
from contract.errors import (
    BodyInvalid,
    FileMissing,
    FileUnwritable,
    LorakeetError,
    PathOutsideRoots,
    StateConflict,
)
from contract.methods.tag import TaggedImage
from contract.rules.paths import is_under
from orchestrator.api.calls import Call, FileAnswer
from orchestrator.api.pages import PageQuery, cursor_of, place_of
from orchestrator.api.registry import Routes
from orchestrator.api.routes.dataset_views import (
    DatasetId,
    FileProblem,
    ImageId,
    ImageView,
    image_view,
    problem_view,
)
from orchestrator.datasets.images import Filter, Image
from orchestrator.datasets.names import parts_of
from orchestrator.datasets.place import Place
from orchestrator.datasets.spool import too_large
from orchestrator.datasets.table import Dataset
from orchestrator.datasets.uploads import Status, Uploaded
from orchestrator.files.beneath import READ, Linked

routes: Final = Routes("images")

#: What browsers show without running anything of it; the rest is for saving.
_INLINE: Final = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
    "bmp": "image/bmp",
}
_OTHERS: Final = {"tiff": "image/tiff", "jpeg2000": "image/jp2", "ppm": "image/x-portable-anymap"}
_UNKNOWN: Final = "application/octet-stream"


class ImagesQuery(PageQuery, frozen=True, kw_only=True):
    """Which images of a dataset."""

    q: Annotated[str, msgspec.Meta(max_length=200, description="A part of the path.")] | None = None
    captioned: bool | None = None
    has_problem: bool | None = None


class ImagePage(Reply, kw_only=True):
    """Some images, by path."""

    items: list[ImageView]
    next_cursor: str | None
    total: int


class UploadedView(Reply, kw_only=True):
    """What became of one file. `image_id` and `path` are of the image that it is, or whose caption it is."""

    name: str
    status: Status
    image_id: str | None
    path: str | None
    problem: FileProblem | None


class UploadReport(Reply, kw_only=True):
    """What became of every file, in the order in which they came."""

    items: list[UploadedView]
    created: int
    already_there: int
    refused: int


class ScoresView(Reply, kw_only=True):
    """What one tagging job found in an image."""

    job_id: str
    item: TaggedImage


class ScoresPage(Reply, kw_only=True):
    """What taggers found, the newest job first."""

    items: list[ScoresView]
    next_cursor: str | None
    total: int


@routes.get("/datasets/{dataset_id}/images")
async def list_images(call: Call, dataset_id: DatasetId, query: ImagesQuery) -> ImagePage:
    """List the images of a dataset, with their captions.

    Caption files that were changed by another program meanwhile are taken into the history first.
    """
    library = call.studio.datasets
    dataset = await library.table.get(dataset_id)
    wanted = Filter(q=query.q, captioned=query.captioned, has_problem=query.has_problem)
    (after,) = place_of(query.cursor, str) if query.cursor else ("",)
    found = await library.images.page(dataset_id, wanted, after, query.limit + 1)
    shown = found[: query.limit]
    return ImagePage(
        items=await _views(call, dataset, shown),
        next_cursor=cursor_of(shown[-1].path) if len(found) > len(shown) else None,
        total=await library.images.count(dataset_id, wanted),
    )


@routes.post(
    "/datasets/{dataset_id}/images",
    takes="multipart/form-data",
    errors=(FileMissing, FileUnwritable),
)
async def upload_images(call: Call, dataset_id: DatasetId) -> UploadReport:
    """Upload images, and caption files beside them.

    Each file is checked by itself: what is refused does not keep the others out. A file of a name that is
    taken gets a number, unless it is the same picture. A caption belongs to the image of its name, uploaded
    now or before.
    """
    library = call.studio.datasets
    dataset = await library.table.get(dataset_id)
    limit = call.studio.settings.current.limits.max_upload_bytes
    declared = call.request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    results = await library.uploads.receive(
        dataset, call.request.headers.get("content-type", ""), _body(call.request), limit, call.new_id
    )
    report = _report(results)
    if report.created:
        said = {"id": dataset.id, "added": report.created, "removed": 0}
        _tell(call, dataset, said)
    return report


@routes.get("/datasets/{dataset_id}/images/{image_id}")
async def read_image(call: Call, dataset_id: DatasetId, image_id: ImageId) -> ImageView:
    """Read what is known of an image."""
    library = call.studio.datasets
    dataset = await library.table.get(dataset_id)
    image = await library.images.get(dataset_id, image_id)
    return (await _views(call, dataset, [image], closely=True))[0]


@routes.delete(
    "/datasets/{dataset_id}/images/{image_id}", errors=(StateConflict, FileMissing, FileUnwritable)
)
async def delete_image(call: Call, dataset_id: DatasetId, image_id: ImageId) -> None:
    """Put an image into the trash. Its captions come back with it."""
    library = call.studio.datasets
    dataset = await library.table.get(dataset_id)
    image = await library.images.get(dataset_id, image_id)
    await library.lifecycle.delete_image(dataset, image)
    _tell(call, dataset, {"id": dataset.id, "added": 0, "removed": 1})


@routes.get(
    "/datasets/{dataset_id}/images/{image_id}/file",
    gives="*/*",
    errors=(FileMissing, PathOutsideRoots),
)
async def read_original(call: Call, dataset_id: DatasetId, image_id: ImageId) -> FileAnswer:
    """The image file as it is."""
    library = call.studio.datasets
    dataset = await library.table.get(dataset_id)
    image = await library.images.get(dataset_id, image_id)
    place = await library.place(dataset)
    shown = _INLINE.get(image.format or "")
    return FileAnswer(
        path=place.path(image.path),
        open=lambda: _opened(place, image),
        media_type=shown or _OTHERS.get(image.format or "", _UNKNOWN),
        name=parts_of(image.path)[-1],
        inline=shown is not None,
    )


@routes.get("/datasets/{dataset_id}/images/{image_id}/scores")
async def read_scores(call: Call, dataset_id: DatasetId, image_id: ImageId) -> ScoresPage:
    """What taggers found in an image: every tag with its score, so that other thresholds need no model."""
    image = await call.studio.datasets.images.get(dataset_id, image_id)
    found = await call.studio.datasets.images.scores(image.id)
    items = [ScoresView(job_id=job_id, item=msgspec.convert(item, TaggedImage)) for job_id, item in found]
    return ScoresPage(items=items, next_cursor=None, total=len(items))


async def _views(
    call: Call, dataset: Dataset, images: list[Image], *, closely: bool = False
) -> list[ImageView]:
    captioning, ids = call.studio.datasets.captioning, [each.id for each in images]
    # Reading goes on where a disk is full, or gone.
    with suppress(LorakeetError):
        await captioning.refresh(dataset, ids, closely=closely)
    captions = await captioning.read(ids)
    refused = await captioning.refused(dataset, captions)
    return [image_view(each, captions, refused) for each in images]


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise BodyInvalid("The body ended too early.") from None


def _report(results: list[Uploaded]) -> UploadReport:
    counts = {status: 0 for status in ("created", "already_there", "refused")}
    for each in results:
        counts[each.status] += 1
    return UploadReport(items=[_uploaded(each) for each in results], **counts)


def _uploaded(result: Uploaded) -> UploadedView:
    return UploadedView(
        name=result.name.encode("utf-8", "replace").decode(),
        status=result.status,
        image_id=result.image.id if result.image else None,
        path=result.image.path if result.image else None,
        problem=problem_view(result.error),
    )


def _tell(call: Call, dataset: Dataset, said: dict[str, Any]) -> None:
    call.studio.events.publish(("datasets", f"dataset:{dataset.id}"), "dataset.images_changed", said)


def _opened(place: Place, image: Image) -> int:
    """A descriptor of the file; through a link of its own name, if that stays in the dataset.

    Raises FileMissing and PathOutsideRoots.
    """
    try:
        try:
            return _open(place, parts_of(image.path))
        except Linked:
            real = os.path.realpath(place.path(image.path))
            if not is_under(real, str(place.folder)):
                raise PathOutsideRoots(
                    "The file is a link that leads out of the dataset.", where=image.path
                ) from None
            return _open(place, os.path.relpath(real, place.folder).split(os.sep))
    except OSError:
        raise FileMissing("The file is not there any more.", where=image.path) from None


def _open(place: Place, parts: Sequence[str]) -> int:
    with place.opened(parts[:-1]) as folder:
        return folder.open(parts[-1], READ)
