"""What a file says of its own family. Only a hint: people rename, merge and convert, and the header stays."""

from collections.abc import Mapping
from typing import Final

#: `modelspec.architecture` in small letters, by its beginning; the longer one first.
_ARCHITECTURES: Final = {
    "stable-diffusion-v1": "sd15",
    "stable-diffusion-v2": "sd2",
    "stable-diffusion-xl-v1-base": "sdxl",
    "stable-diffusion-xl-v1-refiner": "sdxl_refiner",
    "stable-diffusion-3": "sd3",
    "flux-1": "flux1",
    "flux.1": "flux1",
    "flux-2": "flux2",
    "flux.2": "flux2",
    "chroma": "chroma",
    "lumina-2": "lumina2",
    "hunyuan-image": "hunyuan_image",
    "anima-": "anima",
    "qwen-image": "qwen_image",
    "z-image": "z_image",
}
#: `ss_base_model_version`, as trainers write it into LoRAs. By its beginning.
_BASE_VERSIONS: Final = {
    "sd_v1": "sd15",
    "sd_1.5": "sd15",
    "sd_v2": "sd2",
    "sd_2": "sd2",
    "sdxl_": "sdxl",
    "sd3": "sd3",
    "flux1": "flux1",
    "flux.1": "flux1",
    "flux2": "flux2",
    "flux.2": "flux2",
    "flux_2": "flux2",
    "chroma": "chroma",
    "lumina2": "lumina2",
    "hunyuan_image": "hunyuan_image",
    "hunyuan-image": "hunyuan_image",
    "anima": "anima",
    "qwen_image": "qwen_image",
    "z_image": "z_image",
    "zimage": "z_image",
}
_FIELDS: Final = (("modelspec.architecture", _ARCHITECTURES), ("ss_base_model_version", _BASE_VERSIONS))


def stated_family(metadata: Mapping[str, str]) -> tuple[str, str] | None:
    """The family that a file names, and the field that names it; None where it names none of ours."""
    for field, table in _FIELDS:
        said = metadata.get(field, "").lower()
        for beginning, family in table.items():
            if said.startswith(beginning):
                return family, field
    return None
