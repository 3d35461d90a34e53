"""The models that can be used, and the trash."""

from typing import Annotated

import anyio.to_thread
import msgspec

from contract.base import Reply
from contract.errors import FileUnreadable, FileUnwritable, NotFound, StateConflict
from orchestrator.api.calls import Call
from orchestrator.api.pages import PageQuery, cursor_of, place_of
from orchestrator.api.registry import Routes
from orchestrator.files.trash import Trashed, TrashId
from orchestrator.models.detect import Kind
from orchestrator.models.entry import Model, ModelId
from orchestrator.models.index import place_in_list

routes = Routes("models")

_MOVING = (NotFound, StateConflict, FileUnwritable, FileUnreadable)


Family = Annotated[str, msgspec.Meta(max_length=64, description="Only those of this family, such as `sdxl`.")]


class ModelsQuery(PageQuery, frozen=True, kw_only=True):
    """Which models."""

    kind: Annotated[Kind, msgspec.Meta(description="Only those of this kind.")] | None = None
    family: Family | None = None
    q: Annotated[
        str, msgspec.Meta(max_length=200, description="Only those with this in name, title or path.")
    ] = ""


class ModelPage(Reply, kw_only=True):
    """Some models, by name."""

    items: list[Model]
    next_cursor: str | None
    total: int


class Rescanned(Reply, kw_only=True):
    """How many models there are."""

    total: int


class TrashPage(Reply, kw_only=True):
    """Some of the trash, the newest first."""

    items: list[Trashed]
    next_cursor: str | None
    total: int


@routes.get("/models")
async def list_models(call: Call, query: ModelsQuery) -> ModelPage:
    """List the models in our folders and in those of the settings."""
    found = await call.studio.models.list(kind=query.kind, family=query.family, text=query.q)
    after = place_of(query.cursor, str, str) if query.cursor else ("", "")
    rest = [each for each in found if place_in_list(each) > after]
    shown = rest[: query.limit]
    return ModelPage(
        items=shown,
        next_cursor=cursor_of(*place_in_list(shown[-1])) if len(rest) > len(shown) else None,
        total=len(found),
    )


@routes.post("/models/rescan")
async def rescan_models(call: Call) -> Rescanned:
    """Look through all folders again, also for files that were overwritten in their place.

    What was added, removed or renamed is seen without it.
    """
    await call.studio.models.rescan()
    return Rescanned(total=len(await call.studio.models.list()))


@routes.get("/models/{model_id}", errors=(NotFound,))
async def read_model(call: Call, model_id: ModelId) -> Model:
    """Read a model."""
    return (await call.studio.models.locate(model_id)).model


@routes.delete("/models/{model_id}", errors=_MOVING)
async def delete_model(call: Call, model_id: ModelId) -> Trashed:
    """Move a model to the trash, from where it can be restored."""
    trashed = await call.studio.models.discard(model_id)
    call.studio.events.publish(("models",), "model.deleted", {"id": model_id, "trash_id": trashed.id})
    return trashed


@routes.get("/trash")
async def list_trash(call: Call, query: PageQuery) -> TrashPage:
    """List what is in the trash."""
    found = await anyio.to_thread.run_sync(call.studio.trash.list)
    after = place_of(query.cursor, str)[0] if query.cursor else None
    rest = [each for each in found if after is None or each.id < after]
    shown = rest[: query.limit]
    return TrashPage(
        items=shown,
        next_cursor=cursor_of(shown[-1].id) if len(rest) > len(shown) else None,
        total=len(found),
    )


@routes.post("/trash/{trash_id}/restore", errors=_MOVING)
async def restore_from_trash(call: Call, trash_id: TrashId) -> Trashed:
    """Bring something back to where it was."""
    restored = await anyio.to_thread.run_sync(call.studio.trash.restore, trash_id)
    call.studio.events.publish(("models",), "trash.restored", restored)
    return restored


@routes.delete("/trash/{trash_id}", errors=(NotFound, FileUnwritable))
async def delete_from_trash(call: Call, trash_id: TrashId) -> None:
    """Remove something for good."""
    await anyio.to_thread.run_sync(call.studio.trash.delete, trash_id)
    call.studio.events.publish(("models",), "trash.deleted", {"id": trash_id})
