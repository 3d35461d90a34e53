"""Which settings need less memory, for a run that had too little: what costs least comes first.

What a run needs depends on the model, the device and whatever else is on it, so this is no estimate: it says
what there is to change, each with what it costs, and leaves out what would change nothing.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from contract.errors import OutOfMemory
from contract.methods.train import TrainSettings
from contract.methods.training.optimizer import AdamW

Compute = Literal["fp32", "fp16", "bf16"]

#: Latents are no smaller than this, in pixels of a side; below it models of these families paint nothing.
_SMALLEST: Final = 256
#: Sides are lowered to multiples of this, as buckets have them by default.
_SIDE_STEP: Final = 64
#: A network of a lower rank is small beside its model: nothing is gained.
_LARGE_RANK: Final = 16

#: What a run was doing, in words, by its phase.
_DOING: Final[Mapping[str, str]] = {
    "load": "the model was loaded",
    "latents": "pictures were encoded",
    "text": "captions were encoded",
    "sample": "a sample was made",
    "train": "a step was computed",
}


#: The module that does what, from the inside to the outside: models are loaded in the middle of other things.
_AT_WORK: Final[Mapping[str, str]] = {
    "trainer.run.parts": "load",
    "trainer.run.samples": "sample",
    "trainer.data.latents": "latents",
    "trainer.data.texts": "text",
    "trainer.run.learner": "train",
}


class Change(NamedTuple):
    """Fields of the settings with their new values, by dotted path, and what that costs."""

    fields: Mapping[str, Any]
    costs: str


class Advice(NamedTuple):
    """`details.changes` are the changes as objects, field by value, in the order in which to try them."""

    hint: str
    details: dict[str, Any]


class _Run(NamedTuple):
    """`size` is the resolution in pixels, `compute` what is computed in; None where nobody has said."""

    settings: TrainSettings
    size: int | None
    compute: Compute | None


def phase_of(error: BaseException) -> str:
    """What a run was doing where an error was raised, as its traceback says; empty for anything else."""
    modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}
    return next((phase for module, phase in _AT_WORK.items() if module in modules), "")


def shortage(
    settings: TrainSettings, phase: str, *, size: int | None = None, compute: Compute | None = None
) -> OutOfMemory:
    """The error of a run whose memory ran out in a phase, with what `advice` says."""
    said = advice(settings, phase, size=size, compute=compute)
    doing = _DOING.get(phase)
    message = f"Memory ran out while {doing}." if doing else "Memory ran out."
    return OutOfMemory(message, hint=said.hint, details=said.details)


def advice(
    settings: TrainSettings,
    phase: str = "train",
    *,
    size: int | None = None,
    compute: Compute | None = None,
) -> Advice:
    """What to change so that `phase` needs less memory.

    `size` and `compute` are what the run made of a resolution that was left out and of `auto`. Each change
    leaves the settings valid, alone and after those before it.
    """
    run = _Run(settings, size or settings.data.resolution, compute or _said(settings.precision.compute))
    changes = list(_changes(run, _BY_PHASE.get(phase, _TRAIN)))
    details = {"phase": phase, "changes": [dict(each.fields) for each in changes]}
    if not changes:
        return Advice("Use a device with more memory, or stop other programs that use this one.", details)
    return Advice(f"Try, in this order: {'; '.join(map(_words, changes))}.", details)


def _words(change: Change) -> str:
    fields = [f"`{name} = {msgspec.json.encode(value).decode()}`" for name, value in change.fields.items()]
    return f"{' and '.join(fields)} ({change.costs})"


def _said(compute: str) -> Any:
    return None if compute == "auto" else compute


# Each gives what it has to say, mostly one change or none.

_Lever = Callable[[_Run], Iterator[Change]]


def _changes(run: _Run, levers: tuple[_Lever, ...]) -> Iterator[Change]:
    for lever in levers:
        yield from lever(run)


def _recompute(run: _Run) -> Iterator[Change]:
    if not run.settings.memory.gradient_checkpointing:
        yield Change({"memory.gradient_checkpointing": True}, "about a third slower, the same result")


def _smaller_batches(run: _Run) -> Iterator[Change]:
    training = run.settings.training
    parts = _smallest_divisor(training.batch_size)
    if parts > 1 and training.accumulation * parts <= _MOST_ACCUMULATION:
        fields = {
            "training.batch_size": training.batch_size // parts,
            "training.accumulation": training.accumulation * parts,
        }
        yield Change(fields, "as many pictures a step, somewhat slower")


def _cached(run: _Run) -> Iterator[Change]:
    settings = run.settings
    if not settings.caches_text and not settings.trains_text_encoders:
        yield Change({"caching.text": "auto"}, "text encoders leave the memory")
    if settings.caching.latents == "off" and not settings.crops_randomly:
        yield Change({"caching.latents": "auto"}, "the VAE leaves the memory")


def _half(run: _Run) -> Iterator[Change]:
    if run.compute == "fp32":
        yield Change({"precision.compute": "bf16"}, "coarser numbers")


def _half_vae(run: _Run) -> Iterator[Change]:
    vae = run.settings.precision.vae
    if vae == "fp32" or (vae == "auto" and run.compute == "fp32"):
        yield Change({"precision.vae": "bf16"}, "coarser latents and samples")


def _small_state(run: _Run) -> Iterator[Change]:
    settings = run.settings
    chosen = settings.optimizer
    if type(chosen) is AdamW and settings.network.rank > _LARGE_RANK:
        # Where settings are laid over each other, another type begins with its defaults.
        own = {
            f"optimizer.{name}": value
            for name, value in msgspec.structs.asdict(chosen).items()
            if value != getattr(AdamW(), name)
        }
        yield Change({"optimizer.type": "adamw8bit", **own}, "needs the package bitsandbytes")


def _lower_rank(run: _Run) -> Iterator[Change]:
    network = run.settings.network
    if network.rank > _LARGE_RANK and network.start_from is None:
        rank = network.rank // 2
        fields = {"network.rank": rank, "network.alpha": network.alpha * rank / network.rank}
        yield Change(fields, "a network that can learn less")


def _no_text_encoders(run: _Run) -> Iterator[Change]:
    optimizer = run.settings.optimizer
    if run.settings.trains_text_encoders and optimizer.rate_of("unet") > 0:
        fields: dict[str, Any] = {"optimizer.text_encoder_rate": 0.0}
        fields |= {f"optimizer.rates.{name}": 0.0 for name in optimizer.rates if name != "unet"}
        if run.settings.caching.text == "off":
            fields["caching.text"] = "auto"
        yield Change(fields, "text encoders learn nothing")


def _no_random_crop(run: _Run) -> Iterator[Change]:
    settings = run.settings
    if settings.data.random_crop and not any(each.random_crop for each in settings.subsets):
        yield Change({"data.random_crop": False}, "latents are cached, and the VAE leaves the memory")


def _lower_resolution(run: _Run) -> Iterator[Change]:
    buckets = run.settings.data.buckets
    floor = max(_SMALLEST, buckets.step, buckets.min_side if buckets.upscale else 0)
    if run.size is not None and (side := _lower(run.size)) >= floor:
        yield Change({"data.resolution": side}, "less detail")


def _smaller_latent_batches(run: _Run) -> Iterator[Change]:
    if (count := run.settings.caching.latent_batch) > 1:
        yield Change({"caching.latent_batch": count // 2}, "somewhat slower, once")


def _smaller_text_batches(run: _Run) -> Iterator[Change]:
    if (count := run.settings.caching.text_batch) > 1:
        yield Change({"caching.text_batch": count // 2}, "somewhat slower, once")


def _smaller_samples(run: _Run) -> Iterator[Change]:
    chosen = run.settings.sampling
    sides = {"width": chosen.width or run.size, "height": chosen.height or run.size}
    fields = {
        f"sampling.{name}": _lower(side)
        for name, side in sides.items()
        if side is not None and _lower(side) >= _SMALLEST
    }
    if fields:
        yield Change(fields, "smaller samples, unless a prompt says its size")


def _lower(side: int) -> int:
    """Three quarters of it, a little more than half the area."""
    return side * 3 // 4 // _SIDE_STEP * _SIDE_STEP


def _smallest_divisor(number: int) -> int:
    return next((each for each in range(2, number + 1) if number % each == 0), 1)


#: The most that `training.accumulation` may be.
_MOST_ACCUMULATION: Final = 4096
_TRAIN: Final[tuple[_Lever, ...]] = (
    _recompute,
    _smaller_batches,
    _cached,
    _half,
    _small_state,
    _no_random_crop,
    _lower_rank,
    _no_text_encoders,
    _lower_resolution,
)
_BY_PHASE: Final[Mapping[str, tuple[_Lever, ...]]] = {
    "train": _TRAIN,
    "load": (_cached, _half, _no_random_crop, _no_text_encoders),
    "latents": (_smaller_latent_batches, _half_vae, _lower_resolution),
    "text": (_smaller_text_batches, _half),
    "sample": (_smaller_samples, _cached, _half, _half_vae, _no_text_encoders),
}
