"""`lorakeet`: the first and the last statement of every command. What is between them is in `commands`."""

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code; nothing is loaded before Ctrl+C is safe."""
    # Until the command takes signals over, Ctrl+C would be a traceback of KeyboardInterrupt. Like this it
    # ends the process as the system does, which a shell shows as 130.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A start makes tens of thousands of objects that stay; looking through them again and again for some that
    # do not was a tenth of it. `commands` enables it again.
    gc.disable()
    from orchestrator.cli import streams

    streams.prepare()
    try:
        from orchestrator.cli.commands import run

        code = run(arguments)
    except Exception:  # noqa: BLE001  the top of the process
        sys.excepthook(*sys.exc_info())
        code = 1
    # Now, not by way of Python's own end, where a Ctrl+C would once more be a traceback.
    os._exit(streams.finish(code))
