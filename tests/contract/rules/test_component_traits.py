from collections.abc import Sequence

import pytest

from contract.rules.families import detect


@pytest.mark.parametrize(
    ("key", "shape", "candidates"),
    [
        ("decoder.conv_in.weight", [512, 4, 3, 3], ("sd15", "sd2", "sdxl", "sdxl_refiner")),
        ("first_stage_model.decoder.conv_in.weight", [512, 4, 3, 3], ("sd15", "sd2", "sdxl", "sdxl_refiner")),
        ("decoder.conv_in.weight", [512, 16, 3, 3], ("chroma", "flux1", "lumina2", "sd3", "z_image")),
        ("decoder.conv_in.weight", [512, 16, 3, 3, 3], ()),
        ("decoder.conv_in.weight", [512, 3], ()),
        ("decoder.middle.0.residual.0.gamma", [384, 1, 1, 1], ("anima", "qwen_image")),
        ("text_model.embeddings.token_embedding.weight", [49408, 768], ("flux1", "sd15", "sd3", "sdxl")),
        ("embeddings.token_embedding.weight", [49408, 1280], ("sd3", "sdxl", "sdxl_refiner")),
        ("token_embedding.weight", [49408, 64], ()),
        ("model.embed_tokens.weight", [256000, 2304], ()),
    ],
)
def test_a_component_names_the_families_that_have_it(
    key: str, shape: Sequence[int], candidates: tuple[str, ...]
) -> None:
    found = detect({key: shape}, {})
    assert (found.family, found.candidates) == (None, candidates)
    assert found.reason is not None


@pytest.mark.parametrize(
    ("key", "shape", "kind", "family"),
    [
        ("decoder.conv_in.weight", [512, 32, 3, 3], "vae", "flux2"),
        ("decoder.conv_in.weight", [1024, 64, 3, 3], "vae", "hunyuan_image"),
        ("text_model.embeddings.token_embedding.weight", [49408, 1024], "text_encoder", "sd2"),
    ],
)
def test_a_component_of_one_family_is_told(key: str, shape: list[int], kind: str, family: str) -> None:
    found = detect({key: shape}, {})
    assert (found.kind, found.family, found.reason) == (kind, family, None)


def test_a_component_may_say_whose_it_is() -> None:
    tensors = {"decoder.conv_in.weight": [512, 4, 3, 3]}
    said = {"modelspec.architecture": "stable-diffusion-xl-v1-base"}
    assert detect(tensors, said).family == "sdxl"
    other = detect(tensors, {"modelspec.architecture": "flux-1-dev"})
    assert (other.family, len(other.warnings)) == (None, 1)
