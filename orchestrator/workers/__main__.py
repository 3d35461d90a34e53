"""`python -m orchestrator.workers`: be a worker. Started by `pool`, never by people."""

import faulthandler
from typing import NoReturn

from orchestrator.workers import descriptors


def main() -> NoReturn:
    """Serve the pool at the other end of stdin until that ends."""
    pipes = descriptors.take()
    # Where a decoder crashed is all that can be known of it.
    faulthandler.enable()
    from orchestrator.workers.confinement import end_with_parent
    from orchestrator.workers.service import serve

    end_with_parent()
    serve(pipes)


if __name__ == "__main__":
    main()
