"""`lorakeet train CONFIG.toml`: a LoRA from folders of pictures, through a kernel of the command's own."""

import argparse
import os
from pathlib import Path
from typing import Final

import msgspec

from contract.errors import (
    DeviceLost,
    DiskFull,
    ImageError,
    JobCanceled,
    KernelDied,
    LorakeetError,
    OutOfMemory,
    OutputExists,
    SettingsInvalid,
)
from contract.methods.train import TrainOutcome, TrainSettings
from contract.rules.paths import from_wire, to_wire
from orchestrator.cli import outcomes
from orchestrator.cli.exits import Exit
from orchestrator.cli.kernel_jobs import own_kernel
from orchestrator.cli.output import Output
from orchestrator.cli.stopping import Stopping
from orchestrator.cli.training_asked import asked_for
from orchestrator.cli.training_plan import plan_shown
from orchestrator.cli.training_shown import TrainingShown
from orchestrator.cli.training_work import Work, hint_for_taken, plan_for, work_for
from orchestrator.cli.values import assignment
from orchestrator.groups import task_group
from orchestrator.ids import new_id
from orchestrator.jobs.settings_tree import paths_in
from orchestrator.settings import Settings, load

_SETTINGS: Final = "$.params.settings."
#: After these the same command may well come further.
_PASSING: Final = (KernelDied, DiskFull, DeviceLost)
_EXAMPLES: Final = """examples:
  lorakeet train cat.toml --plan
  lorakeet train cat.toml
  lorakeet train cat.toml --set training.epochs=20 --set optimizer.learning_rate=5e-5
  lorakeet train cat.toml --resume --set training.epochs=30
  lorakeet train style.toml --preset mine.toml --folder pictures/ink --name ink

a file:
  [source]
  folders = ["pictures"]        # with pictures, or with folders such as 10_cat

  [model]
  base = "model.safetensors"

  [training]
  epochs = 10
"""


