"""What is said of diffusers, held against diffusers itself: each file is loaded into a small model, and ΔW of
every layer is looked at. That something loads without an error proves nothing here.
"""

import random
from collections.abc import Callable
from typing import Final

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers.loaders import lora_pipeline

from tests.trainer.weights.consumers.loading import (
    HOSTS,
    PAIRS,
    SIZES,
    Fate,
    File,
    fates,
    file_for,
    sites_of,
    small_sizes,
)
from trainer.weights.consumers import Case
from trainer.weights.consumers.diffusers import DIFFUSERS
from trainer.weights.consumers.groups import grouped
from trainer.weights.consumers.reading import in_diffusers, joined, original
from trainer.weights.names import Site

pytestmark = pytest.mark.filterwarnings("ignore")

Alpha = Callable[[], float | None]
_ALPHAS: Final[dict[str, Callable[[], Alpha]]] = {
    "no alpha": lambda: lambda: None,
    "many alphas": lambda: _many(random.Random(3)),
}
_NAMINGS: Final = ("kohya", "peft", "generic")


def _many(chance: random.Random) -> Alpha:
    return lambda: chance.choice((1.0, 2.0, 2.0, 8.0))


@pytest.fixture(autouse=True)
def _sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SIZES:
        monkeypatch.setattr(lora_pipeline, name, small_sizes(name))


def _said(file: File, family: str) -> dict[str, Fate]:
    """The fate of each module as it is foreseen: its pair is used or not, and its alpha."""
    alphas = {
        key.removesuffix(".alpha"): float(tensor)
        for key, tensor in file.tensors.items()
        if key.endswith(".alpha")
    }
    groups = grouped(file.tensors)
    used = DIFFUSERS.read(Case(groups, sites_of(family), alphas)).used
    said: dict[str, Fate] = {}
    for group in groups:
        left = [part for part, key in group.parts.items() if key not in used]
        said[group.name] = "right" if not left else "wrong" if left == [".alpha"] else "none"
    return said


def _is_as_said(family: str, file: File) -> dict[str, Fate]:
    happened = fates(HOSTS[family](), file) or dict.fromkeys(file.wanted, "none")
    said = _said(file, family)
    assert file.wanted
    # Of what is loaded wrongly, nothing is said to be used; only a scale may be wrong by itself.
    assert {
        name: fate if fate == "right" or said[name] == "wrong" else "none" for name, fate in happened.items()
    } == said
    return said


def _name(site: Site, naming: str) -> str | None:
    """In kohya's and the generic naming, that of a whole weight; files never have both it and its parts."""
    return site.name(naming) if naming == "peft" or site.rows is None else None


@pytest.mark.parametrize("alpha", _ALPHAS)
@pytest.mark.parametrize("naming", _NAMINGS)
@pytest.mark.parametrize("family", HOSTS)
def test_every_module_of_a_file_fares_as_foreseen(family: str, naming: str, alpha: str) -> None:
    file = file_for(
        HOSTS[family](),
        sites_of(family),
        lambda site: _name(site, naming),
        PAIRS[naming],
        alpha=_ALPHAS[alpha](),
        ranks=(2, 4),
    )
    _is_as_said(family, file)


def _joined(site: Site) -> str | None:
    """The name of diffusers as kohya joins it; of text encoders kohya's own."""
    return site.kohya if site.component != "unet" else _beginning("lora_unet_")(site)


def _original(site: Site) -> str | None:
    name = original(site)
    return site.kohya if name is None else f"lora_unet_{joined(name)}"


def _beginning(beginning: str) -> Callable[[Site], str | None]:
    """Names of diffusers after another beginning, joined where it ends in an underscore."""

    def name(site: Site) -> str | None:
        inner = in_diffusers(site)
        if inner is None:
            return None
        return beginning + (joined(inner) if beginning.endswith("_") else inner)

    return name


def _wrapped(name: str | None) -> str | None:
    return None if name is None else f"base_model.model.{name}"


_OTHER_NAMES: Final[dict[str, tuple[str, Callable[[Site], str | None], str]]] = {
    "SD1.5, blocks of the original code": ("sd15", _original, "kohya"),
    "SDXL, blocks of diffusers": ("sdxl", _joined, "kohya"),
    "SDXL, both": ("sdxl", lambda site: (_original if site.kind == "conv" else _joined)(site), "kohya"),
    "SD1.5, older endings": ("sd15", lambda site: site.peft if site.component == "unet" else None, "old"),
    "SD1.5, kohya's endings": ("sd15", lambda site: site.peft, "kohya"),
    "SD1.5, another beginning": ("sd15", _beginning("lycoris_"), "kohya"),
    "FLUX.1, kohya's endings": ("flux1", _beginning("transformer."), "kohya"),
    "FLUX.1, generic with kohya's endings": ("flux1", lambda site: site.generic, "kohya"),
    "FLUX.1, without a beginning": ("flux1", _beginning(""), "peft"),
    "Qwen-Image, without a beginning": ("qwen_image", _beginning(""), "peft"),
    "Z-Image, without a beginning": ("z_image", _beginning(""), "peft"),
    "Z-Image, generic names of diffusers": ("z_image", _beginning("diffusion_model."), "peft"),
    "Z-Image, generic with kohya's endings": ("z_image", lambda site: _name(site, "generic"), "kohya"),
    "Z-Image, joined names of diffusers": ("z_image", _joined, "kohya"),
    "FLUX.2, generic names of diffusers": ("flux2", _beginning("diffusion_model."), "peft"),
    "FLUX.2, from peft": ("flux2", lambda site: _wrapped(original(site)), "peft"),
    "SD3, another beginning": ("sd3", _beginning("lora_transformer_"), "kohya"),
}  # fmt: skip


