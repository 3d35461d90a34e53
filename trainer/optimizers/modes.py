"""The two sets of weights of schedule-free optimizers: those to train on, and those to use.

Source: Defazio and others, "The Road Less Scheduled", arXiv 2405.15682. Gradients are taken at y, and x, the
average, is the model. There and back again is not exact: a step less in the last bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.optimizers.kind import is_schedule_free


@contextmanager
def evaluated(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within it the parameters are those to sample with and to save; after it they are, to the last bit, what
    they were, so that a sample or a checkpoint at any moment changes nothing of the run.

    Does nothing for an optimizer that has one set of weights. Raises RuntimeError where it is within another.
    """
    if not is_schedule_free(optimizer):
        yield
        return
    if not all(group.get("train_mode", True) for group in optimizer.param_groups):
        raise RuntimeError("the optimizer is in evaluation mode already")
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    trained = [each.detach().clone() for each in parameters]
    optimizer.eval()  # type: ignore[attr-defined]  # is_schedule_free says that it is there
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined]
        with torch.no_grad():
            for parameter, exact in zip(parameters, trained, strict=True):
                parameter.copy_(exact)
