"""How many keys each program uses: exact, for files with every module of a published model."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from contract.methods.inspect import Consumer
from trainer.weights.consumers import consumers
from trainer.weights.names import FAMILIES, Site, published

_KEYS = Path(__file__).parents[1] / "names" / "keys"
_LORA = (".alpha", ".lora_down.weight", ".lora_up.weight")
_PEFT = (".lora_A.weight", ".lora_B.weight")
_PROGRAMS = ("A1111", "Forge", "ComfyUI", "diffusers")


def _listed(name: str) -> Iterator[str]:
    for line in (_KEYS / f"{name}-lora.tsv").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")[0]


def _read(family: str, names: Iterable[str], parts: Iterable[str], **alphas: float) -> dict[str, Consumer]:
    keys = [name + part for name in names for part in parts]
    assert keys
    found = consumers(keys, published(family), alphas)
    assert tuple(each.name for each in found) == _PROGRAMS
    for each in found:
        assert each.total == len(keys)
        assert each.matched + len(each.unmatched) == each.total or len(each.unmatched) == 1000
    return {each.name: each for each in found}


def _matched(family: str, names: Iterable[str], parts: Iterable[str]) -> tuple[int, ...]:
    return tuple(each.matched for each in _read(family, names, parts).values())


def _names(family: str, naming: str, *kinds: str) -> list[str]:
    """Of whole weights in kohya's and the generic naming, as files have them."""
    named = [
        site.name(naming)
        for site in published(family).all
        if site.component == "unet"
        and (site.kind in kinds if kinds else site.kind != "norm")
        and (naming == "peft" or site.rows is None)
    ]
    return list(dict.fromkeys(name for name in named if name is not None))


@pytest.mark.parametrize(("family", "modules"), [("sd15", 264), ("sdxl", 986)])
def test_every_program_uses_every_key_of_kohyas_files(family: str, modules: int) -> None:
    names = list(_listed(family))
    assert len(names) == modules
    assert _matched(family, names, _LORA) == (modules * 3,) * 4


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_dora_is_used_by_all_but_diffusers(family: str) -> None:
    names = list(_listed(family))
    read = _read(family, names, (*_LORA, ".dora_scale"))
    assert [read[name].matched for name in _PROGRAMS] == [len(names) * 4] * 3 + [len(names) * 3]
    assert read["diffusers"].unmatched[0] == f"{names[0]}.dora_scale"
    assert "dora_scale" in str(read["diffusers"].note)


