"""Adapters with random numbers: every type and naming, of any shape and rank; and their ΔW, computed densely.

The dense ΔW is written from the definitions, in float64 and without any code of the studio, so that tests can
hold what the studio does against it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import save_file

Spectrum = Literal["random", "decaying", "zero"]
Tensors = dict[str, torch.Tensor]


class Pair(NamedTuple):
    """Names of the two factors behind the module's name."""

    up: str
    down: str


KOHYA = Pair(".lora_up.weight", ".lora_down.weight")
PEFT = Pair(".lora_B.weight", ".lora_A.weight")


def generator(seed: int = 0) -> torch.Generator:
    """A seeded source of random numbers."""
    return torch.Generator().manual_seed(seed)


def lora(
    name: str,
    shape: tuple[int, ...],
    rank: int,
    *,
    alpha: float | None = None,
    dtype: torch.dtype = torch.float32,
    spectrum: Spectrum = "random",
    pair: Pair = KOHYA,
    seed: int = 0,
    scale: float = 0.1,
) -> Tensors:
    """LoRA of a weight of `shape`, (out, in) or (out, in, kh, kw); `alpha` None writes none.

    `decaying`: the k-th direction is 0.8 to the power of k as large as the first.
    """
    source = generator(seed)
    out, columns = shape[0], shape[1:]
    up = torch.randn(out, rank, generator=source, dtype=torch.float64) * scale
    down = torch.randn(rank, *columns, generator=source, dtype=torch.float64) * scale
    if spectrum == "decaying":
        up *= 0.8 ** torch.arange(rank)
    if spectrum == "zero":
        up.zero_()
    tensors = {
        name + pair.up: up.reshape(out, rank, *(1,) * len(shape[2:])).to(dtype),
        name + pair.down: down.to(dtype),
    }
    if alpha is not None:
        tensors[f"{name}.alpha"] = torch.tensor(alpha, dtype=dtype)
    return tensors


