"""Prompts as lines with all their options, so that a recipe needs no file of them."""

from collections.abc import Sequence

import msgspec

from contract.methods.training.sampling import Sampling
from trainer.sampling.prompt_line import parse_line
from trainer.sampling.prompt_options import OPTIONS, PromptOptions
from trainer.sampling.prompts import Prompt


def without_file(sampling: Sampling, prompts: Sequence[Prompt]) -> Sampling:
    """The same samples with the prompts in place of their file. One that no line can say is left out, and all
    samples where that leaves no prompt."""
    if sampling.file is None:
        return sampling
    lines = [line for each in prompts if (line := _line(each)) is not None]
    return msgspec.structs.replace(sampling, file=None, prompts=lines) if lines else Sampling()


def _line(prompt: Prompt) -> str | None:
    """The prompt in the syntax of files of prompts; None where its text would be read as something else."""
    options = [
        f"--{option.flag} {value}".rstrip()
        for option in OPTIONS
        if (value := getattr(prompt, option.field)) is not None
    ]
    line = " ".join([prompt.text, *options])
    wanted = PromptOptions(**{name: getattr(prompt, name) for name in PromptOptions.__struct_fields__})
    return line if parse_line(line, "") == wanted else None
