"""`[sampling]`: pictures that show how far the training is."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field
from contract.validation import Contradiction

#: How noise is taken away.
Sampler = Literal["ddim", "euler", "euler_a", "dpmpp_2m"]


class Sampling(Strict, frozen=True, kw_only=True):
    """Pictures that show how far the training is. What a prompt says itself holds for it."""

    prompts: Annotated[
        list[str],
        field(
            "Prompts",
            "One picture each. May end in options: `--n` negative prompt, `--w` and `--h` size, `--d` seed, "
            "`--l` guidance, `--s` steps, `--ss` sampler. `--g`, of distilled models, is read and does "
            "nothing for these families.",
        ),
    ] = []
    file: (
        Annotated[
            str,
            field(
                "File of prompts",
                "Absolute path of a .txt, .toml or .json file of prompts.",
                detail="advanced",
            ),
        ]
        | None
    ) = None
    every_epochs: Annotated[
        int, field("Every so many epochs", "0: never.", unit="epochs", ge=0, le=1_000_000)
    ] = 0
    every_steps: Annotated[
        int, field("Every so many steps", "0: never.", unit="steps", ge=0, le=100_000_000)
    ] = 0
    at_start: Annotated[
        bool,
        field("Before the first step", "Pictures of the model as it is, to compare with.", detail="advanced"),
    ] = True
    sampler: Annotated[Sampler, field("Sampler", "How noise is taken away.", detail="advanced")] = "euler_a"
    steps: Annotated[
        int, field("Steps", "Of the sampler.", unit="steps", detail="advanced", ge=1, le=1000)
    ] = 28
    guidance: Annotated[
        float,
        field(
            "Guidance", "How strictly the prompt is followed; 1 is without.", detail="advanced", ge=1, le=100
        ),
    ] = 7.0
    negative: Annotated[str, field("Negative prompt", "Of all that have none.", detail="advanced")] = ""
    width: (
        Annotated[
            int,
            field(
                "Width",
                "Left out: the resolution that is trained.",
                unit="px",
                detail="advanced",
                ge=64,
                le=8192,
                multiple_of=8,
            ),
        ]
        | None
    ) = None
    height: (
        Annotated[
            int,
            field(
                "Height",
                "Left out: the resolution that is trained.",
                unit="px",
                detail="advanced",
                ge=64,
                le=8192,
                multiple_of=8,
            ),
        ]
        | None
    ) = None
    seed: Annotated[
        int,
        field(
            "Seed",
            "Of the first prompt; each after it has the next. The same at every step, so that they compare.",
            detail="advanced",
            ge=0,
            lt=2**53,
        ),
    ] = 42

    def __post_init__(self) -> None:
        has_prompts, has_interval = (
            bool(self.prompts or self.file),
            bool(self.every_epochs or self.every_steps),
        )
        problems = []
        if self.prompts and self.file is not None:
            problems.append(("file", "give `prompts` or a `file`, not both"))
        # What begins with `is required` may be missing in a preset.
        if has_prompts and not has_interval:
            problems.append(("every_epochs", "is required, or `every_steps`: prompts need an interval"))
        if has_interval and not has_prompts:
            problems.append(("prompts", "is required, or `file`: there is an interval, but no prompt"))
        problems += [
            (f"prompts[{index}]", "is empty") for index, each in enumerate(self.prompts) if not each.strip()
        ]
        if problems:
            raise Contradiction(*problems)
