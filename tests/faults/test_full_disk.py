"""A disk that is full at the first, second, … last write of whatever a client does: 507 or done, never half.

Reads go on meanwhile, and everything goes on once there is space again.
"""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults import truth
from tests.faults.homes import Prepared, captions, ended, tag
from tests.faults.operations import OPERATIONS, CreatePreset, Operation, Upload, pause
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.supervisor import FullFrom, Supervisor
from tests.faults.trial_studio import Trace, scripted, studio_of
from tests.studio_process import COMMAND, StudioEnded, StudioProcess, until

READS = ("/presets", "/datasets", "/jobs", "/queue", "/settings", "/models", "/trash", "/system", "/keys")
#: Seconds for which a job is watched on a full disk: what ends it may have to wait for space.
WATCHED_S = 0.7
#: More than any operation does.
NEVER = 1 << 60


class Client:
    """Of a studio whose disk is watched."""

    def __init__(self, studio: StudioProcess, client: httpx.Client, few: Prepared, disk: Supervisor) -> None:
        self.studio, self.http, self.disk = studio, client, disk
        self.datasets = few.datasets
        self._number = 0

    def next_number(self) -> int:
        """Another one every time."""
        self._number += 1
        return self._number

    def ready(self, kind: type[Operation]) -> Operation:
        """An operation that can be done, while the disk is fine."""
        return kind(self.http, self.studio.home, self.datasets, self.next_number())

    def check_reads(self) -> None:
        """They go on, whatever the disk is like."""
        for path in READS:
            assert self.http.get(path).status_code == 200, path


@pytest.fixture
def client(home: Path, few: Prepared, disk: Supervisor, trace: Trace) -> Iterator[Client]:
    command = disk.command(COMMAND)
    with studio_of(home, trace, kernel=scripted(trace), command=command) as studio:
        with studio.client() as http:
            yield Client(studio, http, few, disk)
            disk.let()
        assert "Traceback" not in studio.stderr
    _assert_whole(home, few)


def _assert_whole(home: Path, few: Prepared) -> None:
    truth.assert_whole(home, few.datasets.values())
    log = (home / "studio.log").read_text("utf-8")
    assert "Traceback" not in log, log[-3000:]


@numbers(few=1, many=0)
def test_a_disk_that_fills_up_amidst_of_anything_refuses_it(
    number: int, client: Client, report: Report
) -> None:
    """One point of each operation; the suite tries all."""
    with report.trial("S1 some points", number) as trial:
        for kind in trial.chance.sample(OPERATIONS, len(OPERATIONS)):
            point = trial.chance.randint(1, _writes(client, kind))
            _try(client, kind, FullFrom(point, trial.chance.choice((None, 1))), trial)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.name)
def test_a_disk_that_is_full_from_any_write_on_refuses_it(
    kind: type[Operation], client: Client, report: Report
) -> None:
    with report.trial("S1 every point", OPERATIONS.index(kind)) as trial:
        for point in range(1, _writes(client, kind) + 1):
            _try(client, kind, FullFrom(point), trial)
            _try(client, kind, FullFrom(point, times=1), trial)


@pytest.mark.parametrize("kind", [CreatePreset, Upload], ids=lambda kind: kind.name)
def test_a_quota_that_is_used_up_is_a_full_disk(
    kind: type[Operation], client: Client, report: Report
) -> None:
    """The disk itself has space."""
    with report.trial("S1 quota", OPERATIONS.index(kind)) as trial:
        _try(client, kind, FullFrom(1, error=errno.EDQUOT), trial, is_full=False)


def _writes(client: Client, kind: type[Operation]) -> int:
    """How often the disk is written to by an operation."""
    operation, counting = client.ready(kind), FullFrom(NEVER)
    client.disk.decide(counting)
    answer = operation.act()
    client.disk.let()
    assert answer.is_success, answer.text
    assert operation.found() == "new"
    return counting.seen