def add(parser: argparse.ArgumentParser) -> None:
    """The file, and what is said beside it."""
    parser.epilog = f"{_EXAMPLES}\n{parser.epilog}"
    parser.add_argument(
        "config",
        metavar="CONFIG.toml",
        nargs="?",
        help="the tables of the settings, [source] and [output]; paths in it are told from where it lies",
    )
    parser.add_argument(
        "--set",
        metavar="A.B=VALUE",
        dest="assignments",
        action="append",
        default=[],
        type=assignment,
        help="a setting, over the file, such as network.rank=32. May be given several times",
    )
    parser.add_argument("--preset", metavar="NAME|FILE", help="settings below those of the file")
    parser.add_argument(
        "--folder",
        metavar="DIR",
        dest="folders",
        action="append",
        help="a folder of pictures, instead of those in the file. May be given several times",
    )
    parser.add_argument("--name", help="what the LoRA is called. Default: as in the file, or as the file")
    parser.add_argument("--overwrite", action="store_true", help="replace a LoRA of that name")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--resume",
        metavar="CHECKPOINT",
        nargs="?",
        const="",
        help="go on from the newest checkpoint of the newest run of that name, also with another duration; "
        "or begin a new run at CHECKPOINT",
    )
    begin.add_argument(
        "--restart", action="store_true", help="begin anew, also where an unfinished run could go on"
    )
    begin.add_argument(
        "--plan",
        action="store_true",
        help="say which picture would be trained at which size, and train nothing",
    )
    parser.add_argument(
        "--queue", action="store_true", help="let the studio do it: its own datasets, folders and models only"
    )


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Train. Raises LorakeetError."""
    return await train(arguments, arguments.home, load(arguments.home), output)


async def train(arguments: argparse.Namespace, home: Path, settings: Settings, output: Output) -> Exit:
    """Train, with runs, caches and outputs in `home` and a kernel as `settings` say. Raises LorakeetError."""
    training = await asked_for(arguments)
    if arguments.queue:
        if arguments.plan:
            raise SettingsInvalid(
                "--plan: the studio trains what is sent to it; leave out --queue.", where="--plan"
            )
        # Only this needs the API.
        from orchestrator.cli.queueing import queue_training

        return await queue_training(arguments, training, output)
    if arguments.plan:
        return await _plan(plan_for(home, training), settings, output)
    work = work_for(arguments, home, training)
    _tell(work, output)
    work.make_folders()
    stopping = Stopping(output)
    try:
        return _said(await _trained(work, settings, stopping, output), work, output)
    except JobCanceled as canceled:
        if stopping.exit is None:
            raise
        output.event("stopped", step=work.checkpoint_at, outcome=canceled.partial)
        output.note(f"Stopped. {_goes_on(work)}")
        return stopping.exit
    except LorakeetError as error:
        raise _with_advice(error, work) from None


async def _plan(work: Work, settings: Settings, output: Output) -> Exit:
    """Look at the pictures alone. Raises LorakeetError."""
    work.make_folders()
    shown = TrainingShown(output, None)
    try:
        async with own_kernel(settings, work.roots()) as kernel:
            outcome: TrainOutcome = await kernel.run(
                "train", work.params(new_id("job")) | {"plan_only": True}, shown.take
            )
    except LorakeetError as error:
        raise _with_advice(error, work) from None
    finally:
        output.end_progress()
    assert outcome.plan is not None
    output.event(
        "planned",
        plan=outcome.plan,
        failed=outcome.failed,
        failed_count=outcome.failed_count,
        warnings=outcome.warnings,
    )
    _say_problems(outcome, output)
    for line in plan_shown(outcome.plan, outcome.failed_count):
        output.say(line)
    return Exit.SOME_FAILED if outcome.failed_count else Exit.DONE


async def _trained(work: Work, settings: Settings, stopping: Stopping, output: Output) -> TrainOutcome:
    """Run the job to its end. Raises JobCanceled and what else the kernel raises."""
    shown = TrainingShown(output, work.wanted.settings.training.epochs)
    job_id = new_id("job")
    try:
        async with own_kernel(settings, work.roots()) as kernel, task_group() as tasks:
            with stopping.taken_over():
                tasks.start_soon(stopping.obey, kernel, job_id)
                outcome: TrainOutcome = await kernel.run("train", work.params(job_id), shown.take)
            tasks.cancel_scope.cancel()
    finally:
        output.end_progress()
    return outcome


def _tell(work: Work, output: Output) -> None:
    """What is going to happen."""
    wanted, chosen = work.wanted, work.chosen
    folder = to_wire(str(chosen.folder))
    checkpoint = None if chosen.checkpoint is None else to_wire(str(chosen.checkpoint))
    output.event(
        "started",
        method="train",
        settings=wanted.settings,
        folders=wanted.folders,
        out=wanted.output,
        run=folder,
        resumes=chosen.resumes,
        checkpoint=checkpoint,
        step=chosen.at,
    )
    output.note(f"{wanted.name}: {_in_words(wanted.settings)}")
    output.note(f"  run {folder}", "dim")
    if chosen.resumes:
        since = "It begins again" if chosen.at is None else f"It goes on from step {chosen.at}"
        how = "." if work.was_asked else "; --restart begins a new run."
        output.note(f"  {since}{how}", "yellow")
    elif checkpoint is not None:
        output.note(f"  It begins at {checkpoint}.", "yellow")


def _in_words(settings: TrainSettings) -> str:
    network, training = settings.network, settings.training
    kind = network.__struct_config__.tag
    count, unit = (training.steps, "step") if training.epochs is None else (training.epochs, "epoch")
    base = from_wire(settings.model.base.path).replace("\\", "/").rpartition("/")[2]
    return f"{kind} of rank {network.rank} for {base}, {count} {unit}{'' if count == 1 else 's'}"


def _said(outcome: TrainOutcome, work: Work, output: Output) -> Exit:
    output.event("finished", outcome=outcome)
    _say_problems(outcome, output)
    for line in outcomes.trained(outcome):
        output.say(line)
    output.say(f"  {work.wanted.output}")
    return Exit.SOME_FAILED if outcome.failed_count else Exit.DONE


def _say_problems(outcome: TrainOutcome, output: Output) -> None:
    for warning in outcome.warnings:
        output.note(f"warning: {warning}", "yellow")
    for failed in outcome.failed:
        output.note(f"left out: {failed.image}: {failed.error.message}", "red")


def _with_advice(error: LorakeetError, work: Work) -> LorakeetError:
    """The same error, with the setting or the file that it is about, and with what to do about the run."""
    settings, at = work.wanted.settings, work.checkpoint_at
    error.message = error.message.replace(_SETTINGS, "")
    about = _field_of(error, work) or _file_of(error)
    if about is not None and about not in error.message:
        error.message = f"{about}: {error.message}"
    hints = [error.hint or ""]
    if isinstance(error, OutputExists):
        hints = [hint_for_taken(work.home, work.wanted.name)]
    if isinstance(error, ImageError) and settings.data.bad_images == "refuse":
        hints.append('With data.bad_images = "skip" such pictures are left out.')
    if at is not None and isinstance(error, _PASSING):
        hints.append(_goes_on(work))
    elif at is not None and isinstance(error, OutOfMemory):
        hints.append(f"With such settings --resume goes on from step {at}.")
    error.hint = " ".join(filter(None, hints)) or None
    return error


def _field_of(error: LorakeetError, work: Work) -> str | None:
    """The setting that an error names, or whose file or folder it names."""
    where = error.where or ""
    if where.startswith(_SETTINGS):
        return where.removeprefix(_SETTINGS).removesuffix(".path")
    if any(_is_at(where, folder) for folder in work.wanted.folders):
        return "source.folders"
    for field, path in paths_in(TrainSettings, msgspec.to_builtins(work.wanted.settings)):
        # A model may be a folder of files.
        if _is_at(where, path) or where.startswith(f"{_real(path)}/"):
            return field.removeprefix("$.settings.").removesuffix(".path")
    return None


def _is_at(where: str, path: str) -> bool:
    return where in (path, _real(path))


def _real(path: str) -> str:
    return to_wire(os.path.realpath(from_wire(path)))


def _file_of(error: LorakeetError) -> str | None:
    """The file that an error is about: its message may have the name alone."""
    where = error.where or ""
    return where if os.path.isabs(from_wire(where)) else None


def _goes_on(work: Work) -> str:
    at = work.checkpoint_at
    return f"{work.again} begins again." if at is None else f"{work.again} goes on from step {at}."
