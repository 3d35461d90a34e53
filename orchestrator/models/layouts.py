"""Where programs keep their models: which folder holds which kind."""

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from orchestrator.models.detect import Kind
from orchestrator.settings import Settings

#: The root of our own folder of models.
OWN: Final = "models"
#: The root of what jobs have made, which the next job may work on.
MADE: Final = "outputs"
#: Stands for the kernel's own folder; no root can have this id.
BUILT_IN: Final = "built_in"

_OURS: Final[Mapping[str, Kind]] = {
    "checkpoints": "checkpoint",
    "diffusion_models": "diffusion_model",
    "vae": "vae",
    "loras": "lora",
    "taggers": "tagger",
    "text_encoders": "text_encoder",
    "embeddings": "embedding",
    "controlnet": "controlnet",
    "upscale_models": "upscaler",
}
_COMFYUI: Final[Mapping[str, Kind]] = {
    "checkpoints": "checkpoint",
    "diffusion_models": "diffusion_model",
    "unet": "diffusion_model",
    "vae": "vae",
    "loras": "lora",
    "text_encoders": "text_encoder",
    "clip": "text_encoder",
    "embeddings": "embedding",
    "controlnet": "controlnet",
    "upscale_models": "upscaler",
}
#: AUTOMATIC1111 and Forge.
_A1111: Final[Mapping[str, Kind]] = {
    "models/Stable-diffusion": "checkpoint",
    "models/VAE": "vae",
    "models/Lora": "lora",
    "models/LyCORIS": "lora",
    "models/text_encoder": "text_encoder",
    "models/ControlNet": "controlnet",
    "models/ESRGAN": "upscaler",
    "models/RealESRGAN": "upscaler",
    "embeddings": "embedding",
}


class Place(NamedTuple):
    """A folder to look through. `prefix` is its path from the root, "" for the root itself.

    `kind` is what is meant to be in it where a file does not say itself; `kinds` the same by the first step
    below it.
    """

    root: str
    root_folder: str
    prefix: str
    kind: Kind
    kinds: Mapping[str, Kind]

    @property
    def folder(self) -> str:
        """As this system names it."""
        return os.path.join(self.root_folder, *self.prefix.split("/")) if self.prefix else self.root_folder

    def kind_at(self, path: str) -> Kind:
        """What is meant to be at `path`, which is told from this folder, with slashes."""
        return self.kinds.get(path.partition("/")[0], self.kind)


def places(home: Path, settings: Settings) -> Iterator[Place]:
    """Every folder that may have models, ours first."""
    yield Place(OWN, str(home / OWN), "", "unknown", _OURS)
    yield Place(MADE, str(home / MADE), "", "unknown", {})
    for each in settings.model_folders:
        if each.layout == "plain":
            yield Place(each.id, each.folder, "", "unknown", {})
        else:
            for prefix, kind in _kinds(each.folder, each.layout).items():
                yield Place(each.id, each.folder, prefix, kind, {})


def demo_tagger() -> str | None:
    """The folder of the small tagger that comes with the kernel, which is looked for but not loaded."""
    found = find_spec("kernel")
    for folder in (found and found.submodule_search_locations) or ():
        tagger = os.path.join(folder, "data", "demo-tagger")
        if os.path.isfile(os.path.join(tagger, "model.onnx")):
            return tagger
    return None


def _kinds(folder: str, layout: str) -> Mapping[str, Kind]:
    if layout == "a1111":
        return _A1111
    # People name the folder of the program, or the one with the models in it.
    inside = "models/" if os.path.isdir(os.path.join(folder, "models")) else ""
    return {f"{inside}{name}": kind for name, kind in _COMFYUI.items()}
