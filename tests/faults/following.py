"""A client of the stream of events that writes down all it is told, and comes back where it was cut off."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, Final, NamedTuple

from tests.studio_process import StudioProcess, until

#: Longer than the stream may be silent.
_SILENCE_S: Final = 20.0


class Told(NamedTuple):
    """One event."""

    id: int
    name: str
    data: dict[str, Any]


class Following:
    """Follows `topics`, from after an event on or from now on, for as long as its studio lives."""

    def __init__(self, topics: str, after: int | None = None) -> None:
        self.told: list[Told] = []
        self.after = after
        self.topics = frozenset(topics.split(","))
        self._thread: threading.Thread | None = None

    @property
    def last_id(self) -> int | None:
        """The place in the stream: of the last event, or where it began."""
        return self.told[-1].id if self.told else self.after

    def begin(self, studio: StudioProcess) -> None:
        """Follow on, of this studio or of the next one; returns once connected."""
        host = studio.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=_SILENCE_S)
        headers = {"authorization": f"Bearer {studio.token}"}
        if self.last_id is not None:
            headers["last-event-id"] = str(self.last_id)
        connection.request("GET", f"/api/v1/events?topics={','.join(sorted(self.topics))}", headers=headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        # The stream says hello as soon as it has taken its place.
        response.readline()
        self._thread = threading.Thread(target=self._read, args=(connection, response), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the studio is gone, and all that came from it is read."""
        assert self._thread is not None
        self._thread.join(_SILENCE_S + 5)
        assert not self._thread.is_alive()

    def until_quiet(self, id: int, within_s: float = 10) -> None:
        """Until an event of that number, or a later one, was told."""
        until(lambda: (self.last_id or 0) >= id, within_s)

    def named(self, name: str) -> list[Told]:
        """The events of one name."""
        return [each for each in list(self.told) if each.name == name]

    def _read(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        with closing(connection), closing(response):
            # Killed studios end streams in the middle of a chunk.
            with suppress(OSError, http.client.HTTPException):
                for event in _events(response):
                    self.told.append(event)


def _events(response: http.client.HTTPResponse) -> Iterator[Told]:
    fields: dict[str, str] = {}
    while line := response.readline():
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.strip()
            continue
        # An event ends with an empty line: half of one does not count.
        if "id" in fields:
            yield Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
        fields = {}
