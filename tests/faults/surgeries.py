"""The methods that write files of weights, each with small files of its own and what it comes to."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import torch
from safetensors.torch import save_file

from tests.builders import adapters, checkpoints
from tests.faults.supervisor import Change
from tests.kernel_process import KernelProcess, Message

#: Of a request of `begin`.
ID: Final = "surgery"

_INPUT: Final = "in.safetensors"
_OUTPUT: Final = "out.safetensors"


class Surgery(NamedTuple):
    """A method, what makes its inputs in a folder, and its params for that folder; `output` is what it
    writes, which is its input where it works in place."""

    name: str
    method: str
    make: Callable[[Path], None]
    params: Callable[[Path], Message]
    output: str = _OUTPUT


class Expected(NamedTuple):
    """SHA-256 by name: of all files before, and of the output after."""

    before: Mapping[str, str]
    after: str


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every whole file of a folder; unfinished ones are named as such."""
    return {each.name: _hash(each) for each in folder.iterdir() if not is_unfinished(each)}


def unfinished(folder: Path) -> list[str]:
    """The unfinished files in it."""
    return [each.name for each in folder.iterdir() if is_unfinished(each)]


def is_unfinished(path: Path) -> bool:
    """Whether it is one."""
    return path.name.endswith(".part")


def run(kernel: KernelProcess, surgery: Surgery, folder: Path, job_id: str) -> Message:
    """The answer. Raises KernelEnded."""
    return kernel.request(surgery.method, {"job_id": job_id, "v": 1, **surgery.params(folder)}, timeout=50)


def begin(kernel: KernelProcess, surgery: Surgery, folder: Path, job_id: str) -> None:
    """Send it with the id `ID`, and wait for the job's first word. Raises KernelEnded."""
    params = {"job_id": job_id, "v": 1, **surgery.params(folder)}
    kernel.send({"jsonrpc": "2.0", "id": ID, "method": surgery.method, "params": params})
    while kernel.receive().get("method") != "progress":
        pass


def found(surgery: Surgery, folder: Path, expected: Expected) -> Literal["old", "new"]:
    """Whether the work was done, wholly or not at all; nothing else in the folder may have changed."""
    files = hashes(folder)
    output = files.pop(surgery.output, None)
    before = dict(expected.before)
    was = before.pop(surgery.output, None)
    assert files == before, "an input was lost"
    assert output in (was, expected.after), "the output is neither the old nor the new one"
    return "new" if output == expected.after else "old"


def steps(changes: Sequence[Change]) -> list[int]:
    """The numbers of changes of a disk, from 1; of several writes into one file the first and the last."""
    return [
        index + 1
        for index, change in enumerate(changes)
        if changes[max(0, index - 1) : index + 2] != [change] * 3
    ]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _weights(folder: Path) -> None:
    """Of some megabytes: several pieces are written. The same bytes every time: more than one key of metadata
    would be written in any order."""
    source = torch.Generator().manual_seed(0)
    tensors = {f"t{index}": torch.randn(100, 3000, generator=source) for index in range(3)}
    save_file(tensors, folder / _INPUT, {"ss_sd_model_name": "/home/anna/base.safetensors"})


def _edit(folder: Path, **outputs: Any) -> Message:
    settings = {"set": {"new": "text"}, "strip_paths": True}
    return {"inputs": {"file": str(folder / _INPUT)}, "settings": settings, **outputs}


def _large(folder: Path) -> None:
    """Enough to be killed amidst of."""
    save_file(
        {"a": torch.zeros(12_000_000)}, folder / _INPUT, {"ss_sd_model_name": "/home/anna/x.safetensors"}
    )


def _adapters(folder: Path) -> None:
    """Two LoRAs for SD1.5; their checkpoint is that of `_checkpoints`."""
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    for seed, name in enumerate(("in", "other")):
        tensors = adapters.lora(f"{block}_attn1_to_q", (32, 32), 8, alpha=4, seed=seed)
        tensors |= adapters.lora(f"{block}_attn2_to_k", (32, 768), 8, alpha=4, seed=seed)
        adapters.write(folder / f"{name}.safetensors", tensors)


