"""A loaded model with a U-Net: what is the same in Stable Diffusion of every version."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from trainer.families.base import Loaded, MaxTokens, Sizes
from trainer.families.text import core, token_ids
from trainer.weights.names import FAMILIES, Site, Sites, sites

if TYPE_CHECKING:
    import torch
    from torch import nn

_POSITIONS: Final = "text_model.embeddings.position_embedding.weight"


class UNetModel(Loaded):
    """A loaded model with a U-Net. What differs from family to family is in the classes below it."""

    @cached_property
    def sites(self) -> Sites:
        """By the parts that are loaded when it is asked for first. `weight` is a key as in a single file,
        whatever the model was loaded from."""
        weights: dict[str, tuple[int, ...]] = {}
        if self.denoiser is not None:
            weights |= _shapes(self.denoiser, "model.diffusion_model.")
        beginnings = {each.id: each.generic for each in FAMILIES[self.family].components}
        for component, encoder in self.text_encoders.items():
            weights |= _shapes(core(encoder), f"{beginnings[component]}text_model.")
            if core(encoder) is not encoder:
                # A bare tensor in files of this encoder, no module.
                del weights[f"{beginnings[component]}{_POSITIONS}"]
        return sites(self.family, weights)

    def module(self, site: Site) -> "nn.Module":
        assert site.peft is not None
        path = site.peft.partition(".")[2]
        if site.component != "unet" and site.component in self.text_encoders:
            encoder = self.text_encoders[site.component]
            inside: nn.Module = core(encoder)
            return inside.get_submodule(path.removeprefix("text_model."))
        if site.component != "unet" or self.denoiser is None:
            raise AttributeError(f"{site.component} is not loaded")
        return self.denoiser.get_submodule(path)

    def encode_pixels(
        self, pixels: "torch.Tensor", generators: "Sequence[torch.Generator] | None"
    ) -> "torch.Tensor":
        import torch

        vae: Any = self.vae
        drawn = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        latents: torch.Tensor = drawn.mean.float()
        if generators is not None:
            noise = [torch.randn(latents.shape[1:], generator=generator) for generator in generators]
            latents = latents + drawn.std.float() * torch.stack(noise).to(latents.device)
        return latents * float(vae.config.scaling_factor)

    def decode_latents(self, latents: "torch.Tensor") -> "torch.Tensor":
        vae: Any = self.vae
        raw = latents.float() / float(vae.config.scaling_factor)
        pixels: torch.Tensor = vae.decode(raw.to(vae.device, vae.dtype)).sample
        return pixels.float()

    def encoded(self, component: str, captions: Sequence[str], max_tokens: MaxTokens) -> Any:
        """Every layer of an encoder for the rows of some captions, as transformers gives them."""
        encoder: Any = self.text_encoders[component]
        rows = token_ids(captions, self.tokenizers[component], max_tokens)
        return encoder(rows.to(encoder.device), output_hidden_states=True)

    def predict(
        self,
        noisy: "torch.Tensor",
        timesteps: "torch.Tensor",
        conditions: "Mapping[str, torch.Tensor]",
        sizes: Sequence[Sizes],
    ) -> "torch.Tensor":
        denoiser: Any = self.denoiser
        predicted: torch.Tensor = denoiser(
            noisy,
            timesteps,
            encoder_hidden_states=conditions["hidden"].to(noisy.dtype),
            added_cond_kwargs=self.beside(noisy, conditions, sizes),
            return_dict=False,
        )[0]
        return predicted

    def beside(
        self, noisy: "torch.Tensor", conditions: "Mapping[str, torch.Tensor]", sizes: Sequence[Sizes]
    ) -> "dict[str, torch.Tensor] | None":
        """What the U-Net is told beside the text; nothing in most families."""
        return None


def _shapes(module: "nn.Module", beginning: str) -> dict[str, tuple[int, ...]]:
    return {f"{beginning}{name}": tuple(tensor.shape) for name, tensor in module.state_dict().items()}
