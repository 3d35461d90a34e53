"""Writes the kernel's lines of the scenarios anew, from a real kernel. README.md says when and why.

python -m tests.golden.record [SCENARIO…]
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.golden import files
from tests.golden.replay import SCENARIOS, Ear, names, read
from tests.golden.transcript import Message, Step, dump, joined, render
from tests.kernel_process import KernelProcess

#: What stands for the value of a field that differs from run to run, or from machine to machine.
PLACEHOLDERS: Final[Mapping[str, str]] = {
    "instance_id": "$id:instance",
    "version": "$string",
    "pid": "$int",
    "uptime_s": "$float",
    "seq": "$int",
    "score": "$float",
    "rate": "$float",
    "eta_s": "$float",
    "provider": "$any",
    "trace_id": "$string",
    "warnings": "$any",
    "progress": "$any",
    "memory": "$any",
}
#: What is computed, which differs in its last bits from machine to machine, as do hashes of files with it.
COMPUTED: Final = frozenset(
    ("error", "norm", "sum_retained", "fro_retained")
    + ("loss", "loss_average", "grad_norm", "seconds", "images_per_s", "data_wait")
)
#: Fields that hold many numbers by name.
NUMBERS: Final = frozenset(("timings", "rating", "rates"))
_TRACE = re.compile(r"trace [0-9a-f]{12}")
_REFUSED = frozenset(("already_running", "busy", "conflict", "shutting_down"))


def record(steps: list[Step], kernel: KernelProcess, variables: Mapping[str, str]) -> list[Step]:
    """`steps` with what `kernel` says now."""
    return list(_record(steps, Ear(kernel), variables))


def _record(steps: list[Step], ear: Ear, variables: Mapping[str, str]) -> Iterator[Step]:
    for action, value in steps:
        if action == "exit":
            yield Step("exit", ear.end())
        elif action != "<":
            ear.say(Step(action, render(value, variables)))
            yield Step(action, value)
        elif "id" in value:
            for message in _heard(ear, value["id"]):
                yield Step("<", generalized(message, variables))
        elif value["method"] == "kernel/state":
            ear.state()
            yield Step("<", {"jsonrpc": "2.0", "method": "kernel/state", "params": "$any"})


def _heard(ear: Ear, request_id: Any) -> Iterator[Message]:
    """A response, and before it what belongs to the job that it ends."""
    response = ear.response(request_id)
    kind = response.get("error", {}).get("data", {}).get("kind")
    yield from ear.logs
    ear.logs.clear()
    if kind not in _REFUSED:
        yield from joined(ear.jobs.pop(ear.job_of(request_id), []))
    yield {name: response[name] for name in ("jsonrpc", "id", "result", "error") if name in response}


def generalized(value: Any, variables: Mapping[str, str], name: str = "") -> Any:
    """`value` with placeholders for what differs from run to run, and names for folders."""
    if name in PLACEHOLDERS:
        return PLACEHOLDERS[name]
    if name in COMPUTED and isinstance(value, float):
        return "$float"
    if name == "sha256" and isinstance(value, str):
        return "$string"
    if name == "state" and not isinstance(value, str):
        return "$any"
    if name in NUMBERS:
        # A job that was canceled has come this far or that far.
        return dict.fromkeys(value, "$float") if value and isinstance(value, dict) else "$any"
    if isinstance(value, dict):
        said = {key: generalized(item, variables, key) for key, item in value.items()}
        # What was trained says when, in more or fewer digits.
        return said | {"bytes": "$int"} if "bytes" in said and _is_trained(said) else said
    if isinstance(value, list):
        return [generalized(item, variables) for item in value]
    return _named(value, variables) if isinstance(value, str) else value


def _is_trained(said: Message) -> bool:
    return any(isinstance(each, str) and each.startswith("${training}") for each in said.values())


def _named(text: str, variables: Mapping[str, str]) -> str:
    if _TRACE.search(text):
        return "$string"
    for name, path in sorted(variables.items(), key=lambda item: -len(item[1])):
        text = text.replace(path, f"${{{name}}}")
    return text


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.record", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all, if none is named")
    wanted = parser.parse_args().scenarios or names()
    with tempfile.TemporaryDirectory() as folder:
        variables = files.build(Path(folder))
        for name in wanted:
            with KernelProcess() as kernel:
                steps = record(read(name), kernel, variables)
            (SCENARIOS / f"{name}.jsonl").write_text(dump(steps), encoding="utf-8", newline="\n")
            sys.stderr.write(f"{name}: {len(steps)} lines\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
