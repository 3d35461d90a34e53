import pytest

from contract.rules.families import TITLES
from contract.rules.family_metadata import stated_family

_ARCHITECTURES = {
    "stable-diffusion-v1/lora": "sd15",
    "stable-diffusion-v2-768-v": "sd2",
    "stable-diffusion-xl-v1-base/lora": "sdxl",
    "stable-diffusion-xl-v1-refiner": "sdxl_refiner",
    "stable-diffusion-3.5-large": "sd3",
    "flux-1-schnell": "flux1",
    "Flux.1-dev/lora": "flux1",
    "Flux.2-klein-4b/lora": "flux2",
    "chroma": "chroma",
    "lumina-2": "lumina2",
    "anima-preview/lora": "anima",
    "Qwen-Image-Edit/lora": "qwen_image",
    "Z-Image": "z_image",
    "hunyuan-image-2.1": "hunyuan_image",
}


@pytest.mark.parametrize(("said", "family"), _ARCHITECTURES.items())
def test_every_family_can_be_stated_as_its_architecture(said: str, family: str) -> None:
    assert stated_family({"modelspec.architecture": said}) == (family, "modelspec.architecture")


def test_there_is_a_name_of_every_family() -> None:
    assert set(_ARCHITECTURES.values()) == TITLES.keys()


def test_the_base_model_counts_where_the_architecture_says_nothing() -> None:
    metadata = {"modelspec.architecture": "something", "ss_base_model_version": "sdxl_base_v1-0"}
    assert stated_family(metadata) == ("sdxl", "ss_base_model_version")


@pytest.mark.parametrize("said", ["", "None", "something", "hunyuan-video"])
def test_other_words_state_nothing(said: str) -> None:
    assert stated_family({"modelspec.architecture": said, "ss_base_model_version": said}) is None
