"""Paths in metadata: trainers write where a file was made, down to the name of its user.

A text is a path where it is the value of a key that names files, or where it looks like a path of any system
from its root. Tags are never looked at: there are some that begin with slashes and backslashes.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

#: Keys, of metadata or inside its JSON, whose text is a file or a folder even where it is a relative path
#: (kohya-ss: the datasets of a run; the others: diffusion-pipe, musubi-tuner).
_FILES: Final = frozenset(
    "image_dir metadata_file conditioning_data_dir mask_path cache_directory image_directory "
    "image_jsonl_file control_directory".split()
)
#: Keys with an object whose keys are folders. Their values are counts, or tags with counts.
_FOLDERS: Final = frozenset("ss_dataset_dirs ss_reg_dataset_dirs ss_tag_frequency tag_frequency".split())
#: From a root: of POSIX with at least two names, a home, a drive, a share, a URI of a file.
_ROOTED: Final = re.compile(r"/[^/\\\s][^/\\]*/+[^/\\]|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|\\\\[^\\/]+[\\/]|file:/")


def without_paths(metadata: Mapping[str, str]) -> dict[str, str]:
    """The same metadata, in which every path is its last part. What has no path stays as it was written."""
    return {key: _stripped(key, text) for key, text in metadata.items()}


def _stripped(key: str, text: str) -> str:
    if text[:1] in ("{", "["):
        try:
            value = json.loads(text)
            inside = _inside(key, value)
            return text if inside == value else json.dumps(inside, ensure_ascii=text.isascii())
        except (ValueError, RecursionError):
            return text
    return _last(text) if _is_path(key, text) else text


def _inside(key: str, value: Any) -> Any:
    """The same for a value of JSON that stands under `key`."""
    if isinstance(value, str):
        return _last(value) if _is_path(key, value) else value
    if isinstance(value, list):
        return [_inside(key, each) for each in value]
    if not isinstance(value, dict):
        return value
    if key in _FOLDERS:
        return _renamed(value)
    return {_last(name) if _is_path("", name) else name: _inside(name, each) for name, each in value.items()}


def _renamed(folders: dict[str, Any]) -> dict[str, Any]:
    """Folders by their last part, numbered where two have the same."""
    renamed: dict[str, Any] = {}
    for folder, value in folders.items():
        name = last = _last(folder)
        count = 1
        while name in renamed:
            count += 1
            name = f"{last}_{count}"
        renamed[name] = value
    return renamed


def _is_path(key: str, text: str) -> bool:
    return key in _FILES or _ROOTED.match(text) is not None


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