def _checkpoints(folder: Path) -> None:
    for seed, name in enumerate(("in", "other")):
        checkpoints.write(folder / f"{name}.safetensors", checkpoints.sd15(seed, vae=False))


def _checkpoint_and_adapters(folder: Path) -> None:
    _adapters(folder)
    checkpoints.write(folder / "model.safetensors", checkpoints.sd15(vae=False))


def _file(folder: Path, name: str = "in") -> Message:
    return {"path": str(folder / f"{name}.safetensors")}


def _resize(folder: Path) -> Message:
    return {"inputs": {"file": str(folder / _INPUT)}, "settings": {"rank": 2}, **_to(folder)}


def _merge(folder: Path, kind: str, **settings: Any) -> Message:
    return {"settings": {"type": kind, **settings}, **_to(folder)}


def _merge_loras(folder: Path) -> Message:
    weighted = [{"model": _file(folder), "weight": 0.5}, {"model": _file(folder, "other"), "weight": 0.5}]
    return _merge(folder, "loras", loras=weighted, method="concat")


def _merge_checkpoints(folder: Path) -> Message:
    weighted = [{"model": _file(folder), "weight": 0.5}, {"model": _file(folder, "other"), "weight": 0.5}]
    return _merge(folder, "checkpoints", models=weighted, method="weighted_sum")


def _bake(folder: Path) -> Message:
    return _merge(folder, "bake", model=_file(folder, "model"), loras=[{"model": _file(folder)}])


def _svd_of_loras(folder: Path) -> Message:
    weighted = [{"model": _file(folder)}, {"model": _file(folder, "other")}]
    return _merge(folder, "loras", loras=weighted, method="svd", rank=4)


def _extract(folder: Path) -> Message:
    return _merge(folder, "extract", tuned=_file(folder), base=_file(folder, "other"), rank=2)


def _recipe(folder: Path) -> Message:
    steps = {
        "half": {"method": "slerp", "inputs": ["a", "b"]},
        "end": {"method": "dare", "inputs": ["a", "half"]},
    }
    models = {"a": _file(folder), "b": _file(folder, "other")}
    return _merge(folder, "recipe", models=models, steps=steps, output="end", seed=3)


def _to(folder: Path, *, overwrite: bool = False) -> Message:
    return {"outputs": {"file": str(folder / _OUTPUT), "overwrite": overwrite}}


def _with_old_output(folder: Path) -> None:
    _weights(folder)
    (folder / _OUTPUT).write_bytes(b"the old one")


#: What needs no torch, and is tried in every run.
QUICK: Final = (
    Surgery("metadata in place", "metadata", _weights, _edit, output=_INPUT),
    Surgery("metadata", "metadata", _weights, lambda folder: _edit(folder, **_to(folder))),
    Surgery(
        "metadata over another",
        "metadata",
        _with_old_output,
        lambda folder: _edit(folder, **_to(folder, overwrite=True)),
    ),
)
SURGERIES: Final = (
    *QUICK,
    Surgery("resize", "resize", _adapters, _resize),
    Surgery("merge of LoRAs", "merge", _adapters, _merge_loras),
    Surgery("merge of checkpoints", "merge", _checkpoints, _merge_checkpoints),
    Surgery("bake", "merge", _checkpoint_and_adapters, _bake),
    Surgery("svd merge of LoRAs", "merge", _adapters, _svd_of_loras),
    Surgery("extract", "merge", _checkpoints, _extract),
    Surgery("recipe", "merge", _checkpoints, _recipe),
)
#: Copies for some tenths of a second.
LONG: Final = (
    Surgery("long metadata in place", "metadata", _large, _edit, output=_INPUT),
    Surgery("long metadata", "metadata", _large, lambda folder: _edit(folder, **_to(folder))),
)
