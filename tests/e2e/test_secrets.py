"""Everything that a studio writes, says and starts in a long day, searched for the secrets it was told."""

import json
import shlex
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from orchestrator.api.operations import operations
from orchestrator.cli.serve import TOKEN_VARIABLE
from tests.e2e import talkative_kernel
from tests.e2e.journey import JOB_S, begun, tagging
from tests.e2e.owned import Owned, owned
from tests.e2e.samples import body_of, path_of
from tests.e2e.secrecy import found
from tests.studio_process import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="looks into /proc and at modes of files")

KEY: Final = 'hf_C4nary"/+%\\~&=end'
ENVIRONMENT: Final = {
    # Never that of the person who runs the tests.
    "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    "LORAKEET_KERNEL": shlex.join([sys.executable, "-P", str(Path(talkative_kernel.__file__))]),
}
#: Where a secret may lie, by the name of the file: readable for its owner alone.
ALLOWED: Final = {"studio.token": ["local"], "secrets": ["key"]}
#: Of jobs that end in different ways, one after another.
JOBS: Final = ("failed", "succeeded", "failed")

Secrets = dict[str, str]


@pytest.mark.parametrize("disguise", talkative_kernel.disguises(KEY))
def test_what_is_searched_for_would_be_found(disguise: str) -> None:
    assert found({"key": KEY}, f'{{"said": "…{disguise}…"}}'.encode()) == ["key"]
    assert found({"key": KEY[:-1] + "?"}, disguise.encode()) == []


def _ended(client: httpx.Client, job: str) -> Any:
    view = client.get(f"/jobs/{job}").raise_for_status().json()
    return view if view["finished_at"] else None


def _run_jobs(client: httpx.Client, dataset: str) -> Iterator[str]:
    for expected in JOBS:
        job: str = client.post("/jobs", json=tagging(dataset)).raise_for_status().json()["id"]
        assert until(partial(_ended, client, job), JOB_S)["state"] == expected
        yield job


def _mistakes(studio: Owned, client: httpx.Client, secrets: Secrets) -> Iterator[bytes]:
    """What the studio answers to people who send secrets where they do not belong."""
    query = {"token": secrets["token"], "code": secrets["code"]}
    for each in operations():
        url = client.base_url.copy_with(path=path_of(each, {}))
        yield client.request(each.method, url, params=query).content
        if each.body is not None:
            body = json.loads(body_of(each)) | {"unknown": list(secrets.values())}
            yield client.request(each.method, url, json=body).content
    for value in (f"{KEY} ", [KEY], {"key": KEY}):
        yield client.put("/keys/huggingface", json={"value": value}).content
    yield client.put("/keys/nobody", json={"value": KEY}).content
    yield client.put("/keys/huggingface", content=json.dumps({"value": KEY})[:-1]).content
    for code in (secrets["code"], secrets["token"]):
        yield httpx.get(f"{studio.origin}/login", params={"code": code}).content
    yield httpx.post(f"{studio.origin}/login", data={"token": secrets["session"]}).content


def _answers(client: httpx.Client, ids: dict[str, str]) -> Iterator[bytes]:
    """Everything that can be read."""
    for each in operations():
        if each.method == "GET" and each.gives != "text/event-stream":
            yield client.get(client.base_url.copy_with(path=path_of(each, ids))).content


def _events(client: httpx.Client, jobs: list[str]) -> bytes:
    """Every event up to now."""
    client.post("/presets", json={"kind": "tag", "name": "The end", "settings": {}}).raise_for_status()
    topics = ["queue", "jobs", "datasets", "models", "settings", "presets", "system"]
    asked = {"topics": ",".join([*topics, *(f"job:{job}" for job in jobs)]), "after": "0"}
    told = b""
    with client.stream("GET", "/events", params=asked) as stream:
        for chunk in stream.iter_bytes():
            told += chunk
            if b"The end" in told:
                return told
    raise AssertionError("the stream has ended early")


