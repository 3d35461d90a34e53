"""What the training loop knows of a family of models: how to load one, and what a loaded one can do.

Nothing here knows which families there are, nor whether they predict noise or a flow.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from trainer.families.tokenizer import Tokenizer
    from trainer.weights.names import Site, Sites

#: What a denoiser says of a noisy latent: its noise, its velocity (v), or the way from noise to it (flow).
Prediction = Literal["epsilon", "v", "flow"]
#: What can be loaded alone.
Part = Literal["denoiser", "vae", "text"]
ALL_PARTS: Final[frozenset[Part]] = frozenset({"denoiser", "vae", "text"})
#: Tokens of a caption that are read: one, two or three times what CLIP takes.
MaxTokens = Literal[75, 150, 225]


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Absolute paths: `model` is a single file or a folder of diffusers, `vae` a file or a folder of its own
    that is used instead of the model's."""

    model: str
    vae: str | None = None


class Sizes(NamedTuple):
    """What is known of a picture and its crop, in pixels: (height, width) of the file, (top, left) of the
    crop in the resized picture, (height, width) of what is trained on."""

    original: tuple[int, int]
    crop: tuple[int, int]
    target: tuple[int, int]


class Recognised(NamedTuple):
    """What a model is, by its keys, shapes and metadata. `warnings` say where its metadata is not true."""

    family: str
    prediction: Prediction
    zero_snr: bool
    warnings: list[str]


class Loaded(ABC):
    """A model in memory: in evaluation mode, nothing trainable.

    `denoiser` and `vae` are None where they were not asked for, or unloaded; `text_encoders` and `tokenizers`
    are by component (te1, te2).
    """

    def __init__(self, family: str, recognised: Recognised) -> None:
        self.family = family
        self.prediction = recognised.prediction
        self.zero_snr = recognised.zero_snr
        self.denoiser: nn.Module | None = None
        self.vae: nn.Module | None = None
        self.text_encoders: dict[str, nn.Module] = {}
        self.tokenizers: dict[str, Tokenizer] = {}

    def unload(self, part: Part) -> None:
        """Let go of a part, once what it computes is cached."""
        if part == "denoiser":
            self.denoiser = None
        elif part == "vae":
            self.vae = None
        else:
            self.text_encoders.clear()

    @property
    @abstractmethod
    def sites(self) -> "Sites":
        """Where modules of adapters can sit in the parts that are loaded."""

    @abstractmethod
    def module(self, site: "Site") -> "nn.Module":
        """The module of a site. Raises AttributeError where its part is not loaded."""

    @abstractmethod
    def encode_pixels(
        self, pixels: "torch.Tensor", generators: "Sequence[torch.Generator] | None"
    ) -> "torch.Tensor":
        """Pictures (b, 3, h, w) in -1..1 as latents (b, c, h / 8, w / 8) in fp32, scaled as the denoiser
        takes them; drawn with one generator of the CPU a picture, or the mean where there are none."""

    @abstractmethod
    def decode_latents(self, latents: "torch.Tensor") -> "torch.Tensor":
        """The other way round: (b, 3, h, w) in fp32, in -1..1 and a little beyond."""

    @abstractmethod
    def encode_text(
        self, captions: Sequence[str], *, max_tokens: MaxTokens = 75, clip_skip: int | None = None
    ) -> "dict[str, torch.Tensor]":
        """Captions as what `predict` takes: `hidden` (b, n, d) and, where the family has it, `pooled` (b, d).

        `clip_skip` counts layers of the encoders from their end, 1 the last; None is as the family was
        trained.
        """

    @abstractmethod
    def predict(
        self,
        noisy: "torch.Tensor",
        timesteps: "torch.Tensor",
        conditions: "Mapping[str, torch.Tensor]",
        sizes: Sequence[Sizes],
    ) -> "torch.Tensor":
        """What the denoiser says of noisy latents (b, c, h, w) at timesteps (b,); the shape of `noisy`."""


@runtime_checkable
class Family(Protocol):
    """A family. `components` are what adapters can sit in, the denoiser first; `latent_scale` is how many
    pixels wide a latent is; `conditions` what `encode_text` gives; `resolution` the side in pixels of the
    square pictures that it was trained with."""

    @property
    def name(self) -> str: ...
    @property
    def components(self) -> tuple[str, ...]: ...
    @property
    def latent_channels(self) -> int: ...
    @property
    def latent_scale(self) -> int: ...
    @property
    def conditions(self) -> tuple[str, ...]: ...
    @property
    def resolution(self) -> int: ...

    def load(
        self,
        files: ModelFiles,
        dtype: "torch.dtype",
        *,
        parts: frozenset[Part] = ALL_PARTS,
        device: str = "cpu",
        vae_dtype: "torch.dtype | None" = None,
    ) -> Loaded:
        """Load a model of this family, or parts of it, in `dtype`; the VAE in `vae_dtype` where it is given,
        and never in fp16 where it would overflow.

        Everything is checked by headers before a tensor is read. Raises WeightsMismatch for a model of
        another family, WeightsUnknown, WeightsUnsupported, WeightsIncomplete, and what `open_weights` does.
        """
        ...

    def fingerprint(self, files: ModelFiles, part: Part) -> str:
        """What tells the numbers of a part from others, wherever they are kept, without reading them all: the
        key of what is cached of it. Without torch. Raises what `load` raises of headers."""
        ...

    def blank(self, parts: frozenset[Part] = ALL_PARTS) -> Loaded:
        """The published model at its full size, without numbers: every parameter is on the meta device."""
        ...
