"""Where the parameters of a VAE are in a file: the original layout, and that of diffusers.

Facts: `convert_ldm_vae_checkpoint` in diffusers. Up blocks count down in the original layout, and the
attention in the middle is convolutions of one pixel there.
"""

import re
from collections.abc import Iterable
from typing import Final

from trainer.families.pieces import Layout, Piece, piece
from trainer.weights.tensor_file import TensorFile

#: What the keys of a VAE begin with: in a checkpoint, in one that ComfyUI saved, in a file of its own.
PREFIXES: Final = ("first_stage_model.", "vae.", "")
_ANY: Final = "decoder.conv_in.weight"
_ATTENTION: Final = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    # As diffusers wrote it before its version 0.17.
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
_ENDS: Final = {"norm_out": "conv_norm_out"}
_MIDDLE: Final = re.compile(r"(encoder|decoder)\.mid\.(block|attn)_(\d+)\.(.+)\Z")
_LEVEL: Final = re.compile(r"(encoder|decoder)\.(?:down|up)\.(\d+)\.(block\.\d+|downsample|upsample)\.(.+)\Z")
_OLD: Final = re.compile(r"(.+\.mid_block\.attentions\.0)\.(query|key|value|proj_attn)\Z")
_UP: Final = re.compile(r"decoder\.up\.(\d+)\.")
_SAMPLERS: Final = {"downsample": "downsamplers.0", "upsample": "upsamplers.0"}


def vae_layout(file: TensorFile) -> Layout:
    """The parameters of the VAE in a file, by their names in diffusers; empty where it has none.

    Keys that are no part of a VAE are passed over.
    """
    for prefix in PREFIXES:
        if prefix + _ANY in file.header.tensors:
            keys = [key for key in file.names if key.startswith(prefix)]
            return _layout(file, prefix, keys)
    return {}


def _layout(file: TensorFile, prefix: str, keys: Iterable[str]) -> Layout:
    names = {key.removeprefix(prefix): key for key in keys}
    last = max((int(found[1]) for name in names if (found := _UP.match(name))), default=0)
    layout: dict[str, Piece] = {}
    for name, key in names.items():
        module, _, leaf = name.rpartition(".")
        if (renamed := _module(module, last)) is not None:
            layout[f"{renamed}.{leaf}"] = _flat(piece(file, key), renamed, leaf)
    return layout


def _module(name: str, last: int) -> str | None:
    """Its name in diffusers; None where it is no part of a VAE."""
    if (found := _MIDDLE.match(name)) is not None:
        side, kind, number, rest = found.groups()
        if kind == "attn":
            return f"{side}.mid_block.attentions.0.{_ATTENTION.get(rest, rest)}"
        return f"{side}.mid_block.resnets.{int(number) - 1}.{rest}"
    if (found := _LEVEL.match(name)) is not None:
        return _level(*found.groups(), last=last)
    if (found := _OLD.match(name)) is not None:
        return f"{found[1]}.{_ATTENTION[found[2]]}"
    side, _, end = name.partition(".")
    if side in ("encoder", "decoder"):
        return f"{side}.{_ENDS.get(end, end)}"
    return name if name in ("quant_conv", "post_quant_conv") else None


def _level(side: str, number: str, inner: str, rest: str, *, last: int) -> str:
    block = f"down_blocks.{number}" if side == "encoder" else f"up_blocks.{last - int(number)}"
    place = _SAMPLERS.get(inner) or inner.replace("block.", "resnets.")
    return f"{side}.{block}.{place}.{rest.replace('nin_shortcut', 'conv_shortcut')}"


def _flat(found: Piece, module: str, leaf: str) -> Piece:
    """Attention as linear layers."""
    if ".attentions." in module and leaf == "weight" and found.shape[2:] == (1, 1):
        return found._replace(shape=found.shape[:2])
    return found
