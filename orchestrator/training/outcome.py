"""What is kept of how a training ended, without absolute paths."""

from pathlib import Path
from typing import Any

import msgspec

from contract.errors import LorakeetError
from contract.rules.paths import from_wire, to_wire
from orchestrator.files.roots import Roots


def kept_outcome(outcome: Any, roots: Roots, run: Path) -> dict[str, Any]:
    """An outcome as clients see it; its files are among the job's artifacts. Blocks."""
    said: dict[str, Any] = msgspec.to_builtins(outcome)
    said.pop("artifacts", None)
    for where, name in [(said, "file"), (said, "checkpoint")]:
        if where.get(name) is not None:
            where[name] = shown(where[name], roots, run)
    for each in said.get("saved", ()):
        each["file"] = shown(each["file"], roots, run)
    for each in said.get("failed", ()):
        each["image"] = shown(each["image"], roots, run)
    return said


def shown(wire: str, roots: Roots, run: Path) -> str:
    """A path as clients know it: `outputs/style.safetensors`, `checkpoints/…` in the folder of the run, or at
    least its name. Blocks."""
    path = Path(from_wire(wire))
    if path.is_relative_to(run):
        return to_wire(path.relative_to(run).as_posix())
    try:
        named = roots.named(path)
    except LorakeetError:
        named = None
    return to_wire("/".join(named)) if named is not None else to_wire(path.name)
