import math
import re
from collections.abc import Iterable, Mapping, Sequence

import pytest

from contract.rules.families import TITLES, detect
from contract.rules.family_names import NAMES, UNETS
from trainer.weights.names import FAMILIES, LINEAR_KINDS, Site, published, sites
from trainer.weights.names.published_text import Clip, open_clip_weights, transformers_clip_weights
from trainer.weights.names.published_unet import UNet, unet_weights

Shapes = dict[str, Sequence[int]]

_ALL = [(family, variant) for family, known in FAMILIES.items() for variant in known.published]
_NAMINGS = ("kohya", "peft", "generic")


def _checkpoint(family: str, variant: str) -> Shapes:
    return dict(FAMILIES[family].published[variant]())


def _lora(sites: Iterable[Site], naming: str) -> Shapes:
    """The tensors of an adapter of rank 4 for some sites."""
    down, up = ("lora_down", "lora_up") if naming == "kohya" else ("lora_A", "lora_B")
    tensors: Shapes = {}
    for site in sites:
        name = site.name(naming)
        if name is not None and len(site.shape) > 1:
            out, *into = site.shape
            tensors[f"{name}.{down}.weight"] = [4, *into]
            tensors[f"{name}.{up}.weight"] = [out, 4, *[1] * (len(into) - 1)]
            if naming == "kohya":
                tensors[f"{name}.alpha"] = []
    return tensors


def test_every_family_has_a_title_and_names() -> None:
    assert TITLES.keys() == FAMILIES.keys() == NAMES.keys() | UNETS


@pytest.mark.parametrize(("family", "variant"), _ALL)
def test_a_model_is_told_by_its_keys(family: str, variant: str) -> None:
    found = detect(_checkpoint(family, variant), {})
    assert (found.family, found.reason, found.candidates) == (family, None, (family,))
    assert found.kind == ("checkpoint" if family in UNETS else "diffusion_model")
    assert 0 < len(found.evidence) <= 6
    assert all(sign.sign and sign.says for sign in found.evidence)


@pytest.mark.parametrize(("family", "variant"), _ALL)
@pytest.mark.parametrize("naming", _NAMINGS)
def test_an_adapter_of_everything_is_told_by_its_keys(family: str, variant: str, naming: str) -> None:
    found = detect(_lora(published(family, variant).all, naming), {})
    assert (found.kind, found.family, found.reason) == ("lora", family, None)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"flux1", "chroma"}))
@pytest.mark.parametrize("naming", _NAMINGS)
def test_an_adapter_of_linear_layers_of_the_denoiser_is_told(family: str, naming: str) -> None:
    chosen = [s for s in published(family).all if s.component == "unet" and s.kind in LINEAR_KINDS]
    found = detect(_lora(chosen, naming), {})
    assert (found.kind, found.family, found.reason) == ("lora", family, None)


@pytest.mark.parametrize("naming", _NAMINGS)
def test_flux_and_chroma_adapters_of_what_both_have_are_not_guessed(naming: str) -> None:
    chosen = [s for s in published("chroma").all if s.block != "BASE" and s.component == "unet"]
    tensors = _lora([s for s in chosen if s.kind in LINEAR_KINDS], naming)
    found = detect(tensors, {})
    assert (found.kind, found.family, found.candidates) == ("lora", None, ("chroma", "flux1"))
    assert found.reason is not None and "FLUX.1 and Chroma" in found.reason
    for family, said in (("chroma", "chroma/lora"), ("flux1", "flux-1-dev/lora")):
        assert detect(tensors, {"modelspec.architecture": said}).family == family
    other = detect(tensors, {"modelspec.architecture": "stable-diffusion-v1/lora"})
    assert (other.family, other.stated, len(other.warnings)) == (None, "sd15", 1)


@pytest.mark.parametrize("family", sorted(NAMES))
def test_the_names_of_a_family_are_those_of_its_sites(family: str) -> None:
    names = set()
    for variant in FAMILIES[family].published:
        for site in published(family, variant).all:
            if site.component == "unet":
                names |= {_general(name) for name in (site.kohya, site.peft, site.generic) if name}
                names.add(_general(site.weight.removesuffix(".weight").removeprefix("net.")))
    assert names == NAMES[family]