def _processes(studio: Owned, *, with_own: bool = True) -> Iterator[tuple[str, bytes]]:
    """What everybody here sees of the studio's processes, and the same user of their environment."""
    own = psutil.Process(studio.process.pid)
    for process in (*([own] if with_own else []), *own.children(recursive=True)):
        for name in ("cmdline", "environ"):
            with suppress(FileNotFoundError, ProcessLookupError):
                yield f"{name} of {process.pid}", Path(f"/proc/{process.pid}/{name}").read_bytes()


def _written(home: Path) -> Iterator[tuple[str, bytes]]:
    for path in home.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()
        if path.suffix == ".db":
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
                yield path.name, b"".join(_values(database))


def _values(database: sqlite3.Connection) -> Iterator[bytes]:
    names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (name,) in names:
        for row in database.execute(f'SELECT * FROM "{name}"'):
            yield from (each if isinstance(each, bytes) else str(each).encode() for each in row)


def _said(studio: Owned) -> Iterator[tuple[str, bytes]]:
    """In the terminal, beside the one line that has the link and the token."""
    lines = [line for line in studio.process.stdout.splitlines() if '"ready"' not in line]
    yield "stdout", "\n".join(lines).encode()
    yield "stderr", studio.process.stderr.encode()


def _leaks(secrets: Secrets, places: Iterator[tuple[str, bytes]]) -> list[tuple[str, list[str]]]:
    return [
        (place, names)
        for place, data in places
        if (names := [name for name in found(secrets, data) if name not in ALLOWED.get(place, [])])
    ]


def _told(studio: Owned) -> Secrets:
    """Every secret that there is before anything happens, and the user's key."""
    return {
        "token": studio.token,
        "local": studio.process.token,
        "code": studio.process.ready["link"].rpartition("=")[2],
        "fresh code": studio.new_code(),
        "session": studio.cookie,
        "key": KEY,
    }


def _long_day(studio: Owned, client: httpx.Client, secrets: Secrets) -> Iterator[tuple[str, bytes]]:
    """Whatever the studio says, and what its processes show, from the key on to a new token."""
    client.put("/keys/huggingface", json={"value": KEY}).raise_for_status()
    ids = begun(studio)
    jobs = []
    for job in _run_jobs(client, ids["dataset_id"]):
        jobs.append(job)
        yield from _processes(studio)
    for job in jobs:
        yield from (("an answer", each) for each in _answers(client, ids | {"job_id": job}))
    yield "the events", _events(client, jobs)
    yield from (("the answer to a mistake", each) for each in _mistakes(studio, client, secrets))
    secrets["new token"] = client.post("/session/token/rotate").raise_for_status().json()["token"]


def test_no_secret_is_anywhere_but_where_it_belongs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with owned(home, env=ENVIRONMENT) as studio, studio.client() as client:
        secrets = _told(studio)
        assert _leaks(secrets, _long_day(studio, client, secrets)) == []
        assert _leaks(secrets, _written(home)) == []
        assert {name for name in ALLOWED if not (home / name).is_file()} == set()
        assert {stat.S_IMODE((home / name).stat().st_mode) for name in (*ALLOWED, "studio.json")} == {0o600}
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert _leaks(secrets, _said(studio)) == []
    assert _leaks(secrets, _written(home)) == []
    assert not (home / "studio.token").exists()


def test_a_token_from_the_environment_is_handed_on_to_nobody(tmp_path: Path) -> None:
    token = "lk_given_from_outside_for_this_run_only"
    with owned(tmp_path / "home", env={**ENVIRONMENT, TOKEN_VARIABLE: token}) as studio:
        ids = begun(studio)
        with studio.client() as client:
            next(_run_jobs(client, ids["dataset_id"]))
            assert {place.partition(" ")[0] for place, _ in _processes(studio, with_own=False)} == {
                "cmdline",
                "environ",
            }
            assert _leaks({"token": token}, _processes(studio, with_own=False)) == []
        assert _leaks({"token": token}, _written(tmp_path / "home")) == []
    assert _leaks({"token": token}, iter([("stdout", studio.process.stdout.encode())])) == []
