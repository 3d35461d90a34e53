"""The prompts of a run: what the settings say, and what each says itself, which comes first."""

from typing import Final

import msgspec

from contract.methods.training.sampling import Sampler, Sampling
from trainer.sampling.prompt_file import parse_prompts, read_prompts
from trainer.sampling.prompt_options import PromptOptions

#: Seeds begin anew behind the last one that JSON can say exactly.
_SEEDS: Final = 2**53


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A picture to be made: `index` is its place among the prompts, from 0. Width and height are in pixels,
    `guidance` is classifier-free, 1 is without; `embedded` is what distilled models are told, None for
    others."""

    index: int
    text: str
    negative: str
    width: int
    height: int
    seed: int
    steps: int
    guidance: float
    embedded: float | None
    sampler: Sampler


def prompts_of(settings: Sampling, size: tuple[int, int], multiple: int = 8) -> list[Prompt]:
    """All prompts of a run, of the settings or of their file. `size` is the (width, height) where nobody says
    one; every size is rounded down to a multiple of `multiple` pixels, which the family needs.

    Raises FileMissing, FileUnreadable, and InvalidParams for whatever is wrong with prompts.
    """
    if settings.file is not None:
        found = read_prompts(settings.file)
    else:
        found = (
            parse_prompts(settings.prompts, "$.params.settings.sampling.prompts") if settings.prompts else []
        )
    return [_complete(each, index, settings, size, multiple) for index, each in enumerate(found)]


def rounded(pixels: int, multiple: int) -> int:
    """The next smaller multiple, and one of them at least."""
    return max(multiple, pixels - pixels % multiple)


def _complete(
    said: PromptOptions, index: int, settings: Sampling, size: tuple[int, int], multiple: int
) -> Prompt:
    width, height = said.width or settings.width or size[0], said.height or settings.height or size[1]
    return Prompt(
        index=index,
        text=said.text,
        negative=settings.negative if said.negative is None else said.negative,
        width=rounded(width, multiple),
        height=rounded(height, multiple),
        seed=(settings.seed + index) % _SEEDS if said.seed is None else said.seed,
        steps=said.steps or settings.steps,
        guidance=settings.guidance if said.guidance is None else said.guidance,
        embedded=said.embedded,
        sampler=said.sampler or settings.sampler,
    )
