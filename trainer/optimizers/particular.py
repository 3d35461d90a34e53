"""Kinds whose classes want something of their own."""

from importlib import import_module
from typing import Any

import torch

from contract.errors import DependencyMissing, InvalidParams
from trainer.optimizers.kind import WHERE, OptimizerKind


class AdamWKind(OptimizerKind):
    """All tensors in one call: a LoRA has hundreds of small ones, and calls cost more than their work."""

    def arranged(self, groups: list[dict[str, Any]], lr: float, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"lr": lr, "fused": True, **arguments}


class AdafactorKind(OptimizerKind):
    """With `relative_step` it chooses its own rate, and its class takes none."""

    def arranged(self, groups: list[dict[str, Any]], lr: float, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"lr": None if arguments.get("relative_step") else lr, **arguments}


class ProdigyKind(OptimizerKind):
    """Its class prints a line when it is given a weight decay, but not when its groups have one."""

    def arranged(self, groups: list[dict[str, Any]], lr: float, arguments: dict[str, Any]) -> dict[str, Any]:
        decay = arguments.pop("weight_decay", 0.0)
        for group in groups:
            group["weight_decay"] = decay
        return {"lr": lr, **arguments}


class CustomKind(OptimizerKind):
    """A class that we know nothing about but that it is an optimizer of torch."""

    def __init__(self, path: str) -> None:
        super().__init__(path, path)

    def load(self) -> type[torch.optim.Optimizer]:
        """Its class. Raises DependencyMissing where there is no such module, InvalidParams where the module
        has no such class, or it is none of an optimizer. Importing a module runs it."""
        module, _, name = self.path.rpartition(".")
        try:
            found = getattr(import_module(module), name, None)
        except ImportError:
            raise DependencyMissing(
                f"`{self.path}` cannot be imported: `{module}` or something it needs is missing.",
                where=f"{WHERE}.import_name",
                hint="Install the package that has it into the environment of Lorakeet, or correct the name.",
            ) from None
        if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
            what = "has no such class" if found is None else "has it, but it is no optimizer of torch"
            raise InvalidParams(
                f"`{self.path}` cannot be used: `{module}` {what}.", where=f"{WHERE}.import_name"
            )
        return found

    def arranged(self, groups: list[dict[str, Any]], lr: float, arguments: dict[str, Any]) -> dict[str, Any]:
        # Settings have no tuples, and optimizers expect them: `betas=(0.9, 0.99)`.
        given = {
            name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()
        }
        return {"lr": lr, **given}
