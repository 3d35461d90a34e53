"""Checkpoint merges from files to a file, against formulas in float64."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from contract.errors import (
    InvalidParams,
    JobCanceled,
    WeightsIncomplete,
    WeightsMismatch,
    WeightsNotFinite,
    WeightsUnknown,
    WeightsUnsupported,
)
from contract.methods.merge import Components
from contract.methods.weights import FileOutput
from contract.rules.merge_methods import MERGE_METHODS
from kernel.engines.factors import workers
from kernel.engines.streams.run import merge_checkpoints
from kernel.jobs import request_cancel
from kernel.surgery import Surgery
from tests.builders import adapters
from tests.builders.checkpoints import bare_vae, sd15, sdxl, write
from tests.kernel.engines.streams.running import Tensors, checkpoints, file, job, merge
from trainer.weights.names import FAMILIES

UNET = "model.diffusion_model."
TABLE = "alphas_cumprod"
IDS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
IN01 = f"{UNET}input_blocks.1.0.in_layers.2.weight"
OUT03 = f"{UNET}output_blocks.3.1.proj_in.weight"
TEXT = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
VAE = "first_stage_model.decoder.conv_out.weight"


@pytest.fixture
def models(tmp_path: Path) -> tuple[Tensors, Tensors]:
    """a.safetensors and b.safetensors."""
    a, b = sd15(1), sd15(2)
    write(tmp_path / "a.safetensors", a, {"modelspec.architecture": "stable-diffusion-v1"})
    write(tmp_path / "b.safetensors", b)
    return a, b


def _near(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype = torch.float16) -> None:
    """Within the rounding of the type, of numbers in float64."""
    error = (found.double() - wanted).abs()
    assert bool((error <= wanted.abs() * torch.finfo(dtype).eps * 0.51 + 1e-7).all())


def _fp32(model: Tensors) -> Tensors:
    return {name: each.float() if each.is_floating_point() else each for name, each in model.items()}


def test_weighted_sum_of_every_tensor(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    a, b = models
    outcome, out = merge(tmp_path, {"a": 0.3, "b": 0.7})
    assert out.keys() == a.keys()
    for name, found in out.items():
        assert found.dtype == a[name].dtype and found.shape == a[name].shape
        if name in (TABLE, IDS):
            assert torch.equal(found, a[name])
        else:
            _near(found, 0.3 * a[name].double() + 0.7 * b[name].double())
    assert (outcome.merged, outcome.kept) == (len(a) - 2, 2)
    assert outcome.warnings == [] and outcome.left_out_count == 0
    assert outcome.sha256 == hashlib.sha256(Path(outcome.file).read_bytes()).hexdigest()
    assert [each.file for each in outcome.inputs] == [str(tmp_path / f"{x}.safetensors") for x in "ab"]


@pytest.mark.parametrize("method", list(MERGE_METHODS))
def test_a_model_merged_with_itself_is_itself(tmp_path: Path, method: str) -> None:
    model = sd15(1, dtype=torch.bfloat16, channels=(32, 32))
    write(tmp_path / "a.safetensors", model)
    count = 1 if method == "weighted_sum" else MERGE_METHODS[method].least
    settings = checkpoints(tmp_path, {"a": 1.0}, method="weighted_sum")
    settings = type(settings)(models=settings.models * count, method=method)
    with Surgery(job(tmp_path), FileOutput(file=str(tmp_path / "out.safetensors"))) as surgery:
        merge_checkpoints(settings, surgery)
    with safe_open(tmp_path / "out.safetensors", "pt") as out:
        assert all(torch.equal(out.get_tensor(name), each) for name, each in model.items())


@pytest.mark.parametrize("method", ["weighted_sum", "dare", "slerp", "ties", "della"])
def test_the_same_merge_writes_the_same_bytes(
    tmp_path: Path, models: tuple[Tensors, Tensors], method: str
) -> None:
    first, _ = merge(tmp_path, {"a": 0.5, "b": 0.5}, method=method, output="first")
    second, _ = merge(tmp_path, {"a": 0.5, "b": 0.5}, method=method, output="second")
    assert first.sha256 == second.sha256


@pytest.mark.parametrize("method", ["dare", "slerp", "ties", "della", "cosine_b", "rebasin"])
def test_the_number_of_cores_does_not_change_a_byte(
    tmp_path: Path, models: tuple[Tensors, Tensors], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for count in (1, 4):
        monkeypatch.setattr(workers, "cores", lambda count=count: count)
        outcome, _ = merge(tmp_path, {"a": 0.5, "b": 0.5}, method=method, output=f"on{count}")
        found.add(outcome.sha256)
    assert len(found) == 1


def test_blocks_have_weights_of_their_own(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    a, b = models
    _, out = merge(tmp_path, {"a": 1, "b": 1}, method="slerp", alpha_blocks="ALL_B")
    assert torch.allclose(out[IN01].float(), b[IN01].float(), atol=1e-3)
    weights = [0.0] * 26
    weights[2], weights[17] = 1.0, 0.25
    _, out = merge(tmp_path, {"a": 1, "b": 1}, method="sigmoid", alpha_blocks=weights, output="other")
    assert torch.equal(out[IN01], b[IN01]) and torch.equal(out[TEXT], a[TEXT])
    eased = 0.25**2 * 2.5
    _near(out[OUT03], (1 - eased) * a[OUT03].double() + eased * b[OUT03].double())


def test_a_model_s_own_weight_can_be_by_block(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    a, b = models
    outcome, out = merge(tmp_path, {"a": 1, "b": 1}, blocks_a="OUT12", blocks_b=[1.0] * 14 + [0.0] * 12)
    assert torch.equal(out[IN01], b[IN01]) and torch.equal(out[OUT03], a[OUT03])
    assert torch.equal(out[TEXT], b[TEXT])
    assert outcome.warnings == []


def test_wrong_block_weights_say_how_many_the_family_has(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    with pytest.raises(InvalidParams, match="SD1.5 has 26 block weights, here are 20") as refused:
        merge(tmp_path, {"a": 1, "b": 1}, blocks_b=[1.0] * 20)
    assert refused.value.where == "$.params.settings.models[1].blocks"
    with pytest.raises(InvalidParams, match="no preset `GRAD_X`") as refused:
        merge(tmp_path, {"a": 1, "b": 1}, method="slerp", alpha_blocks="GRAD_X")
    assert refused.value.where == "$.params.settings.alpha_blocks"


def test_weights_that_do_not_add_up_to_one_are_pointed_out(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    outcome, _ = merge(tmp_path, {"a": 1, "b": 1})
    assert "add up to 2" in outcome.warnings[0]
    outcome, out = merge(tmp_path, {"a": 1, "b": 1}, normalize=True, output="normal")
    assert outcome.warnings == []
    _near(out[IN01], (models[0][IN01].double() + models[1][IN01].double()) / 2)
    with pytest.raises(InvalidParams, match="add up to 0"):
        merge(tmp_path, {"a": 1, "b": -1}, normalize=True, output="none")


def test_parameters_that_a_method_does_not_have_are_pointed_out(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    outcome, _ = merge(tmp_path, {"a": 0.5, "b": 0.5}, alpha=0.3)
    assert outcome.warnings == ["`weighted_sum` has no `alpha`; what was given is not used."]
    outcome, _ = merge(tmp_path, {"a": 0.5, "b": 1}, method="ties", output="ties")
    assert outcome.warnings == ["The first model of `ties` is its base; its weight is not used."]
    with pytest.raises(InvalidParams, match="`alpha` of `geometric`") as refused:
        merge(tmp_path, {"a": 1, "b": 1}, method="geometric", alpha=2, output="no")
    assert refused.value.where == "$.params.settings.alpha"


def test_parts_come_from_where_the_settings_say(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    a, b = models
    parts = Components(text_encoders="1", vae="2")
    outcome, out = merge(tmp_path, {"a": 0.5, "b": 0.5}, components=parts)
    assert torch.equal(out[TEXT], a[TEXT]) and torch.equal(out[VAE], b[VAE])
    assert not torch.equal(out[IN01], a[IN01])
    outcome, out = merge(tmp_path, {"a": 0.5, "b": 0.5}, components=Components(vae="drop"), output="less")
    dropped = [name for name in a if name.startswith("first_stage_model.")]
    assert VAE not in out and outcome.left_out_count == len(dropped) and set(outcome.left_out) == set(dropped)
    with pytest.raises(InvalidParams, match="There is no model 3"):
        merge(tmp_path, {"a": 0.5, "b": 0.5}, components=Components(unet="3"), output="no")


def test_a_vae_of_its_own_takes_the_place(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    other = sd15(7, dtype=torch.float32)
    write(tmp_path / "vae.safetensors", bare_vae(other) | {"loss.logvar": torch.zeros(())})
    outcome, out = merge(
        tmp_path, {"a": 0.5, "b": 0.5}, components=Components(vae_file=file(tmp_path, "vae"))
    )
    assert torch.equal(out[VAE], other[VAE]) and out.keys() == models[0].keys()
    assert outcome.inputs[2].file.endswith("vae.safetensors")


def test_a_vae_that_does_not_fit_is_refused(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    vae = bare_vae(models[0])
    write(tmp_path / "less.safetensors", {name: each for name, each in vae.items() if "attn" not in name})
    write(tmp_path / "other.safetensors", vae | {"quant_conv.bias": torch.zeros(4)})
    for name, text in (("less", "is no VAE for this model"), ("other", "quant_conv.bias")):
        with pytest.raises(WeightsMismatch, match=text):
            merge(tmp_path, {"a": 0.5, "b": 0.5}, components=Components(vae_file=file(tmp_path, name)))
    assert not (tmp_path / "out.safetensors").exists()


def test_averages_are_left_out_kept_or_used(tmp_path: Path) -> None:
    a, b = sd15(1, ema=True), sd15(2, ema=True)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    average = "model_ema.diffusion_modelinput_blocks10in_layers2weight"
    outcome, out = merge(tmp_path, {"a": 0.5, "b": 0.5})
    averages = [name for name in a if name.startswith("model_ema.")]
    assert out.keys() == a.keys() - set(averages) and outcome.left_out_count == len(averages)
    _, out = merge(tmp_path, {"a": 0.5, "b": 0.5}, ema="keep", output="keep")
    assert out.keys() == a.keys()
    _near(out[average], (a[average].double() + b[average].double()) / 2, torch.float32)
    assert torch.equal(out["model_ema.num_updates"], a["model_ema.num_updates"])
    outcome, out = merge(tmp_path, {"a": 0.5, "b": 0.5}, ema="use", output="use")
    assert out.keys() == a.keys() - set(averages) and outcome.warnings == []
    _near(out[IN01], (a[average].double() + b[average].double()) / 2, torch.float32)


def test_averages_belong_to_the_block_of_their_weight(tmp_path: Path) -> None:
    a, b = sd15(1, ema=True), sd15(2, ema=True)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    average = "model_ema.diffusion_modelinput_blocks10in_layers2weight"
    weights = [0.0, 0.0, 1.0] + [0.0] * 23
    _, out = merge(tmp_path, {"a": 1, "b": 1}, method="sigmoid", alpha_blocks=weights, ema="keep")
    assert torch.equal(out[average], b[average])
    other = average.replace("blocks10", "blocks20")
    assert torch.equal(out[other], a[other])


def test_averages_that_are_not_there_are_said(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    c = sd15(3, ema=True)
    write(tmp_path / "c.safetensors", c)
    outcome, _ = merge(tmp_path, {"a": 0.5, "c": 0.5}, ema="use")
    assert "a.safetensors`: no EMA weights there" in outcome.warnings[0]
    del c["model_ema.diffusion_modelinput_blocks10in_layers2weight"]
    write(tmp_path / "d.safetensors", c)
    with pytest.raises(WeightsIncomplete) as refused:
        merge(tmp_path, {"a": 0.5, "d": 0.5}, ema="use", output="no")
    assert refused.value.details["key"] == IN01 and refused.value.where == str(tmp_path / "d.safetensors")


def test_tensors_that_one_model_lacks_are_the_other_s(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    _, b = models
    write(tmp_path / "bare.safetensors", sd15(3, vae=False))
    outcome, out = merge(tmp_path, {"bare": 0.5, "b": 0.5})
    assert torch.equal(out[VAE], b[VAE])
    count = sum(name.startswith("first_stage_model.") for name in b)
    assert outcome.kept == count + 2 and f"{count} are taken unchanged" in outcome.warnings[0]


def test_both_spellings_of_the_text_encoder_are_one(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    a, b = models
    level = "cond_stage_model.transformer."
    old = {name.replace(f"{level}text_model.", level): each for name, each in b.items()}
    write(tmp_path / "old.safetensors", old)
    outcome, out = merge(tmp_path, {"a": 0.5, "old": 0.5})
    assert out.keys() == a.keys() and outcome.warnings == []
    _near(out[TEXT], (a[TEXT].double() + b[TEXT].double()) / 2)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_numbers_are_written_as_asked_for(
    tmp_path: Path, models: tuple[Tensors, Tensors], dtype: str
) -> None:
    wanted = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    a, b = models
    _, out = merge(tmp_path, {"a": 0.3, "b": 0.7}, dtype=dtype)
    for name, found in out.items():
        if name in (TABLE, IDS):
            assert torch.equal(found, a[name]) and found.dtype == a[name].dtype
        else:
            assert found.dtype == wanted
            _near(found, 0.3 * a[name].double() + 0.7 * b[name].double(), wanted)


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_fp8_is_for_the_matrices_of_the_u_net(
    tmp_path: Path, models: tuple[Tensors, Tensors], dtype: str
) -> None:
    wanted = {"fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}[dtype]
    a, b = models
    write(tmp_path / "c.safetensors", _fp32(b))
    _, out = merge(tmp_path, {"c": 0.5, "a": 0.5}, dtype=dtype)
    assert out[IN01].dtype == out[OUT03].dtype == wanted
    bias, norm = f"{UNET}input_blocks.1.0.in_layers.2.bias", f"{UNET}input_blocks.1.1.norm.weight"
    assert {out[name].dtype for name in (bias, norm, TEXT, VAE)} == {torch.float16}
    exact = (a[IN01].float() + b[IN01].float()) / 2
    assert torch.equal(out[IN01].float(), exact.to(wanted).float())


def test_numbers_that_do_not_fit_their_type_are_refused(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    large = _fp32(models[0])
    large[IN01][3, 2, 1, 1] = 200_000.0
    write(tmp_path / "large.safetensors", large)
    with pytest.raises(WeightsUnsupported, match="up to 100000; fp16 ends at 65504") as refused:
        merge(tmp_path, {"large": 0.5, "b": 0.5}, dtype="fp16")
    assert refused.value.details["key"] == IN01
    merge(tmp_path, {"large": 0.5, "b": 0.5}, dtype="bf16")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", ["weighted_sum", "slerp", "ties"])
def test_numbers_that_are_none_are_named(
    tmp_path: Path, models: tuple[Tensors, Tensors], value: float, method: str
) -> None:
    b = models[1]
    b[OUT03][5, 7] = value
    write(tmp_path / "bad.safetensors", b)
    with pytest.raises(WeightsNotFinite) as refused:
        merge(tmp_path, {"a": 0.5, "bad": 0.5}, method=method)
    assert refused.value.where == str(tmp_path / "bad.safetensors")
    assert refused.value.details["key"] == OUT03
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "a.safetensors",
        "b.safetensors",
        "bad.safetensors",
    ]


def test_a_part_that_is_only_copied_is_looked_at_too(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    a = models[0]
    a[VAE][0, 0, 0, 0] = float("nan")
    write(tmp_path / "bad.safetensors", a)
    with pytest.raises(WeightsNotFinite) as refused:
        merge(tmp_path, {"bad": 0.5, "b": 0.5}, components=Components(vae="1"))
    assert refused.value.details["key"] == VAE


def test_tables_beside_the_networks_may_be_infinite(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    a = models[0] | {"sqrt_recip_alphas_cumprod": torch.tensor([1.0, float("inf")])}
    write(tmp_path / "terminal.safetensors", a)
    _, out = merge(tmp_path, {"terminal": 0.5, "b": 0.5})
    assert bool(out["sqrt_recip_alphas_cumprod"].isinf().any())


def test_other_shapes_are_refused_with_both_files(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    key = f"{UNET}input_blocks.0.0.weight"
    inpainting = models[0] | {key: torch.zeros(32, 9, 3, 3, dtype=torch.float16)}
    write(tmp_path / "inpainting.safetensors", inpainting)
    with pytest.raises(WeightsMismatch, match=r"\[32, 4, 3, 3\].*\[32, 9, 3, 3\]") as refused:
        merge(tmp_path, {"a": 0.5, "inpainting": 0.5})
    assert refused.value.details["key"] == key
    assert refused.value.details["files"] == [str(tmp_path / f"{x}.safetensors") for x in ("a", "inpainting")]


def test_other_families_loras_and_strangers_are_refused(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    write(tmp_path / "xl.safetensors", sdxl(1))
    lora = adapters.lora("lora_unet_down_blocks_0_attentions_0_proj_in", (320, 320, 1, 1), 4)
    write(tmp_path / "lora.safetensors", lora)
    write(tmp_path / "stranger.safetensors", {"x.weight": torch.zeros(4, 4)})
    with pytest.raises(WeightsMismatch, match="of SD1.5.*of SDXL"):
        merge(tmp_path, {"a": 0.5, "xl": 0.5})
    with pytest.raises(WeightsMismatch, match="is no checkpoint: it is a LoRA"):
        merge(tmp_path, {"a": 0.5, "lora": 0.5})
    with pytest.raises(WeightsUnknown, match="stranger"):
        merge(tmp_path, {"a": 0.5, "stranger": 0.5})
    write(tmp_path / "xl2.safetensors", sdxl(2))
    with pytest.raises(WeightsUnsupported, match="re-basin is defined for sd15 only.*sdxl"):
        merge(tmp_path, {"xl": 1.0, "xl2": 1.0}, method="rebasin")


def test_quantised_models_are_refused(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    quantised = models[0] | {IN01.replace(".weight", ".scale_weight"): torch.ones(())}
    write(tmp_path / "scaled.safetensors", quantised)
    with pytest.raises(WeightsUnsupported, match="quantised"):
        merge(tmp_path, {"a": 0.5, "scaled": 0.5})


def test_vaes_are_merged_with_each_other(tmp_path: Path) -> None:
    a, b = bare_vae(sd15(1)), bare_vae(sd15(2))
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    _, out = merge(tmp_path, {"a": 0.25, "b": 0.75})
    assert out.keys() == a.keys()
    _near(
        out["decoder.conv_out.weight"],
        0.25 * a["decoder.conv_out.weight"].double() + 0.75 * b["decoder.conv_out.weight"].double(),
    )


def test_sdxl_merges_by_its_twenty_blocks(tmp_path: Path) -> None:
    a, b = sdxl(1), sdxl(2)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    _, out = merge(tmp_path, {"a": 1, "b": 1}, method="sigmoid", alpha_blocks=[0.0] * 19 + [1.0])
    changed = {name for name in a if not torch.equal(out[name], a[name])}
    assert changed == {name for name in a if name.startswith((f"{UNET}output_blocks.8.", f"{UNET}out."))}


def _anima(seed: int) -> Tensors:
    """Anima, a sixty-fourth as wide."""
    source = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn([max(1, size // 64) for size in shape], generator=source)
        for name, shape in FAMILIES["anima"].published["2b"]()
    }


def test_anima_merges_by_its_thirty_five_blocks(tmp_path: Path) -> None:
    a, b = _anima(1), _anima(2)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    shares = [round(0.025 * number, 3) for number in range(35)]
    _, out = merge(
        tmp_path, {"a": 1, "b": 1}, blocks_a=[round(1 - share, 3) for share in shares], blocks_b=shares
    )
    places = set()
    for name in a:
        found = re.match(r"net\.(llm_adapter\.)?blocks\.(\d+)\.", name)
        place = 0 if found is None else 1 + 28 * (found[1] is not None) + int(found[2])
        share = shares[place]
        wanted = (1 - share) * a[name].double() + share * b[name].double()
        torch.testing.assert_close(out[name].double(), wanted, rtol=1e-6, atol=1e-6)
        places.add(place)
    assert places == set(range(35))


def test_the_output_says_what_it_was_made_of(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    outcome, _ = merge(tmp_path, {"a": 0.5, "b": 0.5})
    with safe_open(outcome.file, "pt") as out:
        metadata = out.metadata()
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1"
    assert metadata["modelspec.merged_from"] == "a, b"
    recipe = json.loads(metadata["lorakeet_recipe"])
    assert recipe["models"][0]["model"]["path"] == "a.safetensors"
    assert str(tmp_path) not in json.dumps(metadata)


def test_a_canceled_merge_leaves_nothing(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    running = job(tmp_path)
    request_cancel(running, "graceful")
    settings = checkpoints(tmp_path, {"a": 0.5, "b": 0.5}, method="ties")
    with (
        Surgery(running, FileOutput(file=str(tmp_path / "out.safetensors"))) as surgery,
        pytest.raises(JobCanceled),
    ):
        merge_checkpoints(settings, surgery)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_nothing_can_be_made_of_no_parts(tmp_path: Path, models: tuple[Tensors, Tensors]) -> None:
    vae = bare_vae(models[0])
    write(tmp_path / "v.safetensors", vae)
    with pytest.raises(InvalidParams, match="Nothing is left"):
        merge(tmp_path, {"v": 1.0}, components=Components(vae="drop"))


@pytest.mark.parametrize("method", ["weighted_sum", "ties"])
def test_a_wish_to_stop_is_heard_between_two_tensors(
    tmp_path: Path, models: tuple[Tensors, Tensors], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = job(tmp_path)
    heard: list[int] = []

    def progress(phase: str, done: int, *_: object, **__: object) -> None:
        heard.append(done)
        if done == 100:
            request_cancel(running, "graceful")

    monkeypatch.setattr(running, "progress", progress)
    settings = checkpoints(tmp_path, {"a": 0.5, "b": 0.5}, method=method)
    with (
        Surgery(running, FileOutput(file=str(tmp_path / "out.safetensors"))) as surgery,
        pytest.raises(JobCanceled),
    ):
        merge_checkpoints(settings, surgery)
    assert heard == list(range(101))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_whole_numbers_are_not_put_together_with_weights(
    tmp_path: Path, models: tuple[Tensors, Tensors], dtype: torch.dtype
) -> None:
    write(tmp_path / "whole.safetensors", models[1] | {IN01: (models[1][IN01] * 10).to(dtype)})
    for order in (("a", "whole"), ("whole", "a")):
        with pytest.raises(WeightsMismatch, match="whole numbers") as refused:
            merge(tmp_path, dict.fromkeys(order, 0.5))
        assert refused.value.where == str(tmp_path / f"{order[1]}.safetensors")
        assert refused.value.details is not None and refused.value.details["key"] == IN01


def test_places_of_a_text_stay_whole_when_they_are_floats(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    write(tmp_path / "half.safetensors", models[1] | {IDS: models[1][IDS].half()})
    _, out = merge(tmp_path, {"half": 0.25, "a": 0.25}, dtype="bf16")
    assert torch.equal(out[IDS], models[1][IDS].half())
    _, out = merge(tmp_path, {"a": 0.25, "half": 0.25}, output="other")
    assert torch.equal(out[IDS], models[0][IDS])


@pytest.mark.parametrize("method", list(MERGE_METHODS))
def test_tensors_without_numbers_are_no_problem(tmp_path: Path, method: str) -> None:
    empty = {"model.diffusion_model.a.weight": torch.zeros(0, 5), "model.diffusion_model.b": torch.zeros(0)}
    models = {name: 1.0 for name in "abc"[: max(MERGE_METHODS[method].least, 2)]}
    for number, name in enumerate(models):
        write(tmp_path / f"{name}.safetensors", sd15(number, channels=(32, 32), vae=False) | empty)
    _, out = merge(tmp_path, models, method=method)
    assert all(torch.equal(out[name], each) for name, each in empty.items())


def test_a_u_net_of_its_own_has_blocks_and_channels_too(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    prefix = "model.diffusion_model."
    for name, tensors in zip("ab", models, strict=True):
        unet = {key: each for key, each in tensors.items() if key.startswith(prefix)}
        write(tmp_path / f"long{name}.safetensors", unet)
        short = {key.removeprefix(prefix): each for key, each in unet.items()}
        write(tmp_path / f"short{name}.safetensors", short)
    for method, settings in (("slerp", {"alpha_blocks": "GRAD_V"}), ("rebasin", {})):
        found, wanted = (
            merge(tmp_path, {f"{x}a": 1.0, f"{x}b": 1.0}, method=method, output=f"{method}_{x}", **settings)[
                1
            ]
            for x in ("short", "long")
        )
        assert found.keys() == {key.removeprefix(prefix) for key in wanted}
        assert all(torch.equal(found[key.removeprefix(prefix)], each) for key, each in wanted.items()), method


def test_averages_go_where_their_weights_go(tmp_path: Path) -> None:
    models = {name: sd15(seed, channels=(32, 32), ema=True) for seed, name in enumerate("ab")}
    for name, tensors in models.items():
        write(tmp_path / f"{name}.safetensors", tensors)
    _, out = merge(tmp_path, {"a": 0.5, "b": 0.5}, ema="keep", components=Components(unet="2"))
    averages = [key for key in out if key.startswith("model_ema.")]
    assert len(averages) > 100
    assert all(torch.equal(out[key], models["b"][key]) for key in averages)
    settings = {"ema": "keep", "components": Components(unet="drop"), "output": "dropped"}
    _, out = merge(tmp_path, {"a": 0.5, "b": 0.5}, **settings)
    assert not [key for key in out if key.startswith(("model_ema.", "model.diffusion_model."))]


def test_a_vae_of_another_layout_or_family_is_no_vae_for_a_model_without_one(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    bare = {key: each for key, each in models[0].items() if not key.startswith("first_stage_model.")}
    write(tmp_path / "bare.safetensors", bare)
    strange = bare_vae(models[1])
    write(tmp_path / "wide.safetensors", strange | {"decoder.conv_in.weight": torch.ones(32, 16, 3, 3)})
    names = {"decoder.mid_block.resnets.0.conv1.weight", "decoder.conv_in.weight"}
    write(tmp_path / "diffusers.safetensors", {name: torch.ones(4, 4, 3, 3) for name in names})
    for vae, why in (("wide", "belongs to chroma"), ("diffusers", "layout of diffusers")):
        with pytest.raises(WeightsMismatch, match=why) as refused:
            merge(tmp_path, {"bare": 1.0}, components=Components(vae_file=file(tmp_path, vae)))
        assert refused.value.where == str(tmp_path / f"{vae}.safetensors")


def test_block_weights_that_a_method_is_not_defined_for_are_named(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    with pytest.raises(InvalidParams, match="is a share") as refused:
        merge(tmp_path, {"a": 1.0, "b": 1.0}, method="tensor_sum", alpha_blocks=[2.0] * 26)
    assert refused.value.where == "$.params.settings.alpha_blocks"


def test_weights_that_cancel_out_are_not_told_to_be_divided_by_their_sum(
    tmp_path: Path, models: tuple[Tensors, Tensors]
) -> None:
    outcome, _ = merge(tmp_path, {"a": 1.0, "b": -1.0})
    assert len(outcome.warnings) == 1 and "normalize" not in outcome.warnings[0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["slerp", "cosine_b", "ties", "dare", "della", "smooth_add", "rebasin"])
def test_a_number_that_is_none_is_named_by_every_method(tmp_path: Path, method: str, bad: float) -> None:
    count = max(MERGE_METHODS[method].least, 2)
    for number, name in enumerate("abc"):
        write(tmp_path / f"{name}.safetensors", sd15(number, channels=(32,), vae=False))
    damaged = sd15(3, channels=(32,), vae=False)
    damaged[IN01].view(-1)[5] = bad
    write(tmp_path / "bad.safetensors", damaged)
    for place in range(count):
        names = ["bad" if index == place else "abc"[index] for index in range(count)]
        with pytest.raises(WeightsNotFinite) as refused:
            merge(tmp_path, dict.fromkeys(names, 0.5), method=method, density=0.05, epsilon=0.0)
        assert refused.value.where == str(tmp_path / "bad.safetensors")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["smooth_add", "rebasin", "slerp", "ties"])
def test_a_gpu_gives_the_same_as_the_cpu(
    tmp_path: Path, models: tuple[Tensors, Tensors], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "c.safetensors", sd15(3))
    names = "abc"[: MERGE_METHODS[method].least]
    _, on_gpu = merge(tmp_path, dict.fromkeys(names, 1.0), method=method, dtype="fp32", output="gpu")
    monkeypatch.setattr(Surgery, "device", torch.device("cpu"))
    _, on_cpu = merge(tmp_path, dict.fromkeys(names, 1.0), method=method, dtype="fp32", output="cpu")
    for name, each in on_cpu.items():
        torch.testing.assert_close(on_gpu[name], each, rtol=1e-5, atol=1e-6)
