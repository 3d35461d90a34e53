"""A lane while the studio runs: the attempts on it, its kernel, and how far it is in its share."""

import time
from typing import Final, Literal

import msgspec

from contract.base import Reply
from orchestrator.jobs.attempt import Attempt
from orchestrator.jobs.chooser import LaneKind, LaneNow, LaneSpec
from orchestrator.jobs.keeper import Keeper
from orchestrator.jobs.views import JobError, error_of

LaneState = Literal["off", "starting", "ready", "busy", "resting", "failed", "disabled"]


class LaneView(Reply, kw_only=True):
    """A lane. `state`: `off` without a kernel, `resting` after the death of one, `failed` after too many.

    `served` counts its jobs since the weights were last changed, `restarts` the starts after deaths.
    """

    id: str
    kind: LaneKind
    state: LaneState
    weight: float
    enabled: bool
    slots: int
    served: int
    kernel_pid: int | None
    restarts: int
    job_ids: list[str]
    problem: JobError | None


class Lane:
    """`spec` may be replaced while it runs; `keeper` is None where no kernel is needed."""

    def __init__(self, spec: LaneSpec) -> None:
        self.spec = spec
        self.keeper: Keeper | None = None
        self.attempts: Final[dict[str, Attempt]] = {}
        self.served = 0
        self._began = 0.0

    @property
    def rests_until(self) -> float:
        """The moment of the steady clock before which it takes nothing."""
        return 0.0 if self.keeper is None else self.keeper.rests_until

    def now(self) -> LaneNow:
        """As the chooser looks at it."""
        is_failed = self.keeper is not None and self.keeper.failure is not None
        return LaneNow(
            spec=self.spec,
            busy=len(self.attempts),
            served=self.served,
            began=self._began,
            available=not is_failed and self.rests_until <= time.monotonic(),
        )

    def take(self, attempt: Attempt) -> None:
        """It has a job more."""
        self.attempts[attempt.job.id] = attempt
        self.served += 1
        self._began = time.monotonic()

    def hear(self, chunk: bytes) -> None:
        """What its kernel says beside the contract belongs to the job that it does."""
        for attempt in self.attempts.values():
            attempt.reporter.stderr(chunk)

    def view(self) -> LaneView:
        """As clients see it."""
        keeper = self.keeper
        failure = None if keeper is None else keeper.failure
        return LaneView(
            id=self.spec.id,
            kind=self.spec.kind,
            state=self._state(),
            weight=self.spec.weight,
            enabled=self.spec.enabled,
            slots=self.spec.slots,
            served=self.served,
            kernel_pid=None if keeper is None else keeper.pid,
            restarts=0 if keeper is None else keeper.restarts,
            job_ids=sorted(self.attempts),
            problem=None if failure is None else error_of(msgspec.to_builtins(failure.to_wire())),
        )

    def _state(self) -> LaneState:
        if self.attempts:
            return "busy"
        if not self.spec.enabled:
            return "disabled"
        if self.keeper is None:
            return "ready"
        if self.keeper.failure is not None:
            return "failed"
        return "resting" if self.rests_until > time.monotonic() else self.keeper.status
