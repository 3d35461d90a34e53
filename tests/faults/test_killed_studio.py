"""kill -9 of the studio while clients write: what was answered is there, and nothing happens twice."""

import shutil
import sqlite3
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults import claims, truth
from tests.faults.following import Following
from tests.faults.homes import Prepared, ended, model_of, prepare
from tests.faults.load import CaptionWriter, JobWriter, Load, PresetWriter, SettingsWriter, UploadWriter
from tests.faults.photographs import Photograph, photographs
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.trial_studio import Trace, scripted, studio_of
from tests.studio_process import StudioProcess, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")

#: Seconds after which nothing of an older studio may seem to run.
SETTLED_S = 5.0
TOPICS = "jobs,presets,datasets,settings,queue"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, demo_tagger: Path) -> Prepared:
    sizes = {"captions": 16, "jobs": 8, "uploads": 0}
    return prepare(tmp_path_factory.mktemp("few") / "home", demo_tagger, sizes)


@pytest.fixture(scope="module")
def to_upload() -> list[Photograph]:
    return list(photographs(60, seed=99))


class Clients:
    """Everybody who writes, and one who follows the events."""

    def __init__(
        self, studio: StudioProcess, few: Prepared, trial: Trial, to_upload: list[Photograph]
    ) -> None:
        with studio.client() as client:
            images = client.get(f"/datasets/{few.datasets['captions']}/images").json()["items"]
            etag = client.get("/settings").headers["etag"]
        ids = [each["id"] for each in images]
        model = model_of(studio.home)
        self.presets = PresetWriter("preset")
        self.jobs = JobWriter("job", trial.chance, few.datasets["jobs"], model)
        self.captions = [CaptionWriter(f"c{side}", few.datasets["captions"], ids[side::2]) for side in (0, 1)]
        self.uploads = UploadWriter("upload", few.datasets["uploads"], to_upload)
        self.settings = SettingsWriter("settings", etag)
        self.load = Load([self.presets, self.jobs, *self.captions, self.uploads, self.settings])
        self.following = Following(TOPICS, claims.events_of(studio.home, TOPICS.split(","))[-1])

    def write_until_killed(self, studio: StudioProcess, seconds: float) -> None:
        """Everybody writes, and so many seconds later the studio is killed."""
        self.following.begin(studio)
        with ExitStack() as stack:
            clients = [stack.enter_context(studio.client()) for _ in self.load.writers]
            for client in clients:
                client.get("/presets", params={"limit": 1})
            self.load.begin(clients)
            time.sleep(seconds)
            studio.kill()
            self.load.end()
        self.following.wait()
        assert self.load.refused() == []


@numbers(few=4, many=100)
def test_what_was_answered_survives_the_kill_of_the_studio(
    number: int,
    few: Prepared,
    to_upload: list[Photograph],
    trace: Trace,
    report: Report,
    tmp_path: Path,
) -> None:
    home = few.copy(tmp_path)
    with report.trial("K3", number) as trial:
        kernel = scripted(trace)
        with studio_of(home, trace, kernel=kernel) as studio:
            clients = Clients(studio, few, trial, to_upload)
            seconds = trial.chance.uniform(0.02, 0.3)
            trial.note(seconds=seconds)
            clients.write_until_killed(studio, seconds)
        trial.count("kills")
        trial.count("acknowledged", sum(len(each.acknowledged) for each in clients.load.writers))
        _assert_left_whole(home, tmp_path)
        with studio_of(home, trace, kernel=kernel) as studio:
            _check(studio, clients, few, trial)
        trace.assert_nothing_left()
        truth.assert_databases_whole(home)
        truth.assert_journal_whole(home)
        for dataset in few.datasets.values():
            truth.assert_files_say_the_same(home, dataset)


def _check(studio: StudioProcess, clients: Clients, few: Prepared, trial: Trial) -> None:
    home, boot_id = studio.home, studio.ready["boot_id"]
    until(lambda: not truth.alive_of_older_boots(home, boot_id), SETTLED_S)
    clients.following.begin(studio)
    with studio.client() as client:
        for captions in clients.captions:
            claims.check_captions(client, home, few.datasets["captions"], captions)
        claims.check_settings(client, home, clients.settings)
        claims.check_presets(client, clients.presets, trial)
        claims.check_uploads(client, home, few.datasets["uploads"], clients.uploads, trial)
        for job_id in claims.check_jobs(client, clients.jobs, trial):
            job = ended(client, job_id)
            assert job["state"] == "succeeded", job
        until(lambda: truth.unwritten(home) == 0, SETTLED_S)
    claims.check_events(home, clients.following, clients.presets, trial)


def _assert_left_whole(home: Path, folder: Path) -> None:
    """The databases, as the dead studio left them, before anybody else has opened them."""
    for name in truth.DATABASES:
        copy = folder / f"left-{name}"
        shutil.copyfile(home / name, copy)
        if (log := home / f"{name}-wal").exists():
            shutil.copyfile(log, folder / f"left-{name}-wal")
        with closing(sqlite3.connect(copy)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