def _general(name: str) -> str:
    below = re.sub(r"^(lora_unet_|transformer\.|diffusion_model\.)", "", name).replace(".", "_")
    return re.sub(r"(^|(?<=_))\d+(?=_|$)", "#", below, count=1)


_TINY_SD15 = UNet(channels=(32, 64), depths=(1, 1), middle=1, context=32, linear=False, layers=1)
_TINY_SDXL = UNet(channels=(32, 64), depths=(0, 2), middle=2, context=64, linear=True, vector=96)


def _tiny(family: str) -> Shapes:
    """A small model of the true architecture, as one file."""
    clip = dict(transformers_clip_weights(Clip(width=32, layers=2)))
    unet = _TINY_SD15 if family == "sd15" else _TINY_SDXL
    tensors: Shapes = {f"model.diffusion_model.{key}": shape for key, shape in unet_weights(unet)}
    if family == "sd15":
        return tensors | {f"cond_stage_model.transformer.{key}": shape for key, shape in clip.items()}
    big = dict(open_clip_weights(Clip(width=32, layers=2)))
    return (
        tensors
        | {f"conditioner.embedders.0.transformer.{key}": shape for key, shape in clip.items()}
        | {f"conditioner.embedders.1.model.{key}": shape for key, shape in big.items()}
    )


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_small_models_of_the_true_architecture_are_told(family: str) -> None:
    tensors = _tiny(family)
    assert detect(tensors, {}).family == family
    for naming in _NAMINGS:
        assert detect(_lora(sites(family, tensors).all, naming), {}).family == family


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        (
            (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"),
            ((640, 4), (4, 2048), (640, 4), (4, 2048)),
        ),
        ((".lokr_w1", ".lokr_w2"), ((8, 8), (80, 256))),
        ((".lokr_w1", ".lokr_w2_a", ".lokr_w2_b"), ((8, 8), (80, 4), (4, 256))),
        ((".lora_down.weight", ".lora_up.weight", ".dora_scale"), ((4, 2048), (640, 4), (1, 2048))),
        ((".diff",), ((640, 2048),)),
        ((".lora_A.default.weight", ".lora_B.default.weight"), ((4, 2048), (640, 4))),
    ],
)
def test_every_sort_of_adapter_is_told(names: Sequence[str], shapes: Sequence[Sequence[int]]) -> None:
    module = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors: Shapes = {module + name: shape for name, shape in zip(names, shapes, strict=True)}
    extra: Shapes = {"lora_unet_mid_block_resnets_0_conv1.lora_mid.weight": [4, 4, 3, 3]}
    found = detect(tensors | extra, {})
    assert (found.kind, found.family) == ("lora", "sdxl")


def _halves(size: int) -> tuple[int, int]:
    """Two factors of it, as LoKr takes them: the smaller one no larger than 8."""
    first = max(number for number in range(1, 9) if size % number == 0)
    return first, size // first


