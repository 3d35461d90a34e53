"""`lorakeet inspect FILE`: what a file of weights is, through a kernel of the command's own."""

import argparse

from contract.methods.inspect import InspectResult
from orchestrator.cli.exits import Exit
from orchestrator.cli.inspect_shown import shown
from orchestrator.cli.kernel_jobs import own_kernel
from orchestrator.cli.output import Output
from orchestrator.cli.weights import existing_file, folder_of
from orchestrator.settings import load

#: Seconds that a look may take: to hash 100 GB from a slow disk.
_LOOK_S = 900.0


def add(parser: argparse.ArgumentParser) -> None:
    """The file, and what need not be computed."""
    parser.add_argument("file", metavar="FILE", type=existing_file, help="the safetensors file")
    parser.add_argument("--no-hashes", action="store_true", help="do not read the whole file for its hashes")
    parser.add_argument("--no-norms", action="store_true", help="do not compute how strong each block is")
    parser.add_argument(
        "--keys", action="store_true", help="name every key that a program leaves aside, not only the first"
    )


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Look and say. Raises LorakeetError."""
    params = {
        "file": arguments.file,
        "hashes": not arguments.no_hashes,
        "norms": not arguments.no_norms,
    }
    async with own_kernel(load(arguments.home), [folder_of(arguments.file)]) as kernel:
        result: InspectResult = await kernel.call("inspect", params, timeout_s=_LOOK_S)
    output.event("inspected", result=result)
    for line in shown(result, width=output.width, keys=arguments.keys):
        output.say_styled(line)
    return Exit.DONE
