"""From what a client asks to a job, and from a job to what its kernel is asked: nowhere else is that done."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import anyio.to_thread
import msgspec
from msgspec import Meta

from contract.base import Strict
from contract.errors import InvalidParams, LorakeetError, NotFound
from contract.fields import one_of
from contract.rules.paths import from_wire, is_under
from contract.validation import Contradiction, Problem, decode, invalid
from orchestrator.clock import now_ms
from orchestrator.files.filenames import path_problem
from orchestrator.jobs.job import Job
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.named_models import with_models
from orchestrator.jobs.work import KernelWork, Prepared
from orchestrator.models.layouts import demo_tagger
from orchestrator.presets import laid_under

if TYPE_CHECKING:
    from orchestrator.studio import Studio

Existing = Literal["skip", "append", "overwrite"]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
Priority = Annotated[int, Meta(ge=-100, le=100, description="Jobs of a higher one come first.")]
#: Fields of settings that name a file or a folder, by the end of their name.
_PATH_FIELDS: Final = ("path", "folder", "file")


class FileRef(Strict, frozen=True, kw_only=True):
    """A file below a root."""

    root: str
    path: str


class JobSource(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """What a job works on: a dataset by its id, or files."""

    dataset: str | None = None
    files: Annotated[list[FileRef], Meta(min_length=1, max_length=100_000)] | None = None

    def __post_init__(self) -> None:
        if (self.dataset is None) == (self.files is None):
            raise Contradiction(("dataset", "give exactly one of `dataset` and `files`"))


class JobRequest(Strict, frozen=True, kw_only=True):
    """A new job. `settings` are laid over those of the preset, which is named or by its id.

    `output` names what the job makes, below the outputs; where that name is taken, it gets a number.
    `existing` says what becomes of captions that are there; default: skip.
    """

    kind: str
    settings: dict[str, Any] = {}
    preset: str | None = None
    source: Annotated[JobSource, Meta(extra_json_schema=one_of("dataset", "files"))] | None = None
    existing: Existing | None = None
    output: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    name: Name | None = None
    priority: Priority = 0


async def new_job(
    studio: "Studio", kinds: Mapping[str, Kind], id: str, request: JobRequest, parent_id: str | None = None
) -> Job:
    """The row of a job that is asked for. Raises InvalidParams with every problem."""
    kind = kinds.get(request.kind)
    if kind is None:
        raise invalid([Problem("$.kind", f"is none of {', '.join(kinds)}")])
    settings = request.settings
    if request.preset is not None:
        settings = laid_under(await _preset(studio, request.preset, kind.name), settings)
    settings = await with_models(studio.models, kind.settings, settings)
    problems = [*_of_source(kind, request), *_of_output(request.output), *_of_existing(kind, request)]
    whole, wrong = _decoded(kind, settings)
    problems += wrong
    if whole is not None:
        problems += await anyio.to_thread.run_sync(lambda: list(_of_paths(studio, whole)))
    if not problems:
        problems += await _of_what_is_there(studio, request.source)
    if problems:
        raise invalid(problems)
    assert whole is not None
    return _row(kind, id, request, whole, parent_id)


def kernel_request(job: Job, work: KernelWork, prepared: Prepared) -> dict[str, Any]:
    """The params of the method that does the job."""
    params = {
        "job_id": job.id,
        "attempt": job.attempt,
        "v": work.version,
        "settings": msgspec.to_builtins(prepared.settings),
        "inputs": prepared.inputs,
    }
    return params if prepared.outputs is None else params | {"outputs": prepared.outputs}


def with_own_output(db: sqlite3.Connection, job: Job, is_there: Callable[[str], bool]) -> Job:
    """`job` with the output it wants, or with the first number that no job has and nothing on the disk."""
    for name in _numbered(job.output):
        taken = db.execute("SELECT 1 FROM jobs WHERE output = ? COLLATE NOCASE", (name,)).fetchone()
        if taken is None and not is_there(name):
            shown = name if job.name == job.output else job.name
            return msgspec.structs.replace(job, output=name, name=shown)
    return job


def outputs_there(folder: str, wanted: str | None) -> Callable[[str], bool]:
    """Whether a name like `wanted` is taken in the outputs, with any ending. Looks now; blocks."""
    if wanted is None:
        return lambda name: False
    below = os.path.join(folder, *wanted.split("/")[:-1])
    try:
        names = {name.casefold() for name in os.listdir(below)}
    except OSError:
        names = set()
    stems = {name[:index] for name in names for index in _dots(name)}
    return lambda name: name.rpartition("/")[2].casefold() in stems


def _numbered(name: str | None) -> Iterator[str]:
    if name is not None:
        yield name
        yield from (f"{name}-{number}" for number in count(2))


def _dots(name: str) -> Iterator[int]:
    yield len(name)
    yield from (index for index, letter in enumerate(name) if letter == ".")


async def _preset(studio: "Studio", name: str, kind: str) -> dict[str, Any]:
    try:
        preset = await studio.presets.get(name, kind)
    except NotFound:
        raise invalid([Problem("$.preset", "there is no such preset")]) from None
    if preset.kind != kind:
        raise invalid([Problem("$.preset", f"is a preset for `{preset.kind}`")])
    return preset.settings


def _decoded(kind: Kind, settings: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The settings whole, with every default, or what is wrong with them."""
    try:
        whole: dict[str, Any] = msgspec.to_builtins(decode(settings, kind.settings, path="$.settings"))
    except InvalidParams as error:
        return None, [Problem(each["where"], each["message"]) for each in error.details["problems"]]
    return whole, []


