"""`merge`, version 1: LoRAs into one, checkpoints into one, LoRAs into a checkpoint, a LoRA out of two
checkpoints, or a whole graph of these from a recipe."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from contract.base import Reply, Strict
from contract.fields import field
from contract.methods.job import JobParams, Outcome
from contract.methods.weights import (
    AdapterDtype,
    AlphaRule,
    CheckpointDtype,
    FileOutput,
    Naming,
    NoInput,
    Rank,
    Weight,
    WeightsFile,
    alpha_field,
    dtype_field,
    naming_field,
)
from contract.rules.merge_methods import MERGE_METHODS, count_problem, method_problem
from contract.validation import EXPECTED, Contradiction

LoraMethod = Literal["concat", "add", "svd", "ties", "dare"]
#: Where a part of a checkpoint comes from: from the merge, or as it is in one of the inputs, by its place
#: (`1` is the first), or it is left out.
Part = Annotated[
    str,
    Meta(
        pattern=r"^(merge|drop|[1-9][0-9]?)\Z",
        extra={EXPECTED: "`merge`, `drop` or the place of a model, `1` for the first"},
    ),
]
#: The name of a node in a recipe.
Node = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{1,64}\Z",
        extra={EXPECTED: "up to 64 of the letters a to z, digits, `-` and `_`"},
    ),
]
#: Steps of a recipe at most; a chain of that many is as deep as one that is looked at may be.
MAX_STEPS: Final = 128
#: Weights by block: one number a block in the order of the family's blocks, or the name of a preset.
BlockWeights = list[Weight] | str
#: Parameters of methods, in a merge of its own and in a step of a recipe.
AlphaByBlock = Annotated[
    BlockWeights, field("Alpha by block", "Values in block order, or a preset.", detail="advanced")
]
BetaByBlock = Annotated[
    BlockWeights, field("Beta by block", "Values in block order, or a preset.", detail="advanced")
]
Normalize = Annotated[
    bool, field("Normalise", "Divide the weights of `weighted_sum` by their sum.", detail="advanced")
]
Density = Annotated[
    float, field("Density", "Share that `ties`, `dare`, `della` keep.", detail="advanced", gt=0, le=1)
]
Epsilon = Annotated[
    float,
    field(
        "Epsilon",
        "Width of the keep probabilities of `della` around its density.",
        detail="expert",
        ge=0,
        lt=1,
    ),
]


class WeightedLora(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A LoRA and how much of it. `components` (unet, te1, te2, te3) and `blocks` (IN04, M00 …) have weights
    of their own, which take the place of `weight`; a block wins over its component."""

    model: Annotated[WeightsFile, field("LoRA", "The file.")]
    weight: Annotated[Weight, field("Weight", "How much of it; 1 is as it was trained.")] = 1.0
    components: Annotated[
        dict[str, Weight],
        field("Weights by component", "`unet`, `te1`, `te2`, `te3` → its own weight.", detail="advanced"),
    ] = {}
    blocks: Annotated[
        dict[str, Weight],
        field("Weights by block", "Block, such as `IN04` or `M00` → its own weight.", detail="advanced"),
    ] = {}


