"""`lorakeet-kernel`: guard the descriptors, watch the parent, serve, exit with a code.

Exit codes: 0 asked to (`exit`, end of stdin, SIGTERM, SIGINT), 1 bug, 3 parent gone, 4 no handshake.
`--contract` prints the OpenRPC document instead.
"""

import os
import sys
from typing import NoReturn

from kernel import descriptors
from kernel.lifetime import EXIT_BUG, Lifetime, Watch


def main() -> int:
    """Be a kernel. Nothing from outside the standard library is imported before the wire is safe."""
    if "--contract" in sys.argv[1:]:
        return _print_contract()
    wire = descriptors.take()
    lifetime = Lifetime()
    watch = Watch(lifetime)
    try:
        from kernel.serve import serve

        code = serve(wire, lifetime, watch)
    except Exception:  # noqa: BLE001  the top of the process
        sys.excepthook(*sys.exc_info())
        code = EXIT_BUG
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End now: a thread inside a native call must not hold up a process that has said all it had to say."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
    os._exit(code)


def _print_contract() -> int:
    from contract.export import openrpc, pretty

    sys.stdout.buffer.write(pretty(openrpc()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
