"""`merge` through a real kernel, for small models of every family."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.builders import adapters
from tests.kernel_process import KernelProcess
from trainer.weights.names import FAMILIES, Site, sites

Tensors = dict[str, torch.Tensor]
#: Widths of the published model divided by this.
_DIVISOR = 64
#: Kinds of weights that a LoRA changes here.
_TRAINED = ("attention", "feed_forward", "proj", "conv", "other")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    with KernelProcess() as started:
        started.initialize(roots=[tmp_path_factory.getbasetemp()])
        yield started


def _merge(kernel: KernelProcess, output: Path, **settings: Any) -> dict[str, Any]:
    params = {"job_id": f"job_{output.parent.name[:40]}_{output.stem}", "v": 1}
    answer = kernel.request("merge", params | {"settings": settings, "outputs": {"file": str(output)}})
    assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


def _path(file: Path) -> dict[str, str]:
    return {"path": str(file)}


def _model(family: str, seed: int) -> Tensors:
    """Every weight of the smallest published model, narrow."""
    published = [dict(make()) for make in FAMILIES[family].published.values()]
    shapes = min(published, key=lambda each: sum(map(math.prod, each.values())))
    source = adapters.generator(seed)
    return {
        name: torch.randn([size if size % _DIVISOR else size // _DIVISOR for size in shape], generator=source)
        for name, shape in shapes.items()
    }


def _near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return float((found.double() - wanted).norm()) <= 1e-5 * float(wanted.norm())


def _places(family: str, model: Tensors, naming: str) -> list[Site]:
    """Every seventh of whole weights, but in the names of diffusers of their parts: layers have other numbers
    of them, so that each kind has its turn."""
    shapes = {name: tensor.shape for name, tensor in model.items()}
    found = [
        site
        for site in sites(family, shapes).all
        if site.kind in _TRAINED and len(site.shape) > 1 and site.name(naming) is not None
        if naming == "peft" or site.rows is None or site.component != "unet"
    ]
    return found[::7]


def _lora(places: list[Site], naming: str) -> Tensors:
    tensors: Tensors = {}
    for number, site in enumerate(places):
        pair = adapters.KOHYA if naming == "kohya" else adapters.PEFT
        tensors |= adapters.lora(str(site.name(naming)), site.shape, 2, pair=pair, seed=number, scale=1.0)
    return tensors


def _delta(lora: Tensors, site: Site, naming: str) -> torch.Tensor:
    """What is added to the rows of the weight: diffusers has shift and scale the other way round."""
    delta = adapters.dense(lora, str(site.name(naming)), site.shape)
    return torch.cat(delta.chunk(2)[::-1]) if site.swapped and naming == "peft" else delta


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoints_of_every_family_are_merged(kernel: KernelProcess, tmp_path: Path, family: str) -> None:
    models = [_model(family, seed) for seed in (1, 2)]
    for name, tensors in zip("ab", models, strict=True):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    weighted = [
        {"model": _path(tmp_path / f"{name}.safetensors"), "weight": weight}
        for name, weight in (("a", 0.3), ("b", 0.7))
    ]
    outcome = _merge(kernel, tmp_path / "c.safetensors", type="checkpoints", models=weighted)
    made = load_file(tmp_path / "c.safetensors")
    assert made.keys() == models[0].keys() and outcome["merged"] == len(made)
    for name, found in made.items():
        assert _near(found, 0.3 * models[0][name].double() + 0.7 * models[1][name].double()), name


@pytest.mark.parametrize("naming", ["kohya", "peft", "generic"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_of_every_family_goes_in_and_comes_out_again(
    kernel: KernelProcess, tmp_path: Path, family: str, naming: str
) -> None:
    model = _model(family, 1)
    places = _places(family, model, naming)
    assert len({site.kind for site in places}) > 1
    lora = _lora(places, naming)
    base, baked, taken = (tmp_path / f"{name}.safetensors" for name in ("base", "baked", "taken"))
    save_file(model, base)
    file = adapters.write(tmp_path / "lora.safetensors", lora)
    loras = [{"model": _path(file), "weight": 0.5}]
    outcome = _merge(kernel, baked, type="bake", model=_path(base), loras=loras)
    assert outcome["left_out"] == []
    wanted = {name: tensor.double() for name, tensor in model.items()}
    for site in places:
        first, last = site.rows or (0, len(wanted[site.weight]))
        wanted[site.weight][first:last] += 0.5 * _delta(lora, site, naming)
    found = load_file(baked)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert _near(found[name], tensor), name
    options = {"rank": 2, "conv_rank": 2, "dtype": "fp32", "naming": naming}
    outcome = _merge(kernel, taken, type="extract", tuned=_path(baked), base=_path(base), **options)
    assert outcome["left_out"] == [] and outcome["error"] < 1e-3
    again = load_file(taken)
    assert adapters.modules_of(again) == adapters.modules_of(lora)
    for site in places:
        name = str(site.name(naming))
        wanted_delta = 0.5 * adapters.dense(lora, name, site.shape)
        delta = adapters.dense(again, name, site.shape)
        assert float((delta - wanted_delta).norm()) <= 1e-4 * float(wanted_delta.norm()), name
