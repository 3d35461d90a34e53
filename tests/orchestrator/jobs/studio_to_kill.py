"""A studio that starts jobs, says so, and waits to be killed: `python -m … FOLDER DEED`."""

import sys
from pathlib import Path

import anyio

from tests.orchestrator.jobs.deeds import open_bench


async def main(folder: Path, deed: str) -> None:
    async with open_bench(folder) as bench:
        job = await bench.start(deed=deed, times=1)
        await bench.until(job, "running")
        with anyio.fail_after(20):
            while not any(line[0] == job.id for line in bench.journal()):
                await anyio.lowlevel.checkpoint()
        waiting = await bench.start()
        sys.stdout.write(f"{job.id} {waiting.id}\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2])
