"""What a studio promised by its answers, compared with what the next one says."""

import hashlib
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.faults import truth
from tests.faults.following import Following
from tests.faults.load import CaptionWriter, JobWriter, PresetWriter, Sent, SettingsWriter, UploadWriter
from tests.faults.report import Trial


def check_presets(client: httpx.Client, writer: PresetWriter, trial: Trial) -> None:
    """Every preset is there once, also after every request was sent again."""
    there = {each["name"]: each["id"] for each in _all(client, "/presets")}
    for each in writer.acknowledged:
        assert there.get(each.meant) == _id(each), f"the preset {each.meant} is lost"
    _send_again(client, writer.sent, trial)
    assert sorted(each["name"] for each in _all(client, "/presets")) == sorted(_meant(writer.sent))


def check_jobs(client: httpx.Client, writer: JobWriter, trial: Trial) -> list[str]:
    """The same of jobs; their ids."""
    there = {each["name"]: each["id"] for each in _all(client, "/jobs")}
    for each in writer.acknowledged:
        assert there.get(each.meant) == _id(each), f"the job {each.meant} is lost"
    _send_again(client, writer.sent, trial)
    jobs = {each["name"]: each["id"] for each in _all(client, "/jobs")}
    assert sorted(jobs) == sorted(_meant(writer.sent))
    return list(jobs.values())


def check_uploads(
    client: httpx.Client, home: Path, dataset_id: str, writer: UploadWriter, trial: Trial
) -> None:
    """Every photograph is there once, to the byte, also after every request was sent again."""
    there = {each["path"]: each for each in _all(client, f"/datasets/{dataset_id}/images")}
    for each in writer.acknowledged:
        assert each.answer is not None
        (item,) = each.answer.json()["items"]
        assert there[item["path"]]["id"] == item["image_id"], f"{each.meant.name} is lost"
    _send_again(client, writer.sent, trial)
    there = {each["path"]: each for each in _all(client, f"/datasets/{dataset_id}/images")}
    digests = {each.meant.name: hashlib.sha256(each.meant.content).hexdigest() for each in writer.sent}
    assert {path: each["sha256"] for path, each in there.items()} == digests
    folder = truth.folder_of(home, dataset_id)
    for path, digest in digests.items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest


def check_captions(client: httpx.Client, home: Path, dataset_id: str, writer: CaptionWriter) -> None:
    """Each caption is the last that was acknowledged, or the one that was on its way; so is its history."""
    now = {each["id"]: each["captions"]["tags"] for each in _all(client, f"/datasets/{dataset_id}/images")}
    histories = _histories(home)
    for image in {each.meant[0] for each in writer.sent}:
        history = writer.history(image)
        texts = [each.meant[1] for each in history]
        promised = [each.meant[1] for each in history if each.answer is not None]
        found = [text.rstrip("\n") for text in histories.get(image, []) if text.startswith(writer.name)]
        assert found in (promised, texts), f"{image}: {found}, but promised were {promised}"
        if found:
            assert now[image]["text"] == found[-1]
        if found == promised and promised:
            answer = history[len(promised) - 1].answer
            assert answer is not None
            assert now[image]["etag"] == answer.headers["etag"]


def check_settings(client: httpx.Client, home: Path, writer: SettingsWriter) -> None:
    """The number is the last that was acknowledged, or the one that was on its way, also in the file."""
    promised = [each.meant for each in writer.acknowledged]
    sent = [each.meant for each in writer.sent]
    found = client.get("/settings").json()["limits"]["events_kept"]
    possible = {200_000 if not promised else promised[-1], *sent[len(promised) :]}
    assert found in possible
    if promised:
        table = tomllib.loads((home / "settings.toml").read_text("utf-8"))
        assert table["limits"]["events_kept"] == found


def check_events(home: Path, following: Following, trial: Trial) -> None:
    """Each event came once, in order; where a change was made that nobody was told of, a reset says so."""
    kept = events_of(home, following.topics | {"studio"})
    following.until_quiet(kept[-1])
    ids = [each.id for each in following.told if each.name != "reset"]
    assert ids == sorted(set(ids)), "an event came twice, or too late"
    resets = [each.id for each in following.told if each.name == "reset"]
    trial.count("events", len(ids))
    trial.count("resets", len(resets))
    assert resets, "after an unclean end every reader is told to read anew"
    if set(ids) <= set(kept):
        # Otherwise a power cut has taken the last ones, and the stream could not go on where it was.
        assert following.after is not None
        due = {id for id in kept if id > following.after}
        assert due == {*ids, *resets}, f"never told: {sorted(due - {*ids, *resets})}"


def events_of(home: Path, topics: Collection[str]) -> list[int]:
    """The events of these topics that are kept."""
    with truth.opened(home, "telemetry.db") as db:
        rows = db.execute("SELECT id, topics FROM events ORDER BY id").fetchall()
    return [row["id"] for row in rows if not set(topics).isdisjoint(row["topics"].split())]


def _send_again(client: httpx.Client, sent: Sequence[Sent], trial: Trial) -> None:
    """What was not answered, and some of what was: nothing may happen twice."""
    acknowledged = [each for each in sent if each.answer is not None]
    for each in trial.chance.sample(acknowledged, min(5, len(acknowledged))):
        answer = each.again(client)
        assert each.answer is not None
        assert (answer.status_code, answer.content) == (each.answer.status_code, each.answer.content)
        assert answer.headers["idempotency-replayed"] == "true"
    for each in sent:
        if each.answer is None:
            answer = each.again(client)
            assert answer.is_success, answer.text
            trial.count("requests without an answer")


def _histories(home: Path) -> dict[str, list[str]]:
    histories: dict[str, list[str]] = {}
    with truth.opened(home) as db:
        for row in db.execute("SELECT image_id, after FROM journal WHERE kind = 'tags' ORDER BY number"):
            histories.setdefault(row["image_id"], []).append(row["after"] or "")
    return histories


def _all(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    page = client.get(path, params={"limit": 1000}).json()
    assert page["next_cursor"] is None
    items: list[dict[str, Any]] = page["items"]
    return items


def _meant(sent: Sequence[Sent]) -> list[Any]:
    return [each.meant for each in sent]


def _id(sent: Sent) -> str:
    assert sent.answer is not None
    made: str = sent.answer.json()["id"]
    return made