@pytest.mark.parametrize("alpha", _ALPHAS)
@pytest.mark.parametrize("case", _OTHER_NAMES)
def test_so_do_those_with_other_names_and_endings(case: str, alpha: str) -> None:
    family, name, pair = _OTHER_NAMES[case]
    file = file_for(HOSTS[family](), sites_of(family), name, PAIRS[pair], alpha=_ALPHAS[alpha]())
    _is_as_said(family, file)


def _right(said: dict[str, Fate]) -> set[str]:
    return {name for name, fate in said.items() if fate == "right"}


@pytest.mark.parametrize(
    "part", [".lora_mid.weight", ".dora_scale", ".diff", ".diff_b", ".hada_w1_a", ".lokr_w1"]
)
@pytest.mark.parametrize("family", ["sdxl", "flux1", "flux2", "qwen_image", "z_image"])
def test_one_tensor_of_another_type_does_to_a_file_what_is_foreseen(family: str, part: str) -> None:
    file = file_for(HOSTS[family](), sites_of(family), lambda site: _name(site, "kohya"), PAIRS["kohya"])
    first = next(iter(file.wanted))
    plain = _said(file, family)
    file.tensors[first + part] = torch.ones(2, 2)
    said = _said(file, family)
    happened = fates(HOSTS[family](), file) or {}
    # It is read by nobody: it ends the loading of all others, or they are as they were.
    assert _right(happened) == (set() if set(said.values()) == {"none"} else _right(plain))
    assert said[first] == "none"


def _attention_of_unet(site: Site) -> str | None:
    return site.peft if site.kind == "attention" and site.component == "unet" else None


def test_magnitudes_of_peft_are_read_and_those_of_others_dropped() -> None:
    host = HOSTS["sd15"]()
    file = file_for(host, sites_of("sd15"), _attention_of_unet, PAIRS["peft"])
    for name in file.wanted:
        file.tensors[f"{name}.lora_magnitude_vector"] = torch.rand(len(host.module(name).weight)) + 1
    assert set(_said(file, "sd15").values()) == {"right"}
    host.pipeline.load_lora_weights(dict(file.tensors))
    for name in file.wanted:
        (magnitude,) = host.module(name).lora_magnitude_vector.values()
        assert torch.equal(magnitude.weight, file.tensors[f"{name}.lora_magnitude_vector"])


def test_a_module_without_an_alpha_beside_others_with_one_is_counted() -> None:
    host = HOSTS["sd15"]()
    file = file_for(host, sites_of("sd15"), lambda site: site.kohya, PAIRS["kohya"], alpha=lambda: 2.0)
    lacking = [name for name in file.wanted if name.endswith("mlp_fc1")]
    for name in lacking:
        # What is meant is alpha = rank, which is twice as much.
        del file.tensors[f"{name}.alpha"]
        file.wanted[name] = {target: delta * 2 for target, delta in file.wanted[name].items()}
    happened = fates(host, file)
    assert happened is not None
    assert [name for name, fate in happened.items() if fate == "wrong"] == lacking
    alphas = {name: 2.0 for name in file.wanted if name not in lacking}
    note = DIFFUSERS.read(Case(grouped(file.tensors), sites_of("sd15"), alphas)).note
    assert note is not None and f"{len(lacking)} modules get the commonest alpha" in note


@pytest.mark.parametrize(
    ("family", "beginning"),
    [
        ("flux2", "lycoris_"),
        ("flux2", ""),
        ("flux2", "transformer."),
        ("z_image", "diffusion_model."),
        ("z_image", "transformer."),
    ],
)
def test_lokr_is_read_where_that_is_foreseen(family: str, beginning: str) -> None:
    host = HOSTS[family]()
    names = {}
    tensors = {}
    for site in sites_of(family).all:
        name = _beginning(beginning)(site)
        if name is None or site.kind != "attention" or host.module(str(site.peft)) is None:
            continue
        rows, columns = host.module(str(site.peft)).weight.shape
        names[name] = str(site.peft)
        tensors[f"{name}.lokr_w1"] = torch.randn(4, 4)
        tensors[f"{name}.lokr_w2"] = torch.randn(rows // 4, columns // 4)
    used = DIFFUSERS.read(Case(grouped(tensors), sites_of(family), {})).used
    host.pipeline.load_lora_weights(dict(tensors))
    assert names and used == set(tensors)
    for name, peft in names.items():
        (w1,) = host.module(peft).lokr_w1.values()
        assert torch.equal(w1, tensors[f"{name}.lokr_w1"])


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_one_alpha_for_all_is_right_whatever_the_ranks(family: str) -> None:
    file = file_for(
        HOSTS[family](),
        sites_of(family),
        lambda site: site.kohya,
        PAIRS["kohya"],
        alpha=lambda: 1.0,
        ranks=(1, 2, 3, 4, 8),
    )
    assert set(_is_as_said(family, file).values()) == {"right"}
