"""The model that learns: gradients from a batch, a step of the optimizer from some of them, and its state."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import torch

from contract.methods.train import TrainSettings
from contract.methods.training.components import COMPONENTS, TEXT_ENCODERS, Component
from trainer import optimizers
from trainer.checkpoints import rng
from trainer.checkpoints.window import gradients, restore_gradients
from trainer.data.examples import Example
from trainer.families import Loaded
from trainer.networks import Network, inject
from trainer.networks.seeds import seed_of
from trainer.objective.build import objective_of
from trainer.run.numbers import Numbers
from trainer.run.parts import Base, Parts
from trainer.schedules.rate import factor, set_rates

#: Every norm is below it: nothing is clipped, the norm is only computed.
_NO_LIMIT: Final = float("inf")
#: The scale of the loss in fp16 begins at 2¹⁶ and is halved by every overflow. Below it gradients are too
#: large, or no numbers, by themselves.
_LEAST_SCALE: Final = 2.0**-10


class Place(NamedTuple):
    """A batch in the run: its optimizer step, counted from 0, which of the step's batches it is, and the
    pictures of them all."""

    step: int
    part: int
    pictures: int


class Learner:
    """A network over a model, its optimizer and its objective. Nothing of it knows of files or epochs."""

    def __init__(self, settings: TrainSettings, parts: Parts) -> None:
        """Loads what is needed in every step. Sets every common source of random numbers to the seed: an
        optimizer that somebody brings may draw from them.

        Raises InvalidParams, DependencyMissing, and what `Family.load` raises.
        """
        self.settings = settings
        self.numbers: Numbers = parts.numbers
        self.base: Base = parts.base
        found = self.base.recognised
        self.objective = objective_of(settings.objective, found.prediction, zero_snr=found.zero_snr)
        self._needs_text = settings.trains_text_encoders or not settings.caches_text
        self.loaded: Loaded = parts.model(with_text=self._needs_text)
        self._parts = parts
        self.network: Network = inject(
            self.base.family.name, self._trained(), settings.network, seed=settings.training.seed
        )
        self.network.train()
        if settings.memory.gradient_checkpointing:
            _checkpoint_gradients(self.loaded, settings)
        self._parameters = {
            name: self.network.parameters_of(name) for name in COMPONENTS if name in self.network.components
        }
        rng.seed(settings.training.seed)
        self.optimizer = optimizers.optimizer_of(settings.optimizer, self._parameters)
        self.scaler = torch.amp.GradScaler(
            self.numbers.device.type, enabled=self.numbers.compute == torch.float16
        )

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that is trained."""
        return [each for found in self._parameters.values() for each in found]

    def add_gradients(self, example: Example, place: Place) -> torch.Tensor:
        """Add those of a batch to what is there; its share of the loss of its step, a scalar on the device.

        The loss of a step is the mean over its pictures, in whatever batches they come.
        """
        self.network.at(place.step, place.part)
        latents = self._latents(example)
        epoch, position = example.batch.epoch, example.batch.position
        source = torch.Generator().manual_seed(seed_of(self.settings.training.seed, "noise", epoch, position))
        draw = self.objective.draw(latents, source)
        said = self.loaded.predict(
            draw.noisy.to(self.numbers.compute),
            draw.timesteps.to(self.numbers.device),
            self._conditions(example),
            example.sizes,
        )
        loss = self.objective.losses(said, draw).sum() / place.pictures
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step(self, number: int, total: int) -> torch.Tensor:
        """One step of the optimizer with the gradients that are there, `number` counting from 0; the norm of
        the gradients before they were clipped, a scalar on the device. In fp16 a step whose gradients
        overflow changes nothing, and the scale of the loss becomes smaller.
        """
        set_rates(self.optimizer, factor(self.settings.schedule, number, total))
        self.scaler.unscale_(self.optimizer)
        limit = self.settings.training.max_grad_norm or _NO_LIMIT
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    @property
    def skips_overflows(self) -> bool:
        """Whether gradients that are no numbers are part of the game: in fp16, as long as a smaller scale of
        the loss may help."""
        return bool(self.scaler.is_enabled()) and self.scaler.get_scale() >= _LEAST_SCALE

    def rates(self) -> dict[str, float]:
        """The learning rate of each component: of Prodigy what it made of it; none where an optimizer keeps
        it to itself, as Adafactor its relative steps."""
        return {
            group["name"]: float(group["lr"]) * float(group.get("d", 1.0))
            for group in self.optimizer.param_groups
            if not group.get("relative_step")
        }

    def state(self) -> dict[str, Any]:
        """The parts of a snapshot that are its own; they share memory with it."""
        return {
            "adapter": self.network.state(),
            "optimizer": optimizers.state_of(self.optimizer),
            "scaler": self.scaler.state_dict(),
            "rng": rng.capture(),
        }

    def gradients(self) -> Any:
        """Those that await a step."""
        return gradients(self._by_name())

    def restore(self, state: Mapping[str, Any], waiting: Any, where: str) -> None:
        """Take over what `state` and `gradients` gave. `where` is the checkpoint, for errors.

        Raises WeightsMismatch.
        """
        self.network.load(state["adapter"], where=where)
        optimizers.restore(self.optimizer, state["optimizer"])
        # There is none where the run computed in other numbers before, as on another device.
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        restore_gradients(self._by_name(), waiting)
        rng.restore(state["rng"])

    def close(self) -> None:
        """Take the network off the model, so that both leave the memory as soon as nobody needs them: a layer
        and what was put over it hold each other."""
        self.network.remove()

    def _by_name(self) -> dict[str, torch.nn.Parameter]:
        return {
            f"{component}.{index}": each
            for component, found in self._parameters.items()
            for index, each in enumerate(found)
        }

    def _trained(self) -> dict[str, torch.nn.Module]:
        """The components that have a learning rate."""
        assert self.loaded.denoiser is not None
        there: dict[str, torch.nn.Module] = {"unet": self.loaded.denoiser, **self.loaded.text_encoders}
        return {
            name: there[name]
            for name in COMPONENTS
            if name in there and self.settings.optimizer.rate_of(name) > 0
        }

    def _latents(self, example: Example) -> torch.Tensor:
        if example.latents is not None:
            return example.latents.to(self.numbers.device, torch.float32)
        assert example.pixels is not None
        batch = example.batch
        seed = self.settings.training.seed
        sources = [
            torch.Generator().manual_seed(seed_of(seed, "latents", batch.epoch, item.picture, item.repeat))
            for item in batch.items
        ]
        with torch.no_grad():
            return self._parts.vae().encode_pixels(example.pixels, sources)

    def _conditions(self, example: Example) -> dict[str, torch.Tensor]:
        if example.conditions is not None:
            device, compute = self.numbers.device, self.numbers.compute
            return {name: each.to(device, compute) for name, each in example.conditions.items()}
        settings = self.settings
        with nullcontext() if settings.trains_text_encoders else torch.no_grad():
            return self.loaded.encode_text(
                example.captions,
                max_tokens=settings.data.captions.max_tokens,
                clip_skip=settings.model.clip_skip,
            )


