"""The samples of a moment of the training: a picture for each prompt, in files that say what they are of."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from trainer.sampling.painter import Painter, paint
from trainer.sampling.picture_file import write_png
from trainer.sampling.prompts import Prompt
from trainer.weights.folders import make_folder
from trainer.weights.unfinished import unwritten

#: The chunk in which web UIs look for what a picture was made with.
PARAMETERS: Final = "parameters"
#: The chunk with the same as JSON.
RECIPE: Final = "lorakeet"
#: How samplers are called there.
_TITLES: Final = {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M"}


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that was made: after `step` steps of the training, of the prompt at place `prompt_index`.
    `is_finite` is false where the model said numbers that are none, as one that has diverged."""

    step: int
    prompt_index: int
    path: str
    bytes: int
    width: int
    height: int
    seed: int
    is_finite: bool


def make_samples(
    painter: Painter,
    prompts: Iterable[Prompt],
    folder: str,
    step: int,
    *,
    checked: Callable[[], None] = lambda: None,
    told: Callable[[Sample], None] = lambda _: None,
) -> list[Sample]:
    """Make them one after another, `told` of each as soon as its file is there; `checked` is called before
    every step of a sampler, and may raise. What a run made before at this step is replaced.

    Raises DiskFull, FileUnwritable, InvalidParams where a sampler is not defined for the model, and what the
    functions of the painter raise. Files that were made by then stay.
    """
    try:
        make_folder(folder)
    except OSError as error:
        raise unwritten(error, folder) from error
    samples = []
    for prompt in prompts:
        picture = paint(painter, prompt, checked)
        path = os.path.join(folder, sample_name(step, prompt.index))
        size = write_png(path, picture.pixels, _texts(prompt, step))
        height, width, _ = picture.pixels.shape
        samples.append(
            Sample(
                step=step,
                prompt_index=prompt.index,
                path=path,
                bytes=size,
                width=width,
                height=height,
                seed=prompt.seed,
                is_finite=picture.is_finite,
            )
        )
        told(samples[-1])
    return samples


def sample_name(step: int, prompt_index: int) -> str:
    """The name of a file; names sort by step, then by prompt."""
    return f"step-{step:08d}-prompt-{prompt_index:03d}.png"


def _texts(prompt: Prompt, step: int) -> dict[str, str]:
    recipe = {"training_step": step} | msgspec.to_builtins(prompt)
    return {PARAMETERS: _parameters(prompt), RECIPE: json.dumps(recipe, ensure_ascii=False)}


def _parameters(prompt: Prompt) -> str:
    """As web UIs write and read it: the prompt, the negative one, and a line of the rest."""
    facts = [
        f"Steps: {prompt.steps}",
        f"Sampler: {_TITLES[prompt.sampler]}",
        f"CFG scale: {prompt.guidance:g}",
        f"Seed: {prompt.seed}",
        f"Size: {prompt.width}x{prompt.height}",
    ]
    negative = [f"Negative prompt: {prompt.negative}"] if prompt.negative else []
    return "\n".join([prompt.text, *negative, ", ".join(facts)])
