"""What benchmarks need and nobody wants to make twice: large models, photographs, bytecode."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def folder() -> Path:
    """Where it is kept: `$XDG_CACHE_HOME` or the folder for temporary files."""
    base = os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()
    path = Path(base) / f"lorakeet-bench-{os.getuid()}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def made(name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, filled by `make` unless it is there; it appears whole or not at all."""
    path = folder() / name
    if not path.is_dir():
        fresh = Path(tempfile.mkdtemp(dir=folder()))
        make(fresh)
        try:
            fresh.rename(path)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return path
