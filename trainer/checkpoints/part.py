"""One part of a checkpoint, as the optimizer's state: `NAME.json`, and `NAME.safetensors` where it has
tensors."""

import json
import os

import torch

from contract.errors import FileUnreadable, WeightsDamaged, WeightsUnsupported
from contract.rules.paths import to_wire
from trainer.checkpoints.state import State, StateUnknown, decoded, encoded
from trainer.checkpoints.whole_file import Kept, keep
from trainer.weights.dtypes import bytes_of, code_of
from trainer.weights.tensor_file import open_weights
from trainer.weights.tensor_writer import TensorSpec, TensorWriter


def write_part(folder: str, name: str, state: State) -> list[Kept]:
    """Write it, down to the disk.

    Raises WeightsUnsupported where something of the state cannot be kept, DiskFull and FileUnwritable.
    """
    try:
        text, tensors = encoded(state)
    except StateUnknown as unknown:
        raise WeightsUnsupported(
            f"The state of the {name} cannot be kept in a checkpoint: `{unknown.place}` is {unknown.what}.",
            where=to_wire(folder),
            hint="Choose another optimizer or schedule, or train without checkpoints.",
            details={"part": name, "key": unknown.place},
        ) from None
    kept = [_write_tensors(os.path.join(folder, tensors_name(name)), tensors)] if tensors else []
    raw = json.dumps(text, allow_nan=False, separators=(",", ":")).encode("ascii")
    return [*kept, keep(os.path.join(folder, json_name(name)), raw)]


def read_part(folder: str, name: str) -> State:
    """The state again, on the CPU, in memory of its own.

    Raises FileUnreadable, WeightsDamaged and what `open_weights` raises.
    """
    path = os.path.join(folder, json_name(name))
    tensors = os.path.join(folder, tensors_name(name))
    try:
        with open(path, "rb") as file:
            text = json.loads(file.read())
        if not os.path.exists(tensors):
            return decoded(text, _no_tensor)
        with open_weights(tensors) as weights:
            return decoded(text, weights.tensor)
    except OSError as error:
        raise FileUnreadable(f"`{to_wire(path)}` cannot be read.", where=to_wire(path)) from error
    except (StateUnknown, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise WeightsDamaged(
            f"`{to_wire(path)}` is no state that this version of Lorakeet wrote.", where=to_wire(path)
        ) from error


def json_name(part: str) -> str:
    """The file of everything but the tensors."""
    return f"{part}.json"


def tensors_name(part: str) -> str:
    """The file of the tensors."""
    return f"{part}.safetensors"


def _no_tensor(name: str) -> torch.Tensor:
    raise KeyError(name)


def _write_tensors(path: str, tensors: dict[str, torch.Tensor]) -> Kept:
    specs = [TensorSpec(name, code_of(each.dtype), tuple(each.shape)) for name, each in tensors.items()]
    with TensorWriter(path, specs, {}) as writer:
        for spec in writer.order:
            writer.write(bytes_of(tensors[spec.name]))
        written = writer.finish()
    return Kept(os.path.basename(path), written.bytes, written.sha256)
