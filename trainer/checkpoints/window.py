"""The gradients that batches of an accumulation window have left so far, which a checkpoint amidst of it has
to keep: the batches are done, and their step is not."""

from collections.abc import Mapping

import torch

from contract.errors import WeightsMismatch
from trainer.checkpoints.state import State


def gradients(parameters: Mapping[str, torch.nn.Parameter]) -> State:
    """By the names of the parameters; None where there is none, which optimizers tell from zero."""
    return {name: each.grad for name, each in parameters.items()}


def restore_gradients(parameters: Mapping[str, torch.nn.Parameter], saved: State) -> None:
    """Give each parameter its gradient, in its type and on its device.

    Raises WeightsMismatch where they are not those of these parameters; none is changed then.
    """
    if parameters.keys() != saved.keys():
        raise WeightsMismatch("The gradients of the checkpoint are not those of this network.")
    for name, parameter in parameters.items():
        gradient = saved[name]
        if gradient is not None and gradient.shape != parameter.shape:
            raise WeightsMismatch(
                f"The gradient of `{name}` in the checkpoint has another shape than the parameter.",
                details={"key": name},
            )
    for name, parameter in parameters.items():
        gradient = saved[name]
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
