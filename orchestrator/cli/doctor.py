"""`lorakeet doctor`: what is installed, on what it can run, what is wrong, and the command that mends it."""

import argparse
from collections.abc import Iterator

import msgspec

from contract.notifications import Device
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.machine.doctor import Report, examine, size


def add(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Look at everything, try everything, say everything."""
    report = await examine(arguments.home)
    output.event("report", **msgspec.to_builtins(report))
    for line in _lines(report):
        output.say(line)
    return Exit.PROBLEMS if report.problems else Exit.DONE


def _lines(report: Report) -> Iterator[str]:
    yield f"Lorakeet {report.lorakeet}, Python {report.python}, {report.platform}"
    yield "Packages: " + ", ".join(f"{name} {version}" for name, version in report.packages.items())
    yield f"Data: {report.home}, " + (
        "no disk" if report.disk_free is None else f"{size(report.disk_free)} free"
    )
    if report.kernel_version is not None:
        yield f"Kernel {report.kernel_version}: {' '.join(report.kernel_command or ())}"
    yield from (f"  device {each.id}: {each.name}, {_memory(each)}" for each in report.devices)
    if report.engines:
        yield "  installed: " + ", ".join(f"{name} {version}" for name, version in report.engines.items())
    for engine in report.probes:
        works = (
            f"works on {', '.join(engine.providers)}" if engine.loads else f"does not work: {engine.message}"
        )
        yield f"  {engine.name} {works}"
    if not report.problems:
        yield "No problems found."
    for problem in report.problems:
        yield f"Problem: {problem.message}"
        if problem.command:
            yield f"  mend it: {problem.command}"
        if problem.hint:
            yield f"  {problem.hint}"


def _memory(device: Device) -> str:
    if device.memory_total is None:
        return "memory unknown"
    return f"{size(device.memory_free or 0)} of {size(device.memory_total)} free"
