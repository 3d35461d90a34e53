"""`lorakeet-kernel`: guard the descriptors, watch the parent, serve, exit with a code.

Exit codes: 0 asked to (`exit`, end of stdin, SIGTERM, SIGINT), 1 bug, or jobs that did not end within the
grace, 2 unknown argument, 3 parent gone, 4 `initialize` was refused; 128 + n at a signal n while it is
leaving already. A signal before the watch is up ends the process as the system does.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

_USAGE = """usage: lorakeet-kernel [--contract | --version | --help]

Without arguments it is a kernel: JSON-RPC 2.0, one object a line, on stdin and stdout, for a program to
drive. --contract prints the OpenRPC document of all it says and takes.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Be a kernel. Nothing from outside the standard library is imported before the wire is safe."""
    if asked := list(sys.argv[1:] if arguments is None else arguments):
        return _tell(asked)
    # Until the watch takes signals over, Ctrl+C would be a traceback of KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Numpy's matrices are small here, and on cores that others use, too, its threads spend their time waiting
    # for each other: twenty times as long. It reads this when it is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from kernel import descriptors
    from kernel.lifetime import EXIT_BUG, Lifetime, Watch

    wire = descriptors.take()
    lifetime = Lifetime()
    watch = Watch(lifetime)
    try:
        from kernel.serve import serve

        code = serve(wire, lifetime, watch)
    except BaseException:  # noqa: BLE001  the top of the process; Rust's panics are no Exception
        sys.excepthook(*sys.exc_info())
        code = EXIT_BUG
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End now: a thread inside a native call must not hold up a process that has said all it had to say.

    A host that does not read stderr delays the end by a moment only.
    """
    from kernel.noise import last_words

    last_words()
    os._exit(code)


def _tell(asked: Sequence[str]) -> int:
    """Answer a person; the exit code."""
    from kernel import __version__

    match asked:
        case ["--contract"]:
            from contract.export import openrpc, pretty

            sys.stdout.buffer.write(pretty(openrpc()))
        case ["--version"]:
            sys.stdout.write(f"lorakeet-kernel {__version__}\n")
        case ["--help" | "-h"]:
            sys.stdout.write(_USAGE)
        case _:
            sys.stderr.write(_USAGE)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
