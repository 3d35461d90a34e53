"""Which waiting job starts on which free lane. Pure: no clock, no store, no kernel.

Jobs are looked at in the order of the queue, and each takes a lane that suits it, so that one that finds none
holds up nobody behind it who suits another.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

#: What a lane is for: long runs on a device, light work beside them, work of the studio's own processes.
LaneKind = Literal["device", "cpu", "studio"]

#: The lane for long runs where there is no GPU.
CPU_RUN: Final = "cpu:run"
#: Seconds that a job is left waiting for a busy lane whose share it is; long runs must hold up nobody.
HOLD_S: Final = 60.0
#: Shares that differ by less than this are the same: weights such as 0.1 and 0.3 have no exact quotient.
_EQUAL: Final = 1e-9


class LaneSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A place where jobs run, `slots` at a time. `env` is what its kernel finds in its environment."""

    id: str
    kind: LaneKind
    weight: float = 1.0
    enabled: bool = True
    slots: int = 1
    env: dict[str, str] = {}

    @property
    def is_gpu(self) -> bool:
        """Whether work that prefers a device is faster here."""
        return self.kind == "device" and self.id != CPU_RUN


class LaneNow(msgspec.Struct, kw_only=True):
    """A lane at this moment. `served` counts the jobs it was given, `began` is when the last of them was.

    `available`: whether it could take a job if it had a free slot; not while its kernel cannot be started.
    """

    spec: LaneSpec
    busy: int = 0
    served: int = 0
    began: float = 0.0
    available: bool = True

    @property
    def is_open(self) -> bool:
        """Whether it takes part."""
        return self.spec.enabled and self.available

    @property
    def is_free(self) -> bool:
        """Whether it takes a job now."""
        return self.is_open and self.busy < self.spec.slots

    @property
    def share(self) -> float:
        """What it would have had of its share with one more job."""
        return (self.served + 1) / self.spec.weight


class Waiting(NamedTuple):
    """A job in the queue, and where it may run."""

    id: str
    lane: LaneKind
    prefers_device: bool = False


class Choice(NamedTuple):
    """A job, and the lane that starts it."""

    job_id: str
    lane_id: str


class Choices(NamedTuple):
    """What starts now, and when to look again though nothing else has changed."""

    choices: list[Choice]
    look_again: float | None


def choose(waiting: Iterable[Waiting], lanes: Sequence[LaneNow], now: float) -> Choices:
    """`waiting` in the order of the queue; `now` and `began` on one steady clock. `lanes` are left alone."""
    lanes = [msgspec.structs.replace(lane) for lane in lanes]
    choices: list[Choice] = []
    held: list[float] = []
    for job in waiting:
        if not any(lane.is_free for lane in lanes):
            break
        lane, until = _lane_for(job, lanes, now)
        if lane is not None:
            choices.append(Choice(job.id, lane.spec.id))
            lane.busy, lane.served, lane.began = lane.busy + 1, lane.served + 1, now
        elif until is not None:
            held.append(until)
    return Choices(choices, min(held, default=None))


def _lane_for(job: Waiting, lanes: list[LaneNow], now: float) -> tuple[LaneNow | None, float | None]:
    """The lane for a job, or the moment until which it is left to a busy one."""
    held: float | None = None
    for group in _groups(job, lanes):
        lane, until = _by_share(group, now)
        if lane is not None:
            return lane, None
        held = held or until
    return None, held


def suits(lane: LaneSpec, wanted: LaneKind, prefers_device: bool) -> bool:
    """Whether a job that wants such a lane may run on this one."""
    return lane.kind == wanted or (wanted == "cpu" and prefers_device and lane.is_gpu)


def _groups(job: Waiting, lanes: list[LaneNow]) -> Iterator[list[LaneNow]]:
    """The lanes that suit a job, the better ones first."""
    suitable = [lane for lane in lanes if lane.is_open and suits(lane.spec, job.lane, job.prefers_device)]
    yield [lane for lane in suitable if lane.spec.kind == "device"]
    yield [lane for lane in suitable if lane.spec.kind != "device"]


def _by_share(lanes: list[LaneNow], now: float) -> tuple[LaneNow | None, float | None]:
    """The free lane that is furthest behind its share; none while a busy one is further, for HOLD_S."""
    free = min((lane for lane in lanes if lane.is_free), key=lambda lane: lane.share, default=None)
    if free is None or len({lane.spec.weight for lane in lanes}) == 1:
        return free, None
    behind = [
        lane.began + HOLD_S
        for lane in lanes
        if not lane.is_free and lane.share < free.share * (1 - _EQUAL) and now < lane.began + HOLD_S
    ]
    return (None, min(behind)) if behind else (free, None)