@pytest.mark.parametrize(
    "parts",
    [
        (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".alpha"),
        (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2", ".alpha"),
        (".lokr_w1", ".lokr_w2", ".alpha"),
        (".lokr_w1_a", ".lokr_w1_b", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2", ".alpha"),
        (".lora_up.weight", ".lora_mid.weight", ".lora_down.weight", ".alpha"),
        (".diff", ".diff_b"),
    ],
    ids=["LoHa", "LoHa with cores", "LoKr", "LoKr of factors", "LoCon", "full"],
)
def test_types_of_lycoris_are_used_by_all_but_diffusers_which_refuses_the_file(
    parts: tuple[str, ...],
) -> None:
    names = list(_listed("sdxl"))
    every = len(names) * len(parts)
    read = _read("sdxl", names, parts)
    assert [read[name].matched for name in _PROGRAMS] == [every] * 3 + [0]
    assert str(read["diffusers"].note).startswith("Loads nothing of it.")


def test_norms_are_used_where_their_names_are_those_of_the_original_code() -> None:
    norms = [name for name in _names("sdxl", "kohya", "norm")]
    parts = (".w_norm", ".b_norm")
    assert _matched("sdxl", norms, parts) == (len(norms) * 2,) * 3 + (0,)


@pytest.mark.parametrize(
    ("family", "used"),
    [
        # Of diffusers' names for attention in U-Nets, ComfyUI takes those of its old processors only.
        ("sd15", {"A1111": 0.0, "Forge": 0.0, "diffusers": 1.0}),
        ("sdxl", {"A1111": 0.0, "Forge": 0.0, "diffusers": 1.0}),
        ("sd3", {"Forge": 0.0, "ComfyUI": 1.0, "diffusers": 1.0}),
        ("flux1", {"A1111": 0.0, "Forge": 1.0, "ComfyUI": 1.0, "diffusers": 1.0}),
        ("chroma", {"A1111": 0.0, "Forge": 0.0, "diffusers": 1.0}),
        ("flux2", {"A1111": 0.0, "Forge": 0.0, "diffusers": 1.0}),
        ("lumina2", {"ComfyUI": 0.0, "diffusers": 1.0}),
        ("anima", {"ComfyUI": 0.0, "diffusers": 1.0}),
        ("qwen_image", {"ComfyUI": 1.0, "diffusers": 1.0}),
        ("z_image", {"ComfyUI": 1.0, "diffusers": 1.0}),
        ("hunyuan_image", {"ComfyUI": 0.0, "diffusers": 0.0}),
    ],
)
def test_files_of_peft_by_family(family: str, used: dict[str, float]) -> None:
    read = _read(family, _names(family, "peft"), _PEFT)
    assert {name: read[name].matched / read[name].total for name in used} == used


@pytest.mark.parametrize("family", FAMILIES)
def test_comfyui_uses_generic_names_of_every_family(family: str) -> None:
    generic = _names(family, "generic")
    assert _read(family, generic, _PEFT)["ComfyUI"].matched == len(generic) * 2
    assert _read(family, generic, (*_PEFT, ".alpha", ".dora_scale"))["ComfyUI"].matched == len(generic) * 4


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family not in ("z_image", "hunyuan_image")]
)
def test_comfyui_uses_kohyas_names_where_they_are_those_of_its_modules(family: str) -> None:
    names = _names(family, "kohya")
    assert _read(family, names, _LORA)["ComfyUI"].matched == len(names) * 3


def test_comfyui_takes_the_attention_of_u_nets_by_its_old_names() -> None:
    attention = _names("sdxl", "peft", "attention")
    others = _names("sdxl", "peft", "feed_forward", "proj")
    assert _read("sdxl", attention, _PEFT)["ComfyUI"].matched == 0
    assert _read("sdxl", others, _PEFT)["ComfyUI"].matched == len(others) * 2
    old = [name.replace(".to_", ".processor.to_").removesuffix(".0") for name in attention]
    assert _read("sdxl", old, ("_lora.up.weight", "_lora.down.weight"))["ComfyUI"].matched == len(old) * 2


def test_comfyui_knows_kohyas_hunyuan_image_only_where_both_have_one_name() -> None:
    names = _names("hunyuan_image", "kohya")
    read = _read("hunyuan_image", names, _LORA)["ComfyUI"]
    assert 0 < read.matched < read.total
    assert "lora_unet_double_blocks_0_img_mlp_fc1.alpha" in read.unmatched
    assert "lora_unet_double_blocks_0_img_attn_qkv.alpha" not in read.unmatched


@pytest.mark.parametrize(
    ("family", "beginning"),
    [("sd3", "lora_te3_"), ("flux1", "lora_te2_"), ("flux1", "lora_te3_"), ("chroma", "lora_te1_")],
)
def test_comfyui_counts_the_text_encoders_to_name_t5(family: str, beginning: str) -> None:
    name = f"{beginning}encoder_block_0_layer_0_SelfAttention_q"
    assert _read(family, [name], _LORA)["ComfyUI"].matched == 3
    others = {"lora_te1_", "lora_te2_", "lora_te3_"} - {
        beginning,
        *(("lora_te2_", "lora_te3_") if family == "flux1" else ()),
    }
    for other in others:
        assert _read(family, [name.replace(beginning, other)], _LORA)["ComfyUI"].matched == 0


def test_a_module_with_half_of_its_pair_ends_the_loading_in_comfyui() -> None:
    names = list(_listed("sd15"))
    keys = [name + part for name in names for part in _LORA]
    keys.remove(f"{names[7]}.lora_down.weight")
    read = {each.name: each for each in consumers(keys, published("sd15"), {})}
    assert read["ComfyUI"].matched == 0
    assert names[7] in str(read["ComfyUI"].note)


