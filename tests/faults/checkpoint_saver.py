"""A program that writes checkpoints, to be killed and starved of disk.

It loads torch once. For each line on its standard input, the folder and step of a checkpoint as JSON, it
starts a copy of itself, says the copy's number, waits for another line, saves and prunes in the copy, and
says what came of it.
"""

import json
import os
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Any, Final, NoReturn, Self

import torch

from contract.errors import LorakeetError
from trainer.checkpoints.folder import Checkpoint, CheckpointFolder
from trainer.checkpoints.manifest import Position
from trainer.checkpoints.retention import Retention, prune
from trainer.weights.tensor_writer import TensorSpec, TensorWriter, Written

COMMAND: Final = (sys.executable, "-m", "tests.faults.checkpoint_saver")
#: Of the trials: what is older goes.
KEEP_LAST: Final = 2


def save(folder: CheckpointFolder, step: int, numbers: int) -> Checkpoint:
    """A checkpoint of some kibibytes, or of as many numbers as are asked for."""
    parts = {
        "optimizer": {"state": {0: {"step": torch.tensor(float(step)), "m": torch.full((numbers,), step)}}},
        "rng": {"python": (3, tuple(range(50)), None)},
    }
    return folder.save(parts, Position(step, 0, step), "digest", files={"lora.safetensors": _adapter})


def _adapter(path: str) -> Written:
    with TensorWriter(path, [TensorSpec("a", "F32", (64,))], {}) as writer:
        writer.write(bytes(256))
        return writer.finish()


class Saver:
    """The program, started by `command`; a context manager."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
        self.pid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(20) == 0

    def begin(self, folder: Path, step: int, numbers: int = 100) -> None:
        """Start a copy, whose number is `pid` then; nothing of the disk has been touched."""
        self._say({"folder": str(folder), "step": step, "numbers": numbers})
        self.pid = self._hear()["pid"]

    def go(self) -> dict[str, Any]:
        """Let it save: `done`, or the `error` of which kind, with `where`; `killed` is the signal, or 0."""
        self._say({})
        said = self._hear()
        # A copy may be killed when it has said its word already.
        return said if "killed" in said else said | self._hear()

    def _say(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        heard: dict[str, Any] = json.loads(self._process.stdout.readline())
        return heard


def main(lines: IO[bytes]) -> None:
    while line := lines.readline():
        asked = json.loads(line)
        if (pid := os.fork()) == 0:
            lines.readline()
            _copy(asked)
        _print({"pid": pid})
        _, status = os.waitpid(pid, 0)
        _print({"killed": os.WTERMSIG(status)})


def _copy(asked: dict[str, Any]) -> NoReturn:
    folder = CheckpointFolder(asked["folder"])
    try:
        save(folder, asked["step"], asked["numbers"])
        prune(folder, Retention(KEEP_LAST))
        _print({"done": True})
    except LorakeetError as error:
        _print({"error": error.kind, "where": error.where})
    finally:
        os._exit(0)


def _print(said: dict[str, Any]) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    # Unbuffered: the copies read from it, too.
    main(os.fdopen(0, "rb", buffering=0))