class WeightedModel(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A checkpoint and how much of it; with `blocks`, the U-Net's or transformer's blocks have their own."""

    model: Annotated[WeightsFile, field("Checkpoint", "The file.")]
    weight: Annotated[Weight, field("Weight", "How much of it, where the method has weights.")] = 1.0
    blocks: (
        Annotated[
            BlockWeights, field("Weights by block", "Values in block order, or a preset.", detail="advanced")
        ]
        | None
    ) = None


class Components(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """Where the parts of the output come from; `vae_file` is a VAE that takes the place of `vae`."""

    unet: Annotated[
        Part,
        field(
            "U-Net", "U-Net or transformer: `merge`, `drop`, or from a model by its place, `1` for the first."
        ),
    ] = "merge"
    text_encoders: Annotated[
        Part, field("Text encoders", "`merge`, `drop`, or from a model by its place.")
    ] = "merge"
    vae: Annotated[Part, field("VAE", "`merge`, `drop`, or from a model by its place.")] = "merge"
    vae_file: (
        Annotated[WeightsFile, field("VAE from a file", "A VAE that takes the place of `vae`.")] | None
    ) = None


class LoraMerge(Strict, frozen=True, kw_only=True, tag="loras", tag_field="type"):
    """LoRAs into one that does what they do together: ΔW = Σ weight · ΔWᵢ."""

    loras: Annotated[list[WeightedLora], field("LoRAs", "The LoRAs and their weights.", min_length=1)]
    method: Annotated[
        LoraMethod,
        field(
            "Method",
            "`concat`: exact, ranks add. `svd`: the best of one rank. `add`: sums the factors, exact only "
            "for LoRAs that share one. `ties` and `dare`: drop what is small or by chance, then as `svd`.",
        ),
    ] = "concat"
    rank: Annotated[Rank, field("Rank", "Of the output; left out, the highest of the inputs.")] | None = None
    conv_rank: (
        Annotated[Rank, field("Rank of convolutions", "For kernels larger than 1 × 1; left out, as `rank`.")]
        | None
    ) = None
    density: Annotated[
        float,
        field("Density", "Share of each ΔW that `ties` and `dare` keep.", detail="advanced", gt=0, le=1),
    ] = 0.5
    seed: Annotated[int, field("Seed", "Of what `dare` drops.", detail="advanced", ge=0, lt=2**53)] = 0
    alpha: Annotated[AlphaRule, alpha_field()] = "even"
    dtype: Annotated[AdapterDtype, dtype_field()] = "keep"
    naming: Annotated[Naming, naming_field()] = "keep"

    def __post_init__(self) -> None:
        if self.method in ("concat", "add") and (self.rank is not None or self.conv_rank is not None):
            raise Contradiction(("rank", f"the rank of `{self.method}` follows from its inputs"))


class CheckpointMerge(Strict, frozen=True, kw_only=True, tag="checkpoints", tag_field="type"):
    """N checkpoints into one, tensor by tensor. A, B, C are the models in their order."""

    models: Annotated[
        list[WeightedModel],
        field("Models", "The checkpoints, and weights where the method has them.", min_length=1),
    ]
    method: Annotated[
        str, field("Method", "How tensors are put together.", schema={"enum": list(MERGE_METHODS)})
    ] = "weighted_sum"
    alpha: Annotated[float, field("Alpha", "First parameter of the method.", ge=-100, le=100)] = 0.5
    beta: Annotated[float, field("Beta", "Second parameter of the method.", ge=-100, le=100)] = 0.5
    alpha_blocks: AlphaByBlock | None = None
    beta_blocks: BetaByBlock | None = None
    normalize: Normalize = False
    density: Density = 0.5
    epsilon: Epsilon = 0.1
    seed: Annotated[int, field("Seed", "Of what is drawn by chance.", detail="advanced", ge=0, lt=2**53)] = 0
    components: Annotated[
        Components, field("Parts", "Where U-Net, text encoders and VAE come from.", detail="advanced")
    ] = Components()
    dtype: Annotated[CheckpointDtype, dtype_field()] = "keep"
    ema: Annotated[
        Literal["drop", "keep", "use"],
        field(
            "EMA weights",
            "EMA weights: leave them out, keep them, or use them instead of the others.",
            detail="advanced",
        ),
    ] = "drop"

    def __post_init__(self) -> None:
        problems = list(_method_problems(self.method, len(self.models), "models"))
        if problems:
            raise Contradiction(*problems)


class Bake(Strict, frozen=True, kw_only=True, tag="bake", tag_field="type"):
    """LoRAs into a checkpoint: W + Σ weight · ΔWᵢ."""

    model: Annotated[WeightsFile, field("Model", "The checkpoint.")]
    loras: Annotated[list[WeightedLora], field("LoRAs", "The LoRAs and their weights.", min_length=1)]
    dtype: Annotated[CheckpointDtype, dtype_field()] = "keep"
    ema: Annotated[
        Literal["drop", "keep"],
        field("EMA weights", "EMA weights: leave them out or keep them.", detail="advanced"),
    ] = "drop"


class Extract(Strict, frozen=True, kw_only=True, tag="extract", tag_field="type"):
    """The LoRA that turns `base` into `tuned`, as well as its rank can."""

    tuned: Annotated[WeightsFile, field("Tuned", "The checkpoint that was trained.")]
    base: Annotated[WeightsFile, field("Base", "The checkpoint it was trained from.")]
    rank: Annotated[Rank, field("Rank", "Of every module.")] = 32
    conv_rank: Annotated[
        int, field("Rank of convolutions", "For kernels larger than 1 × 1; 0 leaves them out.", ge=0, le=4096)
    ] = 0
    alpha: Annotated[AlphaRule, alpha_field()] = "even"
    min_difference: Annotated[
        float,
        field(
            "Least difference",
            "Modules whose largest difference is below it are left out.",
            detail="advanced",
            ge=0,
        ),
    ] = 0.0
    iterations: Annotated[
        int, field("Iterations", "Power iterations of the randomised SVD.", detail="expert", ge=0, le=20)
    ] = 2
    seed: Annotated[int, field("Seed", "Of the randomised SVD.", detail="expert", ge=0, lt=2**53)] = 0
    dtype: Annotated[Literal["fp32", "fp16", "bf16"], field("Type of the numbers", "Of the LoRA.")] = "fp16"
    naming: Annotated[
        Literal["kohya", "peft", "generic"], field("Naming", "Of the LoRA's modules.", detail="advanced")
    ] = "kohya"


class RecipeStep(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A node that is computed. `inputs` are models or other steps, the rest is as in CheckpointMerge.

    `method` may also be `bake`: one input, and `loras`.
    """

    method: Annotated[
        str, field("Method", "How tensors are put together.", schema={"enum": [*MERGE_METHODS, "bake"]})
    ]
    inputs: Annotated[list[Node], field("Inputs", "Names of models or other steps.", min_length=1)]
    weights: Annotated[list[Weight], field("Weights", "One for every input; left out, 1.")] = []
    alpha: Annotated[Weight, field("Alpha", "First parameter of the method.")] = 0.5
    beta: Annotated[Weight, field("Beta", "Second parameter of the method.")] = 0.5
    alpha_blocks: AlphaByBlock | None = None
    beta_blocks: BetaByBlock | None = None
    normalize: Normalize = False
    density: Density = 0.5
    epsilon: Epsilon = 0.1
    loras: Annotated[list[WeightedLora], field("LoRAs", "What `bake` adds to its input.")] = []

    def __post_init__(self) -> None:
        if self.method == "bake":
            problems = [] if self.loras else [("loras", "`bake` needs some")]
            problems += [] if len(self.inputs) == 1 else [("inputs", "`bake` takes one model")]
        else:
            problems = list(_method_problems(self.method, len(self.inputs), "inputs"))
            problems += [("loras", "only `bake` takes LoRAs")] if self.loras else []
        if self.weights and len(self.weights) != len(self.inputs):
            problems.append(("weights", "give one for every input"))
        if problems:
            raise Contradiction(*problems)


class Recipe(Strict, frozen=True, kw_only=True, tag="recipe", tag_field="type"):
    """A graph of merges, evaluated in one stream. Its inputs' hashes are checked where they are given, and
    written into the output with the whole recipe, so that it can be run again."""

    models: Annotated[dict[Node, WeightsFile], field("Models", "Name → checkpoint.", min_length=1)]
    steps: Annotated[
        dict[Node, RecipeStep],
        field("Steps", "Name → merge of models and other steps.", min_length=1, max_length=MAX_STEPS),
    ]
    output: Annotated[Node, field("Output", "The step, or model, that is written.")]
    seed: Annotated[int, field("Seed", "Of what is drawn by chance.", ge=0, lt=2**53)] = 0
    vae_file: Annotated[WeightsFile, field("VAE", "A VAE to take the place of the output's.")] | None = None
    dtype: Annotated[CheckpointDtype, dtype_field()] = "keep"
    ema: Annotated[
        Literal["drop", "keep", "use"],
        field(
            "EMA weights",
            "EMA weights: leave them out, keep them, or use them instead of the others.",
            detail="advanced",
        ),
    ] = "drop"

    def __post_init__(self) -> None:
        known = {*self.models, *self.steps}
        problems = [("models", f"`{name}` is also a step") for name in sorted({*self.models} & {*self.steps})]
        if self.output not in known:
            problems.append(("output", f"there is no node `{self.output}`"))
        for name, step in self.steps.items():
            problems += [
                (f'steps["{name}"].inputs', f"there is no node `{each}`")
                for each in step.inputs
                if each not in known
            ]
        if not problems and (circle := _circle(self.steps)) is not None:
            problems.append(("steps", f"`{circle}` needs itself"))
        if problems:
            raise Contradiction(*problems)


MergeSettings = LoraMerge | CheckpointMerge | Bake | Extract | Recipe


class MergeParams(JobParams, frozen=True, kw_only=True):
    """The request of `merge`. All files that are read are named in the settings."""

    v: Literal[1] = 1
    inputs: NoInput = NoInput()
    outputs: FileOutput
    settings: MergeSettings


class MergedModule(Reply, kw_only=True):
    """One module of an adapter. `error` is the relative Frobenius error of its ΔW against the exact one."""

    name: str
    rank: int
    error: float


class MergeInput(Reply, kw_only=True):
    """A file that was read. `sha256` is None where it was not asked for."""

    file: str
    sha256: str | None = None


class MergeOutcome(Outcome, kw_only=True):
    """How a merge ended. `error` is the relative Frobenius error of all ΔW together, None where nothing was
    approximated. `modules` has the first 10,000 of an adapter; `kept` counts tensors taken from one input
    unchanged, `merged` those put together. `left_out` names keys of inputs that are not in the output (the
    first 1,000 of `left_out_count`). `timings`: seconds by phase, and wall_s."""

    file: str
    bytes: int
    sha256: str
    inputs: list[MergeInput]
    merged: int
    kept: int
    error: float | None = None
    error_is_estimate: bool = False
    modules: list[MergedModule] = []
    left_out: list[str] = []
    left_out_count: int = 0


def _method_problems(name: str, count: int, field_: str) -> list[tuple[str, str]]:
    if (problem := method_problem(name)) is not None:
        return [("method", problem)]
    if (problem := count_problem(MERGE_METHODS[name], count)) is not None:
        return [(field_, problem)]
    return []


def _circle(steps: dict[str, RecipeStep]) -> str | None:
    """A step that needs itself; None where there is none."""
    done: set[str] = set()
    while ready := [
        name for name in steps if name not in done and not ({*steps[name].inputs} & steps.keys()) - done
    ]:
        done.update(ready)
    return next((name for name in steps if name not in done), None)