def _try(
    client: Client, kind: type[Operation], full: FullFrom, trial: Trial, *, is_full: bool = True
) -> None:
    """Do it while the disk is full from some write on, and again when it is not."""
    operation = client.ready(kind)
    trial.note(operation=kind.name, full=str(full))
    client.disk.decide(full, is_full=is_full)
    answer = operation.act()
    trial.note(answer=answer.text[:500], refused=[str(each) for each in full.refused])
    found = operation.found()
    client.check_reads()
    client.disk.let()
    trial.count("points")
    trial.count("507" if answer.status_code == 507 else "done all the same")
    if answer.is_success:
        assert found == operation.found() == "new"
        return
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert found in ("old", "new")
    again = operation.act()
    if found == "old":
        assert again.is_success, f"not even with space: {again.status_code} {again.text}"
    assert again.status_code < 500
    assert operation.found() == "new"


@pytest.mark.timeout(120)
@numbers(few=1, many=1)
def test_a_job_that_meets_a_full_disk_says_so_and_can_be_tried_again(
    number: int, client: Client, report: Report
) -> None:
    """Some points of a tagging job, or many."""
    with report.trial("S1 job", number) as trial:
        pause(client.http, False)
        counting = FullFrom(NEVER)
        _tag(client, counting, trial)
        points = range(1, counting.seen + 1)
        for point in trial.chance.sample(points, min(len(points), 2 if number == 0 else 60)):
            _tag(client, FullFrom(point), trial)
            trial.count("points")


def _tag(client: Client, full: FullFrom, trial: Trial) -> None:
    label, dataset = f"label {client.next_number()}", client.datasets["captions"]
    asked = {"settings": {"always_first": [label]}, "existing": "overwrite"}
    client.disk.decide(full, is_full=True)
    try:
        job_id = tag(client.http, client.studio.home, dataset, **asked)
    except AssertionError as refused:
        trial.count("refused")
        assert "disk_full" in str(refused)
        client.disk.let()
        job_id = tag(client.http, client.studio.home, dataset, **asked)
    _watch(client, job_id)
    client.check_reads()
    client.disk.let()
    job = ended(client.http, job_id)
    trial.note(full=str(full), refused=[str(each) for each in full.refused][:20], job=job)
    trial.count(job["state"])
    if job["state"] != "succeeded":
        assert (job["state"], job["reason"], job["error"]["code"]) == ("failed", "disk_full", "disk_full")
        assert client.http.post(f"/jobs/{job_id}/retry").is_success
        assert ended(client.http, job_id)["state"] == "succeeded"
    # Who looks at captions has those written that could not be.
    found = until(lambda: _written(client, dataset))
    assert len(found) == 16
    assert all(text.startswith(label) for text in found.values()), found


def _written(client: Client, dataset: str) -> dict[str, str]:
    found = captions(client.http, dataset)
    return found if truth.unwritten(client.studio.home) == 0 else {}


def _watch(client: Client, job_id: str) -> dict[str, Any] | None:
    """For a moment: it ends, or waits for space."""
    try:
        return ended(client.http, job_id, WATCHED_S)
    except TimeoutError:
        return None


@numbers(few=1, many=48)
def test_a_start_on_a_full_disk_says_so_or_reads(
    number: int, home: Path, few: Prepared, disk: Supervisor, trace: Trace, report: Report
) -> None:
    with report.trial("S1 start", number) as trial:
        # Numbers above the last write are starts on a disk that is full a moment later.
        full = FullFrom(trial.chance.randint(1, 48) if number == 0 else number)
        disk.decide(full, is_full=True)
        try:
            with studio_of(home, trace, command=disk.command(COMMAND)) as studio:
                trial.count("ready")
                with studio.client() as client:
                    assert client.get("/datasets").status_code == 200
                disk.let()
        except StudioEnded as refused:
            trial.count("refused")
            assert "disk_full" in str(refused) or "disk is full" in str(refused), refused
            assert "Traceback" not in str(refused)
        disk.let()
        with studio_of(home, trace) as studio, studio.client() as client:
            assert (
                client.post("/presets", json={"kind": "tag", "name": "p", "settings": {}}).status_code == 201
            )
        _assert_whole(home, few)
