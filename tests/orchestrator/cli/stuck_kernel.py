"""A real kernel that never gets past one picture: `python stuck_kernel.py NUMBER`.

Pictures whose file name is that number or a higher one are never decoded, so that a job can only be ended
from outside, however fast the machine is.
"""

import sys
import threading
from pathlib import Path
from typing import Any

from kernel.__main__ import main
from kernel.engines import pictures


def stick(first: int) -> None:
    """Decode no picture from number `first` on."""
    decode = pictures.prepare

    def prepare(path: str, *arguments: Any, **options: Any) -> pictures.Prepared:
        if int(Path(path).stem) >= first:
            threading.Event().wait()
        return decode(path, *arguments, **options)

    pictures.prepare = prepare


if __name__ == "__main__":
    stick(int(sys.argv[1]))
    main([])
