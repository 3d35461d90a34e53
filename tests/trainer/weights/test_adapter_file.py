"""Adapters of every type and naming, read from files: their modules, ranks, alphas, shapes and factors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from contract.errors import (
    WeightsDamaged,
    WeightsIncomplete,
    WeightsMismatch,
    WeightsNotFinite,
    WeightsUnsupported,
)
from tests.builders import adapters
from tests.builders.adapters import KOHYA, PEFT, Tensors
from trainer.weights.adapter_file import Adapter, factors, read_adapter
from trainer.weights.tensor_file import open_weights

_DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


@contextmanager
def _read(
    folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None, *, strict: bool = True
) -> Iterator[Adapter]:
    path = adapters.write(folder / "a.safetensors", tensors, metadata)
    with open_weights(str(path)) as file:
        yield read_adapter(file, strict=strict)


def test_every_type_of_network_is_told_apart(tmp_path: Path) -> None:
    tensors = (
        adapters.lora("lora_unet_linear", (8, 6), 2, alpha=1)
        | adapters.lora("lora_unet_one", (8, 6, 1, 1), 2)
        | adapters.lora("lora_unet_conv", (8, 6, 3, 3), 2)
        | adapters.locon_mid("lora_unet_mid", (8, 6, 3, 3), 2)
        | adapters.dora("lora_unet_dora", (8, 6), 2)
        | adapters.loha("lora_unet_loha", (8, 6), 2, alpha=1)
        | adapters.loha("lora_unet_loha_conv", (8, 6, 3, 3), 2)
        | adapters.loha("lora_unet_loha_core", (8, 6, 3, 3), 2, tucker=True)
        | adapters.lokr("lora_unet_lokr", (2, 3), (4, 2))
        | adapters.lokr("lora_unet_lokr_low", (2, 3), (4, 2), rank=2, both=True)
        | adapters.lokr("lora_unet_lokr_core", (2, 3), (4, 2, 3, 3), rank=2, tucker=True)
        | adapters.full("lora_unet_full", (8, 6), bias=True)
        | {"lora_unet_norm.w_norm": torch.ones(8), "lora_unet_norm.b_norm": torch.ones(8)}
        | {"lora_unet_oft.oft_blocks": torch.ones(2, 4, 4)}
    )
    with _read(tmp_path, tensors) as adapter:
        found = {name.removeprefix("lora_unet_"): each for name, each in adapter.modules.items()}
    assert {name: (each.network, each.rank, each.shape) for name, each in found.items()} == {
        "linear": ("lora", 2, (8, 6)),
        "one": ("lora", 2, (8, 6, 1, 1)),
        "conv": ("locon", 2, (8, 6, 3, 3)),
        "mid": ("locon", 2, (8, 6, 3, 3)),
        "dora": ("dora", 2, (8, 6)),
        "loha": ("loha", 2, (8, 6)),
        "loha_conv": ("loha", 2, (8, 54)),
        "loha_core": ("loha", 2, (8, 6, 3, 3)),
        "lokr": ("lokr", None, (8, 6)),
        "lokr_low": ("lokr", 2, (8, 6)),
        "lokr_core": ("lokr", 2, (8, 6, 3, 3)),
        "full": ("full", None, (8, 6)),
        "norm": ("norm", None, (8,)),
        "oft": ("oft", None, ()),
    }
    assert (found["linear"].alpha, found["linear"].scale, found["linear"].has_alpha) == (1, 0.5, True)
    assert (found["one"].alpha, found["one"].scale, found["one"].has_alpha) == (2, 1, False)
    assert found["lokr"].scale == 1
    assert [name for name, each in found.items() if each.is_conv] == ["conv", "loha_core", "lokr_core", "mid"]


@pytest.mark.parametrize("dtype", _DTYPES)
def test_factors_multiply_to_the_dense_difference(tmp_path: Path, dtype: torch.dtype) -> None:
    shapes = {"lora_unet_a": (8, 6), "lora_unet_b": (8, 6, 1, 1), "lora_unet_c": (8, 6, 3, 3)}
    tensors: Tensors = {}
    for name, shape in shapes.items():
        tensors |= adapters.lora(name, shape, 4, alpha=1.5, dtype=dtype)
    tensors |= adapters.locon_mid("lora_unet_d", (8, 6, 3, 3), 4, alpha=1.5, dtype=dtype)
    with _read(tmp_path, tensors) as adapter:
        for name, module in adapter.modules.items():
            found = factors(adapter, module)
            delta = (found.up.double() @ found.down.double() * found.scale).reshape(found.shape)
            torch.testing.assert_close(delta, adapters.dense(tensors, name), rtol=1e-12, atol=1e-15)


def test_alpha_is_read_in_every_type(tmp_path: Path) -> None:
    whole = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16]
    types = [*_DTYPES, *whole, torch.float8_e4m3fn, torch.float8_e5m2]
    tensors: Tensors = {}
    for number, dtype in enumerate(types):
        name = f"lora_unet_{number}"
        tensors |= adapters.lora(name, (4, 4), 2) | {f"{name}.alpha": torch.tensor(3, dtype=dtype)}
    with _read(tmp_path, tensors) as adapter:
        assert {each.alpha for each in adapter.modules.values()} == {3.0}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_alphas_of_eight_bits_are_those_of_torch(tmp_path: Path, dtype: torch.dtype) -> None:
    numbers = torch.arange(256, dtype=torch.uint8).view(dtype)
    tensors: Tensors = {}
    for index, number in enumerate(numbers):
        if number.float().isfinite():
            name = f"lora_unet_{index}"
            tensors |= adapters.lora(name, (4, 4), 2) | {f"{name}.alpha": number}
    with _read(tmp_path, tensors) as adapter:
        found = {name: each.alpha for name, each in adapter.modules.items()}
    assert len(found) >= 240
    assert found == {name: float(tensors[f"{name}.alpha"]) for name in found}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_an_alpha_of_eight_bits_may_be_no_number(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = adapters.lora("lora_unet_a", (4, 4), 2)
    tensors["lora_unet_a.alpha"] = torch.tensor(float("nan")).to(dtype)
    with pytest.raises(WeightsNotFinite, match="lora_unet_a.alpha"), _read(tmp_path, tensors):
        pass


def test_namings_are_told_and_mixed_ones_said(tmp_path: Path) -> None:
    kohya = adapters.lora("lora_unet_a", (4, 4), 2, pair=KOHYA)
    peft = adapters.lora("transformer.a", (4, 4), 2, pair=PEFT)
    generic = adapters.lora("diffusion_model.a", (4, 4), 2, pair=PEFT)
    for tensors, naming in ((kohya, "kohya"), (peft, "peft"), (generic, "generic"), (kohya | peft, "mixed")):
        with _read(tmp_path, tensors) as adapter:
            assert adapter.naming == naming


def test_diffusers_keeps_alphas_in_the_metadata(tmp_path: Path) -> None:
    tensors = adapters.lora("transformer.blocks.0.q", (4, 4), 4, pair=PEFT)
    tensors |= adapters.lora("transformer.blocks.0.k", (4, 4), 4, pair=PEFT)
    metadata = adapters.diffusers_config({"blocks.0.q": 2.0}, "transformer", 4)
    with _read(tmp_path, tensors, metadata) as adapter:
        q, k = adapter.modules["transformer.blocks.0.q"], adapter.modules["transformer.blocks.0.k"]
    assert (q.alpha, q.scale, q.has_alpha) == (2.0, 0.5, False)
    assert k.alpha == 2.0


def test_alphas_of_peft_are_chosen_by_the_end_of_a_path(tmp_path: Path) -> None:
    tensors = adapters.lora("unet.mid.attn.q", (4, 4), 4, pair=PEFT)
    tensors |= adapters.lora("unet.mid.attn2.q", (4, 4), 4, pair=PEFT)
    config = '{"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn.q": 2}, "unet.use_rslora": true}'
    with _read(tmp_path, tensors, {"lora_adapter_metadata": config}) as adapter:
        assert adapter.modules["unet.mid.attn.q"].scale == pytest.approx(2 / 2)
        assert adapter.modules["unet.mid.attn2.q"].scale == pytest.approx(8 / 2)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "[" * 100_000, '{"transformer.lora_alpha": "x", "transformer.alpha_pattern": {"(": 1}}'],
)
def test_metadata_that_says_nothing_sensible_is_not_heard(tmp_path: Path, text: str) -> None:
    tensors = adapters.lora("transformer.a", (4, 4), 2, pair=PEFT)
    with _read(tmp_path, tensors, {"lora_adapter_metadata": text}) as adapter:
        assert adapter.modules["transformer.a"].alpha == 2


@pytest.mark.parametrize("alpha", ["NaN", "1e400", "-Infinity", "9" * 400])
def test_an_alpha_of_the_metadata_that_is_not_finite_is_refused(tmp_path: Path, alpha: str) -> None:
    tensors = adapters.lora("unet.a", (4, 4), 2, pair=PEFT)
    config = f'{{"unet.lora_alpha": {alpha}}}'
    with pytest.raises(WeightsNotFinite, match="unet.a"):
        with _read(tmp_path, tensors, {"lora_adapter_metadata": config}):
            pass


def test_a_pattern_that_could_take_forever_is_refused_by_name(tmp_path: Path) -> None:
    tensors = adapters.lora("unet.a", (4, 4), 2, pair=PEFT)
    config = '{"unet.alpha_pattern": {"(.+)+z": 3}}'
    with pytest.raises(WeightsUnsupported, match="intricate") as refused:
        with _read(tmp_path, tensors, {"lora_adapter_metadata": config}):
            pass
    assert refused.value.details == {"key": "lora_adapter_metadata"}


def test_unknown_keys_are_kept_by_name(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (4, 4), 2) | {"text_embedding": torch.ones(3)}
    with _read(tmp_path, tensors) as adapter:
        assert adapter.unknown == ["text_embedding"]
        assert adapter.unpaired == []


def test_a_half_without_the_other_is_refused_by_name_or_listed(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (4, 4), 2, alpha=1)
    del tensors["lora_unet_a.lora_up.weight"]
    with (
        pytest.raises(WeightsIncomplete, match="lora_unet_a.lora_down.weight") as refused,
        _read(tmp_path, tensors),
    ):
        pass
    assert refused.value.details == {"key": "lora_unet_a.lora_down.weight"}
    assert refused.value.where == str(tmp_path / "a.safetensors")
    with _read(tmp_path, tensors, strict=False) as adapter:
        assert sorted(adapter.unpaired) == sorted(tensors)
        assert adapter.modules == {}


def test_an_alpha_alone_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(WeightsIncomplete, match="lora_unet_a"):
        with _read(tmp_path, {"lora_unet_a.alpha": torch.tensor(1.0)}):
            pass


@pytest.mark.parametrize("missing", ["hada_w2_b", "hada_t2", "lokr_w1", "lokr_w2_a"])
def test_every_part_of_the_other_types_is_needed(tmp_path: Path, missing: str) -> None:
    tensors = adapters.loha("lora_unet_a", (4, 6, 3, 3), 2, tucker=True)
    tensors |= adapters.lokr("lora_unet_b", (2, 2), (2, 3), rank=2)
    tensors = {key: tensor for key, tensor in tensors.items() if not key.endswith(missing)}
    with pytest.raises(WeightsIncomplete, match=missing):
        with _read(tmp_path, tensors):
            pass


def test_halves_that_do_not_fit_are_refused_with_their_shapes(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (4, 4), 2)
    tensors["lora_unet_a.lora_up.weight"] = torch.ones(4, 3)
    with pytest.raises(WeightsMismatch, match=r"\[4, 3\].*\[2, 4\]") as refused, _read(tmp_path, tensors):
        pass
    assert refused.value.details == {"key": "lora_unet_a.lora_up.weight"}


@pytest.mark.parametrize(
    "change",
    [
        {"lora_unet_a.lora_up.weight": torch.ones(4)},
        {"lora_unet_a.lora_up.weight": torch.ones(4, 2, 3, 3)},
        {"lora_unet_a.lora_down.weight": torch.ones(0, 4)},
        {"lora_unet_a.lora_mid.weight": torch.ones(3, 3, 3, 3)},
        {
            "lora_unet_a.lora_up.weight": torch.ones(4, 3),
            "lora_unet_a.lora_mid.weight": torch.ones(3, 2, 3, 3),
        },
        {"lora_unet_b.diff": torch.ones(0, 4)},
        {"lora_unet_b.w_norm": torch.ones(0)},
    ],
)
def test_shapes_that_no_lora_has_are_refused(tmp_path: Path, change: Tensors) -> None:
    tensors = adapters.lora("lora_unet_a", (4, 4), 2) | change
    with pytest.raises(WeightsMismatch):
        with _read(tmp_path, tensors):
            pass


def test_a_rank_of_zero_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match=r"\[4, 0\]; it is empty"):
        with _read(tmp_path, adapters.lora("lora_unet_a", (4, 4), 0)):
            pass


@pytest.mark.parametrize(
    "second",
    [
        {"lora_unet_a.diff": torch.ones(4, 4)},
        {"lora_unet_a.set_weight": torch.ones(4, 4)},
        {"lora_unet_a.w_norm": torch.ones(4)},
        adapters.loha("lora_unet_a", (4, 4), 2),
    ],
)
def test_two_ways_to_change_one_weight_are_refused_with_both(tmp_path: Path, second: Tensors) -> None:
    tensors = adapters.lora("lora_unet_a", (4, 4), 2) | second
    with pytest.raises(WeightsMismatch, match="in two ways") as refused, _read(tmp_path, tensors):
        pass
    assert refused.value.details["key"] in second
    assert "lora_unet_a.lora_" in str(refused.value)
    with _read(tmp_path, tensors, strict=False) as adapter:
        assert sorted(adapter.unpaired) == sorted(tensors)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_alpha_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    tensors = adapters.lora("lora_unet_a", (4, 4), 2) | {"lora_unet_a.alpha": torch.tensor(value)}
    with pytest.raises(WeightsNotFinite) as refused, _read(tmp_path, tensors, strict=False):
        pass
    assert refused.value.details == {"key": "lora_unet_a.alpha"}


def test_an_alpha_that_is_no_number_is_damage(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (4, 4), 2) | {"lora_unet_a.alpha": torch.ones(2)}
    with pytest.raises(WeightsDamaged, match="lora_unet_a.alpha"):
        with _read(tmp_path, tensors):
            pass


def test_two_adapters_in_one_file_are_refused(tmp_path: Path) -> None:
    tensors = {f"x.lora_A.{name}.weight": torch.ones(2, 4) for name in ("one", "two")}
    with pytest.raises(WeightsUnsupported, match="same part"):
        with _read(tmp_path, tensors):
            pass


def test_only_pairs_have_factors(tmp_path: Path) -> None:
    with _read(tmp_path, adapters.loha("lora_unet_a", (4, 4), 2)) as adapter:
        with pytest.raises(WeightsUnsupported, match="lora_unet_a"):
            factors(adapter, adapter.modules["lora_unet_a"])
