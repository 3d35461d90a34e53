"""Lion, which follows the sign of its momentum."""

from collections.abc import Callable
from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """c = β₁·m + (1 − β₁)·g;  θ ← θ − lr·(sign(c) + λ·θ);  m ← β₂·m + (1 − β₂)·g.

    Source: Chen and others, "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675, algorithm 2.
    Its learning rate is a third to a tenth of AdamW's, its weight decay as many times larger.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        """Raises ValueError for numbers out of range."""
        if not all(0 <= beta < 1 for beta in betas) or lr < 0 or weight_decay < 0:
            raise ValueError("betas are in 0 … 1, lr and weight_decay not negative")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if moved := [each for each in group["params"] if each.grad is not None]:
                self._move(moved, group)
        return loss

    def _move(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        # All at once: a LoRA has hundreds of small tensors, and calls cost more than their work.
        lr, (beta1, beta2) = group["lr"], group["betas"]
        gradients = [each.grad for each in parameters if each.grad is not None]
        momenta = [self._momentum(each) for each in parameters]
        directions = list(torch._foreach_mul(momenta, beta1))
        torch._foreach_add_(directions, gradients, alpha=1 - beta1)
        torch._foreach_sign_(directions)
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_add_(parameters, directions, alpha=-lr)
        torch._foreach_mul_(momenta, beta2)
        torch._foreach_add_(momenta, gradients, alpha=1 - beta2)

    def _momentum(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        momentum: torch.Tensor = state["exp_avg"]
        return momentum
