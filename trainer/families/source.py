"""A model as it lies on disk, opened but not read: a single file or a folder, and its own VAE."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from contract.errors import FileUnreadable
from contract.rules.families import Found
from contract.rules.paths import to_wire
from trainer.families import folder
from trainer.families.base import ModelFiles, Recognised
from trainer.families.pieces import Layout
from trainer.families.prediction import Predicted, of_file, of_scheduler
from trainer.families.recognise import check_vae, expect_family, expect_latents, found_in
from trainer.families.single_file import single_file_layouts
from trainer.families.tokenizer import Tokenizer, from_folder
from trainer.families.vae_keys import vae_layout
from trainer.weights.tensor_file import TensorFile, open_weights

#: Component → its folder in diffusers.
FOLDERS: Final[Mapping[str, str]] = {
    "unet": "unet",
    "vae": "vae",
    "te1": "text_encoder",
    "te2": "text_encoder_2",
}
TOKENIZERS: Final[Mapping[str, str]] = {"te1": "tokenizer", "te2": "tokenizer_2"}
_SCHEDULER: Final = "scheduler"
_SCHEDULE: Final = "scheduler_config.json"


class Source(NamedTuple):
    """`layouts` are by component, of those that were found, `configs` the configurations of a folder, and
    `places` the file or folder that each component is in, as it travels."""

    recognised: Recognised
    layouts: Mapping[str, Layout]
    configs: Mapping[str, Mapping[str, Any]]
    places: Mapping[str, str]
    folder: str | None

    def tokenizer(self, component: str, pad: str) -> Tokenizer | None:
        """The tokenizer in the folder, where there is one. Raises FileUnreadable."""
        path = os.path.join(self.folder or "", TOKENIZERS[component])
        if self.folder is None or not os.path.isdir(path):
            return None
        try:
            return from_folder(path, pad)
        except (OSError, ValueError) as error:
            where = to_wire(path)
            raise FileUnreadable(f"`{where}` is no tokenizer of CLIP.", where=where) from error


class Opened(NamedTuple):
    """The files of the denoiser, or the single file, and what they are."""

    found: Found
    recognised: Recognised
    files: list[TensorFile]
    folder: str | None


def open_denoiser(path: str, stack: ExitStack) -> Opened:
    """Open a model just far enough to know what it is; files close with the stack.

    Raises WeightsMismatch, WeightsUnknown, WeightsUnsupported, and what `open_weights` does.
    """
    where = to_wire(path)
    if os.path.isdir(path):
        files = folder.open_part(os.path.join(path, FOLDERS["unet"]), stack)
        found = found_in(files, where)
        schedule = folder.config(os.path.join(path, _SCHEDULER), _SCHEDULE)
        predicted = of_scheduler(schedule, where)
    else:
        files = [stack.enter_context(open_weights(path))]
        found = found_in(files, where)
        header = files[0].header
        predicted = of_file(header.tensors, header.metadata, where)
    assert found.family is not None
    recognised = _recognised(found.family, predicted, found.warnings)
    return Opened(found, recognised, files, path if os.path.isdir(path) else None)


def open_source(
    files: ModelFiles, family: str, components: tuple[str, ...], channels: int, stack: ExitStack
) -> Source:
    """Open the components of a model of a family; nothing is read but headers and configurations.

    Raises WeightsMismatch for another family, and what `open_denoiser` does.
    """
    where = to_wire(files.model)
    opened = open_denoiser(files.model, stack)
    expect_family(opened.found, family, where)
    expect_latents(opened.files, channels, where)
    if opened.folder is None:
        layouts = dict(single_file_layouts(family, opened.files[0]))
        source = Source(opened.recognised, layouts, {}, dict.fromkeys(FOLDERS, where), None)
    else:
        source = _folder_source(opened, opened.folder, components, stack)
    if files.vae is None or "vae" not in components:
        return source
    return _with_vae(source, files.vae, family, stack)


def _folder_source(opened: Opened, path: str, components: tuple[str, ...], stack: ExitStack) -> Source:
    layouts: dict[str, Layout] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    places = {each: os.path.join(path, name) for each, name in FOLDERS.items()}
    for component in components:
        if component == "unet":
            layouts[component] = folder.layout(opened.files)
        elif os.path.isdir(places[component]):
            layouts[component] = _LAYOUTS[component](folder.open_part(places[component], stack))
        else:
            continue
        configs[component] = folder.config(places[component])
    named = {each: to_wire(place) for each, place in places.items()}
    return Source(opened.recognised, layouts, configs, named, path)


def _vae_of(files: list[TensorFile]) -> Layout:
    return {name: piece for file in files for name, piece in vae_layout(file).items()}


_LAYOUTS: Final = {"vae": _vae_of, "te1": folder.text_layout, "te2": folder.text_layout}


def _with_vae(source: Source, path: str, family: str, stack: ExitStack) -> Source:
    """With a VAE of its own."""
    where = to_wire(path)
    is_folder = os.path.isdir(path)
    files = folder.open_part(path, stack) if is_folder else [stack.enter_context(open_weights(path))]
    check_vae(files, family, where)
    others = {each: config for each, config in source.configs.items() if each != "vae"}
    configs = {**others, "vae": folder.config(path)} if is_folder else others
    layouts = {**source.layouts, "vae": _vae_of(files)}
    return source._replace(layouts=layouts, configs=configs, places={**source.places, "vae": where})


def _recognised(family: str, predicted: Predicted, warnings: list[str]) -> Recognised:
    return Recognised(family, predicted.prediction, predicted.zero_snr, [*warnings, *predicted.warnings])