def _factored(site: Site, sort: str) -> Shapes:
    """What LyCORIS writes of a weight: a kernel is seen in a core or in a whole matrix only."""
    (out, into, *kernel), columns = site.shape, math.prod(site.shape[1:])
    (left, right), (top, bottom) = _halves(out), _halves(into)
    whole: Shapes = {".lokr_w1": [left, top], ".lokr_w2": [right, bottom, *kernel]}
    factors: Shapes = {".lokr_w2_a": [right, 4], ".lokr_w2_b": [4, columns // top]}
    parts: dict[str, Shapes] = {
        "loha": {f".hada_w{k}_{ab}": [out, 4] if ab == "a" else [4, columns] for k in "12" for ab in "ab"},
        "lokr": whole,
        "lokr of factors": {".lokr_w1": [left, top]} | factors,
    }
    if math.prod(kernel) > 1:
        core = [4, 4, *kernel]
        parts["loha"] = {f".hada_w{k}_{ab}": [4, out if ab == "a" else into] for k in "12" for ab in "ab"}
        parts["loha"] |= {".hada_t1": core, ".hada_t2": core}
        parts["lokr of factors"] = {
            ".lokr_w1": [left, top],
            ".lokr_w2_a": [4, right],
            ".lokr_w2_b": [4, bottom],
            ".lokr_t2": core,
        }
    return parts[sort] | {".alpha": []}


@pytest.mark.parametrize("sort", ["loha", "lokr", "lokr of factors"])
@pytest.mark.parametrize(("family", "variant"), _ALL)
def test_adapters_of_lycoris_for_everything_are_told(family: str, variant: str, sort: str) -> None:
    chosen = [
        site for site in published(family, variant).all if site.kohya is not None and len(site.shape) > 1
    ]
    tensors: Shapes = {
        f"{site.kohya}{part}": shape for site in chosen for part, shape in _factored(site, sort).items()
    }
    found = detect(tensors, {})
    assert (found.kind, found.family, found.reason) == ("lora", family, None)


def test_a_convolution_at_the_input_of_a_loha_is_no_input_of_many_channels() -> None:
    names = ("lora_unet_conv_in", "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k")
    tensors: Shapes = {}
    for name, columns in zip(names, (4 * 9, 768), strict=True):
        tensors |= {f"{name}.hada_w{k}_a": [320, 4] for k in "12"}
        tensors |= {f"{name}.hada_w{k}_b": [4, columns] for k in "12"}
    assert "sd15" in detect(tensors, {}).candidates


@pytest.mark.parametrize("family", sorted(UNETS))
def test_a_unet_in_the_layout_of_diffusers_is_told(family: str) -> None:
    unet = [site for site in published(family).all if site.component == "unet"]
    tensors = {f"{(site.peft or '').removeprefix('unet.')}.weight": site.shape for site in unet}
    found = detect(tensors, {})
    assert (found.kind, found.family) == ("diffusion_model", family)


@pytest.mark.parametrize(
    ("depths", "family"),
    [((0, 1, 2), "sdxl"), ((0, 2), "sdxl"), ((0, 2, 2, 0), "sdxl_refiner"), ((0, 2, 0), "sdxl_refiner")],
)
@pytest.mark.parametrize("naming", ["peft", "generic"])
def test_a_small_unet_of_sdxl_or_its_refiner_is_told_by_its_deepest_level(
    depths: tuple[int, ...], family: str, naming: str
) -> None:
    widths = (32, 64, 96, 96)[: len(depths)]
    model = UNet(channels=widths, depths=depths, middle=2, context=64, linear=True, vector=96)
    small = sites("sdxl", {f"model.diffusion_model.{key}": shape for key, shape in unet_weights(model)})
    names = ((site.name(naming) or "", site.shape) for site in small.all)
    found = detect({f"{name.partition('.')[2]}.weight": shape for name, shape in names}, {})
    assert (found.kind, found.family) == ("diffusion_model", family)


@pytest.mark.parametrize(
    ("tensors", "kind", "seen"),
    [
        ({}, None, "none"),
        ({"x": [1]}, None, "`x`"),
        ({"head.modulation": [1, 2, 5120], "blocks.0.self_attn.q.weight": [5120, 5120]}, None, "self_attn.q"),
        ({"transformer.blocks.0.self_attn.q.lora_A.weight": [4, 5120]}, "lora", "self_attn.q"),
        (
            {"transformer.transformer_blocks.0.attn1.to_q.lora_A.weight": [4, 1152]},
            "lora",
            "1152 wide",
        ),
        (
            {"transformer.transformer_blocks.0.attn1.to_q.lora_A.weight": [4, 2048]},
            "lora",
            "many transformers",
        ),
        (
            {
                "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": [4, 3072],
                "lora_unet_double_blocks_0_img_mlp_fc1.lora_down.weight": [4, 3072],
            },
            "lora",
            "No known family has all of it",
        ),
        (
            {
                "lora_unet_down_blocks_0_motion_modules_0_temporal_transformer_proj_in.lora_down.weight": [
                    4,
                    320,
                ]
            },
            "lora",
            "no U-Net of Stable Diffusion",
        ),
        (
            {"model.diffusion_model.input_blocks.0.0.weight": [256, 7, 3, 3]},
            "diffusion_model",
            "7 channels",
        ),
        (
            {"net.blocks.0.self_attn.q_proj.weight": [5120, 5120]},
            "diffusion_model",
            "5120 wide",
        ),
        (
            {
                "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight": [4, 640],
                **{f"lora_unet_strange_{number}.lora_down.weight": [4, 640] for number in range(5)},
            },
            "lora",
            "one of 5 modules of 6",
        ),
        ({"decoder.conv_in.weight": [512, 4, 3, 3]}, "vae", "a VAE, and SD1.5, SD2, SDXL and SDXL refiner"),
        ({"decoder.conv_in.weight": [512, 7, 3, 3]}, "vae", "a VAE, which does not say whose"),
        (
            {"encoder.block.0.layer.0.SelfAttention.q.weight": [4096, 4096]},
            "text_encoder",
            "a text encoder, and SD3, FLUX.1 and Chroma",
        ),
        ({"model.embed_tokens.weight": [151936, 2560]}, "text_encoder", "which does not say whose"),
        ({"emb_params": [4, 768]}, "embedding", "embedding"),
        ({"control_model.input_blocks.0.0.weight": [320, 4, 3, 3]}, "controlnet", "ControlNet"),
    ],
)
def test_what_is_not_known_is_refused_with_what_was_seen(
    tensors: Mapping[str, Sequence[int]], kind: str | None, seen: str
) -> None:
    found = detect(tensors, {})
    assert (found.kind, found.family) == (kind, None)
    assert found.reason is not None and seen in found.reason


def _with(family: str, *others: Shapes) -> Shapes:
    tensors = _lora([s for s in published(family).all if s.kind in LINEAR_KINDS], "kohya")
    for other in others:
        tensors |= other
    return tensors


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sd15", "sdxl"),
        ("sd2", "sd15"),
        ("sdxl", "flux1"),
        ("flux1", "sd3"),
        ("qwen_image", "flux1"),
        ("z_image", "lumina2"),
        ("anima", "sd15"),
    ],
)
def test_a_file_put_together_from_two_families_is_none(one: str, other: str) -> None:
    found = detect(_with(one, _with(other)), {})
    assert (found.family, found.candidates) == (None, ())
    assert found.reason is not None
    quoted = re.findall(r"`([^`]+)`", found.reason)
    assert quoted and all(any(key.startswith(name) for key in _with(one, _with(other))) for name in quoted)


