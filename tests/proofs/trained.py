"""A few steps of training over a model that our own reader loaded, and what it computes then."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch
from torch.nn import functional

from contract.methods.training.network import LoconNetwork, LoraNetwork
from contract.methods.training.network import Network as Settings
from tests.proofs.model import Model
from trainer.families import FAMILIES, Loaded, ModelFiles, Sizes
from trainer.networks import Network, inject

#: Of each kind: those of convolutions have a scale of their own, and an uneven one.
SETTINGS: Final[Mapping[str, Settings]] = {
    "lora": LoraNetwork(rank=4, alpha=2.0),
    "locon": LoconNetwork(rank=4, alpha=2.0, conv_rank=2, conv_alpha=3.0),
}
#: The numbers that a network has after these steps change every part by far more than rounding does.
_STEPS: Final = 4
_RATE: Final = 0.02
_TEXT: Final = "a photo of a cat"
_AT: Final = 600
_SIZES: Final = Sizes((64, 64), (0, 0), (64, 64))

#: The text's `hidden` and, of some families, `pooled`; what the `unet` says of one noise under it.
Output = Mapping[str, torch.Tensor]


class Trained(NamedTuple):
    """A network over a model in memory, which is as after a training, and what the model computes with it and
    did before."""

    network: Network
    before: Output
    after: Output


@contextmanager
def trained(model: Model, kind: str) -> Iterator[Trained]:
    """All parts of the model's single file are trained, and as they were in the end."""
    loaded = FAMILIES[model.family].load(ModelFiles(model=str(model.file)), torch.float32)
    assert loaded.denoiser is not None
    before = computed(loaded)
    parts = {"unet": loaded.denoiser, **loaded.text_encoders}
    network = inject(model.family, parts, SETTINGS[kind], seed=1)
    try:
        _train(loaded, network)
        yield Trained(network, before, computed(loaded))
    finally:
        network.remove()


def _train(loaded: Loaded, network: Network) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE)
    source = torch.Generator().manual_seed(5)
    for _ in range(_STEPS):
        noise, noisy = (torch.randn(1, 4, 16, 16, generator=source) for _ in range(2))
        conditions = loaded.encode_text([_TEXT])
        said = loaded.predict(noisy, torch.tensor([_AT]), conditions, [_SIZES])
        functional.mse_loss(said, noise).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def computed(loaded: Loaded) -> Output:
    """By our own model."""
    conditions = loaded.encode_text([_TEXT])
    said = loaded.predict(_noise(), torch.tensor([_AT]), conditions, [_SIZES])
    return {**conditions, "unet": said}


@torch.no_grad()
def computed_by(pipeline: Any) -> Output:
    """By a pipeline of diffusers, in its own way from a text on."""
    said = pipeline.encode_prompt(
        _TEXT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    conditions = {"hidden": said[0]} | ({"pooled": said[2]} if len(said) > 2 else {})
    more: dict[str, Any] = {}
    if "pooled" in conditions:
        told = torch.tensor([[*_SIZES.original, *_SIZES.crop, *_SIZES.target]], dtype=torch.float32)
        more["added_cond_kwargs"] = {"text_embeds": conditions["pooled"], "time_ids": told}
    said = pipeline.unet(_noise(), _AT, conditions["hidden"], **more).sample
    return {**conditions, "unet": said}


def _noise() -> torch.Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