def check_settings(settings: TrainSettings, base: Base) -> None:
    """What can be known of a learner before anything is encoded or loaded for it.

    Raises InvalidParams where the settings ask for what the model cannot have, and DependencyMissing.
    """
    found = base.recognised
    objective_of(settings.objective, found.prediction, zero_snr=found.zero_snr)
    optimizers.kind_of(settings.optimizer).load()


def trained_text(settings: TrainSettings) -> tuple[Component, ...]:
    """The text encoders that learn."""
    return tuple(name for name in TEXT_ENCODERS if settings.optimizer.rate_of(name) > 0)


def _checkpoint_gradients(loaded: Loaded, settings: TrainSettings) -> None:
    """Compute activations again instead of keeping them, in everything that gradients pass."""
    denoiser: Any = loaded.denoiser
    denoiser.enable_gradient_checkpointing()
    for name in trained_text(settings):
        encoder: Any = loaded.text_encoders.get(name)
        if encoder is not None:
            # Its second name is gone in transformers 6, its first is not yet in 5.6.
            enable = getattr(encoder, "activation_checkpointing_enable", None)
            (enable or encoder.gradient_checkpointing_enable)({"use_reentrant": False})
            # transformers does it in training mode only; dropout is 0 in CLIP.
            encoder.train()
