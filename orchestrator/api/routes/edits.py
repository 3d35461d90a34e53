"""The history of a dataset's captions, and undoing what is in it."""

import sqlite3
from typing import Annotated, Final

import msgspec

from contract.base import Reply
from contract.errors import FileMissing, NotFound, StateConflict
from orchestrator.api.calls import Answer, Call
from orchestrator.api.pages import PageQuery, cursor_of, place_of
from orchestrator.api.registry import Routes
from orchestrator.api.routes.dataset_views import (
    ChangeView,
    DatasetId,
    EditId,
    EditView,
    change_view,
    edit_view,
)
from orchestrator.datasets import journal
from orchestrator.datasets.captions import Key
from orchestrator.datasets.journal import EXAMPLES, Edit
from orchestrator.datasets.names import CaptionKind
from orchestrator.jobs.states import TERMINAL

routes: Final = Routes("edits")

#: After every edit.
_LAST: Final = 2**62
_Number = Annotated[int, msgspec.Meta(ge=0, le=_LAST)]


class EditPage(Reply, kw_only=True):
    """Some edits, the newest first."""

    items: list[EditView]
    next_cursor: str | None
    total: int


class EditDetail(Reply, kw_only=True):
    """An edit, and some of its changes in their order."""

    edit: EditView
    items: list[ChangeView]
    next_cursor: str | None
    total: int


class KeptCaption(Reply, kw_only=True):
    """A caption that an undo left as it is."""

    image_id: str
    kind: CaptionKind


class RevertView(Reply, kw_only=True):
    """An undo: the edit that it is, and examples of captions that it left because they were changed since."""

    edit: EditView
    kept_examples: list[KeptCaption]


@routes.get("/datasets/{dataset_id}/edits")
async def list_edits(call: Call, dataset_id: DatasetId, query: PageQuery) -> EditPage:
    """List the edits of a dataset's captions, whoever made them."""
    await call.studio.datasets.table.get(dataset_id)
    (before,) = place_of(query.cursor, _Number) if query.cursor else (_LAST,)

    def read(db: sqlite3.Connection) -> tuple[list[Edit], int]:
        found = journal.edits(db, dataset_id, before, query.limit + 1)
        return found, journal.count_edits(db, dataset_id)

    found, total = await call.studio.control.read(read)
    shown = found[: query.limit]
    return EditPage(
        items=[edit_view(each) for each in shown],
        next_cursor=cursor_of(shown[-1].number) if len(found) > len(shown) else None,
        total=total,
    )


@routes.get("/datasets/{dataset_id}/edits/{edit_id}")
async def read_edit(call: Call, dataset_id: DatasetId, edit_id: EditId, query: PageQuery) -> EditDetail:
    """Read an edit with its changes."""
    edit = await _edit(call, dataset_id, edit_id)
    (after,) = place_of(query.cursor, _Number) if query.cursor else (0,)
    found = await call.studio.control.read(lambda db: journal.entries(db, edit_id, after, query.limit + 1))
    shown = found[: query.limit]
    return EditDetail(
        edit=edit_view(edit),
        items=[change_view(each) for each in shown],
        next_cursor=cursor_of(shown[-1].number) if len(found) > len(shown) else None,
        total=edit.changes,
    )


@routes.post("/datasets/{dataset_id}/edits/{edit_id}/revert", status=201, errors=(StateConflict, FileMissing))
async def revert_edit(call: Call, dataset_id: DatasetId, edit_id: EditId) -> Answer[RevertView]:
    """Undo an edit, such as a whole tagging run, by another edit; undoing that one does it again.

    Captions that were changed since are left as they are.
    """
    dataset = await call.studio.datasets.table.get(dataset_id)
    undone = await _edit(call, dataset_id, edit_id)
    await _require_ended(call, undone)
    edit = Edit(
        id=call.new_id("edit"), dataset_id=dataset_id, action="revert", author="user", reverts=edit_id
    )
    kept: list[Key] = []
    if await call.studio.control.read(lambda db: journal.find(db, dataset_id, edit.id)) is None:
        kept = (await call.studio.datasets.captioning.revert(dataset, edit)).kept
    view = RevertView(
        edit=edit_view(await _edit(call, dataset_id, edit.id)),
        kept_examples=[KeptCaption(image_id=key.image_id, kind=key.kind) for key in kept[:EXAMPLES]],
    )
    return Answer(body=view, headers={"location": f"/datasets/{dataset_id}/edits/{edit.id}"})


async def _edit(call: Call, dataset_id: str, edit_id: str) -> Edit:
    edit = await call.studio.control.read(lambda db: journal.find(db, dataset_id, edit_id))
    if edit is None:
        raise NotFound(f"There is no edit {edit_id} of this dataset.", where=edit_id)
    return edit


async def _require_ended(call: Call, edit: Edit) -> None:
    """Raises StateConflict while a job still adds to it."""
    query = "SELECT state FROM jobs WHERE id = ?"
    row = await call.studio.control.read(lambda db: db.execute(query, (edit.job_id,)).fetchone())
    if row is not None and row["state"] not in TERMINAL:
        raise StateConflict(
            "The job that makes this edit has not ended.", where=edit.job_id, hint="Cancel it first."
        )
