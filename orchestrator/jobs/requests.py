"""From what a client asks to a job, and from a job to what its kernel is asked: nowhere else is that done."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio.to_thread
import msgspec
from msgspec import Meta

from contract.base import Strict
from contract.errors import InvalidParams, LorakeetError, NotFound
from contract.fields import one_of
from contract.rules.paths import from_wire, is_under, to_wire
from contract.validation import Contradiction, Problem, decode, invalid
from orchestrator.clock import now_ms
from orchestrator.files.filenames import path_problem
from orchestrator.jobs.job import Job
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.named_models import with_models
from orchestrator.jobs.settings_tree import paths_in
from orchestrator.jobs.sources import file_of
from orchestrator.jobs.work import KernelWork, Prepared
from orchestrator.models.layouts import demo_tagger
from orchestrator.presets import laid_under

if TYPE_CHECKING:
    from orchestrator.studio import Studio

Existing = Literal["skip", "append", "overwrite"]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
Priority = Annotated[int, Meta(ge=-100, le=100, description="Jobs of a higher one come first.")]


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

    `output` names what the job makes, below the outputs; where that name is taken, it gets a number. The
    ending of a file may be left out. Without `output` a file is named after what it is made from; `metadata`
    then changes its source.
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
        listed = await studio.models.paths()
        problems += await anyio.to_thread.run_sync(lambda: list(_of_paths(studio, kind, whole, listed)))
    paths: list[str] = []
    if not problems:
        problems += await _of_what_is_there(studio, kind, request, paths)
    if problems:
        raise invalid(problems)
    assert whole is not None
    return _row(kind, id, request, whole, _output_of(kind, request, whole, paths), parent_id)


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

    elif source.files is not None and kind.max_files is not None and len(source.files) > kind.max_files:
        yield Problem("$.source.files", f"`{kind.name}` takes {kind.max_files} at a time")


def _of_output(output: str | None) -> Iterator[Problem]:
    if output is not None and (problem := path_problem(output)):
        yield Problem("$.output", problem)


def _of_existing(kind: Kind, request: JobRequest) -> Iterator[Problem]:
    if request.existing is not None and not kind.takes_existing:
        yield Problem("$.existing", f"`{kind.name}` writes no captions")


def _of_paths(
    studio: "Studio", kind: Kind, settings: dict[str, Any], listed: frozenset[str]
) -> Iterator[Problem]:
    """Every path in the settings has to be that of a model, or lie in a folder that the studio may use."""
    for where, path in paths_in(kind.settings, settings):
        if not _is_granted(studio, path, listed):
            yield Problem(where, "lies in none of the folders that the studio may use")


def _is_granted(studio: "Studio", path: str, listed: frozenset[str]) -> bool:
    try:
        plain = from_wire(path)
    except LorakeetError:
        return False
    if not os.path.isabs(plain) or "\0" in plain:
        return False
    if plain in listed:
        return True
    named = [*(each.folder for each in studio.settings.current.model_folders), demo_tagger()]
    real = os.path.realpath(plain)
    folders = (os.path.realpath(each) for each in named if each is not None)
    return studio.roots.grants(plain) or any(is_under(real, folder) for folder in folders)


async def _of_what_is_there(
    studio: "Studio", kind: Kind, request: JobRequest, paths: list[str]
) -> list[Problem]:
    """What of the source is not there; `paths` gets the files, where there are few."""
    source = request.source
    if source is None:
        return []
    if source.files is None:
        query = "SELECT 1 FROM datasets WHERE id = ?"
        there = await studio.control.read(lambda db: db.execute(query, (source.dataset,)).fetchone())
        return [] if there is not None else [Problem("$.source.dataset", "there is no such dataset")]
    files = source.files
    if kind.max_files is None:
        return await anyio.to_thread.run_sync(lambda: list(_of_files(studio, files)))
    found = [await _of_model(studio, kind, request, index, paths) for index in range(len(files))]
    return [each for each in found if each is not None]


def _of_files(studio: "Studio", files: list[FileRef]) -> Iterator[Problem]:
    for index, file in enumerate(files):
        try:
            studio.roots.resolve(file.root, file.path)
        except LorakeetError as error:
            yield Problem(f"$.source.files[{index}]", error.message)


async def _of_model(
    studio: "Studio", kind: Kind, request: JobRequest, index: int, paths: list[str]
) -> Problem | None:
    """A model has to be there; one that is replaced has to be the studio's, and no link to elsewhere."""
    assert request.source is not None and request.source.files is not None
    file = request.source.files[index]
    replaces = kind.ending is not None and kind.name_output is None and request.output is None
    try:
        if replaces:
            resolved = await anyio.to_thread.run_sync(studio.roots.resolve, file.root, file.path)
            paths.append(to_wire(str(resolved)))
        else:
            paths.append(to_wire(await file_of(studio, file.root, file.path)))
    except LorakeetError as error:
        why = " To change a copy, name it with `output`." if replaces else ""
        return Problem(f"$.source.files[{index}]", error.message + why)
    return None


def _output_of(kind: Kind, request: JobRequest, settings: dict[str, Any], paths: list[str]) -> str | None:
    """The name of what is made, without its ending."""
    given = request.output
    if given is None:
        return None if kind.name_output is None else kind.name_output(settings, paths)
    if kind.ending is not None and given.lower().endswith(kind.ending):
        return given[: -len(kind.ending)]
    return given


def _called(kind: Kind, request: JobRequest) -> str:
    """The name of a job that makes nothing new; `Edit metadata: style` where it is of one file."""
    files = None if request.source is None else request.source.files
    if kind.max_files != 1 or not files:
        return kind.title
    return f"{kind.title}: {os.path.splitext(files[0].path.rpartition('/')[2])[0]}"


def _row(
    kind: Kind,
    id: str,
    request: JobRequest,
    settings: dict[str, Any],
    output: str | None,
    parent_id: str | None,
) -> Job:
    now = now_ms()
    source = request.source
    return Job(
        id=id,
        kind=kind.name,
        name=request.name or output or _called(kind, request),
        state="queued",
        reason="created",
        settings=settings,
        source=None if source is None else msgspec.to_builtins(source),
        output=output,
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
