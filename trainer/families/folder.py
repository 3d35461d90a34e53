"""A folder of diffusers: which files its parts are in, and their configurations."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from contract.errors import FileMissing, FileUnreadable, WeightsFormat, WeightsIncomplete
from contract.rules.paths import to_wire
from trainer.families.pieces import Layout, Piece, piece
from trainer.weights.tensor_file import TensorFile, open_weights

_INDEX: Final = "model_index.json"
_NAMES: Final = ("diffusion_pytorch_model", "model")
#: model.safetensors, model.fp16.safetensors, model-00001-of-00002.safetensors, model.fp16-00001-of-…
_FILE: Final = re.compile(
    rf"({'|'.join(_NAMES)})(?:\.(?P<variant>\w+))?(?:-\d{{5}}-of-(?P<count>\d{{5}}))?\.safetensors\Z"
)
#: Which of several variants is taken: the fullest first. Others are weights of another kind (non_ema).
_VARIANTS: Final = (None, "fp32", "bf16", "fp16")
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt")
#: Bytes of a configuration at most; published ones have 2,000.
_MAX_CONFIG: Final = 1 << 20


def is_model_folder(path: str) -> bool:
    """Whether it is a folder that diffusers wrote."""
    return os.path.isfile(os.path.join(path, _INDEX))


def config(folder: str, name: str = "config.json") -> dict[str, Any]:
    """A configuration. Raises FileMissing, FileUnreadable."""
    path = os.path.join(folder, name)
    where = to_wire(path)
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_MAX_CONFIG))
    except FileNotFoundError as error:
        raise FileMissing(f"`{where}` does not exist.", where=where) from error
    except (OSError, ValueError, RecursionError) as error:
        raise FileUnreadable(f"`{where}` is no configuration.", where=where) from error
    if not isinstance(content, dict):
        raise FileUnreadable(f"`{where}` is no configuration.", where=where)
    return content


def open_part(folder: str, stack: ExitStack) -> list[TensorFile]:
    """The files of weights of a part, open until the stack ends. Raises FileMissing, WeightsIncomplete where
    some are missing, WeightsFormat where there are only pickles."""
    where = to_wire(folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise FileMissing(
            f"`{where}` does not exist.",
            where=where,
            hint=f"A folder of diffusers has a {_INDEX}, and a folder for each of its parts.",
        ) from error
    matches = [found for name in names if (found := _FILE.match(name)) is not None]
    for variant in _VARIANTS:
        if chosen := [found for found in matches if found["variant"] == variant]:
            return [
                stack.enter_context(open_weights(os.path.join(folder, found[0])))
                for found in _complete(chosen, where)
            ]
    raise _nothing(names, where)


def layout(files: Sequence[TensorFile]) -> Layout:
    """The parameters in the files, under their own names."""
    return {key: piece(file, key) for file in files for key in file.names}


def text_layout(files: Sequence[TensorFile]) -> Layout:
    """The same of a text encoder, with the level `text_model.` that some versions of transformers leave out,
    and without numbers of positions, which are no parameters."""
    named: dict[str, Piece] = {}
    for name, found in layout(files).items():
        if not name.endswith(".position_ids"):
            named[name if name.startswith("text_") else f"text_model.{name}"] = found
    return named


def _complete(chosen: list[re.Match[str]], where: str) -> list[re.Match[str]]:
    """One whole file where there is one, else all that it was divided into."""
    if whole := [found for found in chosen if found["count"] is None]:
        return whole[:1]
    count = chosen[0]["count"]
    if any(found["count"] != count for found in chosen) or len(chosen) != int(count):
        raise WeightsIncomplete(f"`{where}` has {len(chosen)} of {int(count)} files.", where=where)
    return chosen


def _nothing(names: Sequence[str], where: str) -> FileMissing | WeightsFormat:
    if any(name.endswith(_PICKLES) for name in names):
        return WeightsFormat(
            f"`{where}` has weights as pickles of PyTorch only.",
            where=where,
            hint="Take the safetensors version of the model.",
        )
    return FileMissing(f"`{where}` has no file of weights.", where=where)
