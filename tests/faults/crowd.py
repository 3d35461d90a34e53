"""Everybody who writes into a studio at once, one who follows its events, and what must have become of it."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

from tests.faults import claims, truth
from tests.faults.following import Following
from tests.faults.homes import ended, model_of
from tests.faults.load import CaptionWriter, JobWriter, Load, PresetWriter, SettingsWriter, UploadWriter
from tests.faults.photographs import photographs
from tests.faults.report import Trial
from tests.studio_process import StudioProcess, until

TOPICS: Final = "jobs,presets,datasets,settings,queue"
#: Seconds after which nothing of an older studio may seem to run.
SETTLED_S: Final = 5.0
_TO_UPLOAD: Final = list(photographs(60, seed=99))


class Crowd:
    """Needs the datasets `captions`, `jobs` and `uploads`."""

    def __init__(self, studio: StudioProcess, datasets: Mapping[str, str], trial: Trial) -> None:
        self._datasets = datasets
        self._trial = trial
        with studio.client() as client:
            images = client.get(f"/datasets/{datasets['captions']}/images").json()["items"]
            etag = client.get("/settings").headers["etag"]
        ids = [each["id"] for each in images]
        self.presets = PresetWriter("preset")
        self.jobs = JobWriter("job", trial.chance, datasets["jobs"], model_of(studio.home))
        self.captions = [CaptionWriter(f"c{side}", datasets["captions"], ids[side::2]) for side in (0, 1)]
        self.uploads = UploadWriter("upload", datasets["uploads"], _TO_UPLOAD)
        self.settings = SettingsWriter("settings", etag)
        self.load = Load([self.presets, self.jobs, *self.captions, self.uploads, self.settings])
        self.following = Following(TOPICS, claims.events_of(studio.home, TOPICS.split(","))[-1])

    def write_until(self, studio: StudioProcess, seconds: float, kill: Callable[[], None]) -> None:
        """Everybody writes, and so many seconds later `kill` is called."""
        self.following.begin(studio)
        with ExitStack() as stack:
            clients = [stack.enter_context(studio.client()) for _ in self.load.writers]
            for client in clients:
                # Connected, before the clock starts.
                client.get("/presets", params={"limit": 1})
            self.load.begin(clients)
            time.sleep(seconds)
            kill()
            self.load.end()
        self.following.wait()
        assert self.load.refused() == []
        self._trial.count("kills")
        self._trial.count("acknowledged", sum(len(each.acknowledged) for each in self.load.writers))

    def check(self, studio: StudioProcess) -> None:
        """All that was answered is there, in the next studio; and what is sent again happens once."""
        home, boot_id, datasets = studio.home, studio.ready["boot_id"], self._datasets
        until(lambda: not truth.alive_of_older_boots(home, boot_id), SETTLED_S)
        self.following.begin(studio)
        with studio.client() as client:
            for captions in self.captions:
                claims.check_captions(client, home, datasets["captions"], captions)
            claims.check_settings(client, home, self.settings)
            claims.check_presets(client, self.presets, self._trial)
            claims.check_uploads(client, home, datasets["uploads"], self.uploads, self._trial)
            for job_id in claims.check_jobs(client, self.jobs, self._trial):
                job = ended(client, job_id)
                assert job["state"] == "succeeded", job
            until(lambda: truth.unwritten(home) == 0, SETTLED_S)
        claims.check_events(home, self.following, self._trial)
