"""The committed document of the API, held by schemathesis against a studio in use: every answer is in it."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from orchestrator.api.openapi import FILE
from tests.conftest import ROOT
from tests.e2e.journey import journey
from tests.e2e.owned import Owned
from tests.e2e.schemathesis_hooks import FOLDER_VARIABLE

CONFIGURATION: Final = Path(__file__).parent / "schemathesis.toml"


def _hold(studio: Owned, folder: Path, seed: int, examples: int) -> None:
    """Fails with all that schemathesis has found, the seed included."""
    journey(studio)
    folder.mkdir()
    options = {
        "--url": studio.origin,
        # Good until the studio ends, whatever becomes of the other token.
        "--header": f"Authorization: Bearer {studio.process.token}",
        "--seed": str(seed),
        "--max-examples": str(examples),
    }
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run", str(FILE)),
        *("--no-color", "--no-shrink", *(part for option in options.items() for part in option)),
    ]
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, FOLDER_VARIABLE: str(folder), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if ended.returncode:
        pytest.fail(ended.stdout, pytrace=False)
    assert '"level":"error"' not in (studio.process.home / "studio.log").read_text(encoding="utf-8")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [20_261_120])
def test_every_answer_stands_in_the_document(seed: int, studio: Owned, tmp_path: Path) -> None:
    _hold(studio, tmp_path / "folder", seed, examples=3)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", [random.randrange(2**31)])
def test_every_answer_stands_in_the_document_whatever_is_asked(
    seed: int, studio: Owned, tmp_path: Path
) -> None:
    _hold(studio, tmp_path / "folder", seed, examples=200)
