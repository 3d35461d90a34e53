"""How the tensors of adapters are called: which part of which module a key is, and the other way round.

Kohya's files join the names of modules with underscores (`lora_unet_down_blocks_0_…`), those of peft and
diffusers keep the dots (`transformer.….lora_A.weight`), and so do those that ComfyUI takes for every model
(`diffusion_model.…`, called generic here). Nothing here reads a file.
Sources: the files of sd-scripts, LyCORIS, peft 0.21 and diffusers 0.42, and what ComfyUI accepts.
"""

import re
from typing import Final, Literal, NamedTuple

from contract.methods.weights import Naming

#: What a tensor is of its module.
Role = Literal[
    "up", "down", "mid", "alpha", "dora_scale", "up_bias", "reshape",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    "diff", "diff_b", "set_weight", "w_norm", "b_norm",
    "oft_blocks", "oft_diag", "rescale", "a1", "a2", "b1", "b2",
]  # fmt: skip

#: How the modules of a file are named: one of the three ways, or several of them.
AdapterNaming = Literal["kohya", "peft", "generic", "mixed"]


class Part(NamedTuple):
    """What a key is: the name of its module, and which tensor of it."""

    module: str
    role: Role


#: Endings of keys, and what they say.
_ENDINGS: Final[dict[str, Role]] = {
    ".lora_up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_mid.weight": "mid",
    ".lora_B.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B": "up",
    ".lora_A": "down",
    ".lora.up.weight": "up",
    ".lora.down.weight": "down",
    "_lora.up.weight": "up",
    "_lora.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_B.bias": "up_bias",
    ".lora_up.bias": "up_bias",
    ".lora_magnitude_vector": "dora_scale",
    ".lora_magnitude_vector.weight": "dora_scale",
    ".reshape_weight": "reshape",
    ".a1.weight": "a1",
    ".a2.weight": "a2",
    ".b1.weight": "b1",
    ".b2.weight": "b2",
}
#: These are written as they are called.
_PLAIN: Final[tuple[Role, ...]] = (
    "alpha", "dora_scale",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    "diff", "diff_b", "set_weight", "w_norm", "b_norm", "oft_blocks", "oft_diag", "rescale",
)  # fmt: skip
_ROLES: Final = _ENDINGS | {f".{role}": role for role in _PLAIN}
_KEY: Final = re.compile(rf"(?P<module>.+)(?P<ending>{'|'.join(map(re.escape, _ROLES))})\Z", re.DOTALL)
#: Peft names its adapters: `.lora_A.default.weight`.
_PEFT_KEY: Final = re.compile(
    r"(?P<module>.+)(?P<ending>\.lora_(?:A|B|magnitude_vector))\.\w+(?P<kind>\.weight|\.bias)?\Z", re.DOTALL
)
_KOHYA_PREFIXES: Final = ("lora_", "lycoris_")
_GENERIC_PREFIXES: Final = ("diffusion_model.", "model.diffusion_model.", "text_encoders.")


def part(key: str) -> Part | None:
    """What `key` is; None for a key that is no part of a module known here."""
    if (match := _KEY.match(key)) is not None:
        return Part(match["module"], _ROLES[match["ending"]])
    if (match := _PEFT_KEY.match(key)) is not None:
        role = _ROLES.get(match["ending"] + (match["kind"] or ""))
        return None if role is None else Part(match["module"], role)
    return None


def naming_of(module: str) -> Literal["kohya", "peft", "generic"]:
    """The way in which the name of a module is written."""
    if module.startswith(_GENERIC_PREFIXES):
        return "generic"
    if "." not in module or module.startswith(_KOHYA_PREFIXES):
        return "kohya"
    return "peft"


def key(module: str, role: Role, naming: Naming | AdapterNaming) -> str:
    """The key of a tensor in a file that is written in `naming`; `module` is already the name in it."""
    if naming != "kohya" and role in ("up", "down"):
        return f"{module}.{'lora_B' if role == 'up' else 'lora_A'}.weight"
    if naming == "peft" and role == "dora_scale":
        return f"{module}.lora_magnitude_vector"
    if role in ("up", "down", "mid"):
        return f"{module}.lora_{role}.weight"
    return f"{module}.{role}"
