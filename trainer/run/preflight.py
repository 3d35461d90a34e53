"""What can be known of a run before torch is loaded: files, families, names, prompts. Cheap, and first."""

import os
from collections.abc import Container
from typing import Final, NamedTuple

import msgspec

from contract.errors import (
    FileMissing,
    InvalidParams,
    OutputExists,
    WeightsMismatch,
)
from contract.methods.train import TrainSettings
from contract.rules.families import TITLES, detect
from contract.rules.paths import to_wire
from trainer.families import FAMILIES, Family, ModelFiles, Recognised, recognise
from trainer.run.request import Request
from trainer.sampling.prompts import Prompt, prompts_of
from trainer.weights.tensor_file import open_weights

SUFFIX: Final = ".safetensors"
_SETTINGS: Final = "$.params.settings"


class Known(NamedTuple):
    """What was found out. `size` is the side in pixels of the pictures that are trained with; `denoiser`,
    `vae` and `text` are the fingerprints of these parts."""

    family: Family
    files: ModelFiles
    recognised: Recognised
    prompts: list[Prompt]
    size: int
    denoiser: str
    vae: str
    text: str


def known_of(request: Request) -> Known:
    """Look at everything by its header.

    Raises InvalidParams, FileMissing, and the errors of weights: for a model, a VAE or a LoRA
    that is none, or of another family than it has to be.
    """
    settings = request.settings
    check_output(request.output)
    if request.checkpoint is not None and not os.path.isdir(request.checkpoint):
        named = to_wire(request.checkpoint)
        raise FileMissing(f"There is no checkpoint `{named}`.", where=named)
    files = ModelFiles(model=request.model, vae=request.vae)
    recognised = recognise(files)
    family = FAMILIES[recognised.family]
    _check_family(settings, recognised, files)
    _check_rates(settings, family)
    _check_start(request, family)
    size = settings.data.resolution or family.resolution
    sampling = msgspec.structs.replace(settings.sampling, file=request.prompts)
    prompts = prompts_of(sampling, (size, size), family.latent_scale)
    # A look at the VAE is also one whether it is of this family.
    vae, text = family.fingerprint(files, "vae"), family.fingerprint(files, "text")
    return Known(family, files, recognised, prompts, size, family.fingerprint(files, "denoiser"), vae, text)


def check_output(path: str) -> None:
    """Raises InvalidParams for a file of another ending, FileMissing where its folder is not there."""
    if not path.lower().endswith(SUFFIX):
        raise InvalidParams(f"`{to_wire(path)}` does not end in {SUFFIX}.", where="$.params.outputs.file")
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        named = to_wire(folder)
        raise FileMissing(f"The folder `{named}` does not exist.", where="$.params.outputs.file")


def check_free(path: str, own: Container[str] = ()) -> None:
    """Raises OutputExists where a file is that would be written over; `own` are the run's, as on the wire."""
    named = to_wire(path)
    if named not in own and os.path.lexists(path):
        raise OutputExists(
            f"`{named}` is there already.", where=named, hint="Choose another name, or allow to overwrite it."
        )


def _check_family(settings: TrainSettings, recognised: Recognised, files: ModelFiles) -> None:
    wanted = settings.model.family
    if wanted is not None and wanted != recognised.family:
        where = to_wire(files.model)
        raise WeightsMismatch(
            f"`{where}` is a model of {TITLES[recognised.family]}, and `model.family` is {wanted}.",
            where=f"{_SETTINGS}.model.family",
            hint="Choose another model, or leave `model.family` out.",
            details={"family": recognised.family, "expected": wanted},
        )


def _check_rates(settings: TrainSettings, family: Family) -> None:
    title, has = TITLES[family.name], ", ".join(family.components)
    for component in settings.optimizer.rates:
        if component not in family.components:
            raise InvalidParams(
                f"A model of {title} has no `{component}`; it has {has}.",
                where=f'{_SETTINGS}.optimizer.rates["{component}"]',
            )
    if not any(settings.optimizer.rate_of(each) > 0 for each in family.components):  # type: ignore[arg-type]
        raise InvalidParams(
            f"Every learning rate is 0: nothing of a model of {title} is trained.",
            where=f"{_SETTINGS}.optimizer.learning_rate",
        )


def _check_start(request: Request, family: Family) -> None:
    """The same is looked at again when it is loaded, with all its modules."""
    if request.start_from is None:
        return
    with open_weights(request.start_from) as file:
        found = detect({key: facts.shape for key, facts in file.header.tensors.items()}, file.header.metadata)
    where = f"{_SETTINGS}.network.start_from"
    if found.kind != "lora":
        raise WeightsMismatch(f"`{file.where}` is no LoRA.", where=where)
    if found.family is not None and found.family != family.name:
        raise WeightsMismatch(
            f"`{file.where}` is for {TITLES[found.family]}, the model is one of {TITLES[family.name]}.",
            where=where,
            details={"family": found.family, "expected": family.name},
        )