def test_forge_refuses_a_file_with_thirteen_keys_that_fit_nothing() -> None:
    names = list(_listed("sdxl"))
    strangers = [f"lora_unet_nothing_{index}" for index in range(5)]
    four = _read("sdxl", names + strangers[:4], _LORA)
    assert (four["Forge"].matched, four["Forge"].unmatched) == (
        2958,
        [a + b for a in strangers[:4] for b in _LORA],
    )
    five = _read("sdxl", names + strangers, _LORA)
    assert five["Forge"].matched == 0
    assert "15 do" in str(five["Forge"].note)
    assert five["ComfyUI"].matched == five["A1111"].matched == 2958


def test_a1111_uses_fused_attention_only_with_all_four_projections() -> None:
    names = [name for name in _listed("sdxl") if "te2" in name]
    lacking = [name for name in names if not name.endswith("layers_5_self_attn_k_proj")]
    read = _read("sdxl", lacking, _LORA)["A1111"]
    assert {key.partition(".")[0].rpartition("layers_5_")[2] for key in read.unmatched} == {
        "self_attn_q_proj", "self_attn_v_proj", "self_attn_out_proj",
    }  # fmt: skip
    assert read.matched == len(names) * 3 - 12


def test_a1111_takes_the_names_of_diffusers_for_sdxl_but_for_four_modules() -> None:
    sites = [site for site in published("sdxl").all if site.component == "unet" and site.kind != "norm"]
    names = ["lora_unet_" + str(site.peft).removeprefix("unet.").replace(".", "_") for site in sites]
    unmatched = _read("sdxl", names, _LORA)["A1111"].unmatched
    assert {key.partition(".")[0] for key in unmatched} == {
        "lora_unet_add_embedding_linear_1",
        "lora_unet_add_embedding_linear_2",
        "lora_unet_up_blocks_0_upsamplers_0_conv",
    }


def test_a1111_fails_at_a_type_that_it_does_not_know() -> None:
    read = _read("sd15", _listed("sd15"), (".lora_A.default.weight", ".lora_B.default.weight"))
    assert read["A1111"].matched == 0
    assert "of a type that it does not know" in str(read["A1111"].note)


def test_a1111_and_sd3() -> None:
    names = _names("sd3", "kohya")
    assert _read("sd3", names, _LORA)["A1111"].matched == 0
    assert _read("sd3", names, _LORA[1:])["A1111"].matched == len(names) * 2
    attention = [
        name
        for name in _names("sd3", "peft")
        if name.rpartition(".attn.")[2] in ("to_q", "to_k", "to_v", "to_out.0")
    ]
    assert _read("sd3", _names("sd3", "peft"), _PEFT)["A1111"].matched == len(attention) * 2


def test_programs_that_do_not_run_a_family_say_so() -> None:
    read = _read("z_image", _names("z_image", "peft"), _PEFT)
    for name in ("A1111", "Forge"):
        assert (read[name].matched, read[name].note) == (0, "It does not run this family.")


def test_text_encoders_that_are_not_known_are_not_judged() -> None:
    read = _read("qwen_image", ["lora_te_layers_0_mlp_up_proj"], _LORA)
    for each in read.values():
        assert "3 keys of a text encoder were not judged" in str(each.note)


def test_no_more_than_a_thousand_keys_are_listed() -> None:
    read = _read("sdxl", [f"no_such_{index}" for index in range(400)], _LORA)["ComfyUI"]
    assert (read.matched, read.total, len(read.unmatched)) == (0, 1200, 1000)


def test_alphas_that_differ_cost_diffusers_those_of_attention() -> None:
    names = list(_listed("sd15"))
    alphas = {name: 8.0 if index % 3 else 4.0 for index, name in enumerate(names)}
    keys = [name + part for name in names for part in _LORA]
    read = {each.name: each for each in consumers(keys, published("sd15"), alphas)}["diffusers"]
    sites: dict[str | None, Site] = {site.kohya: site for site in published("sd15").all}
    lost = [
        f"{name}.alpha"
        for name in names
        if alphas[name] == 4.0 and (sites[name].component != "unet" or sites[name].kind == "attention")
    ]
    assert read.unmatched == lost
    assert f"{len(lost)} modules get the commonest alpha" in str(read.note)
