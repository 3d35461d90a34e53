"""Running `lorakeet` as a person does: a process of its own, and its words."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

LORAKEET: Final = (sys.executable, "-P", "-m", "orchestrator.cli")
#: Seconds that any one command may take.
TIMEOUT_S: Final = 60.0


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What `--json` wrote; every line must be an event."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def of(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [event for event in self.events if event["event"] == name]


def with_startup_code(folder: Path, code: str) -> dict[str, str]:
    """The environment of a command that runs `code` before anything of ours."""
    (folder / "sitecustomize.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


def lorakeet(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [*LORAKEET, *map(str, arguments)],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
