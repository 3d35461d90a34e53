"""Block weights: layouts, the blocks of keys, and the presets as they are published."""

import pytest

from contract.rules.blocks import LAYOUTS, BlocksInvalid, block_of, presets, weights_by_block

UNET = "model.diffusion_model."

#: Rows of SuperMerger's list of presets, as far as they are not only 0, 0.5 and 1.
PUBLISHED = {
    "GRAD_V": "0,1,0.9166666667,0.8333333333,0.75,0.6666666667,0.5833333333,0.5,0.4166666667,0.3333333333,"
    "0.25,0.1666666667,0.0833333333,0,0.0833333333,0.1666666667,0.25,0.3333333333,0.4166666667,0.5,"
    "0.5833333333,0.6666666667,0.75,0.8333333333,0.9166666667,1.0",
    "REVERSE-SMOOTHSTEP": "0,1,0.994936342592593,0.980324074074074,0.95703125,0.925925925925926,"
    "0.887876157407408,0.84375,0.794415509259259,0.740740740740741,0.68359375,0.623842592592593,"
    "0.562355324074074,0.5,0.437644675925926,0.376157407407408,0.31640625,0.259259259259259,"
    "0.205584490740741,0.15625,0.112123842592592,0.0740740740740742,0.0429687499999996,0.0196759259259258,"
    "0.00506365740740744,0",
    "SMOOTHSTEP*3": "0,0,0.0151909722222222,0.0590277777777778,0.12890625,0.222222222222222,"
    "0.336371527777778,0.46875,0.616753472222222,0.777777777777778,0.94921875,0.871527777777778,"
    "0.687065972222222,0.5,0.312934027777778,0.128472222222222,0.0507812500000004,0.222222222222222,"
    "0.383246527777778,0.53125,0.663628472222223,0.777777777777778,0.87109375,0.940972222222222,"
    "0.984809027777777,1",
    "R_SMOOTHSTEP*4": "0,1,0.97974537037037,0.921296296296296,0.828125,0.703703703703704,0.55150462962963,"
    "0.375,0.177662037037037,0.0370370370370372,0.265625,0.50462962962963,0.750578703703704,1.,"
    "0.750578703703704,0.504629629629629,0.265624999999999,0.0370370370370372,0.177662037037038,0.375,"
    "0.551504629629631,0.703703703703703,0.828125,0.921296296296298,0.979745370370369,1",
    "SMOOTHSTEP/3": "0,0,0.04296875,0.15625,0.31640625,0.5,0.68359375,0.84375,0.95703125,1.,0.95703125,"
    "0.84375,0.68359375,0.5,0.31640625,0.15625,0.04296875,0.,0.04296875,0.15625,0.31640625,0.5,0.68359375,"
    "0.84375,0.95703125,1",
    "COSINE": "0,1,0.995722430686905,0.982962913144534,0.961939766255643,0.933012701892219,"
    "0.896676670145617,0.853553390593274,0.80438071450436,0.75,0.691341716182545,0.62940952255126,"
    "0.565263096110026,0.5,0.434736903889974,0.37059047744874,0.308658283817455,0.25,0.195619285495639,"
    "0.146446609406726,0.103323329854382,0.0669872981077805,0.0380602337443566,0.0170370868554658,"
    "0.00427756931309475,0",
    "TRUE_CUBIC_HERMITE": "0,0,0.199031876929012,0.325761959876543,0.424641927083333,0.498456790123457,"
    "0.549991560570988,0.58203125,0.597360869984568,0.598765432098765,0.589029947916667,0.570939429012346,"
    "0.547278886959876,0.520833333333333,0.49438777970679,0.470727237654321,0.45263671875,0.442901234567901,"
    "0.444305796682099,0.459635416666667,0.491675106095678,0.543209876543211,0.617024739583333,"
    "0.715904706790124,0.842634789737655,1",
    "FAKE_REVERSE_CUBIC_HERMITE": "0,1,0.842423804012346,0.71508487654321,0.615234375,0.540123456790123,"
    "0.487003279320988,0.453125,0.435739776234568,0.432098765432099,0.439453125,0.455054012345679,"
    "0.476152584876543,0.5,0.523847415123457,0.544945987654321,0.560546875,0.567901234567901,"
    "0.564260223765432,0.546875,0.512996720679013,0.459876543209876,0.384765625,0.28491512345679,"
    "0.157576195987653,0",
    "WRAP08": "0,1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1",
    "MID12_50": "0,0,0,0,0,0,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0,0,0,0,0,0",
    "OUT07": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1,1,1",
    "OUT12_5": "0,0,0,0,0,0,0,0,0,0,0,0,0,0.5,1,1,1,1,1,1,1,1,1,1,1,1",
    "RING08_SOFT": "0,0,0,0,0,0,0.5,1,1,1,0.5,0,0,0,0,0,0.5,1,1,1,0.5,0,0,0,0,0",
    "RING10_3": "0,0,0,0,0,0,0,1,1,1,1,1,0,0,0,1,1,1,1,1,0,0,0,0,0,0",
    "FLAT_25": "0," + ",".join(["0.25"] * 25),
    "ALL_B": ",".join(["1"] * 26),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_published_ones(name: str) -> None:
    published = [float(text) for text in PUBLISHED[name].split(",")]
    assert presets("sd15")[name] == pytest.approx(published, abs=1e-9)


def test_sdxl_takes_of_a_preset_the_blocks_that_it_has() -> None:
    of_sd15, of_sdxl = (weights_by_block(family, "GRAD_V") for family in ("sd15", "sdxl"))
    assert of_sdxl == {block: of_sd15[block] for block in LAYOUTS["sdxl"]}
    assert presets("sdxl").keys() == presets("sd15").keys()


def test_anima_has_the_presets_that_do_not_depend_on_places() -> None:
    assert set(presets("anima")) == {"ALL_A", "ALL_B", "FLAT_25", "FLAT_75"}
    assert set(weights_by_block("anima", "ALL_B").values()) == {1.0}


@pytest.mark.parametrize(
    ("family", "title", "count"), [("sd15", "SD1.5", 26), ("sdxl", "SDXL", 20), ("anima", "Anima", 35)]
)
def test_a_wrong_number_of_weights_says_the_right_one(family: str, title: str, count: int) -> None:
    assert len(weights_by_block(family, [0.5] * count)) == count
    for wrong in (count - 1, count + 1, 0):
        with pytest.raises(BlocksInvalid, match=f"{title} has {count} block weights, here are {wrong}"):
            weights_by_block(family, [0.5] * wrong)


def test_unknown_presets_and_families_without_blocks_are_refused() -> None:
    with pytest.raises(BlocksInvalid, match="no preset `GRAD_X`.*GRAD_V"):
        weights_by_block("sdxl", "GRAD_X")
    with pytest.raises(BlocksInvalid, match="Anima has no preset `GRAD_V`"):
        weights_by_block("anima", "GRAD_V")
    with pytest.raises(BlocksInvalid, match="FLUX.1 has no layout of block weights"):
        weights_by_block("flux1", [1.0])
    assert presets("flux1") == {}


@pytest.mark.parametrize(
    ("family", "key", "block"),
    [
        ("sd15", f"{UNET}time_embed.0.weight", "IN00"),
        ("sd15", f"{UNET}input_blocks.0.0.weight", "IN00"),
        ("sd15", f"{UNET}input_blocks.11.0.in_layers.0.weight", "IN11"),
        ("sd15", f"{UNET}middle_block.2.out_layers.3.bias", "M00"),
        ("sd15", f"{UNET}output_blocks.3.1.proj_in.weight", "OUT03"),
        ("sd15", f"{UNET}output_blocks.11.0.out_layers.3.weight", "OUT11"),
        ("sd15", f"{UNET}out.2.weight", "OUT11"),
        ("sd15", "cond_stage_model.transformer.text_model.final_layer_norm.weight", "BASE"),
        ("sd15", "first_stage_model.decoder.conv_out.weight", "BASE"),
        ("sdxl", f"{UNET}label_emb.0.0.weight", "IN00"),
        ("sdxl", f"{UNET}output_blocks.8.0.in_layers.2.weight", "OUT08"),
        ("sdxl", f"{UNET}out.0.weight", "OUT08"),
        ("sdxl", "conditioner.embedders.1.model.ln_final.weight", "BASE"),
        ("anima", "net.blocks.27.mlp.layer1.weight", "BLOCK27"),
        ("anima", f"{UNET}blocks.0.self_attn.q_proj.weight", "BLOCK00"),
        ("anima", "llm_adapter.blocks.5.cross_attn.q_proj.weight", "ADAPTER05"),
        ("anima", "net.x_embedder.proj.1.weight", "BASE"),
        ("flux1", "double_blocks.0.img_attn.qkv.weight", "BASE"),
    ],
)
def test_the_block_of_a_tensor(family: str, key: str, block: str) -> None:
    assert block_of(family, key) == block
    assert block in LAYOUTS.get(family, ("BASE",))


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_u_net_without_its_prefix_has_the_same_blocks(family: str) -> None:
    for name in (
        "input_blocks.4.1.proj_in.weight",
        "middle_block.0.in_layers.2.weight",
        "out.2.bias",
        "output_blocks.7.0.in_layers.2.weight",
        "time_embed.0.weight",
        "label_emb.0.0.weight",
    ):
        assert block_of(family, name) == block_of(family, UNET + name) != "BASE"
    assert block_of(family, "outer.weight") == "BASE"
