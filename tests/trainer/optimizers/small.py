"""Small trainings: parameters, gradients that follow from them, and every kind of settings."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from contract.methods.training.optimizer import (
    Adafactor,
    AdamW,
    AdamWScheduleFree,
    CustomOptimizer,
    Lion,
    Optimizer,
    Prodigy,
    RAdamScheduleFree,
    SGDScheduleFree,
)
from trainer.optimizers import optimizer_of

#: All that every machine has; both parts are trained.
SETTINGS: dict[str, Optimizer] = {
    "adamw": AdamW(learning_rate=0.01, text_encoder_rate=0.005),
    "lion": Lion(learning_rate=0.02, text_encoder_rate=0.01),
    "adafactor": Adafactor(learning_rate=0.02, text_encoder_rate=0.01),
    "adafactor with everything": Adafactor(
        learning_rate=1,
        text_encoder_rate=1,
        relative_step=True,
        scale_parameter=True,
        beta1=0.9,
    ),
    "prodigy": Prodigy(text_encoder_rate=1.0, d0=1e-3),
    "adamw_schedule_free": AdamWScheduleFree(learning_rate=0.02, text_encoder_rate=0.01),
    "sgd_schedule_free": SGDScheduleFree(learning_rate=0.05, text_encoder_rate=0.02),
    "radam_schedule_free": RAdamScheduleFree(learning_rate=0.05, text_encoder_rate=0.03),
    "custom": CustomOptimizer(
        learning_rate=0.01,
        text_encoder_rate=0.01,
        import_name="torch.optim.NAdam",
        arguments={"betas": [0.9, 0.9]},
    ),
}


class Training:
    """Three matrices that are to become others, and an optimizer that brings them there."""

    def __init__(self, settings: Optimizer, dtype: torch.dtype = torch.float32, size: int = 1) -> None:
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> torch.Tensor:
            return torch.randn([size * each for each in shape], generator=generator).to(dtype)

        # As a LoRA begins: one factor random, the other 0.
        self.down = torch.nn.Parameter(drawn(2, 6))
        self.up = torch.nn.Parameter(torch.zeros(5 * size, 2 * size, dtype=dtype))
        self.encoder = torch.nn.Parameter(drawn(3, 3))
        self.wanted = drawn(5, 6), drawn(3, 3)
        parts = {"unet": [self.down, self.up], "te1": [self.encoder]}
        self.optimizer = optimizer_of(settings, parts)  # type: ignore[arg-type]  # the keys are Components

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.down, self.up, self.encoder]

    def loss(self) -> torch.Tensor:
        delta, encoder = self.wanted
        return ((self.up @ self.down - delta) ** 2).mean() + ((self.encoder - encoder) ** 2).mean()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.loss().backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()


@contextmanager
def no_global_numbers() -> Iterator[None]:
    """Fails where something draws from torch's own generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
