"""The modules of a file of weights, whatever its naming: their part of the model, their name, their shape.

Adapters and models are brought to one form, so that one set of rules tells the family of both.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from contract.rules.block_numbers import is_number

Shapes = Mapping[str, Sequence[int]]

#: How the keys of adapters end, behind the name of the module.
_ADAPTER_KEY: Final = re.compile(
    r"[._](lora_down|lora_up|lora_mid|lora_A|lora_B|lora\.down|lora\.up|lora_linear_layer\.down"
    r"|lora_linear_layer\.up|hada_w[12]_[ab]|hada_t[12]|lokr_w[12]|lokr_w[12]_[ab]|lokr_t2|oft_blocks|oft_diag"
    r"|dora_scale|diff|diff_b|alpha|w_norm|b_norm|set_weight)(?:\.default)?(?:\.weight)?\Z"
)
#: Of these, the ones that only adapters have.
_SURE: Final = re.compile(r"lora[._]|hada_w|lokr_w|oft_|dora_scale")
#: And those that only adapters have where the name begins as that of a part of a model.
_LIKELY: Final = re.compile(r"diff|w_norm|b_norm|set_weight")

#: What names begin with → the part that they are in, and what is put before the rest. The longer one first.
_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "base_model.model.unet.": ("unet", ""),
    "base_model.model.transformer.": ("unet", ""),
    "base_model.model.": ("unet", ""),
    "lora_unet_": ("unet", ""),
    "lora_transformer_": ("unet", ""),
    "lora_te1_": ("te1", ""),
    "lora_te2_": ("te2", ""),
    "lora_te3_": ("te3", ""),
    "lora_te_": ("te", ""),
    "lycoris_": ("unet", ""),
    "unet.": ("unet", ""),
    "transformer.": ("unet", ""),
    "text_conditioner.": ("unet", "text_conditioner."),
    "model.diffusion_model.": ("unet", ""),
    "diffusion_model.": ("unet", ""),
    "net.": ("unet", ""),
    "text_encoder_3.": ("te3", ""),
    "text_encoder_2.": ("te2", ""),
    "text_encoder.": ("te1", ""),
    "text_encoders.clip_l.transformer.": ("clip_l", ""),
    "text_encoders.clip_g.transformer.": ("clip_g", ""),
    "text_encoders.t5xxl.transformer.": ("t5xxl", ""),
    "text_encoders.gemma2_2b.transformer.": ("gemma2_2b", ""),
    "text_encoders.qwen3_06b.transformer.": ("qwen3_06b", ""),
    "text_encoders.": ("other", ""),
    "cond_stage_model.transformer.": ("sd1_text", ""),
    "cond_stage_model.model.": ("sd2_text", ""),
    "conditioner.embedders.0.transformer.": ("xl_text_1", ""),
    "conditioner.embedders.1.": ("xl_text_2", ""),
    "conditioner.embedders.0.model.": ("refiner_text", ""),
    "first_stage_model.": ("vae", ""),
    "vae.": ("vae", ""),
    "model_ema.": ("ema", ""),
}
_BEGINNING: Final = re.compile("|".join(map(re.escape, _PARTS)))


class Module(NamedTuple):
    """A module. `name` has underscores, `general` the same with # for its first number, which is `number`.
    `out`, `into` are the sizes of its weight, None where its tensors do not say; `sizes` how many it has, 0
    where they do not say that."""

    key: str
    part: str
    beginning: str
    name: str
    general: str
    number: int
    out: int | None
    into: int | None
    sizes: int


def adapter_modules(tensors: Shapes) -> list[Module]:
    """The modules of an adapter; none where there are no tensors that only adapters have."""
    adapters: dict[str, dict[str, Sequence[int]]] = {}
    sure = False
    for key, shape in tensors.items():
        if (found := _ADAPTER_KEY.search(key)) is not None:
            adapters.setdefault(key[: found.start()], {})[found[1].replace(".", "_")] = shape
            sure = sure or _is_sure(key, found[1])
    return [_module(name, *_adapter_shape(roles)) for name, roles in adapters.items()] if sure else []


def _is_sure(key: str, role: str) -> bool:
    if _SURE.match(role) is not None:
        return True
    return _LIKELY.match(role) is not None and _BEGINNING.match(key) is not None


def model_modules(tensors: Shapes) -> list[Module]:
    """The modules of a model, without norms and biases."""
    return [
        _module(key.removesuffix(".weight"), shape[0], shape[1], len(shape))
        for key, shape in tensors.items()
        if len(shape) > 1 and key.endswith("weight")
    ]


def _module(key: str, out: int | None, into: int | None, sizes: int) -> Module:
    found = _BEGINNING.match(key)
    beginning = found[0] if found is not None else ""
    part, before = _PARTS.get(beginning, ("unet", ""))
    rest = before + key[len(beginning) :]
    plain = rest.replace(".", "_").replace("_processor_to_", "_to_")
    general, number = _general(plain)
    return Module(key, part, beginning, plain, general, number, out, into, sizes)


def _general(name: str) -> tuple[str, int]:
    parts = name.split("_")
    for index, part in enumerate(parts):
        if is_number(part):
            parts[index] = "#"
            return "_".join(parts), int(part)
    return name, -1


def _adapter_shape(roles: Mapping[str, Sequence[int]]) -> tuple[int | None, int | None, int]:
    """(out, in) of the weight that is changed, and how many sizes it has, 0 where nothing says: then `in` is
    that of a linear layer, and times the kernel of a convolution."""
    for up, down in _PAIRS:
        if up in roles or down in roles:
            into = roles.get(down, ())
            return _size(roles.get(up, ()), 0), _size(into, 1), len(into)
    if "diff" in roles:
        return _size(roles["diff"], 0), _size(roles["diff"], 1), len(roles["diff"])
    if "hada_w1_a" in roles or "hada_w1_b" in roles:
        return _of_factors(roles, "hada_t1", "hada_w1")
    first = [_size(roles.get("lokr_w1", ()), axis) for axis in (0, 1)]
    if "lokr_w1" not in roles:
        first = [_size(roles.get(f"lokr_w1_{'ab'[axis]}", ()), axis) for axis in (0, 1)]
    whole = roles.get("lokr_w2")
    *second, sizes = (
        _of_factors(roles, "lokr_t2", "lokr_w2")
        if whole is None
        else (_size(whole, 0), _size(whole, 1), len(whole))
    )
    return _product((first[0], second[0])), _product((first[1], second[1])), sizes


def _of_factors(
    roles: Mapping[str, Sequence[int]], core: str, factor: str
) -> tuple[int | None, int | None, int]:
    """The same of a product of two factors, with the core of a convolution between them or without."""
    left, right = roles.get(f"{factor}_a", ()), roles.get(f"{factor}_b", ())
    if core in roles:
        return _size(left, 1), _size(right, 1), len(roles[core])
    return _size(left, 0), _size(right, 1), 0


#: Up and down of each sort of adapter that says the kernel of its weight.
_PAIRS: Final = (
    ("lora_up", "lora_down"),
    ("lora_B", "lora_A"),
    ("lora_linear_layer_up", "lora_linear_layer_down"),
)


def _product(sizes: Sequence[int | None]) -> int | None:
    first, second = sizes
    return None if first is None or second is None else first * second


def _size(shape: Sequence[int], axis: int) -> int | None:
    return shape[axis] if len(shape) > axis else None
