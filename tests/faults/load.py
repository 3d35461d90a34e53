"""Clients that write into a studio as fast as they can, and remember what they were promised.

Each has a connection of its own and its own things, so that what it was told last is what there must be.
"""

import json
import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import httpx

from tests.faults.photographs import Photograph

#: What a client may meet whose studio is killed.
Gone = (httpx.TransportError,)
_BOUNDARY: Final = "photographs"


class Sent(NamedTuple):
    """One request, what it was to do, and its answer; None where none has come."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    meant: Any
    answer: httpx.Response | None

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    def again(self, client: httpx.Client) -> httpx.Response:
        """The very same request."""
        return client.request(self.method, self.path, headers=self.headers, content=self.body)


class Writer:
    """One client. `sent` are its requests, in their order; between two it rests for `pause_s`."""

    pause_s = 0.0

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: list[Sent] = []
        self.refused: list[str] = []

    @property
    def acknowledged(self) -> list[Sent]:
        """What was answered."""
        return [each for each in self.sent if each.answer is not None]

    def run(self, client: httpx.Client, number_from: int, wanted: Callable[[], bool]) -> None:
        """Write until nobody wants it, or the studio is gone."""
        number = number_from
        while wanted():
            number += 1
            if not self._send(client, *self.next(number)):
                return
            time.sleep(self.pause_s)

    @abstractmethod
    def next(self, number: int) -> tuple[str, str, dict[str, str], bytes, Any]:
        """Method, path, headers and body of the next request, and what it is to do."""

    def take(self, meant: Any, answer: httpx.Response) -> None:
        """It was acknowledged."""

    def _send(
        self, client: httpx.Client, method: str, path: str, headers: dict[str, str], body: bytes, meant: Any
    ) -> bool:
        try:
            answer = client.request(method, path, headers=headers, content=body)
        except Gone:
            self.sent.append(Sent(method, path, headers, body, meant, None))
            return False
        self.sent.append(Sent(method, path, headers, body, meant, answer))
        if answer.is_success:
            self.take(meant, answer)
            return True
        self.refused.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return False


class PresetWriter(Writer):
    """Makes presets; what is meant is the name."""

    def next(self, number: int) -> tuple[str, str, dict[str, str], bytes, Any]:
        name = f"{self.name}-{number}"
        body = {"kind": "tag", "name": name, "settings": {"general_threshold": 0.5}}
        return ("POST", "/presets", _keyed(name), _json(body), name)


class JobWriter(Writer):
    """Asks for jobs, of several kinds; what is meant is the name."""

    #: All of them are to be done in the end.
    pause_s = 0.03

    def __init__(self, name: str, chance: random.Random, dataset_id: str, model: dict[str, str]) -> None:
        super().__init__(name)
        self._chance = chance
        self._source = {"dataset": dataset_id}
        self._model = model

    def next(self, number: int) -> tuple[str, str, dict[str, str], bytes, Any]:
        name = f"{self.name}-{number}"
        body: dict[str, Any] = {"name": name, "source": self._source}
        if self._chance.random() < 0.5:
            settings = {"model": self._model, "always_first": [name]}
            body |= {"kind": "tag", "settings": settings, "existing": "overwrite"}
        else:
            body |= {"kind": self._chance.choice(("import", "thumbnails"))}
        return ("POST", "/jobs", _keyed(name), _json(body), name)


class CaptionWriter(Writer):
    """Writes captions of its own images, one after the other; what is meant is (image, text)."""

    def __init__(self, name: str, dataset_id: str, images: Sequence[str]) -> None:
        super().__init__(name)
        self._path = f"/datasets/{dataset_id}/images/{{}}/captions/tags"
        self._images = images
        self._etags: dict[str, str] = {}

    def next(self, number: int) -> tuple[str, str, dict[str, str], bytes, Any]:
        image = self._images[number % len(self._images)]
        text = f"{self.name}, {number}"
        match = {"if-match": self._etags[image]} if image in self._etags else {"if-none-match": "*"}
        return ("PUT", self._path.format(image), _typed(match), _json({"text": text}), (image, text))

    def take(self, meant: Any, answer: httpx.Response) -> None:
        self._etags[meant[0]] = answer.headers["etag"]

    def forget(self) -> None:
        """The etags of before are not to be relied upon."""
        self._etags.clear()

    def history(self, image: str) -> list[Sent]:
        """What was written for one image."""
        return [each for each in self.sent if each.meant[0] == image]


class UploadWriter(Writer):
    """Uploads photographs; what is meant is the photograph."""

    def __init__(self, name: str, dataset_id: str, photographs: Sequence[Photograph]) -> None:
        super().__init__(name)
        self._path = f"/datasets/{dataset_id}/images"
        self._photographs = photographs

    def next(self, number: int) -> tuple[str, str, dict[str, str], bytes, Any]:
        photograph = self._photographs[number % len(self._photographs)]
        headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
        key = {"idempotency-key": f"{self.name}-{number}"}
        return ("POST", self._path, headers | key, _multipart(photograph), photograph)


class SettingsWriter(Writer):
    """Changes one number of the settings; what is meant is the number."""

    def __init__(self, name: str, etag: str) -> None:
        super().__init__(name)
        self._etag = etag

    def next(self, number: int) -> tuple[str, str, dict[str, str], bytes, Any]:
        wanted = 100_000 + number
        body = {"limits": {"events_kept": wanted}}
        return ("PATCH", "/settings", _typed({"if-match": self._etag}), _json(body), wanted)

    def take(self, meant: Any, answer: httpx.Response) -> None:
        self._etag = answer.headers["etag"]


class Load:
    """All writers at once, each in a thread with a connection."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self.writers = writers
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, clients: Sequence[httpx.Client], number_from: int = 0) -> None:
        """Start writing; `clients` are as many as there are writers."""
        for writer, client in zip(self.writers, clients, strict=True):
            arguments = (client, number_from, lambda: not self._stopped.is_set())
            thread = threading.Thread(target=writer.run, args=arguments, daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Wait until nobody writes any more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def refused(self) -> list[str]:
        """Answers that were no success."""
        return [each for writer in self.writers for each in writer.refused]


def _typed(headers: dict[str, str]) -> dict[str, str]:
    return {"content-type": "application/json", **headers}


def _keyed(key: str) -> dict[str, str]:
    return _typed({"idempotency-key": key})


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


def _multipart(photograph: Photograph) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\ncontent-disposition: form-data; name=file; filename={photograph.name}\r\n"
        "content-type: image/jpeg\r\n\r\n"
    )
    return head.encode() + photograph.content + f"\r\n--{_BOUNDARY}--\r\n".encode()
