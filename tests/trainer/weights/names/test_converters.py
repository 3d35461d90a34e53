"""Names, rows and halves, held against diffusers' own converters of single files.

Every weight of a published model is marked with its key and rows, converted by diffusers, and looked for.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.trainer.weights.names.marks import Marked, rows_of
from trainer.weights.names import FAMILIES, Site, published
from trainer.weights.names.site import Shape

single_file = pytest.importorskip("diffusers.loaders.single_file_utils")

Convert = Callable[[Any], Mapping[str, Any]]


def _unet(config: dict[str, Any]) -> Convert:
    return lambda checkpoint: single_file.convert_ldm_unet_checkpoint(checkpoint, config)


_SDXL = {"layers_per_block": 2, "addition_embed_type": "text_time"}
_CONVERTERS: dict[tuple[str, str | None], tuple[str, Convert]] = {
    ("sd15", None): ("unet.", _unet({"layers_per_block": 2})),
    ("sd2", None): ("unet.", _unet({"layers_per_block": 2})),
    ("sdxl", None): ("unet.", _unet(_SDXL)),
    ("sdxl_refiner", None): ("unet.", _unet(_SDXL)),
    ("sd3", "3.5-large"): ("transformer.", single_file.convert_sd3_transformer_checkpoint_to_diffusers),
    ("sd3", "3.5-medium"): ("transformer.", single_file.convert_sd3_transformer_checkpoint_to_diffusers),
    ("flux1", None): ("transformer.", single_file.convert_flux_transformer_checkpoint_to_diffusers),
    ("chroma", None): ("transformer.", single_file.convert_chroma_transformer_checkpoint_to_diffusers),
    ("flux2", "dev"): ("transformer.", single_file.convert_flux2_transformer_checkpoint_to_diffusers),
    ("flux2", "klein-4b"): ("transformer.", single_file.convert_flux2_transformer_checkpoint_to_diffusers),
    ("lumina2", None): ("transformer.", single_file.convert_lumina2_to_diffusers),
    ("z_image", None): ("transformer.", single_file.convert_z_image_transformer_checkpoint_to_diffusers),
    ("anima", None): ("transformer.", single_file.convert_cosmos_transformer_checkpoint_to_diffusers),
}


def _weights(family: str, variant: str | None) -> dict[str, Shape]:
    variants = FAMILIES[family].published
    return dict(variants[variant or next(iter(variants))]())


def _denoiser(weights: Mapping[str, Shape]) -> dict[str, Shape]:
    others = ("cond_stage_model.", "conditioner.", "text_encoders.", "net.llm_adapter.")
    return {key: shape for key, shape in weights.items() if not key.startswith(others)}


@pytest.mark.parametrize(("family", "variant"), _CONVERTERS)
def test_every_module_is_where_the_converter_of_diffusers_puts_it(family: str, variant: str | None) -> None:
    prefix, convert = _CONVERTERS[family, variant]
    weights, sites = _denoiser(_weights(family, variant)), published(family, variant)
    marked = Marked(weights)
    seen = set()
    for key, tensor in dict(convert(marked)).items():
        found = marked.of(tensor) if key.endswith(".weight") else None
        if found is not None:
            name = prefix + key.removesuffix(".weight")
            site = sites.find(name)
            assert site is not None, name
            assert (site.peft, site.weight) == (name, found.key)
            assert rows_of(site.rows, site.swapped, weights[site.weight][0]) == found.rows
            assert site.shape == (len(found.rows), *weights[site.weight][1:])
            seen.add(name)
    assert seen == {site.peft for site in sites.all if (site.peft or "").startswith(prefix)}
    assert len(seen) > 100


class _Clip:
    class config:
        hidden_size = 0


@pytest.mark.parametrize(
    ("family", "prefix", "width"),
    [
        ("sd2", "cond_stage_model.model.", 1024),
        ("sdxl", "conditioner.embedders.1.model.", 1280),
        ("sdxl_refiner", "conditioner.embedders.0.model.", 1280),
    ],
)
def test_every_module_of_open_clip_is_where_diffusers_puts_it(family: str, prefix: str, width: int) -> None:
    weights = {key: shape for key, shape in _weights(family, None).items() if key.startswith(prefix)}
    sites, marked = published(family), Marked(weights)
    model = _Clip()
    model.config.hidden_size = width
    here: dict[str, Site] = {site.peft or "": site for site in sites.all if site.weight.startswith(prefix)}
    seen = set()
    for key, tensor in single_file.convert_open_clip_checkpoint(model, marked, prefix=prefix).items():
        if (found := marked.of(tensor)) is not None:
            name = f"text_encoder{'' if family == 'sd2' else '_2'}.{key.removesuffix('.weight')}"
            assert here[name].weight == found.key
            assert rows_of(here[name].rows, False, weights[found.key][0]) == found.rows
            seen.add(name)
    assert seen == set(here)


def test_anima_adapters_have_the_names_that_diffusers_gives_generic_ones() -> None:
    lora = pytest.importorskip("diffusers.loaders.lora_conversion_utils")
    sites = [site for site in published("anima").all if site.component == "unet"]
    generic = {f"{site.generic}.lora_A.weight": site for site in sites}
    converted = lora._convert_non_diffusers_anima_lora_to_diffusers({key: key for key in generic})
    assert {key: generic[old].peft for key, old in converted.items()} == {
        key: key.removesuffix(".lora_A.weight") for key in converted
    }
