"""Networks over full-size models have the modules that files of these families have: by name and shape."""

from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from torch import nn

from contract.methods.training.network import LoconNetwork, LoraNetwork
from trainer.families import FAMILIES
from trainer.networks import inject
from trainer.weights.adapter_output import ModuleOut
from trainer.weights.names import published

_LISTS: Final = Path(__file__).parent.parent / "weights" / "names" / "keys"
_RANK: Final = 8


def _full_size(family: str) -> dict[str, nn.Module]:
    """Its components without any memory."""
    model = FAMILIES[family].blank(frozenset({"denoiser", "text"}))
    assert model.denoiser is not None
    assert all(parameter.is_meta for parameter in model.denoiser.parameters())
    return {"unet": model.denoiser, **model.text_encoders}


def _listed(family: str) -> dict[str, tuple[int, ...]]:
    """Key → shape, of the list of this family."""
    shapes: dict[str, tuple[int, ...]] = {}
    for line in (_LISTS / f"{family}-lora.tsv").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, down, up = line.split("\t")
            shapes[f"{name}.lora_down.weight"] = _shape(down)
            shapes[f"{name}.lora_up.weight"] = _shape(up)
            shapes[f"{name}.alpha"] = ()
    return shapes


def _shape(text: str) -> tuple[int, ...]:
    return tuple(_RANK if size == "r" else int(size) for size in text.split(","))


@pytest.mark.parametrize(("family", "modules"), [("sd15", 264), ("sdxl", 986)])
def test_a_lora_has_every_key_of_its_family_in_its_shape(family: str, modules: int) -> None:
    network = inject(family, _full_size(family), LoraNetwork(rank=_RANK, alpha=4.0), seed=0)
    assert len(network.places) == modules
    specs = [
        spec
        for name, place in network.places.items()
        for spec in ModuleOut(name, place.module.shape, _RANK, 4.0, "F16", "F16", "F16").specs("kohya")
    ]
    assert {spec.name: spec.shape for spec in specs} == _listed(family)
    state = {key: tuple(tensor.shape) for key, tensor in network.state().items()}
    assert state == {key: shape for key, shape in _listed(family).items() if not key.endswith(".alpha")}


@pytest.mark.parametrize(
    ("family", "kernels", "shortcuts", "times"),
    [
        # Two kernels in each residual block, and those between the levels.
        ("sd15", 2 * 22 + 6, 14, 22),
        ("sdxl", 2 * 17 + 4, 11, 17),
    ],
)
def test_a_locon_has_besides_the_layers_of_residual_blocks_and_those_between_levels(
    family: str, kernels: int, shortcuts: int, times: int
) -> None:
    settings = LoconNetwork(rank=_RANK, alpha=4.0, conv_rank=2, conv_alpha=1.0)
    network = inject(family, _full_size(family), settings, seed=0)
    known = {site.kohya: site for site in published(family).all}
    places = network.places.items()
    sizes = Counter((place.module.rank, place.module.alpha) for _, place in places)
    kinds = Counter(place.target.site.kind for _, place in places)
    assert sizes[2, 1.0] == kernels
    assert (kinds["conv"], kinds["time"]) == (kernels + shortcuts, times)
    assert len(network.places) == len(_listed(family)) / 3 + kernels + shortcuts + times
    assert all(known[name].shape == place.module.shape for name, place in places)
    for _, place in places:
        is_kernel = place.module.shape[2:] not in ((), (1, 1))
        assert (place.module.rank, place.module.alpha) == ((2, 1.0) if is_kernel else (_RANK, 4.0))


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_locon_has_every_key_of_a_lora_in_its_shape(family: str) -> None:
    network = inject(family, _full_size(family), LoconNetwork(rank=_RANK, alpha=4.0), seed=0)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state().items()}
    listed = {key: shape for key, shape in _listed(family).items() if not key.endswith(".alpha")}
    assert {key: shapes.get(key) for key in listed} == listed
