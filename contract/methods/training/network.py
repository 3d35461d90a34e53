"""`[network]`: what is trained beside the model, and where in it."""

from typing import Annotated

from contract.base import Strict
from contract.fields import field
from contract.methods.weights import WeightsFile


class _LowRank(Strict, frozen=True, kw_only=True):
    """What all networks of low rank share. ΔW = up · down · alpha ÷ rank. Modules are named as in the files
    that are made, such as `lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q`."""

    rank: Annotated[
        int,
        field(
            "Rank",
            "How much a module can learn, and how large the file is. 8 to 16 is enough for a character, 16 "
            "to 64 for a style.",
            ge=1,
            le=4096,
        ),
    ] = 16
    alpha: Annotated[
        float,
        field(
            "Alpha",
            "Scales what was learned by alpha ÷ rank. Half the rank is a good start; a lower one needs a "
            "higher learning rate.",
            gt=0,
            le=65536,
        ),
    ] = 8.0
    dropout: Annotated[
        float,
        field(
            "Dropout",
            "Share of the inner values of each module that a step leaves out, against overfitting.",
            detail="advanced",
            ge=0,
            lt=1,
        ),
    ] = 0.0
    rank_dropout: Annotated[
        float,
        field(
            "Rank dropout",
            "Share of the ranks of each module that a sample leaves out.",
            detail="expert",
            ge=0,
            lt=1,
        ),
    ] = 0.0
    include: Annotated[
        list[str],
        field(
            "Only these modules",
            "Patterns with `*` of names as in the file, such as `lora_unet_*attn*`; none given means all.",
            detail="expert",
        ),
    ] = []
    exclude: Annotated[
        list[str],
        field("Without these modules", "Patterns with `*` of modules that are left out.", detail="expert"),
    ] = []
    start_from: (
        Annotated[
            WeightsFile,
            field(
                "Start from",
                "A file with a network of the same ranks, which is trained further.",
                detail="advanced",
            ),
        ]
        | None
    ) = None

    def size(self, *, is_kernel: bool) -> tuple[int, float]:
        """Rank and alpha of a module; `is_kernel`: of a convolution that is larger than 1 × 1."""
        return self.rank, self.alpha


class LoraNetwork(_LowRank, frozen=True, kw_only=True, tag="lora", tag_field="type"):
    """LoRA on the linear layers of the transformer blocks and on their 1 × 1 convolutions."""


class LoconNetwork(_LowRank, frozen=True, kw_only=True, tag="locon", tag_field="type"):
    """LoRA on the convolutions of larger kernels as well: more detail of a style, in a larger file."""

    conv_rank: Annotated[
        int, field("Rank of convolutions", "For kernels larger than 1 × 1.", ge=1, le=4096)
    ] = 8
    conv_alpha: Annotated[
        float,
        field("Alpha of convolutions", "For kernels larger than 1 × 1.", gt=0, le=65536),
    ] = 4.0

    def size(self, *, is_kernel: bool) -> tuple[int, float]:
        """Those of convolutions where there are kernels."""
        return (self.conv_rank, self.conv_alpha) if is_kernel else super().size(is_kernel=False)


#: What may be trained; others join by their own `type`.
Network = LoraNetwork | LoconNetwork
