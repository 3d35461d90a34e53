"""Small files of weights for the scenarios: LoRAs and checkpoints of SD1.5, and files that are none.

Their numbers are of a formula, so that they and their hashes are the same on every machine.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save

from tests.builders import checkpoints

_ATTENTION: Final = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to"
_TEXT: Final = "lora_te_text_model_encoder_layers_0_mlp_fc1"
#: What the second of them changes in a checkpoint.
_TEXT_KEY: Final = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
_METADATA: Final = {
    "ss_base_model_version": "sd_v1",
    "ss_network_dim": "4",
    "ss_network_alpha": "2.0",
    "ss_network_module": "networks.lora",
    "ss_output_name": "ink",
    "ss_train_data_dir": "/home/anna/photos",
    "ss_tag_frequency": '{"3_ink": {"ink": 12, "1girl": 7}}',
    "modelspec.title": "Ink",
}

Tensors = dict[str, torch.Tensor]


def build(folder: Path) -> None:
    """Make them in `folder`."""
    folder.mkdir()
    first = _module(f"{_ATTENTION}_q", 320, 320, 4, 1) | _module(_TEXT, 3072, 768, 4, 2)
    second = _module(f"{_ATTENTION}_q", 320, 320, 2, 3) | _module(f"{_ATTENTION}_k", 320, 320, 2, 4)
    second |= _module(_TEXT, 3072, 768, 2, 5)
    save_file(first, folder / "ink.safetensors", _METADATA)
    save_file(second, folder / "wash.safetensors")
    _save_checkpoints(folder)
    _save_wrong(folder, first)


def _save_checkpoints(folder: Path) -> None:
    shapes = checkpoints.sd15(vae=False)
    out, inside = shapes[_TEXT_KEY].shape
    small = _module(f"{_ATTENTION}_q", 32, 32, 4, 6) | _module(_TEXT, out, inside, 4, 7)
    save_file(small, folder / "small_ink.safetensors", _METADATA)
    for number, name in enumerate(("base", "tuned")):
        tensors = {
            key: _numbers(tuple(tensor.shape), number).to(tensor.dtype) for key, tensor in shapes.items()
        }
        save_file(tensors, folder / f"{name}.safetensors")


def _save_wrong(folder: Path, tensors: Tensors) -> None:
    whole = (folder / "wash.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-1])
    (folder / "long_header.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    (folder / "old.ckpt").write_bytes(b"PK\x03\x04")
    half = {key: each for key, each in tensors.items() if not key.endswith("to_q.lora_up.weight")}
    save_file(half, folder / "half.safetensors")
    broken = {key: each.clone() for key, each in tensors.items()}
    broken[f"{_ATTENTION}_q.lora_up.weight"][5, 1] = math.nan
    save_file(broken, folder / "nan.safetensors")
    save_file({"some.tensor": torch.zeros(2)}, folder / "unknown.safetensors")


def save_file(tensors: Tensors, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """As the format's own library writes it, but with the metadata always in one order."""
    whole = save(tensors)
    (size,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + size])
    named = {"__metadata__": dict(metadata)} if metadata else {}
    raw = json.dumps(named | header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + whole[8 + size :])


def _module(name: str, out: int, inside: int, rank: int, seed: int) -> Tensors:
    return {
        f"{name}.lora_up.weight": _numbers((out, rank), seed),
        f"{name}.lora_down.weight": _numbers((rank, inside), seed + 10),
        f"{name}.alpha": torch.tensor(rank / 2),
    }


def _numbers(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Numbers from -0.1 to 0.1 without a pattern that a rank would show: multiples of a prime, modulo one."""
    places = torch.arange(math.prod(shape), dtype=torch.int64)
    return (
        (((places * 7919 + seed * 104_729) * (places + 1) % 10_007 - 5_003) / 50_030).float().reshape(shape)
    )
