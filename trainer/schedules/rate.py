"""The learning rate of a step, from nothing but its number and the number of all steps."""

import torch

from contract.methods.training.schedule import Schedule
from trainer.schedules.curves import CURVES, Curve
from trainer.schedules.warm_up import warming


def factor(schedule: Schedule, step: int, total: int) -> float:
    """What the learning rates are multiplied with at optimizer step `step`, counted from 0.

    Nothing is remembered between steps: a run that is resumed with another `total` goes on at the rate that
    a run of that length would have there. At `total` and beyond it stays at the end of the curve, where the
    cosines of transformers rise again.
    """
    warm_up = schedule.warmup(total)
    if step < warm_up:
        return warming(step, warm_up)
    curve = curve_of(schedule)
    if step >= total:
        return curve.at(1.0)
    return curve.at((step - warm_up) / (total - warm_up))


def rate(base: float, schedule: Schedule, step: int, total: int) -> float:
    """The learning rate at optimizer step `step`, counted from 0."""
    return base * factor(schedule, step, total)


def curve_of(schedule: Schedule) -> Curve:
    """The curve that settings ask for, with the fields of the same names."""
    kind = CURVES[str(schedule.__struct_config__.tag)]
    return kind(**{name: getattr(schedule, name) for name in kind.__struct_fields__})


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Give every group that share of the learning rate that it was built with (`initial_lr`)."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * share
