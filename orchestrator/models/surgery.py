"""The jobs of surgery: files of weights in, one file out. A kernel does all of it; here it is said which
files are meant, and what the result is called."""

import os
from pathlib import Path
from typing import Any, Final

import msgspec
from anyio import to_thread

from contract.errors import LorakeetError
from contract.notifications import Partial
from contract.rules.paths import from_wire, to_wire
from orchestrator.files.durable import unwritten
from orchestrator.files.trash import Origin
from orchestrator.jobs.settings_tree import paths_in
from orchestrator.jobs.sources import file_of
from orchestrator.jobs.work import Prepared, Run
from orchestrator.models.layouts import MADE

SUFFIX: Final = ".safetensors"
#: Lies in the folder of a job whose output was not there when it began: what is there later, it has made.
_WAS_FREE: Final = "output-was-free"


class SurgeryWork:
    """One attempt of a job that `method` does. `settings` is the type of its settings."""

    version: Final = 1

    def __init__(self, method: str, settings: Any) -> None:
        self.method: Final = method
        self._settings: Final = settings

    async def prepare(self, run: Run) -> Prepared:
        """Find the files. Raises FileMissing, PathOutsideRoots, DiskFull and FileUnwritable."""
        inputs = [await _input(run, each["root"], each["path"]) for each in _source(run)]
        output = await to_thread.run_sync(_output, run)
        named = [from_wire(path) for _, path in paths_in(self._settings, run.job.settings)]
        files = [*inputs, *named]
        roots = await to_thread.run_sync(lambda: [os.path.dirname(os.path.realpath(each)) for each in files])
        if output is not None:
            roots.append(str(output.parent))
        return Prepared(
            settings=run.job.settings,
            inputs={"file": to_wire(inputs[0])} if inputs else {},
            outputs=None if output is None else {"file": to_wire(str(output))},
            roots=list(dict.fromkeys(map(to_wire, roots))),
        )

    def take(self, run: Run, partial: Partial) -> None:
        """There are no items."""

    async def finish(self, run: Run, outcome: Any | None) -> Any:
        """The outcome without absolute paths. Its file is among the job's artifacts."""
        if outcome is None:
            return None
        # So that whoever follows the models hears of it.
        await run.studio.models.list()
        said: dict[str, Any] = msgspec.to_builtins(outcome)
        del said["artifacts"]
        for each in (said, *said.get("inputs", ())):
            each["file"] = await to_thread.run_sync(_shown, run, each["file"])
        return said


def _source(run: Run) -> list[dict[str, str]]:
    files: list[dict[str, str]] = (run.job.source or {}).get("files") or []
    return files


async def _input(run: Run, root: str, path: str) -> str:
    """A model of any folder; a file that is replaced is one below the roots, and no link."""
    if run.job.output is not None:
        return await file_of(run.studio, root, path)
    return str(await to_thread.run_sync(run.studio.roots.resolve, root, path))


def _output(run: Run) -> Path | None:
    """Where the result goes, in a folder that is there; None where the input is replaced.

    What an earlier attempt of this very job has left there goes to the trash: its kernel may have been done
    when the studio died.
    """
    if run.job.output is None:
        return None
    path = run.studio.roots.resolve(MADE, run.job.output + SUFFIX, must_exist=False)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_there, marker = os.path.lexists(path), run.folder / _WAS_FREE
        if not is_there:
            marker.touch()
        elif marker.exists():
            _discard(run, path)
    except OSError as error:
        raise unwritten(error, path) from error
    return path


def _discard(run: Run, path: Path) -> None:
    assert run.job.output is not None
    run.studio.trash.put(
        Origin(
            kind="model",
            name=path.stem,
            root=MADE,
            path=run.job.output + SUFFIX,
            root_folder=to_wire(str(run.studio.roots.folder(MADE))),
            at=to_wire(str(path)),
        )
    )


def _shown(run: Run, wire: str) -> str:
    """A path as clients know it: `outputs/style.safetensors`, or at least its name."""
    path = Path(from_wire(wire))
    try:
        named = run.studio.roots.named(path)
    except LorakeetError:
        named = None
    return to_wire("/".join(named)) if named is not None else to_wire(path.name)
