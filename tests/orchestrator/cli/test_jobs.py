"""`lorakeet jobs`, `datasets` and `tag --queue`: real photographs through the studio's queue."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.exits import Exit
from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, Done, lorakeet
from tests.orchestrator.cli.conftest import CAPTIONS
from tests.orchestrator.own_studio import Serving


@pytest.fixture
def home() -> Path:
    return Path(os.environ["LORAKEET_HOME"])


@pytest.fixture
def tagger(home: Path, demo_tagger: Path) -> Path:
    """The demo tagger where the studio may use it."""
    return Path(shutil.copytree(demo_tagger, home / "models" / "taggers" / "demo"))


@pytest.fixture(params=["alone", "beside a studio"])
def store(request: pytest.FixtureRequest, home: Path) -> Iterator[Path]:
    with Serving(home) if request.param == "beside a studio" else nullcontext():
        yield home


def said(*arguments: str | Path) -> Done:
    """A command that goes well, in JSON."""
    done = lorakeet("--json", *arguments)
    assert done.code == Exit.DONE, done.stdout + done.stderr
    return done


def the(done: Done, name: str) -> dict[str, Any]:
    (event,) = done.of(name)
    found: dict[str, Any] = event["job" if name == "queued" else name]
    return found


def queued(photographs: Path, tagger: Path, *arguments: str) -> str:
    """The id of a tagging job in the queue; the photographs are a dataset."""
    if not any(
        each["dataset"]["name"] == photographs.name for each in said("datasets", "list").of("dataset")
    ):
        said("datasets", "add", photographs)
    id: str = the(said("tag", photographs, "--queue", "--model", tagger, *arguments), "queued")["id"]
    return id


@contextmanager
def following(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [*LORAKEET, "--json", "jobs", "follow", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


def paused(studio: Serving, *, paused: bool) -> None:
    with studio.client() as client:
        etag = client.get("/queue").headers["etag"]
        client.patch("/queue", json={"paused": paused}, headers={"if-match": etag}).raise_for_status()


def test_a_folder_becomes_a_dataset_where_it_lies(store: Path, photographs: Path) -> None:
    dataset = the(said("datasets", "add", photographs, "--name", "holidays"), "dataset")
    assert (dataset["name"], dataset["root"], dataset["path"]) == ("holidays", "photographs", "")
    roots = said("settings", "get", "roots").of("setting")[0]["value"]
    assert [(each["id"], each["path"]) for each in roots] == [("photographs", str(photographs))]
    again = lorakeet("datasets", "add", photographs)
    assert again.code == Exit.REFUSED
    assert lorakeet("datasets", "list").stdout.split()[:2] == [dataset["id"], "holidays"]
    assert lorakeet("datasets", "show", "holidays").code == Exit.DONE
    assert lorakeet("datasets", "show", "nothing").code == Exit.REFUSED
    assert lorakeet("datasets", "add", photographs / "missing").code == Exit.REFUSED


def test_a_folder_below_another_needs_no_new_root(home: Path, photographs: Path) -> None:
    said("settings", "set", "roots", json.dumps([{"id": "mine", "path": str(photographs)}]))
    for name in ("cats", "dogs"):
        (photographs / name).mkdir()
        dataset = the(said("datasets", "add", photographs / name), "dataset")
        assert (dataset["root"], dataset["path"]) == ("mine", name)


def test_a_dataset_of_the_studio_s_own_is_made(store: Path) -> None:
    dataset = the(said("datasets", "create", "cats"), "dataset")
    assert (dataset["root"], dataset["managed"]) == ("datasets", True)
    assert (store / "datasets" / dataset["path"]).is_dir()


def test_a_queued_job_waits_moves_ends_and_is_tried_again(
    home: Path, photographs: Path, tagger: Path
) -> None:
    first, second = queued(photographs, tagger), queued(photographs, tagger, "--existing", "overwrite")
    waiting = [each["job"]["id"] for each in said("jobs", "list", "--queue").of("job")]
    assert waiting[-2:] == [first, second]
    assert the(said("jobs", "reorder", second, "--before", first), "queue")["waiting"][-2:] == [second, first]
    assert the(said("jobs", "reorder", first, "--first"), "queue")["waiting"][0] == first
    assert the(said("jobs", "cancel", "last"), "job")["state"] == "canceled"
    assert [each["job"]["id"] for each in said("jobs", "list", "--state", "canceled").of("job")] == [second]
    shown = lorakeet("jobs", "show", second).stdout
    assert "canceled" in shown and "general_threshold = 0.35" in shown and "(created)" in shown
    retried = the(said("jobs", "retry", second), "job")
    assert (retried["state"], retried["attempt"]) == ("queued", 2)
    assert lorakeet("jobs", "retry", second).code == Exit.REFUSED
    assert said("jobs", "log", first).events == []
    assert lorakeet("jobs", "follow", first).code == Exit.NO_STUDIO


def test_a_job_is_followed_to_its_end(home: Path, photographs: Path, tagger: Path) -> None:
    with Serving(home):
        done = said("jobs", "follow", queued(photographs, tagger))
        items = [item for event in done.of("items") for item in event["items"]]
        assert {item["path"]: item["caption"] for item in items} == CAPTIONS
        assert {event["phase"] for event in done.of("progress")} >= {"tag"}
        finished = done.of("finished")[0]["job"]
        assert (finished["state"], finished["outcome"]["written"]) == ("succeeded", len(CAPTIONS))
        assert done.events[0]["event"] == "job" and done.events[-1]["event"] == "finished"
        assert CAPTIONS["rocket.jpg"] in lorakeet("datasets", "show", "photographs").stdout
        again = lorakeet("jobs", "follow", "last")
        assert (again.code, "succeeded" in again.stdout) == (Exit.DONE, True)
        assert "4/4" in lorakeet("jobs", "list").stdout


def test_a_job_that_fails_ends_the_command_with_the_code_of_its_error(
    home: Path, photographs: Path, tagger: Path
) -> None:
    (tagger / "model.onnx").write_bytes(b"no model")
    with Serving(home):
        done = lorakeet("jobs", "follow", queued(photographs, tagger))
    assert done.code == Exit.REFUSED, done.stdout + done.stderr
    assert "failed" in done.stdout


def test_a_job_that_is_canceled_while_it_is_followed_says_so(
    home: Path, photographs: Path, tagger: Path
) -> None:
    with Serving(home) as studio:
        paused(studio, paused=True)
        job_id = queued(photographs, tagger)
        with following(job_id) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["job"]["state"] == "queued"
            said("jobs", "cancel", job_id)
            events = [json.loads(line) for line in process.stdout]
            assert process.wait(TIMEOUT_S) == Exit.NO_KERNEL
    assert events[-1]["job"]["state"] == "canceled"


def test_a_job_is_followed_over_a_restart_of_the_studio(home: Path, photographs: Path, tagger: Path) -> None:
    with Serving(home) as studio:
        paused(studio, paused=True)
        job_id = queued(photographs, tagger)
        with following(job_id) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "job"
            studio.kill()
            with Serving(home) as other:
                paused(other, paused=False)
                events = [json.loads(line) for line in process.stdout]
                assert process.wait(TIMEOUT_S) == Exit.DONE
    assert sum(len(each["items"]) for each in events if each["event"] == "items") == len(CAPTIONS)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_who_stops_following_does_not_stop_the_job(home: Path, photographs: Path, tagger: Path) -> None:
    with Serving(home) as studio:
        paused(studio, paused=True)
        job_id = queued(photographs, tagger)
        with following(job_id) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == Exit.INTERRUPTED
        assert the(said("jobs", "show", job_id), "job")["state"] == "queued"


def test_only_a_dataset_is_queued_and_only_as_it_is(home: Path, photographs: Path, tagger: Path) -> None:
    done = lorakeet("tag", photographs, "--queue", "--model", tagger)
    assert (done.code, "lorakeet datasets add" in done.stderr) == (Exit.REFUSED, True)
    said("datasets", "add", photographs)
    done = lorakeet("tag", photographs, "--queue", "--recursive", "--model", tagger)
    assert (done.code, "--recursive" in done.stderr) == (Exit.USAGE, True)


def test_what_is_no_id_is_said_so_and_last_needs_a_job(home: Path) -> None:
    assert lorakeet("jobs", "show", "../etc").code == Exit.USAGE
    assert lorakeet("jobs", "show", "job_01JD4Q6T9V3XK2M8N5R7W0Y1Z4").code == Exit.REFUSED
    assert lorakeet("jobs", "show", "last").code == Exit.REFUSED
    assert lorakeet("jobs", "log", "last", "--tail", "0").code == Exit.USAGE
    assert lorakeet("jobs", "reorder", "last").code == Exit.USAGE
