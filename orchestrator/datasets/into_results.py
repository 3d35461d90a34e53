"""Results of a tagging job over single files: a line for each in `results.jsonl`, kept with the job."""

import os
from pathlib import Path
from typing import Any, Final

import msgspec
from anyio import to_thread

from contract.errors import LorakeetError
from contract.methods.job import ManifestItem
from contract.rules.paths import to_wire
from orchestrator.datasets.manifest import Left, Manifest
from orchestrator.datasets.tagging import Tally, Written
from orchestrator.files.durable import unwritten
from orchestrator.jobs.work import Run

FILE: Final = "results.jsonl"
MEDIA_TYPE: Final = "application/jsonl"


class IntoResults:
    """Of one attempt. A line is a TaggedImage, with the path as it travels in `image`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._file = run.folder / FILE
        self._count = 0

    async def begin(self) -> Manifest:
        """The files that were named, as far as they are there."""
        return await to_thread.run_sync(self._begin)

    async def done(self) -> set[str]:
        """The files that have a line; half a one, from a crash, is cut off. Raises DiskFull."""
        done = await to_thread.run_sync(_whole_lines, self._file)
        self._count = len(done)
        return done

    async def roots(self) -> list[str]:
        """The folders of the roots that the files lie below."""
        roots = self._run.studio.roots
        named = sorted({each["root"] for each in self._files()})
        return [str(await to_thread.run_sync(roots.folder, each)) for each in named]

    async def keep(self, items: list[tuple[str, Any]]) -> Written:
        """Write their lines. Raises DiskFull and FileUnwritable."""
        lines = b"".join(msgspec.json.encode({**each, "image": path}) + b"\n" for path, each in items)
        await to_thread.run_sync(_append, self._file, lines)
        self._count += len(items)
        return Written(items=[{"path": path, "caption": each["caption"]} for path, each in items])

    async def tally(self) -> Tally:
        """What is kept of all attempts."""
        return Tally(tagged=self._count, written=self._count)

    async def close(self) -> None:
        """Keep the file with the job."""
        if self._count:
            await self._run.artifact("results", self._file, MEDIA_TYPE)

    def shown(self, path: str) -> str:
        """As it is."""
        return path

    def _begin(self) -> Manifest:
        items: list[ManifestItem] = []
        left: list[Left] = []
        for each in self._files():
            try:
                path = self._run.studio.roots.resolve(each["root"], each["path"])
                items.append(ManifestItem(path=to_wire(str(path))))
            except LorakeetError as error:
                where = f"{each['root']}:{each['path']}"
                left.append(Left(path=where, error=msgspec.to_builtins(error.to_wire())))
        return Manifest(items=list({item.path: item for item in items}.values()), left=left)

    def _files(self) -> list[dict[str, str]]:
        source = self._run.job.source or {}
        files: list[dict[str, str]] = source.get("files") or []
        return files


def _append(path: Path, lines: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritten(error, path) from error


def _whole_lines(path: Path) -> set[str]:
    """The paths in the whole lines of a file, which is cut to them."""
    done: set[str] = set()
    try:
        with path.open("r+b") as file:
            end = 0
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                done.add(msgspec.json.decode(line)["image"])
            file.truncate(end)
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise unwritten(error, path) from error
    return done
