"""Where Lorakeet keeps what is its own."""

import os
from pathlib import Path


def home(chosen: str | None = None) -> Path:
    """The data directory: as chosen on the command line, else `$LORAKEET_HOME`, else `~/lorakeet`."""
    return Path(chosen or os.environ.get("LORAKEET_HOME") or Path.home() / "lorakeet").expanduser().absolute()
