"""`[precision]`: the numbers that are computed with."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field

#: `auto` is chosen by device.
ComputeDtype = Literal["auto", "fp32", "fp16", "bf16"]


class Precision(Strict, frozen=True, kw_only=True):
    """The numbers that are computed with. The network and the optimizer's state are always kept in fp32."""

    compute: Annotated[
        ComputeDtype,
        field(
            "Compute in",
            "`auto`: bf16 on a GPU that has it, fp16 on others, fp32 on a CPU. fp16 scales the loss to keep "
            "small gradients.",
            detail="advanced",
        ),
    ] = "auto"
    vae: Annotated[
        ComputeDtype,
        field(
            "VAE computes in",
            "`auto`: bf16 where the job computes in bf16, else fp32; the VAE of SDXL overflows in fp16.",
            detail="expert",
        ),
    ] = "auto"
