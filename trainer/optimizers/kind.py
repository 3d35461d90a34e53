"""What an optimizer is to us: where its class is, and how it is called."""

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

import torch

from contract.errors import DependencyMissing, InvalidParams

WHERE: Final = "$.params.settings.optimizer"


class Group(NamedTuple):
    """Numbers that are trained at one learning rate."""

    name: str
    parameters: Sequence[torch.nn.Parameter]
    lr: float


class OptimizerKind:
    """One way to optimize: `path` is the dotted path of its class, which is imported when it is needed."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path

    def build(self, groups: Sequence[Group], arguments: Mapping[str, Any]) -> torch.optim.Optimizer:
        """The optimizer, in training mode. Each of its groups has `name` and `initial_lr`.

        Raises DependencyMissing where its package is not installed, and InvalidParams for arguments that it
        does not take.
        """
        made = self.load()
        self._check_names(made, arguments)
        own = [_group(group) for group in groups]
        try:
            optimizer = made(own, **self.arranged(own, max(group.lr for group in groups), dict(arguments)))
        except (ValueError, TypeError, AssertionError) as error:
            said = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise InvalidParams(
                f"`{self.name}` refuses its arguments: {said or 'there are none'}.",
                where=WHERE,
                hint="The documentation of the optimizer says which values it takes.",
            ) from error
        if is_schedule_free(optimizer):
            optimizer.train()  # type: ignore[attr-defined]  # is_schedule_free says that it is there
        return optimizer

    def load(self) -> type[torch.optim.Optimizer]:
        """Its class. Raises DependencyMissing where its package is not installed."""
        module, _, name = self.path.rpartition(".")
        try:
            made: type[torch.optim.Optimizer] = getattr(import_module(module), name)
        except ImportError:
            package = module.partition(".")[0]
            raise DependencyMissing(
                f"`{self.name}` needs {package}, which is not installed.",
                where=WHERE,
                hint=f"Install it: pip install {package} -c constraints.txt.",
            ) from None
        return made

    def arranged(self, groups: list[dict[str, Any]], lr: float, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the class is called with beside the groups; a kind may change both."""
        return {"lr": lr, **arguments}

    def _check_names(self, made: type[torch.optim.Optimizer], arguments: Mapping[str, Any]) -> None:
        takes = inspect.signature(made).parameters
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in takes.values()):
            return
        # The first are the parameters; rates are ours to give.
        known = [each for each in list(takes)[1:] if each != "lr"]
        for argument in arguments:
            if argument not in known:
                raise InvalidParams(
                    f"`{self.name}` has no argument `{argument}`; it has {', '.join(known)}.",
                    where=f"{WHERE}.arguments.{argument}",
                )


def is_schedule_free(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it has weights to train on and others to use: optimizers that do have `train` and `eval`."""
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


def _group(group: Group) -> dict[str, Any]:
    return {
        "params": list(group.parameters),
        "lr": group.lr,
        "initial_lr": group.lr,
        "name": group.name,
    }
