"""What files of weights are called where nobody has said: after what they were made from, and how.

Names have no ending; settings are plain values, whole and valid.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from contract.rules.paths import from_wire, is_windows
from orchestrator.files.filenames import safe_name

Settings = Mapping[str, Any]
#: What a folder of pictures begins with that are seen so many times.
_REPEATS: Final = re.compile(r"^\d+_(?=.)")


def resized(settings: Settings, files: list[str]) -> str:
    """`style-rank16`, or `style-sv_fro` where each module has a rank of its own."""
    method = settings["method"]
    how = f"rank{settings['rank']}" if method == "fixed" else method
    return safe_name(f"{_stem(files[0])}-{how}")


def merged(settings: Settings, files: list[str]) -> str:
    """After the first model, or the last step of a recipe."""
    return safe_name(_MERGED[settings["type"]](settings))


def trained(settings: Settings, names: list[str]) -> str:
    """After its title, or what it is trained on: `holidays`, and `cat` for a folder `10_cat`."""
    title = settings["metadata"]["title"]
    if title and title.strip():
        return safe_name(re.sub(r"[/\\]", "_", title))
    last = re.split(r"[/\\]", from_wire(names[0]) if _is_path(names[0]) else names[0])[-1]
    return safe_name(_REPEATS.sub("", last))


def _is_path(name: str) -> bool:
    return name.startswith(("/", "file:")) or is_windows(name)


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
