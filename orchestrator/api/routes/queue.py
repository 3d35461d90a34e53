"""The queue, its lanes, and the kinds of jobs that can be asked for."""

from typing import Annotated, Any, Literal

import msgspec

from contract.base import Reply, Strict
from contract.errors import SettingsInvalid, StateConflict
from contract.fields import arms
from contract.validation import Contradiction
from orchestrator.api.calls import Answer, Call, etag
from orchestrator.api.registry import Routes
from orchestrator.jobs.chooser import LaneKind
from orchestrator.jobs.kinds import Kind, SourceKind
from orchestrator.jobs.lanes import LaneView
from orchestrator.jobs.order import Place, in_order, moved
from orchestrator.jobs.queue import QueueView

routes = Routes("queue")

LaneId = Annotated[str, msgspec.Meta(pattern=r"^[a-z]+(:[a-z0-9]+)?\Z", max_length=32)]


class QueuePatch(Strict, frozen=True, kw_only=True):
    """`paused`: nothing new starts; what runs goes on."""

    paused: bool


class Reorder(Strict, frozen=True, kw_only=True):
    """Either `job_ids`, which take the places that they have in this order; or `job_id` and where it goes.

    A job that comes among others of another priority takes on theirs.
    """

    job_ids: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    job_id: str | None = None
    before: str | None = None
    after: str | None = None
    to: Literal["first", "last"] | None = None

    def __post_init__(self) -> None:
        if (self.job_ids is None) == (self.job_id is None):
            raise Contradiction(("job_ids", "give exactly one of `job_ids` and `job_id`"))
        given = sum(each is not None for each in (self.before, self.after, self.to))
        if given != (self.job_id is not None):
            raise Contradiction(("job_id", "give exactly one of `before`, `after` and `to` with it"))

    def reordered(self, waiting: list[Place]) -> list[Place]:
        """`waiting` as it is wanted. Raises InvalidParams and StateConflict."""
        if self.job_id is None:
            return in_order(waiting, self.job_ids or [])
        if self.to is not None:
            return moved(waiting, self.job_id, self.to)
        return moved(
            waiting, self.job_id, "before" if self.before else "after", self.before or self.after or ""
        )


class LanePatch(Strict, frozen=True, kw_only=True):
    """How much work a device gets: `weight` is its share among the devices."""

    weight: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    enabled: bool | None = None


class KindView(Reply, kw_only=True):
    """A kind of job. `settings` is the JSON Schema of its settings, `defaults` what they are if left out.

    Where the schema has a discriminator, there are `defaults` for each of its values. `max_files` is null
    where there may be any number. `ending` is that of the file that it makes below the outputs. `actions` are
    the orders that a running one takes. `takes_checkpoint`: it can go on from a checkpoint of an earlier one.
    """

    name: str
    title: str
    lane: LaneKind
    prefers_device: bool
    resumable: bool
    retries: int
    sources: list[SourceKind]
    max_files: int | None
    takes_existing: bool
    ending: str | None
    actions: list[str]
    takes_checkpoint: bool
    settings: dict[str, Any]
    defaults: dict[str, Any]


class KindList(Reply, kw_only=True):
    """Every kind of job."""

    items: list[KindView]


@routes.get("/queue")
async def read_queue(call: Call) -> Answer[QueueView]:
    """Read the queue. The ETag stands for what a PATCH changes, not for the jobs that come and go."""
    return await _answer(call)


@routes.patch("/queue", needs_match=True)
async def change_queue(call: Call, body: QueuePatch) -> Answer[QueueView]:
    """Pause the queue, or let it go on."""
    call.require_match(_etag(call))
    await call.studio.queue.pause(body.paused)
    return await _answer(call)


@routes.post("/queue/reorder")
async def reorder_queue(call: Call, body: Reorder) -> Answer[QueueView]:
    """Bring the jobs that wait into another order."""
    await call.studio.queue.reorder(body.reordered)
    return await _answer(call)


@routes.patch("/lanes/{lane_id}", errors=(StateConflict, SettingsInvalid))
async def change_lane(call: Call, lane_id: LaneId, body: LanePatch) -> LaneView:
    """Give a device more or less work, or none. Jobs that run there go on."""
    await call.studio.queue.set_lane(lane_id, body.weight, body.enabled)
    return call.studio.queue.lane(lane_id).view()


@routes.post("/lanes/{lane_id}/restart")
async def restart_lane(call: Call, lane_id: LaneId) -> LaneView:
    """Give the next job of a lane a new kernel, also where kernels have died too often."""
    return call.studio.queue.restart(lane_id).view()


@routes.get("/job-kinds")
async def list_job_kinds(call: Call) -> KindList:
    """List the kinds of jobs, with all that can be set."""
    return KindList(items=[_kind(kind) for kind in call.studio.jobs.kinds.values()])


async def _answer(call: Call) -> Answer[QueueView]:
    # No `etag=`: that would answer 304 though other jobs wait.
    return Answer(body=await call.studio.queue.view(), headers={"etag": _etag(call)})


def _etag(call: Call) -> str:
    return etag("queue", call.studio.queue.is_paused)


def _kind(kind: Kind) -> KindView:
    from contract.export import portable

    return KindView(
        name=kind.name,
        title=kind.title,
        lane=kind.lane,
        prefers_device=kind.prefers_device,
        resumable=kind.resumable,
        retries=kind.retries,
        sources=list(kind.sources),
        max_files=kind.max_files,
        takes_existing=kind.takes_existing,
        ending=kind.ending,
        actions=list(kind.actions),
        takes_checkpoint=kind.takes_checkpoint,
        settings=portable(msgspec.json.schema(kind.settings)),
        defaults=_defaults(kind.settings),
    )


def _defaults(settings: Any) -> dict[str, Any]:
    structs = arms(settings)
    if len(structs) == 1:
        return _defaults_of(structs[0])
    return {str(each.__struct_config__.tag): _defaults_of(each) for each in structs}


def _defaults_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    defaults = {}
    for field in msgspec.structs.fields(struct):
        if field.default_factory is not msgspec.NODEFAULT:
            defaults[field.encode_name] = msgspec.to_builtins(field.default_factory())
        elif field.default is not msgspec.NODEFAULT:
            defaults[field.encode_name] = msgspec.to_builtins(field.default)
    return defaults
