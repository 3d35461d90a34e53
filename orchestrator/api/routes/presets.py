"""Presets: partial settings with a name."""

from typing import Annotated, Any

import msgspec

from contract.base import Reply, Strict
from contract.errors import NotFound, StateConflict
from orchestrator.api.calls import Answer, Call, etag
from orchestrator.api.pages import PageQuery, cursor_of, place_of
from orchestrator.api.registry import Routes
from orchestrator.clock import rfc3339
from orchestrator.presets import Preset

routes = Routes("presets")

PresetId = Annotated[str, msgspec.Meta(pattern=r"^preset_[0-9A-Z]{26}\Z")]
PresetName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
Description = Annotated[str, msgspec.Meta(max_length=4_000)]


class PresetBody(Strict, frozen=True, kw_only=True):
    """A preset as it is made and replaced; `settings` may leave out whatever it does not decide."""

    name: PresetName
    description: Description = ""
    settings: dict[str, Any]


class PresetCreate(PresetBody, frozen=True, kw_only=True):
    """A new preset for one kind of job."""

    kind: str


class PresetView(Reply, kw_only=True):
    """A preset."""

    id: str
    kind: str
    name: str
    description: str
    settings: dict[str, Any]
    created_at: str
    changed_at: str


class PresetPage(Reply, kw_only=True):
    """Some presets, by kind and name."""

    items: list[PresetView]
    next_cursor: str | None
    total: int


class PresetsQuery(PageQuery, frozen=True, kw_only=True):
    """Which presets."""

    kind: str | None = None


@routes.get("/presets")
async def list_presets(call: Call, query: PresetsQuery) -> PresetPage:
    """List the presets."""
    presets = call.studio.presets
    after = place_of(query.cursor, str, str) if query.cursor else ("", "")
    found = await presets.list(query.kind, after, query.limit + 1)
    shown = found[: query.limit]
    return PresetPage(
        items=[_view(each) for each in shown],
        next_cursor=cursor_of(shown[-1].kind, shown[-1].name) if len(found) > len(shown) else None,
        total=await presets.count(query.kind),
    )


@routes.post("/presets", status=201, errors=(StateConflict,), has_etag=True)
async def create_preset(call: Call, body: PresetCreate) -> Answer[PresetView]:
    """Make a preset."""
    preset = await call.studio.presets.create(
        call.new_id("preset"), body.kind, body.name, body.description, body.settings
    )
    call.studio.events.publish(("presets",), "preset.created", _view(preset))
    return _answer(preset, {"location": f"/presets/{preset.id}"})


@routes.get("/presets/{preset_id}", errors=(NotFound,), has_etag=True)
async def read_preset(call: Call, preset_id: PresetId) -> Answer[PresetView]:
    """Read a preset."""
    return _answer(await call.studio.presets.get(preset_id))


@routes.put("/presets/{preset_id}", errors=(NotFound, StateConflict), has_etag=True, needs_match=True)
async def replace_preset(call: Call, preset_id: PresetId, body: PresetBody) -> Answer[PresetView]:
    """Replace what a preset says."""
    before = await call.studio.presets.get(preset_id)
    call.require_match(_etag(before))
    after = await call.studio.presets.change(
        before, name=body.name, description=body.description, settings=body.settings
    )
    call.studio.events.publish(("presets",), "preset.changed", _view(after))
    return _answer(after)


@routes.delete("/presets/{preset_id}", errors=(NotFound, StateConflict), needs_match=True)
async def delete_preset(call: Call, preset_id: PresetId) -> None:
    """Delete a preset. Jobs that were made with it keep their settings."""
    preset = await call.studio.presets.get(preset_id)
    call.require_match(_etag(preset))
    await call.studio.presets.delete(preset)
    call.studio.events.publish(("presets",), "preset.deleted", {"id": preset.id})


def _etag(preset: Preset) -> str:
    return etag(preset.id, preset.version)


def _answer(preset: Preset, headers: dict[str, str] | None = None) -> Answer[PresetView]:
    return Answer(body=_view(preset), headers=headers or {}, etag=_etag(preset))


def _view(preset: Preset) -> PresetView:
    return PresetView(
        id=preset.id,
        kind=preset.kind,
        name=preset.name,
        description=preset.description,
        settings=preset.settings,
        created_at=rfc3339(preset.created_ms),
        changed_at=rfc3339(preset.changed_ms),
    )
