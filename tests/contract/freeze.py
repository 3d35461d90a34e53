"""Freezes the contract level of today: once, when the issue that builds it closes.

    python -m tests.contract.freeze [--force]

From then on `test_level_1.py` holds every later contract against the frozen document.
"""

import argparse
import sys
from pathlib import Path

from contract import LEVEL
from contract.export import ROOT, SCHEMA, openrpc, pretty

LEVELS = ROOT / SCHEMA / "levels"


def freeze(folder: Path = LEVELS, *, force: bool = False) -> Path:
    """Write the document of today's level; its path. Raises FileExistsError unless `force`."""
    path = folder / f"{LEVEL}.json"
    if path.exists() and not force:
        raise FileExistsError(f"{path} is frozen; a level that hosts may rely on is never rewritten")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pretty(openrpc()))
    return path


def main() -> int:
    """The command. Exit code 1: the level is frozen already."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.freeze", description=__doc__)
    parser.add_argument("--force", action="store_true", help="rewrite it, as long as nobody relies on it")
    try:
        sys.stderr.write(f"{freeze(force=parser.parse_args().force)} is frozen\n")
    except FileExistsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
