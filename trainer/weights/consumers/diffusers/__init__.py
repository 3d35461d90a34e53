"""What diffusers loads of an adapter, with the pipeline of its family.

Each family has a loader of its own there, which turns other programs' names into its own, or does not. What
it then hands to peft is used where the model has a module of that name, and is otherwise left aside with a
warning. Several ways to lose a LoRA without an error are among them; they are the reason for this package.

Established by reading `loaders/lora_pipeline.py`, `loaders/lora_conversion_utils.py` and
`utils/peft_utils.py` of diffusers 0.42.1 (with transformers 5.23 and peft 0.21), and by loading small models
with it: the tests compare ΔW in its modules with what is said here.
"""

from typing import Final

from trainer.weights.consumers.diffusers.flux import flux
from trainer.weights.consumers.diffusers.transformers import anima, flux2, lumina2, qwen_image, sd3, z_image
from trainer.weights.consumers.diffusers.unets import UNETS
from trainer.weights.consumers.reading import Case, Program, Reading


def _no_loader(case: Case) -> Reading:
    return Reading(set(), "Its pipeline for this family has no LoRA loader.")


DIFFUSERS: Final = Program(
    name="diffusers",
    rules=UNETS
    | {
        "sd3": sd3,
        "flux1": flux,
        "chroma": flux,
        "flux2": flux2,
        "lumina2": lumina2,
        "anima": anima,
        "qwen_image": qwen_image,
        "z_image": z_image,
        "hunyuan_image": _no_loader,
    },
    others="What it reads of this family has not been established.",
)
