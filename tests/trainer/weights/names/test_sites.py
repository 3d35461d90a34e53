from pathlib import Path

import pytest

from trainer.weights.names import FAMILIES, LINEAR_KINDS, Site, Sites, block_of, fitting, published, sites

_ALL = [(family, variant) for family, known in FAMILIES.items() for variant in known.published]


def _listed(family: str) -> dict[str, tuple[str, str]]:
    """Module → shapes of its two factors, as files of the family have them."""
    text = (Path(__file__).parent / "keys" / f"{family}-lora.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return {module: (down, up) for module, down, up in rows}


def _factors(site: Site) -> tuple[str, str]:
    out, *rest = site.shape
    ones = [1] * (len(rest) - 1)
    return ",".join(map(str, ["r", *rest])), ",".join(map(str, [out, "r", *ones]))


@pytest.mark.parametrize(("family", "count"), [("sd15", 264), ("sdxl", 986)])
def test_the_modules_of_a_lora_are_exactly_those_that_files_have(family: str, count: int) -> None:
    modules = {site.kohya: _factors(site) for site in published(family).all if site.kind in LINEAR_KINDS}
    assert modules == _listed(family)
    assert len(modules) == count


@pytest.mark.parametrize(("family", "variant"), _ALL)
def test_every_name_leads_back_to_its_site(family: str, variant: str) -> None:
    here = published(family, variant)
    for site in here.all:
        for name in (site.kohya, site.peft, site.generic):
            assert name is None or here.find(name) is site


@pytest.mark.parametrize(("family", "variant"), _ALL)
def test_no_two_sites_share_a_name(family: str, variant: str) -> None:
    names = [
        name
        for site in published(family, variant).all
        for name in (site.kohya, site.peft, site.generic)
        if name
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("family", "variant"), _ALL)
def test_the_parts_of_a_weight_are_all_of_it_once(family: str, variant: str) -> None:
    here = published(family, variant)
    weights = dict(FAMILIES[family].published[variant]())
    for key in {site.weight for site in here.all if site.rows is not None}:
        parts = [site.rows for site in here.by_weight(key) if site.rows is not None]
        assert parts[0][0] == 0
        assert parts[-1][1] == weights[key][0]
        assert all(before[1] == after[0] for before, after in zip(parts, parts[1:], strict=False))


@pytest.mark.parametrize(
    ("family", "names"),
    [
        (
            "sd15",
            (
                "lora_unet_up_blocks_0_resnets_2_conv1",
                "unet.up_blocks.0.resnets.2.conv1",
                "diffusion_model.output_blocks.2.0.in_layers.2",
            ),
        ),
        (
            "sdxl",
            (
                "lora_te2_text_model_encoder_layers_3_self_attn_k_proj",
                "text_encoder_2.text_model.encoder.layers.3.self_attn.k_proj",
                "text_encoders.clip_g.transformer.text_model.encoder.layers.3.self_attn.k_proj",
            ),
        ),
        (
            "sdxl",
            (
                "lora_unet_label_emb_0_0",
                "unet.add_embedding.linear_1",
                "diffusion_model.label_emb.0.0",
            ),
        ),
        (
            "flux1",
            (
                "lora_unet_double_blocks_7_img_attn_proj",
                "transformer.transformer_blocks.7.attn.to_out.0",
                "diffusion_model.double_blocks.7.img_attn.proj",
            ),
        ),
        (
            "flux1",
            (
                "lora_te3_encoder_block_0_layer_1_DenseReluDense_wi_0",
                "text_encoder_2.encoder.block.0.layer.1.DenseReluDense.wi_0",
                "text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wi_0",
            ),
        ),
        (
            "sd3",
            (
                "lora_unet_joint_blocks_3_context_block_mlp_fc1",
                "transformer.transformer_blocks.3.ff_context.net.0.proj",
                "diffusion_model.joint_blocks.3.context_block.mlp.fc1",
            ),
        ),
        (
            "qwen_image",
            (
                "lora_unet_transformer_blocks_59_img_mlp_net_0_proj",
                "transformer.transformer_blocks.59.img_mlp.net.0.proj",
                "diffusion_model.transformer_blocks.59.img_mlp.net.0.proj",
            ),
        ),
        (
            "z_image",
            (
                "lora_unet_layers_4_attention_to_k",
                "transformer.layers.4.attention.to_k",
                "diffusion_model.layers.4.attention.to_k",
            ),
        ),
        (
            "hunyuan_image",
            (
                "lora_unet_double_blocks_4_txt_mlp_fc2",
                "transformer.transformer_blocks.4.ff_context.net.2",
                "diffusion_model.double_blocks.4.txt_mlp.2",
            ),
        ),
        (
            "anima",
            (
                "lora_unet_llm_adapter_blocks_5_cross_attn_o_proj",
                "text_conditioner.blocks.5.cross_attn.o_proj",
                "diffusion_model.llm_adapter.blocks.5.cross_attn.o_proj",
            ),
        ),
        (
            "lumina2",
            (
                "lora_unet_noise_refiner_1_feed_forward_w3",
                "transformer.noise_refiner.1.feed_forward.linear_3",
                "diffusion_model.noise_refiner.1.feed_forward.w3",
            ),
        ),
    ],
)
def test_one_module_in_three_namings(family: str, names: tuple[str, str, str]) -> None:
    here = published(family)
    found = [here.find(name) for name in names]
    assert found[0] is not None
    assert (found[0].kohya, found[0].peft, found[0].generic) == names
    assert found[0] is found[1] is found[2]


@pytest.mark.parametrize(
    ("family", "name", "same_as"),
    [
        (
            "sd15",
            "lora_te1_text_model_encoder_layers_0_mlp_fc1",
            "lora_te_text_model_encoder_layers_0_mlp_fc1",
        ),
        ("sd15", "text_encoder.encoder.layers.0.mlp.fc1", "lora_te_text_model_encoder_layers_0_mlp_fc1"),
        ("sd15", "base_model.model.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0.proj_in"),
        ("sd15", "lycoris_mid_block_attentions_0_proj_in", "unet.mid_block.attentions.0.proj_in"),
        ("sd15", "unet.conv_in.default", "unet.conv_in"),
        ("sd15", "unet.conv_in.lora_A.default", "unet.conv_in"),
        (
            "sd15",
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora",
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
        ),
        ("sdxl", "lora_unet_down_blocks_1_attentions_0_proj_in", "lora_unet_input_blocks_4_1_proj_in"),
        ("sdxl", "model.diffusion_model.input_blocks.4.1.proj_in", "lora_unet_input_blocks_4_1_proj_in"),
        (
            "flux1",
            "lora_transformer_single_transformer_blocks_3_proj_mlp",
            "transformer.single_transformer_blocks.3.proj_mlp",
        ),
        ("flux1", "transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.0.attn.to_q"),
        (
            "flux1",
            "base_model.model.transformer_blocks.0.attn.to_q",
            "transformer.transformer_blocks.0.attn.to_q",
        ),
        ("z_image", "lora_unet_layers_0_attention_out", "transformer.layers.0.attention.to_out.0"),
        (
            "hunyuan_image",
            "lora_unet_double_blocks_0_img_mod_lin",
            "lora_unet_double_blocks_0_img_mod_linear",
        ),
        ("anima", "net.llm_adapter.blocks.0.mlp.0", "text_conditioner.blocks.0.mlp.0"),
        ("anima", "lycoris_llm_adapter_blocks_0_mlp_0", "text_conditioner.blocks.0.mlp.0"),
    ],
)
def test_other_writings_of_a_name_are_found(family: str, name: str, same_as: str) -> None:
    here = published(family)
    assert here.find(same_as) is not None
    assert here.find(name) is here.find(same_as)


@pytest.mark.parametrize("name", ["", "lora_unet_", "lora_unet_nothing", "lora_te2_x", "unet", "default"])
def test_a_name_of_nothing_is_not_found(name: str) -> None:
    assert all(published(family).find(name) is None for family in FAMILIES)


def test_fused_and_split_names_meet_at_one_weight() -> None:
    here = published("flux1")
    whole = here.find("lora_unet_single_blocks_0_linear1")
    assert whole is not None
    parts = here.by_weight(whole.weight)
    assert [(site.peft or "").rpartition(".")[2] for site in parts] == [
        "",
        "to_q",
        "to_k",
        "to_v",
        "proj_mlp",
    ]
    assert [site.rows for site in parts[1:]] == [(0, 3072), (3072, 6144), (6144, 9216), (9216, 21504)]
    assert parts[0] is whole


def test_the_last_modulation_has_its_halves_swapped_in_diffusers_only() -> None:
    here = published("flux1")
    mine, theirs = (
        here.find("lora_unet_final_layer_adaLN_modulation_1"),
        here.find("transformer.norm_out.linear"),
    )
    assert mine is not None and theirs is not None
    assert mine.weight == theirs.weight
    assert (mine.swapped, theirs.swapped) == (False, True)
    assert (mine.peft, theirs.kohya) == (None, None)


def test_a_bias_has_the_rows_of_its_weight() -> None:
    here = published("sdxl")
    site = here.find("lora_te2_text_model_encoder_layers_0_self_attn_q_proj")
    assert site is not None
    assert site.bias == "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_bias"
    assert site.rows == (0, 1280)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", ""])
def test_a_model_is_found_below_each_of_its_prefixes(prefix: str) -> None:
    weights = {
        f"{prefix}double_blocks.0.img_attn.proj.weight": [96, 96],
        "vae.decoder.conv_in.weight": [8, 4, 3, 3],
    }
    assert [site.weight for site in sites("flux1", weights).all] == [next(iter(weights))]


def test_a_model_in_the_layout_of_diffusers_has_sites_for_whole_modules() -> None:
    weights = {
        "transformer_blocks.0.attn.to_q.weight": [96, 96],
        "transformer_blocks.0.attn.to_out.0.weight": [96, 96],
        "norm_out.linear.weight": [192, 96],
    }
    here = sites("flux1", weights)
    split, whole = (
        here.find("transformer.transformer_blocks.0.attn.to_q"),
        here.find("lora_unet_double_blocks_0_img_attn_proj"),
    )
    assert split is not None and whole is not None
    assert (split.weight, split.rows, split.block) == (
        "transformer_blocks.0.attn.to_q.weight",
        None,
        "DOUBLE00",
    )
    assert whole.weight == "transformer_blocks.0.attn.to_out.0.weight"
    assert here.find("lora_unet_double_blocks_0_img_attn_qkv") is None
    swapped = here.find("lora_unet_final_layer_adaLN_modulation_1")
    assert swapped is not None and swapped.swapped


def test_an_adapter_fits_the_variant_whose_shapes_it_has() -> None:
    assert _layers(fitting("sd3", {"lora_unet_joint_blocks_0_x_block_attn_qkv": [4608, 1536]})) == 24
    assert _layers(fitting("sd3", {"lora_unet_joint_blocks_0_x_block_attn_qkv": [7296, 2432]})) == 38
    assert fitting("sd3", {"lora_unet_joint_blocks_0_x_block_attn2_qkv": [4608, 1536]}).find(
        "transformer.transformer_blocks.12.attn2.to_q"
    )
    assert fitting("sdxl", {}) is published("sdxl", "1.0")


def _layers(found: Sites) -> int:
    return len({site.block for site in found.all if site.block.startswith("JOINT")})


@pytest.mark.parametrize(
    ("family", "name", "expected"),
    [
        ("sd15", "lora_unet_down_blocks_1_attentions_0_proj_in", ("unet", "IN04")),
        ("sd15", "lora_unet_time_embedding_linear_1", ("unet", "IN00")),
        ("sd15", "lora_unet_conv_out", ("unet", "OUT11")),
        ("sdxl", "lora_unet_output_blocks_8_0_in_layers_2", ("unet", "OUT08")),
        ("sdxl", "lora_unet_middle_block_1_proj_in", ("unet", "M00")),
        ("sdxl", "lora_te2_text_model_encoder_layers_31_mlp_fc1", ("te2", "TE31")),
        ("flux1", "transformer.single_transformer_blocks.37.attn.to_q", ("unet", "SINGLE37")),
        ("sd3", "transformer.transformer_blocks.37.attn.to_q", ("unet", "JOINT37")),
        ("sd3", "transformer.transformer_blocks.12.attn2.to_q", ("unet", "JOINT12")),
        ("anima", "lora_unet_blocks_27_mlp_layer1", ("unet", "BLOCK27")),
        ("anima", "text_conditioner.blocks.5.mlp.0", ("unet", "ADAPTER05")),
        ("z_image", "transformer.noise_refiner.1.attention.to_q", ("unet", "NOISE01")),
        (
            "hunyuan_image",
            "transformer.context_embedder.token_refiner.refiner_blocks.1.attn.to_q",
            ("unet", "REFINER01"),
        ),
        ("flux1", "transformer.norm_out.linear", ("unet", "BASE")),
        ("flux1", "nothing", None),
    ],
)
def test_a_module_is_in_its_block(family: str, name: str, expected: tuple[str, str] | None) -> None:
    assert block_of(family, name) == expected


def test_a_text_encoder_without_its_upper_level_is_found() -> None:
    here = sites("sd15", {"cond_stage_model.transformer.encoder.layers.0.mlp.fc1.weight": [64, 16]})
    assert [(site.kohya, site.shape) for site in here.all] == [
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", (64, 16))
    ]


def test_files_of_something_else_have_no_sites() -> None:
    weights = {
        "first_stage_model.decoder.conv_in.weight": [512, 4, 3, 3],
        "model_ema.x.weight": [4, 4],
        "x": [1],
    }
    assert all(sites(family, weights).all == [] for family in FAMILIES)


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl", "sdxl_refiner"])
def test_a_unet_in_the_layout_of_diffusers_has_the_same_sites(family: str) -> None:
    unet = [site for site in published(family).all if site.component == "unet"]
    keys = {(site.peft or "").removeprefix("unet.") + ".weight": site.shape for site in unet}
    here = {site.kohya: site for site in sites(family, keys).all}
    assert len(here) == len(unet)
    for site in unet:
        there = here[site.kohya]
        assert there.weight == f"{(site.peft or '').removeprefix('unet.')}.weight"
        assert (there.peft, there.generic, there.block, there.kind, there.shape) == (
            site.peft,
            site.generic,
            site.block,
            site.kind,
            site.shape,
        )
