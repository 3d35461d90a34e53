"""What the results of surgery are called where nobody has said: after what they were made from, and how.

Names have no ending; settings are plain values, whole and valid.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from contract.rules.paths import from_wire
from orchestrator.files.filenames import safe_name

Settings = Mapping[str, Any]


def resized(settings: Settings, files: list[str]) -> str:
    """`style-rank16`, or `style-sv_fro` where each module has a rank of its own."""
    method = settings["method"]
    how = f"rank{settings['rank']}" if method == "fixed" else method
    return safe_name(f"{_stem(files[0])}-{how}")


def merged(settings: Settings, files: list[str]) -> str:
    """After the first model, or the last step of a recipe."""
    return safe_name(_MERGED[settings["type"]](settings))


def _stem(path: str) -> str:
    return os.path.splitext(from_wire(path).replace("\\", "/").rpartition("/")[2])[0]


def _of(model: Settings) -> str:
    return _stem(model["path"])


_MERGED: Final[Mapping[str, Callable[[Settings], str]]] = {
    "loras": lambda settings: f"{_of(settings['loras'][0]['model'])}-{settings['method']}",
    "checkpoints": lambda settings: f"{_of(settings['models'][0]['model'])}-{settings['method']}",
    "bake": lambda settings: f"{_of(settings['model'])}-baked",
    "extract": lambda settings: f"{_of(settings['tuned'])}-rank{settings['rank']}",
    "recipe": lambda settings: settings["output"],
}
