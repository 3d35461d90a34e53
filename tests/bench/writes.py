"""Writes that the studio has acknowledged, against commits of SQLite with `synchronous=FULL` on that disk."""

import json
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.bench.figures import Figure, Report, interleaved, median
from tests.bench.http_load import Load, closed_loop, request
from tests.studio_process import StudioProcess

_TARGET = 0.5
#: Browsers open six connections, and scripts come beside them.
_CONNECTIONS = 8


def run(quick: bool) -> Report:
    """Presets made a second, over several connections and over one, in turn with raw commits."""
    rounds, seconds = (1, 0.2) if quick else (7, 2.0)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "studio"
        with StudioProcess(home) as studio:
            made = _Presets(studio)
            found = interleaved(
                rounds,
                {
                    "raw": lambda: _raw_commits(Path(folder), seconds),
                    "many": lambda: made.rate(_CONNECTIONS, seconds),
                    "one": lambda: made.rate(1, seconds),
                },
            )
        with closing(sqlite3.connect(home / "control.db")) as control:
            kept = control.execute("SELECT count(*) FROM presets").fetchone()[0]
    raw, many, one = (median(found[name]) for name in ("raw", "many", "one"))
    notes = [
        f"over one connection: {one:.0f} writes/s, ratio {one / raw:.2f}",
        f"{made.acknowledged} acknowledged, {kept} found in the database afterwards",
    ]
    if kept != made.acknowledged:
        raise RuntimeError(notes[-1])
    figure = Figure(f"writes over {_CONNECTIONS} connections", many, raw, "/s", _TARGET, at_least=True)
    return Report([figure], notes)


class _Presets:
    """Makes presets, each of another name."""

    def __init__(self, studio: StudioProcess) -> None:
        host, _, port = studio.url.removeprefix("http://").partition(":")
        self._address = (host, int(port))
        self._headers = {"host": f"{host}:{port}", "authorization": f"Bearer {studio.token}"}
        self._rounds = 0
        self.acknowledged = 0

    def rate(self, connections: int, seconds: float) -> float:
        self._rounds += 1
        load = closed_loop(self._address, self._request, connections, seconds)
        self._check(load)
        return load.rate

    def _check(self, load: Load) -> None:
        if set(load.statuses) != {201}:
            raise RuntimeError(f"answers: {load.statuses}")
        self.acknowledged += load.statuses[201]

    def _request(self, number: int) -> bytes:
        name = f"preset {self._rounds} {number}"
        body = {"kind": "tag", "name": name, "settings": {"general_threshold": 0.4}}
        return request("POST", "/api/v1/presets", self._headers, json.dumps(body).encode())


def _raw_commits(folder: Path, seconds: float) -> float:
    """Rows of the same size a second, one a commit."""
    row = ("x" * 120,)
    with closing(sqlite3.connect(folder / "raw.db", isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, text TEXT)")
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            raw.execute("INSERT INTO rows (text) VALUES (?)", row)
            count += 1
        return count / (time.perf_counter() - began)
