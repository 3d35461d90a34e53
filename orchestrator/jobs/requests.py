"""From what a client asks to a job, and from a job to what its kernel is asked: nowhere else is that done."""

import os
import re
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
from contract.validation import Problem, decode, invalid
from orchestrator.clock import now_ms
from orchestrator.files.filenames import path_problem
from orchestrator.jobs.job import Job
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.named_models import with_models
from orchestrator.jobs.settings_tree import paths_in
from orchestrator.jobs.sources import JobSource, problems_there, shape_problems
from orchestrator.jobs.work import KernelWork, Prepared
from orchestrator.models.layouts import demo_tagger

if TYPE_CHECKING:
    from orchestrator.studio import Studio

Existing = Literal["skip", "append", "overwrite"]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
#: How files on the way are told from the one at the end.
_OF_STEP: Final = re.compile(r"-(\d{6,}|step\d{8,})\Z")
_ONE_SOURCE: Final = one_of("dataset", "files", "folders")
Priority = Annotated[int, Meta(ge=-100, le=100, description="Jobs of a higher one come first.")]


class JobRequest(Strict, frozen=True, kw_only=True):
    """A new job. `settings` are laid over those of the preset, which is named or by its id.

    `output` names what the job makes, below the outputs; where that name is taken, it gets a number. The
    ending of a file may be left out. Without `output` a file is named after what it is made from; `metadata`
    then changes its source. A `train` goes on from the `checkpoint` of its source, where that has one.
    `existing` says what becomes of captions that are there; default: skip.
    """

    kind: str
    settings: dict[str, Any] = {}
    preset: str | None = None
    source: Annotated[JobSource, Meta(extra_json_schema=_ONE_SOURCE)] | None = None
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
    below = {} if request.preset is None else await _preset(studio, request.preset, kind.name)
    settings = await with_models(studio.models, kind.settings, kind.layered(below, request.settings))
    problems = [
        *shape_problems(kind, request.source),
        *_of_output(request.output),
        *_of_existing(kind, request),
    ]
    whole, wrong = _decoded(kind, settings)
    problems += wrong
    if whole is not None:
        listed = await studio.models.paths()
        problems += await anyio.to_thread.run_sync(lambda: list(_of_paths(studio, kind, whole, listed)))
    paths: list[str] = []
    if not problems:
        replaces = kind.ending is not None and kind.name_output is None and request.output is None
        problems += await problems_there(studio, kind, request.source, paths, replaces=replaces)
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


def outputs_there(folder: str, wanted: str | None, *, makes_steps: bool = False) -> Callable[[str], bool]:
    """Whether a name like `wanted` is taken in the outputs, with any ending; where a job `makes_steps`, also
    by files on the way to what had that name once. Looks now; blocks."""
    if wanted is None:
        return lambda name: False
    below = os.path.join(folder, *wanted.split("/")[:-1])
    try:
        names = {name.casefold() for name in os.listdir(below)}
    except OSError:
        names = set()
    stems = {name[:index] for name in names for index in _dots(name)}
    if makes_steps:
        stems |= {_OF_STEP.sub("", name) for name in stems}
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
