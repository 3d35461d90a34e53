"""What ends a run before its time, or has it do something else in between: wishes and orders."""

from typing import NoReturn

from contract.errors import JobCanceled
from contract.methods.train import TrainOutcome
from trainer.run.watcher import Watcher


class Stopped(Exception):
    """Raised inside a run where somebody wants it to stop; `graceful` is with a checkpoint."""

    def __init__(self, *, graceful: bool) -> None:
        super().__init__("stopped")
        self.graceful = graceful


def check(watcher: Watcher) -> None:
    """Raises Stopped where somebody wants the run to stop."""
    wish = watcher.wish()
    if wish is not None:
        raise Stopped(graceful=wish == "graceful")


def canceled(outcome: TrainOutcome, total: int | None) -> NoReturn:
    """Raises JobCanceled with what there is."""
    of = "" if total is None else f" of {total}"
    kept = "" if outcome.checkpoint is None else " It can be gone on with."
    raise JobCanceled(f"Canceled after {outcome.steps}{of} steps.{kept}", partial=outcome)
