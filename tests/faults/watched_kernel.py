"""The real kernel, and two things more: `python watched_kernel.py FOLDER`.

It takes its time, as with a larger model: with the demo tagger it would be done before it can be killed. And
each job that it does has a file in FOLDER, locked from its beginning to its end. A lock goes with its
process, so one that is taken means that two processes do one job: that is written into FOLDER/overlaps.
"""

import fcntl
import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Final

from kernel import __main__, jobs

_FOLDER: Final = Path(sys.argv[1])
#: Seconds that a batch takes longer.
_STEP_S: Final = 0.006
_held: Final[dict[str, BinaryIO]] = {}


class _WatchedJob(jobs.Job):
    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        file = open(_FOLDER / f"{self.job_id}.lock", "ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with open(_FOLDER / "overlaps", "a", encoding="ascii") as overlaps:
                overlaps.write(f"{self.job_id} {os.getpid()}\n")
        with open(_FOLDER / "begun", "a", encoding="ascii") as begun:
            begun.write(f"{self.job_id} {self.attempt} {os.getpid()}\n")
        _held[self.job_id] = file

    def progress(self, *said: Any, **named: Any) -> None:
        super().progress(*said, **named)
        time.sleep(_STEP_S)

    def end(self, *outcome: Any, **named: Any) -> None:
        super().end(*outcome, **named)
        if (file := _held.pop(self.job_id, None)) is not None:
            file.close()


if __name__ == "__main__":
    # The session takes it from there, and is loaded later.
    vars(jobs)["Job"] = _WatchedJob
    sys.exit(__main__.main([]))
