"""The state of an optimizer: taken as it is, and put back to the last bit."""

from typing import Any, Final

import torch

from contract.errors import WeightsMismatch

#: A name of the class and the shapes of its parameters, beside what its `state_dict` says.
State = dict[str, Any]

_CLASS: Final = "class"
_SHAPES: Final = "shapes"
_STATE: Final = "state"


def state_of(optimizer: torch.optim.Optimizer) -> State:
    """Numbers, texts, lists, dictionaries and tensors, the last without a copy: keep it before the next step.

    The parameters are not in it. Those of a schedule-free optimizer belong to it as they are trained, not as
    they are used (see modes.py).
    """
    return {_CLASS: _path(optimizer), _SHAPES: _shapes(optimizer), _STATE: optimizer.state_dict()}


def restore(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Put it back into an optimizer of the same class over parameters of the same shapes in the same order.

    The tensors are copied to where the optimizer wants them and keep their types: torch gives them the type
    of the parameter, which would round the float32 state that Adafactor has for bfloat16. Raises
    WeightsMismatch where the state is not of such an optimizer.
    """
    if state[_CLASS] != _path(optimizer):
        raise WeightsMismatch(
            f"The state is one of `{state[_CLASS]}`, and the optimizer is a `{_path(optimizer)}`.",
            hint="Resume with the optimizer that the run began with.",
        )
    if state[_SHAPES] != _shapes(optimizer):
        raise WeightsMismatch(
            "The state of the optimizer belongs to a network of other modules or ranks.",
            hint="Resume with the network that the run began with.",
        )
    kept = state[_STATE]
    optimizer.load_state_dict(kept)
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for index, stored in kept["state"].items():
        _put_back(optimizer.state[parameters[index]], stored)


def _put_back(live: dict[Any, Any], stored: dict[Any, Any]) -> None:
    for name, value in stored.items():
        if isinstance(value, torch.Tensor) and isinstance(live.get(name), torch.Tensor):
            live[name] = value.to(live[name].device, copy=True)


def _path(optimizer: torch.optim.Optimizer) -> str:
    kind = type(optimizer)
    return f"{kind.__module__}.{kind.__qualname__}"


def _shapes(optimizer: torch.optim.Optimizer) -> list[list[list[int]]]:
    """Of each group those of its parameters."""
    return [[list(each.shape) for each in group["params"]] for group in optimizer.param_groups]
