"""What clients do, one step at a time: made ready, done, and looked at whether it was done, wholly or not."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import httpx

from tests.faults import truth
from tests.faults.photographs import Photograph, photographs

#: `mixed` is what must never be.
Found = Literal["old", "new", "mixed"]

_PICTURES: Final = list(photographs(80, side=96, seed=7))


class Operation:
    """One request, in a data directory of one's own. `number` makes what it does different every time."""

    name: ClassVar[str]

    def __init__(self, client: httpx.Client, home: Path, datasets: Mapping[str, str], number: int) -> None:
        self.client = client
        self.home = home
        self.datasets = datasets
        self.label = f"{self.name.replace(' ', '-')}-{number}"
        self.number = number
        self.prepare()

    def prepare(self) -> None:
        """Make what it needs, while nothing is wrong yet."""

    @abstractmethod
    def act(self) -> httpx.Response:
        """The request."""

    @abstractmethod
    def found(self) -> Found:
        """Whether it was done."""

    def revisit(self, client: httpx.Client) -> None:
        """Go on with another studio."""
        self.client = client

    def made(self, path: str, body: Any, **headers: str) -> Any:
        """Something that is there before."""
        answer = self.client.post(path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    def all(self, path: str, **query: Any) -> list[Any]:
        """A whole list."""
        answer = self.client.get(path, params={"limit": 1000, **query})
        assert answer.status_code == 200, answer.text
        items: list[Any] = answer.json()["items"]
        return items

    def etag(self, path: str) -> dict[str, str]:
        """The header with which something can be changed."""
        return {"if-match": self.client.get(path).headers["etag"]}


class CreatePreset(Operation):
    name = "create preset"

    def act(self) -> httpx.Response:
        body = {"kind": "tag", "name": self.label, "settings": {"general_threshold": 0.5}}
        return self.client.post("/presets", json=body, headers={"idempotency-key": self.label})

    def found(self) -> Found:
        there = [each for each in self.all("/presets") if each["name"] == self.label]
        return "mixed" if len(there) > 1 else "new" if there else "old"


class ReplacePreset(Operation):
    name = "replace preset"

    def prepare(self) -> None:
        made = self.made("/presets", {"kind": "tag", "name": self.label, "settings": {}})
        self.path = f"/presets/{made['id']}"
        self.match = self.etag(self.path)

    def act(self) -> httpx.Response:
        body = {"name": self.label, "description": "new", "settings": {}}
        return self.client.put(self.path, json=body, headers=self.match)

    def found(self) -> Found:
        return "new" if self.client.get(self.path).json()["description"] == "new" else "old"


class DeletePreset(ReplacePreset):
    name = "delete preset"

    def act(self) -> httpx.Response:
        return self.client.delete(self.path, headers=self.match)

    def found(self) -> Found:
        return "new" if self.client.get(self.path).status_code == 404 else "old"


class WriteCaption(Operation):
    """With its file."""

    name = "write caption"
    body: ClassVar[Any] = {"text": "new"}
    wanted: ClassVar[str | None] = "new"

    def prepare(self) -> None:
        self.dataset = f"/datasets/{self.datasets['captions']}"
        self.image = self.all(f"{self.dataset}/images")[self.number % 6]
        self.path = f"{self.dataset}/images/{self.image['id']}/captions/tags"
        answer = self.client.put(self.path, json={"text": "old"}, headers=self.etag(self.path))
        assert answer.is_success, answer.text
        self.match = self.etag(self.path)

    def act(self) -> httpx.Response:
        return self.client.put(self.path, json=self.body, headers=self.match)

    def found(self) -> Found:
        now = self.client.get(self.path).json()
        if now["text"] not in ("old", self.wanted):
            return "mixed"
        if now["is_written"]:
            file = self.home / "datasets" / "captions" / Path(self.image["path"]).with_suffix(".txt")
            text = file.read_text("utf-8").strip() if file.exists() else None
            if text != now["text"]:
                return "mixed"
        return "new" if now["text"] == self.wanted else "old"


class RemoveCaption(WriteCaption):
    name = "remove caption"
    wanted = None

    def act(self) -> httpx.Response:
        return self.client.delete(self.path, headers=self.match)


class UndoEdit(WriteCaption):
    """Back to what was before."""

    name = "undo edit"
    wanted = "older"

    def prepare(self) -> None:
        super().prepare()
        for text in ("older", "old"):
            answer = self.client.put(self.path, json={"text": text}, headers=self.etag(self.path))
            assert answer.is_success
        self.edit = self.all(f"{self.dataset}/edits")[0]["id"]

    def act(self) -> httpx.Response:
        path = f"{self.dataset}/edits/{self.edit}/revert"
        return self.client.post(path, headers={"idempotency-key": self.label})


class Upload(Operation):
    name = "upload"

    def prepare(self) -> None:
        self.picture: Photograph = _PICTURES[self.number % len(_PICTURES)]
        self.file = f"{self.label}.jpg"
        self.path = f"/datasets/{self.datasets['uploads']}/images"

    def act(self) -> httpx.Response:
        files = {"file": (self.file, self.picture.content, "image/jpeg")}
        return self.client.post(self.path, files=files, headers={"idempotency-key": self.label})

    def found(self) -> Found:
        there = self.all(self.path, q=self.file)
        if not there:
            return "old"
        (image,) = there
        content = (self.home / "datasets" / "uploads" / self.file).read_bytes()
        return "new" if content == self.picture.content and image["sha256"] else "mixed"


class DeleteImage(Upload):
    """Into the trash."""

    name = "delete image"

    def prepare(self) -> None:
        super().prepare()
        answer = super().act()
        assert answer.json()["created"] == 1, answer.text
        self.image = self.all(self.path, q=self.file)[0]["id"]

    def act(self) -> httpx.Response:
        return self.client.delete(f"{self.path}/{self.image}")

    def found(self) -> Found:
        is_listed = bool(self.all(self.path, q=self.file))
        is_there = (self.home / "datasets" / "uploads" / self.file).exists()
        is_in_trash = any(each["name"] == self.file for each in self.all("/trash"))
        return _one_of(old=is_listed and is_there, new=is_in_trash, is_left=is_listed or is_there)


class CreateDataset(Operation):
    name = "create dataset"

    def act(self) -> httpx.Response:
        return self.client.post(
            "/datasets", json={"name": self.label}, headers={"idempotency-key": self.label}
        )

    def found(self) -> Found:
        there = [each for each in self.all("/datasets") if each["name"] == self.label]
        if not there:
            return "old"
        is_whole = len(there) == 1 and (self.home / "datasets" / there[0]["path"]).is_dir()
        return "new" if is_whole else "mixed"


class DeleteDataset(Operation):
    """Into the trash."""

    name = "delete dataset"

    def prepare(self) -> None:
        made = self.made("/datasets", {"name": self.label})
        self.path = f"/datasets/{made['id']}"
        self.folder = self.home / "datasets" / made["path"]
        picture = _PICTURES[0]
        sent = self.client.post(
            f"{self.path}/images", files={"file": (picture.name, picture.content, "image/jpeg")}
        )
        assert sent.json()["created"] == 1, sent.text
        self.match = self.etag(self.path)

    def act(self) -> httpx.Response:
        return self.client.delete(self.path, headers=self.match)

    def found(self) -> Found:
        is_listed = self.client.get(self.path).status_code == 200
        is_there = self.folder.is_dir()
        is_in_trash = any(each["name"] == self.label for each in self.all("/trash"))
        return _one_of(old=is_listed and is_there, new=is_in_trash, is_left=is_listed or is_there)


class Restore(DeleteDataset):
    """Out of the trash."""

    name = "restore"

    def prepare(self) -> None:
        super().prepare()
        assert self.client.delete(self.path, headers=self.match).is_success
        (there,) = [each for each in self.all("/trash") if each["name"] == self.label]
        self.restoring = f"/trash/{there['id']}/restore"

    def act(self) -> httpx.Response:
        return self.client.post(self.restoring, headers={"idempotency-key": self.label})

    def found(self) -> Found:
        is_in_trash = any(each["name"] == self.label for each in self.all("/trash"))
        return _one_of(old=is_in_trash, new=self.folder.is_dir(), is_left=is_in_trash)


class ChangeSettings(Operation):
    name = "change settings"

    def prepare(self) -> None:
        self.before = self.client.get("/settings").json()["limits"]["events_kept"]
        self.wanted = self.before + 1
        self.match = self.etag("/settings")

    def act(self) -> httpx.Response:
        body = {"limits": {"events_kept": self.wanted}}
        return self.client.patch("/settings", json=body, headers=self.match)

    def found(self) -> Found:
        now = self.client.get("/settings").json()["limits"]["events_kept"]
        return "new" if now == self.wanted else "old" if now == self.before else "mixed"


class SetKey(Operation):
    name = "set key"

    def prepare(self) -> None:
        self._set(f"hf_old-old-old-{self.number:04}")

    def act(self) -> httpx.Response:
        return self.client.put("/keys/huggingface", json={"value": "hf_new-new-new-wxyz"})

    def found(self) -> Found:
        (now,) = [each for each in self.client.get("/keys").json()["items"] if each["name"] == "huggingface"]
        return "new" if now["last4"] == "wxyz" else "old" if now["last4"] else "mixed"

    def _set(self, value: str) -> None:
        answer = self.client.put("/keys/huggingface", json={"value": value})
        assert answer.is_success, answer.text


class DeleteKey(SetKey):
    name = "delete key"

    def act(self) -> httpx.Response:
        return self.client.delete("/keys/huggingface")

    def found(self) -> Found:
        (now,) = [each for each in self.client.get("/keys").json()["items"] if each["name"] == "huggingface"]
        return "old" if now["set"] else "new"


class CreateJob(Operation):
    """Which waits: the queue is paused."""

    name = "create job"

    def prepare(self) -> None:
        pause(self.client, True)

    def act(self) -> httpx.Response:
        body = {"kind": "import", "source": {"dataset": self.datasets["captions"]}, "name": self.label}
        return self.client.post("/jobs", json=body, headers={"idempotency-key": self.label})

    def found(self) -> Found:
        there = [each for each in self.all("/jobs") if each["name"] == self.label]
        return "mixed" if len(there) > 1 else "new" if there else "old"


class CancelJob(CreateJob):
    name = "cancel job"
    after: ClassVar[str] = "canceled"

    def prepare(self) -> None:
        super().prepare()
        self.path = f"/jobs/{super().act().json()['id']}"

    def act(self) -> httpx.Response:
        return self.client.post(f"{self.path}/cancel", headers={"idempotency-key": f"{self.label}-cancel"})

    def found(self) -> Found:
        state = self.client.get(self.path).json()["state"]
        return "new" if state == "canceled" else "old" if state == "queued" else "mixed"


class DeleteJob(CancelJob):
    name = "delete job"

    def prepare(self) -> None:
        super().prepare()
        assert super().act().is_success, "cancel"
        folder = self.home / "runs" / self.path.rpartition("/")[2]
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_bytes(b"")
        self.folder = folder

    def act(self) -> httpx.Response:
        return self.client.delete(self.path)

    def found(self) -> Found:
        is_listed = self.client.get(self.path).status_code == 200
        is_in_trash = any(each["name"] == self.label for each in self.all("/trash"))
        is_there = self.folder.exists()
        return _one_of(old=is_listed and is_there, new=is_in_trash, is_left=is_listed or is_there)


class RotateToken(Operation):
    """The old one is known here, the new one only where it was answered."""

    name = "rotate token"

    def prepare(self) -> None:
        self.old = self.client.post("/session/token/rotate").json()["token"]

    def act(self) -> httpx.Response:
        return self.client.post("/session/token/rotate")

    def found(self) -> Found:
        # Not by asking with it: who does so too often is not answered any more.
        with truth.opened(self.home) as db:
            kept = [row["hash"] for row in db.execute("SELECT hash FROM tokens")]
        if len(kept) != 1:
            return "mixed"
        return "old" if kept == [hashlib.sha256(self.old.encode()).digest()] else "new"


class PauseQueue(Operation):
    name = "pause queue"

    def prepare(self) -> None:
        pause(self.client, False)
        self.match = self.etag("/queue")

    def act(self) -> httpx.Response:
        return self.client.patch("/queue", json={"paused": True}, headers=self.match)

    def found(self) -> Found:
        return "new" if self.client.get("/queue").json()["paused"] else "old"


def pause(client: httpx.Client, paused: bool) -> None:
    """Nothing starts any more, or does again."""
    match = {"if-match": client.get("/queue").headers["etag"]}
    assert client.patch("/queue", json={"paused": paused}, headers=match).is_success


def _one_of(*, old: bool, new: bool, is_left: bool) -> Found:
    """Of what moves from one place to another; `is_left`: something is still where it was."""
    if old and not new:
        return "old"
    return "new" if new and not is_left else "mixed"


OPERATIONS: Final[tuple[type[Operation], ...]] = (
    CreatePreset,
    ReplacePreset,
    DeletePreset,
    WriteCaption,
    RemoveCaption,
    UndoEdit,
    Upload,
    DeleteImage,
    CreateDataset,
    DeleteDataset,
    Restore,
    ChangeSettings,
    SetKey,
    DeleteKey,
    CreateJob,
    CancelJob,
    DeleteJob,
    RotateToken,
    PauseQueue,
)