def _of_source(kind: Kind, request: JobRequest) -> Iterator[Problem]:
    source = request.source
    if source is None:
        if kind.sources:
            yield Problem("$.source", "is required")
        return
    given = "dataset" if source.dataset is not None else "files"
    if given not in kind.sources:
        takes = f"takes {' or '.join(kind.sources)}" if kind.sources else "takes no source"
        yield Problem(f"$.source.{given}", f"`{kind.name}` {takes}")


def _of_output(output: str | None) -> Iterator[Problem]:
    if output is not None and (problem := path_problem(output)):
        yield Problem("$.output", problem)


def _of_existing(kind: Kind, request: JobRequest) -> Iterator[Problem]:
    if request.existing is not None and not kind.takes_existing:
        yield Problem("$.existing", f"`{kind.name}` writes no captions")


def _of_paths(studio: "Studio", settings: Any, where: str = "$.settings") -> Iterator[Problem]:
    """Every path in the settings has to lie in a folder that the studio may use."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            is_path = isinstance(value, str) and name.rpartition("_")[2] in _PATH_FIELDS
            if is_path and not _is_granted(studio, value):
                yield Problem(f"{where}.{name}", "lies in none of the folders that the studio may use")
            yield from _of_paths(studio, value, f"{where}.{name}")
    elif isinstance(settings, list):
        for index, value in enumerate(settings):
            yield from _of_paths(studio, value, f"{where}[{index}]")


def _is_granted(studio: "Studio", path: str) -> bool:
    try:
        plain = from_wire(path)
    except LorakeetError:
        return False
    if not os.path.isabs(plain) or "\0" in plain:
        return False
    named = [*(each.folder for each in studio.settings.current.model_folders), demo_tagger()]
    real = os.path.realpath(plain)
    folders = (os.path.realpath(each) for each in named if each is not None)
    return studio.roots.grants(plain) or any(is_under(real, folder) for folder in folders)


async def _of_what_is_there(studio: "Studio", source: JobSource | None) -> list[Problem]:
    if source is None:
        return []
    if source.files is not None:
        files = source.files
        return await anyio.to_thread.run_sync(lambda: list(_of_files(studio, files)))
    query = "SELECT 1 FROM datasets WHERE id = ?"
    there = await studio.control.read(lambda db: db.execute(query, (source.dataset,)).fetchone())
    return [] if there is not None else [Problem("$.source.dataset", "there is no such dataset")]


def _of_files(studio: "Studio", files: list[FileRef]) -> Iterator[Problem]:
    for index, file in enumerate(files):
        try:
            studio.roots.resolve(file.root, file.path)
        except LorakeetError as error:
            yield Problem(f"$.source.files[{index}]", error.message)


def _row(kind: Kind, id: str, request: JobRequest, settings: dict[str, Any], parent_id: str | None) -> Job:
    now = now_ms()
    source = request.source
    return Job(
        id=id,
        kind=kind.name,
        name=request.name or request.output or kind.title,
        state="queued",
        reason="created",
        settings=settings,
        source=None if source is None else msgspec.to_builtins(source),
        output=request.output,
        existing=request.existing or ("skip" if kind.takes_existing else None),
        dataset_id=None if source is None else source.dataset,
        parent_id=parent_id,
        priority=request.priority,
        position=0.0,
        attempt=1,
        boot_id=None,
        run_epoch=0,
        lane=None,
        progress=None,
        error=None,
        outcome=None,
        created_ms=now,
        changed_ms=now,
        started_ms=None,
        finished_ms=None,
    )
