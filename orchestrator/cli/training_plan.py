"""What a training would do with its pictures, for people: a row for each size, and what it comes to."""

from collections.abc import Iterator
from typing import Final

from contract.methods.training.plan import PlanBucket, TrainPlan
from orchestrator.cli.table import lines

_HEAD: Final = ("size", "pictures", "samples", "batches", "cropped")


def plan_shown(plan: TrainPlan, left_out: int) -> Iterator[str]:
    """The buckets from the widest to the tallest, and the totals; `left_out` counts pictures."""
    buckets = sorted(plan.buckets, key=lambda each: (-each.width / each.height, each.width))
    rows = [_HEAD, *map(_row, buckets)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield from lines([[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows])
    pictures, samples = _counted(plan.pictures, "picture"), _counted(plan.samples, "sample")
    yield f"{pictures}, {samples} an epoch, {plan.cropped:.1%} cropped on average"
    batches, steps = _counted(plan.batches, "batch", "es"), _counted(plan.steps, "step")
    yield f"{batches} and {steps} an epoch, {_counted(plan.total_steps, 'step')} in all"
    if plan.enlarged:
        yield f"{_counted(plan.enlarged, 'picture')} enlarged"
    if left_out:
        yield f"{left_out:,} left out"


def _row(bucket: PlanBucket) -> tuple[str, ...]:
    counts = (bucket.pictures, bucket.samples, bucket.batches)
    return f"{bucket.width} × {bucket.height}", *(f"{each:,}" for each in counts), f"{bucket.cropped:.1%}"


def _counted(count: int, noun: str, ending: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else ending}"
