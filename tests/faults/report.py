"""What the fault suite has done, counted: into `build/fault-report.json`, and into the end of the output."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.conftest import ROOT
from tests.faults.seeds import SEED, VARIABLE, chance

FILE: Final = ROOT / "build" / "fault-report.json"


class Trial:
    """One repetition. `chance` is its own; what it counts comes into the report, and what it notes stands
    beside a failure."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.chance: random.Random = chance(name, number)
        self.counts: Counter[str] = Counter()
        self.notes: dict[str, Any] = {}

    def count(self, what: str, times: int = 1) -> None:
        """Add to a number of the report."""
        self.counts[what] += times

    def note(self, **facts: Any) -> None:
        """Remember what helps to understand a failure."""
        self.notes |= facts


class Class:
    """All trials of one kind."""

    def __init__(self) -> None:
        self.trials = 0
        self.seconds = 0.0
        self.counts: Counter[str] = Counter()
        self.failures: list[dict[str, Any]] = []

    def as_json(self) -> dict[str, Any]:
        return {
            "trials": self.trials,
            "failed": len(self.failures),
            "seconds": round(self.seconds, 1),
            "counts": dict(sorted(self.counts.items())),
            "failures": self.failures,
        }

    def line(self) -> str:
        """For people."""
        said = "".join(f", {count} {what}" for what, count in sorted(self.counts.items()))
        return f"{self.trials} trials, {len(self.failures)} failed{said} ({self.seconds:.0f} s)"


class Report:
    """Of one run of pytest."""

    def __init__(self) -> None:
        self.classes: dict[str, Class] = {}

    @contextmanager
    def trial(self, name: str, number: int) -> Iterator[Trial]:
        """One repetition; a failure says how to have it again."""
        trial = Trial(name, number)
        known = self.classes.setdefault(name, Class())
        started = time.monotonic()
        try:
            yield trial
        except BaseException as error:
            error.add_note(f"{VARIABLE}={SEED}, {name} number {number}, {trial.notes}")
            known.failures.append({"number": number, "error": repr(error)[:2000], "notes": repr(trial.notes)})
            raise
        finally:
            known.trials += 1
            known.seconds += time.monotonic() - started
            known.counts += trial.counts

    def write(self, path: Path = FILE) -> None:
        """Keep it."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n", "utf-8")

    def as_json(self) -> Mapping[str, Any]:
        return {
            "seed": SEED,
            "classes": {name: each.as_json() for name, each in sorted(self.classes.items())},
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"seed {SEED}; the same again: {VARIABLE}={SEED}"
        for name, each in sorted(self.classes.items()):
            yield f"{name}: {each.line()}"


#: Of this run.
REPORT: Final = Report()
