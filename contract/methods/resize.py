"""`resize`, version 1: a LoRA in; the same LoRA at other ranks out."""

from typing import Annotated, Literal

from contract.base import Reply, Strict
from contract.fields import field
from contract.methods.job import JobParams, Outcome
from contract.methods.weights import (
    AdapterDtype,
    AlphaRule,
    FileInput,
    FileOutput,
    Naming,
    alpha_field,
    dtype_field,
    naming_field,
)
from contract.validation import Contradiction

ResizeMethod = Literal["fixed", "sv_ratio", "sv_cumulative", "sv_fro"]


class ResizeSettings(Strict, frozen=True, kw_only=True):
    """Everything that a user chooses about resizing a LoRA.

    The rules look at the spectrum S of up · down without alpha ÷ rank, by falling value.
    """

    method: Annotated[
        ResizeMethod,
        field(
            "Method",
            "`fixed`: the same rank everywhere. `sv_ratio`: what is larger than the largest ÷ value. "
            "`sv_cumulative`: the share `value` of the sum. `sv_fro`: the share `value` of the norm.",
        ),
    ] = "fixed"
    rank: Annotated[
        int,
        field(
            "Rank", "Rank of every module, or the highest that a dynamic method may choose.", ge=1, le=4096
        ),
    ] = 16
    value: (
        Annotated[
            float,
            field("Value", "The parameter of a dynamic method: above 1 for `sv_ratio`, else in 0 … 1.", gt=0),
        ]
        | None
    ) = None
    conv_rank: (
        Annotated[
            int,
            field(
                "Rank of convolutions", "For kernels larger than 1 × 1; left out, as `rank`.", ge=1, le=4096
            ),
        ]
        | None
    ) = None
    blocks: Annotated[
        dict[str, int],
        field(
            "Ranks by block",
            "Block or component (`IN04`, `M00`, `te1` …) → its own highest rank; 0 leaves its modules out.",
            detail="advanced",
        ),
    ] = {}
    target_size_mb: (
        Annotated[
            float,
            field(
                "Size of the file",
                "The highest ranks, or the highest `value`, with which the file is no larger.",
                unit="MB",
                detail="advanced",
                gt=0,
            ),
        ]
        | None
    ) = None
    alpha: Annotated[AlphaRule, alpha_field()] = "even"
    dtype: Annotated[AdapterDtype, dtype_field()] = "keep"
    naming: Annotated[Naming, naming_field()] = "keep"
    convert: Annotated[
        bool,
        field(
            "Convert",
            "Turn LoHa and LoKr into LoRA by their best approximation of `rank`, and say how far off it is.",
            detail="advanced",
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.method == "fixed" and self.value is not None:
            raise Contradiction(("value", "only a dynamic method has a value"))
        if self.method == "fixed":
            return
        if self.value is None and self.target_size_mb is None:
            raise Contradiction(("value", f"is required by `{self.method}`"))
        if self.value is not None and self.target_size_mb is not None:
            raise Contradiction(("value", "give a value or a size of the file, not both"))
        if self.value is not None and self.method == "sv_ratio" and self.value <= 1:
            raise Contradiction(("value", "`sv_ratio` needs a value above 1"))
        if self.value is not None and self.method != "sv_ratio" and self.value > 1:
            raise Contradiction(("value", f"`{self.method}` needs a value in 0 … 1"))


class ResizeParams(JobParams, frozen=True, kw_only=True):
    """The request of `resize`."""

    v: Literal[1] = 1
    inputs: FileInput
    outputs: FileOutput
    settings: ResizeSettings


class ResizedModule(Reply, kw_only=True):
    """One module. `sum_retained` and `fro_retained` are shares, in 0 … 1, of the sum of its singular
    values and of its Frobenius norm; `error` is the relative Frobenius error of ΔW against the input's.
    Of a LoHa or LoKr that was converted the sum of all singular values is not known."""

    name: str
    old_rank: int
    new_rank: int
    sum_retained: float | None
    fro_retained: float
    error: float


class ResizeOutcome(Outcome, kw_only=True):
    """How a resize ended. `fro_retained` is of all modules together, `error` the relative Frobenius error of
    all ΔW together. `modules` has the first 10,000. `timings`: read_s, core_s, write_s, wall_s."""

    file: str
    bytes: int
    sha256: str
    modules: list[ResizedModule]
    fro_retained: float
    error: float
    value: float | None = None
    unchanged: list[str] = []
