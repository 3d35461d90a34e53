"""A small model in its parts, as diffusers loads them, and what it computes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from torch import nn

from contract.methods.training.network import LoconNetwork, LoraNetwork
from contract.methods.training.network import Network as Settings
from trainer.fixtures import FAMILIES, Fixture, write
from trainer.networks import Network, inject

#: Height, width, top, left, height, width: the size that SDXL is told.
_SIZES: Final = (64.0, 64.0, 0.0, 0.0, 64.0, 64.0)
_COMPONENTS: Final = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
#: Of each kind of network: those of convolutions have sizes of their own.
SETTINGS: Final[Mapping[str, Settings]] = {
    "lora": LoraNetwork(rank=4, alpha=2.0),
    "locon": LoconNetwork(rank=4, alpha=2.0, conv_rank=2, conv_alpha=3.0),
}


@cache
def fixture(family: str, folder: Path) -> Fixture:
    """Its files, written once for each folder."""
    return write(family, folder, dtype="fp32")


def pipeline(model: Fixture) -> Any:
    """A fresh one."""
    kind = getattr(diffusers, FAMILIES[model.family].pipeline)
    loaded = kind.from_pretrained(model.folder, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def components(loaded: Any) -> dict[str, nn.Module]:
    """What can be trained of it."""
    return {name: getattr(loaded, part) for name, part in _COMPONENTS.items() if hasattr(loaded, part)}


@contextmanager
def trained(loaded: Any, family: str, settings: Settings, seed: int = 1) -> Iterator[Network]:
    """A network over all of it, whose factors are as after a training; taken off in the end."""
    network = inject(family, components(loaded), settings, seed=seed)
    try:
        disturb(network, seed)
        yield network
    finally:
        network.remove()


@torch.no_grad()
def disturb(network: Network, seed: int) -> None:
    """Random factors, up to now zero in half."""
    source = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=source) * 0.1)


def computed(loaded: Any, side: int = 8) -> dict[str, torch.Tensor]:
    """What each part gives for one text, noise and step; with gradients where they are asked for. `side` is
    that of the latent."""
    latents = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
    texts = [_text(loaded, suffix) for suffix in ("", "_2") if hasattr(loaded, f"text_encoder{suffix}")]
    hidden = torch.cat([each.hidden_states[-2 if len(texts) > 1 else -1] for each in texts], -1)
    more: dict[str, Any] = {}
    if len(texts) > 1:
        more["added_cond_kwargs"] = {"text_embeds": texts[1].text_embeds, "time_ids": torch.tensor([_SIZES])}
    dtype = loaded.unet.dtype
    noise = loaded.unet(latents.to(dtype), 600, hidden.to(dtype), **more).sample
    return {f"te{number}": each[0] for number, each in enumerate(texts, 1)} | {"unet": noise}


def distance(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> float:
    """The largest difference of two numbers in any part."""
    return max(
        float((found[part].detach().double() - wanted[part].detach().double()).abs().max()) for part in wanted
    )


def moved(found: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor]) -> bool:
    """Whether every part gives something else than before, by far more than what rounding does."""
    return all(
        float((found[part] - before[part]).detach().norm()) > 0.01 * float(before[part].detach().norm())
        for part in before
    )


def _text(loaded: Any, suffix: str) -> Any:
    tokenizer, encoder = getattr(loaded, f"tokenizer{suffix}"), getattr(loaded, f"text_encoder{suffix}")
    tokens = tokenizer("a photo", padding="max_length", max_length=77, return_tensors="pt").input_ids
    return encoder(tokens, output_hidden_states=True)
