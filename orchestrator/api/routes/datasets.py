"""Datasets: folders of images with their captions."""

from typing import Annotated, Final

import msgspec
from anyio import to_thread

from contract.base import Reply, Strict
from contract.errors import (
    FileMissing,
    FileUnreadable,
    FileUnwritable,
    LorakeetError,
    NotFound,
    PathOutsideRoots,
    StateConflict,
)
from orchestrator.api.calls import Answer, Call
from orchestrator.api.pages import PageQuery, cursor_of, place_of
from orchestrator.api.registry import Routes
from orchestrator.api.routes.dataset_views import DatasetId, DatasetView, dataset_etag, dataset_view
from orchestrator.datasets.table import Dataset
from orchestrator.jobs.requests import JobRequest
from orchestrator.jobs.sources import JobSource
from orchestrator.jobs.views import JobChange, change_of

routes: Final = Routes("datasets")

DatasetName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class Folder(Strict, frozen=True, kw_only=True):
    """A folder below a root. An empty `path` is the root itself."""

    root: Annotated[str, msgspec.Meta(max_length=64)]
    path: Annotated[str, msgspec.Meta(max_length=4_096)]


class DatasetCreate(Strict, frozen=True, kw_only=True):
    """A new dataset. With a `folder` that one is used where it lies; else the studio makes one of its own."""

    name: DatasetName
    folder: Folder | None = None


class DatasetChange(Strict, frozen=True, kw_only=True):
    """What of a dataset can be changed."""

    name: DatasetName


class DatasetPage(Reply, kw_only=True):
    """Some datasets, by age."""

    items: list[DatasetView]
    next_cursor: str | None
    total: int


@routes.get("/datasets")
async def list_datasets(call: Call, query: PageQuery) -> DatasetPage:
    """List the datasets."""
    table = call.studio.datasets.table
    (after,) = place_of(query.cursor, str) if query.cursor else ("",)
    found = await table.list(after, query.limit + 1)
    shown = found[: query.limit]
    return DatasetPage(
        items=[await _view(call, each) for each in shown],
        next_cursor=cursor_of(shown[-1].id) if len(found) > len(shown) else None,
        total=await table.count(),
    )


@routes.post(
    "/datasets",
    status=201,
    errors=(StateConflict, FileMissing, FileUnreadable, FileUnwritable, PathOutsideRoots),
    has_etag=True,
)
async def create_dataset(call: Call, body: DatasetCreate) -> Answer[DatasetView]:
    """Make a dataset, or register a folder as one.

    A folder is looked at by an import job, `import_job_id`; nothing in it is changed.
    """
    lifecycle, job_id = call.studio.datasets.lifecycle, None
    id = call.new_id("ds")
    if body.folder is None:
        dataset = await lifecycle.create(id, body.name)
    else:
        dataset = await lifecycle.register(id, body.name, body.folder.root, body.folder.path)
        job_id = (await _import(call, dataset)).id
    view = await _view(call, dataset, job_id)
    call.studio.events.publish(("datasets",), "dataset.created", view)
    headers = {"location": f"/datasets/{dataset.id}"}
    return Answer(body=view, headers=headers, etag=dataset_etag(dataset))


@routes.get("/datasets/{dataset_id}")
async def read_dataset(call: Call, dataset_id: DatasetId) -> Answer[DatasetView]:
    """Read a dataset. Its ETag is of what can be changed; the counts change without it."""
    dataset = await call.studio.datasets.table.get(dataset_id)
    return Answer(body=await _view(call, dataset), headers={"etag": dataset_etag(dataset)})


@routes.patch("/datasets/{dataset_id}", errors=(StateConflict,), has_etag=True, needs_match=True)
async def rename_dataset(call: Call, dataset_id: DatasetId, body: DatasetChange) -> Answer[DatasetView]:
    """Give a dataset another name. Its folder keeps its own."""
    before = await call.studio.datasets.table.get(dataset_id)
    call.require_match(dataset_etag(before))
    after = await call.studio.datasets.table.rename(before, body.name)
    view = await _view(call, after)
    call.studio.events.publish(("datasets", f"dataset:{after.id}"), "dataset.renamed", view)
    return Answer(body=view, etag=dataset_etag(after))


@routes.delete("/datasets/{dataset_id}", errors=(StateConflict, FileUnwritable), needs_match=True)
async def delete_dataset(call: Call, dataset_id: DatasetId) -> None:
    """Delete a dataset, with the history of its captions.

    A folder of the studio's own goes to the trash; one of yours stays as it is.
    """
    dataset = await call.studio.datasets.table.get(dataset_id)
    call.require_match(dataset_etag(dataset))
    await call.studio.datasets.lifecycle.delete(dataset)
    topics = ("datasets", f"dataset:{dataset.id}")
    call.studio.events.publish(topics, "dataset.deleted", {"id": dataset.id})


@routes.post("/datasets/{dataset_id}/rescan", status=202, errors=(NotFound,))
async def rescan_dataset(call: Call, dataset_id: DatasetId) -> Answer[JobChange]:
    """Look at a dataset's folder again, as a job: new, changed and vanished images and captions."""
    dataset = await call.studio.datasets.table.get(dataset_id)
    job = await _import(call, dataset)
    return Answer(body=job, headers={"location": f"/jobs/{job.id}"})


async def _import(call: Call, dataset: Dataset) -> JobChange:
    jobs = call.studio.jobs
    request = JobRequest(kind="import", source=JobSource(dataset=dataset.id), name=f"Import {dataset.name}")
    job = await jobs.create(call.new_id("job"), request)
    return change_of(job, jobs.kinds.get(job.kind))


async def _view(call: Call, dataset: Dataset, import_job_id: str | None = None) -> DatasetView:
    library = call.studio.datasets
    problem: LorakeetError | None = None
    try:
        place = await library.place(dataset)
        if not await to_thread.run_sync(place.folder.is_dir):
            problem = FileMissing("The dataset's folder is not there.", hint="Is its disk connected?")
    except LorakeetError as error:
        problem = error
    return dataset_view(dataset, await library.table.counts(dataset.id), problem, import_job_id)
