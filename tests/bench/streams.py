"""Many readers of the event stream: nothing lost, nothing doubled, and how late; and readers that stall."""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.bench.child import cpu_s, environment, memory_mb
from tests.bench.figures import Figure, Report
from tests.studio_process import StudioProcess

_HZ = 10.0
_LAG_MS = 500.0
_RSS_MB = 200.0
_MARKER = '"description":"sent '


def run_100(quick: bool) -> Report:
    """100 readers at 10 Hz."""
    return _run("100 readers", 10 if quick else 100, 0, 0.5 if quick else 10.0)


def run_1000(quick: bool) -> Report:
    """1,000 readers at 10 Hz."""
    return _run("1,000 readers", 20 if quick else 1_000, 0, 0.5 if quick else 60.0)


def run_stalled(quick: bool) -> Report:
    """10 readers who read, beside 200 who never do."""
    return _run("10 readers beside 200 stalled ones", 10, 20 if quick else 200, 0.5 if quick else 20.0)


def _run(what: str, readers: int, stalled: int, seconds: float) -> Report:
    with tempfile.TemporaryDirectory() as folder, StudioProcess(Path(folder) / "studio") as studio:
        crowd = Crowd(studio, readers, stalled)
        before = cpu_s(studio.pid)
        sent, asked_ms = _publish(studio, seconds)
        cpu = (cpu_s(studio.pid) - before) / seconds
        memory = memory_mb(studio.pid)
        seen = crowd.report()
    if seen["differing"] or seen["doubled"] or seen["per_reader"] != sent:
        raise RuntimeError(f"{sent} events sent, seen {seen}")
    asked_ms.sort()
    floor_ms = asked_ms[len(asked_ms) // 2]
    figures = [
        Figure(f"{what}, lag p99", seen["p99_ms"], floor_ms, "ms", _LAG_MS, "value"),
        Figure(f"{what}, VmRSS", memory["VmRSS"], memory["RssAnon"], "MB", _RSS_MB, "value"),
    ]
    notes = [
        f"{sent} events, each seen once by all; lag p50 {seen['p50_ms']:.1f}, max {seen['max_ms']:.1f} ms",
        f"writing an event meanwhile: p50 {floor_ms:.1f} (the floor), max {asked_ms[-1]:.1f} ms",
        f"studio: {cpu * 100:.0f} % of a core",
    ]
    return Report(figures, notes)


class Crowd:
    """Readers in a process of their own, all connected."""

    def __init__(self, studio: StudioProcess, readers: int, stalled: int) -> None:
        host, _, port = studio.url.removeprefix("http://").partition(":")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.sse_readers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        asked = {
            "host": host,
            "port": int(port),
            "path": "/api/v1/events?topics=presets",
            "headers": {"Host": f"{host}:{port}", "Authorization": f"Bearer {studio.token}"},
            "readers": readers,
            "stalled": stalled,
            "marker": _MARKER,
        }
        self._say(json.dumps(asked))
        if self._line() != "ready\n":
            raise RuntimeError("the readers did not connect")

    def report(self) -> dict[str, Any]:
        """What they saw; the last of it may still be on its way when this is called."""
        time.sleep(1.0)
        self._say("stop")
        seen: dict[str, Any] = json.loads(self._line())
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)
        return seen

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def _publish(studio: StudioProcess, seconds: float) -> tuple[int, list[float]]:
    """Change a preset ten times a second; how often, and the milliseconds each took."""
    took: list[float] = []
    with studio.client() as client:
        made = client.post("/presets", json={"kind": "tag", "name": "a", "settings": {}})
        place, etag = httpx.URL(studio.url + made.headers["location"]), made.headers["etag"]
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            body = {"name": "a", "description": f"sent {time.time_ns()}", "settings": {}}
            asked = time.perf_counter()
            answer = client.put(place, json=body, headers={"if-match": etag})
            took.append((time.perf_counter() - asked) * 1e3)
            etag = answer.raise_for_status().headers["etag"]
            time.sleep(max(0.0, began + len(took) / _HZ - time.monotonic()))
    return len(took), took
