"""A LoRA that an engine makes: written, with metadata that says what it is, announced, and told of."""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from contract.methods.merge import MergedModule, MergeInput, MergeOutcome
from kernel.engines.factors.lowrank import relative
from kernel.engines.factors.pieces import Frame, Made
from kernel.engines.factors.writing import Make, write_lora
from kernel.surgery import Surgery
from trainer.weights.metadata import after_merge

#: Modules, and keys that are left out, that an outcome lists.
MAX_MODULES: Final = 10_000
MAX_LEFT_OUT: Final = 1_000
#: What the host is told that the output is.
ROLE: Final = "lora"


class Plan(NamedTuple):
    """What is made: modules as they are written, `recipe` for the metadata, and what the outcome says of the
    inputs. `is_exact`: nothing is approximated; `is_estimate`: the errors are estimates. `started` is when
    the job began, by `time.perf_counter`."""

    phase: str
    started: float
    family: str
    frames: Sequence[Frame]
    inputs: list[MergeInput]
    left_out: list[str]
    recipe: str
    is_exact: bool = False
    is_estimate: bool = False


def produce(surgery: Surgery, plan: Plan, make: Make) -> MergeOutcome:
    """Write the LoRA; the outcome of the job. Raises what `write_lora` raises."""
    read_s = time.perf_counter() - plan.started
    wrote = write_lora(surgery, plan.frames, make, _metadata(surgery, plan), plan.phase)
    artifact = surgery.announce(wrote.file, ROLE)
    missing = sum(each.error_square for each in wrote.made)
    return MergeOutcome(
        file=artifact.path,
        bytes=wrote.file.bytes,
        sha256=wrote.file.sha256,
        inputs=plan.inputs,
        merged=len(plan.frames),
        kept=0,
        error=None if plan.is_exact else relative(missing, sum(each.square for each in wrote.made)),
        error_is_estimate=plan.is_estimate,
        modules=[_told(*each) for each in zip(plan.frames, wrote.made, strict=True)][:MAX_MODULES],
        left_out=plan.left_out[:MAX_LEFT_OUT],
        left_out_count=len(plan.left_out),
        timings={name: round(each, 4) for name, each in {"read_s": read_s, **wrote.seconds}.items()},
    )


def _told(frame: Frame, made: Made) -> MergedModule:
    error = relative(made.error_square, made.square)
    return MergedModule(name=frame.module.name, rank=frame.module.rank, error=error)


def _metadata(surgery: Surgery, plan: Plan) -> dict[str, str]:
    """What the output says of itself."""
    modules = [frame.module for frame in plan.frames]
    return after_merge(
        surgery.inputs,
        family=plan.family,
        recipe=plan.recipe,
        ranks=[module.rank for module in modules],
        alphas=[float(module.rank) if module.alpha is None else module.alpha for module in modules],
    )