def test_a_checkpoint_with_the_text_encoder_of_another_is_none() -> None:
    unet = {k: s for k, s in _checkpoint("sdxl", "1.0").items() if k.startswith("model.")}
    text = {k: s for k, s in _checkpoint("sd15", "1.5").items() if k.startswith("cond_")}
    found = detect(unet | text, {})
    assert (found.kind, found.family) == ("checkpoint", None)
    assert found.reason is not None and "No known family has all of it" in found.reason


def test_metadata_that_contradicts_the_keys_is_reported_and_not_believed() -> None:
    tensors = _lora(published("sdxl").all, "kohya")
    found = detect(tensors, {"modelspec.architecture": "stable-diffusion-v1/lora"})
    assert (found.family, found.stated) == ("sdxl", "sd15")
    assert found.warnings == ["`modelspec.architecture` says SD1.5, but its keys are those of SDXL."]
    agreeing = detect(tensors, {"ss_base_model_version": "sdxl_base_v1-0"})
    assert (agreeing.family, agreeing.stated, agreeing.warnings) == ("sdxl", "sdxl", [])


def test_metadata_alone_makes_no_family() -> None:
    found = detect({"x": [1]}, {"modelspec.architecture": "stable-diffusion-xl-v1-base"})
    assert (found.family, found.stated, found.candidates) == (None, "sdxl", ())


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux1", "lumina2", "anima"])
def test_an_adapter_of_text_encoders_alone_names_what_it_may_be_for(family: str) -> None:
    chosen = [site for site in published(family).all if site.component != "unet"]
    found = detect(_lora(chosen, "kohya"), {})
    assert found.kind == "lora"
    assert family in found.candidates
    assert (found.family is None) == (len(found.candidates) > 1)


def test_the_evidence_names_keys_of_the_file() -> None:
    tensors = _lora(published("z_image").all, "generic")
    for sign, _ in detect(tensors, {}).evidence:
        assert any(key.startswith(sign) for key in tensors)
