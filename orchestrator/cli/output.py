"""What a command shows: words and a bar for people, or one JSON event a line for programs.

rich is loaded with the first words on stderr, of which a command that goes well may have none.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO

import msgspec

from contract.errors import LorakeetError
from contract.notifications import Progress as Step
from orchestrator.cli.streams import Unheard

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

#: Columns of a terminal with room for everything.
_ROOMY: Final = 100


class Output:
    """Where a command's words go. With `json`, stdout has events only and stderr nothing from us.

    Whatever is said raises Unheard where nobody reads any more.
    """

    def __init__(self, *, json: bool, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.json = json
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def event(self, name: str, /, **fields: Any) -> None:
        """An event for programs."""
        if self.json:
            line = msgspec.json.encode({"event": name, **fields})
            with _heard():
                # Bytes: JSON is UTF-8 and ends its lines with "\n", whatever the terminal's habits are.
                _write_all(self._stdout.buffer, line + b"\n")

    def say(self, text: str) -> None:
        """A result for people."""
        if not self.json:
            with _heard():
                self._stdout.write(printable(text) + "\n")
                self._stdout.flush()

    def say_styled(self, parts: Iterable[tuple[str, str]]) -> None:
        """A line of a result for people, of texts and their styles, which show on a terminal only."""
        if not self.on_terminal:
            self.say("".join(text for text, _ in parts).rstrip())
        elif not self.json:
            from rich.text import Text

            line = Text.assemble(*((printable(text), style) for text, style in parts))
            line.rstrip()
            with _heard():
                self._results.print(line)

    @property
    def on_terminal(self) -> bool:
        """Whether people read the results as they come."""
        return self._stdout.isatty()

    @property
    def width(self) -> int | None:
        """Columns of the terminal that shows the results; None where they go elsewhere."""
        return self._results.width if self.on_terminal else None

    def note(self, text: str, style: str = "") -> None:
        """Something people should know meanwhile."""
        if not self.json:
            from rich.text import Text

            with _heard():
                self._errors.print(Text(printable(text), style=style))

    def error(self, error: LorakeetError) -> None:
        """Why the command ended."""
        self.event("error", error=error.to_wire())
        self.note(f"error: {error.message}", "bold red")
        if error.hint:
            self.note(f"  {error.hint}")
        if tail := str(error.details.get("stderr_tail") or "").strip():
            self.note("  The kernel's last words:", "dim")
            self.note("\n".join(f"    {line}" for line in tail.splitlines()[-12:]), "dim")

    def progress(self, step: Step, words: str | None = None, *, title: str | None = None) -> None:
        """How far a job is; a bar on a terminal, nothing elsewhere.

        `words` beside the bar take the place of the rate and of the time that remains, and `title` before it
        that of the phase.
        """
        metrics = {"metrics": step.metrics} if step.metrics else {}
        self.event("progress", **{name: getattr(step, name) for name in _SHOWN}, **metrics)
        if not self.shows_bars:
            return
        bar = self._started()
        assert self._task is not None
        rate = "" if step.rate is None or step.unit == "bytes" else f"{step.rate:.1f} {step.unit}/s"
        bar.update(
            self._task,
            description=step.phase if title is None else title,
            completed=step.step,
            total=step.total,
            words=rate if words is None else words,
            remaining=words is None,
        )

    @property
    def shows_bars(self) -> bool:
        """Whether people see on a terminal how far a job is."""
        return not self.json and self._stderr.isatty()

    @property
    def room_beside_bar(self) -> int:
        """Columns of the terminal that a bar with words of its own leaves."""
        return self._errors.width - small_bar(self._errors.width)

    def end_progress(self) -> None:
        """Leave the bar as it is and go on below it."""
        bar, self._bar = self._bar, None
        if bar is not None:
            with _heard():
                bar.stop()

    @cached_property
    def _errors(self) -> "Console":
        from orchestrator.cli.console import HeardConsole

        return HeardConsole(file=self._stderr, highlight=False, soft_wrap=True)

    @cached_property
    def _results(self) -> "Console":
        from orchestrator.cli.console import HeardConsole

        return HeardConsole(file=self._stdout, highlight=False, soft_wrap=True)

    def _started(self) -> "Progress":
        if self._bar is None:
            from rich.progress import MofNCompleteColumn, Progress, TextColumn

            from orchestrator.cli.columns import Bar, Remaining

            self._bar = Progress(
                TextColumn("{task.description}"),
                Bar(small_bar(self._errors.width)),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}", markup=False),
                Remaining(),
                console=self._errors,
            )
            self._task = self._bar.add_task("", total=None, words="", remaining=True)
            with _heard():
                self._bar.start()
        return self._bar


def small_bar(width: int) -> int:
    """Columns of a bar that has words of its own beside it, on a terminal of so many."""
    return 16 if width >= _ROOMY else 4


def _write_all(stream: BinaryIO, data: bytes) -> None:
    # With PYTHONUNBUFFERED a signal may cut a write short.
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
    stream.flush()


@contextmanager
def _heard() -> Iterator[None]:
    # BrokenPipeError on POSIX; Windows says EINVAL, a full disk ENOSPC, a terminal that is gone EIO.
    try:
        yield
    except OSError as error:
        raise Unheard from error


_SHOWN = ("phase", "step", "total", "unit", "rate", "eta_s")


def printable(text: str) -> str:
    """`text` without what a terminal or a UTF-8 file cannot take: control characters and lone surrogates."""
    kept = "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)
    return kept.encode("utf-8", "backslashreplace").decode()