def locon_mid(
    name: str,
    shape: tuple[int, ...],
    rank: int,
    *,
    alpha: float | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Tensors:
    """LoCon with a Tucker core: up (out, r, 1, 1), mid (r, r, kh, kw), down (r, in, 1, 1)."""
    source = generator(seed)
    out, inside, *kernel = shape
    ones = (1,) * len(kernel)
    tensors = {
        f"{name}.lora_up.weight": torch.randn(out, rank, *ones, generator=source),
        f"{name}.lora_mid.weight": torch.randn(rank, rank, *kernel, generator=source),
        f"{name}.lora_down.weight": torch.randn(rank, inside, *ones, generator=source),
    }
    return _finished(name, tensors, alpha, dtype)


def dora(
    name: str,
    shape: tuple[int, ...],
    rank: int,
    *,
    alpha: float | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Tensors:
    """LoRA and the magnitude of each row of W + ΔW, (out, 1) as LyCORIS writes it on the outputs."""
    tensors = lora(name, shape, rank, alpha=alpha, dtype=dtype, seed=seed)
    magnitude = torch.rand(shape[0], *(1,) * (len(shape) - 1), generator=generator(seed + 1)) + 0.5
    return tensors | {f"{name}.dora_scale": magnitude.to(dtype)}


def loha(
    name: str,
    shape: tuple[int, ...],
    rank: int,
    *,
    alpha: float | None = None,
    dtype: torch.dtype = torch.float32,
    tucker: bool = False,
    seed: int = 0,
) -> Tensors:
    """ΔW = (w1_a · w1_b) ∘ (w2_a · w2_b); with `tucker`, each product goes through a core of the kernel."""
    source = generator(seed)
    out, inside, *kernel = shape
    tensors: Tensors = {}
    for each in ("1", "2"):
        if tucker:
            tensors[f"{name}.hada_t{each}"] = torch.randn(rank, rank, *kernel, generator=source)
            tensors[f"{name}.hada_w{each}_a"] = torch.randn(rank, out, generator=source)
            tensors[f"{name}.hada_w{each}_b"] = torch.randn(rank, inside, generator=source)
        else:
            columns = inside * int(torch.tensor(kernel).prod()) if kernel else inside
            tensors[f"{name}.hada_w{each}_a"] = torch.randn(out, rank, generator=source)
            tensors[f"{name}.hada_w{each}_b"] = torch.randn(rank, columns, generator=source)
    return _finished(name, tensors, alpha, dtype)


def lokr(
    name: str,
    left: tuple[int, int],
    right: tuple[int, ...],
    *,
    rank: int | None = None,
    both: bool = False,
    tucker: bool = False,
    alpha: float | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Tensors:
    """ΔW = w1 ⊗ w2, w1 of shape `left`, w2 of shape `right` ((c, d) or (c, d, kh, kw)).

    With a `rank`, w2 is a product of that rank (through a core with `tucker`), and with `both` w1 as well.
    """
    source = generator(seed)
    tensors: Tensors = {}
    if both and rank is not None:
        tensors[f"{name}.lokr_w1_a"] = torch.randn(left[0], rank, generator=source)
        tensors[f"{name}.lokr_w1_b"] = torch.randn(rank, left[1], generator=source)
    else:
        tensors[f"{name}.lokr_w1"] = torch.randn(*left, generator=source)
    if rank is None:
        tensors[f"{name}.lokr_w2"] = torch.randn(*right, generator=source)
    elif tucker:
        tensors[f"{name}.lokr_t2"] = torch.randn(rank, rank, *right[2:], generator=source)
        tensors[f"{name}.lokr_w2_a"] = torch.randn(rank, right[0], generator=source)
        tensors[f"{name}.lokr_w2_b"] = torch.randn(rank, right[1], generator=source)
    else:
        columns = int(torch.tensor(right[1:]).prod())
        tensors[f"{name}.lokr_w2_a"] = torch.randn(right[0], rank, generator=source)
        tensors[f"{name}.lokr_w2_b"] = torch.randn(rank, columns, generator=source)
    return _finished(name, tensors, alpha, dtype)


def full(name: str, shape: tuple[int, ...], *, bias: bool = False, seed: int = 0) -> Tensors:
    """The difference itself, and that of the bias."""
    source = generator(seed)
    tensors = {f"{name}.diff": torch.randn(*shape, generator=source) * 0.01}
    if bias:
        tensors[f"{name}.diff_b"] = torch.randn(shape[0], generator=source) * 0.01
    return tensors


def write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    """Write a file with the format's own library."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def diffusers_config(alphas: Mapping[str, float], prefix: str, rank: int) -> dict[str, str]:
    """The metadata in which diffusers keeps the alphas of what it saves."""
    config = {
        f"{prefix}.r": rank,
        f"{prefix}.lora_alpha": next(iter(alphas.values())),
        f"{prefix}.alpha_pattern": dict(alphas),
    }
    return {"format": "pt", "lora_adapter_metadata": json.dumps(config)}


def modules_of(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of the modules, in any of the types above."""
    ends = (
        ".lora_up.weight", ".lora_B.weight", ".hada_w1_a", ".lokr_w1", ".lokr_w1_a", ".diff",
    )  # fmt: skip
    return sorted({name.removesuffix(end) for name in tensors for end in ends if name.endswith(end)})


def dense(
    tensors: Mapping[str, torch.Tensor], name: str, shape: tuple[int, ...] | None = None
) -> torch.Tensor:
    """ΔW of a module with alpha ÷ rank, in float64; `shape` where the file does not say the kernel."""
    each = {
        key.removeprefix(f"{name}."): tensor.to(torch.float64)
        for key, tensor in tensors.items()
        if key.startswith(f"{name}.")
    }
    if "diff" in each:
        return each["diff"]
    delta, rank = _product(each)
    scale = 1.0 if rank is None else float(each.get("alpha", torch.tensor(float(rank)))) / rank
    delta = delta * scale
    return delta if shape is None else delta.reshape(shape)


def _finished(name: str, tensors: Tensors, alpha: float | None, dtype: torch.dtype) -> Tensors:
    tensors = {key: (tensor * 0.1).to(dtype) for key, tensor in tensors.items()}
    return tensors if alpha is None else tensors | {f"{name}.alpha": torch.tensor(alpha, dtype=dtype)}


def _product(each: Tensors) -> tuple[torch.Tensor, int | None]:
    """ΔW without its scale, and its rank; None of a LoKr of two whole matrices, which has no scale."""
    if "hada_w1_a" in each:
        first, second = (
            _core(each.get(f"hada_t{k}"), each[f"hada_w{k}_a"], each[f"hada_w{k}_b"]) for k in "12"
        )
        return first * second, each["hada_w1_b"].shape[0]
    if "lokr_w1" in each or "lokr_w1_a" in each:
        return _kronecker(each)
    up = each.get("lora_up.weight", each.get("lora_B.weight"))
    down = each.get("lora_down.weight", each.get("lora_A.weight"))
    assert up is not None and down is not None
    up, rank = up.flatten(1), down.shape[0]
    if "lora_mid.weight" in each:
        mid = each["lora_mid.weight"]
        return torch.einsum("oi,ijkl,jc->ockl", up, mid, down.flatten(1)), rank
    return (up @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:]), rank


def _core(core: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b if core is None else torch.einsum("ijkl,ip,jr->prkl", core, a, b)


def _kronecker(each: Tensors) -> tuple[torch.Tensor, int | None]:
    rank: int | None = None
    if (w1 := each.get("lokr_w1")) is None:
        w1, rank = each["lokr_w1_a"] @ each["lokr_w1_b"], each["lokr_w1_b"].shape[0]
    if (w2 := each.get("lokr_w2")) is None:
        w2 = _core(each.get("lokr_t2"), each["lokr_w2_a"], each["lokr_w2_b"])
        rank = each["lokr_w2_b"].shape[0]
    return torch.kron(w1.reshape(*w1.shape, *(1,) * (w2.dim() - 2)), w2.contiguous()), rank
