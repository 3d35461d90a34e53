"""A studio that really runs, asked with nothing in between: what is sent is what a test says, and no more."""

import http.client
import json
import signal
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

from tests.orchestrator.cli.command import TIMEOUT_S
from tests.studio_process import StudioProcess


class Answer(NamedTuple):
    """What came back. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.text)


class Serving(StudioProcess):
    """A studio under way. Redirects are not followed, cookies not kept."""

    @property
    def port(self) -> int:
        return int(self.ready["url"].rpartition(":")[2])

    def ask(
        self, method: str, path: str, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to one request."""
        given = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)) as connection:
            connection.request(method, path, headers=given)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode())

    def get(self, path: str) -> Any:
        """What is there, for who has the token."""
        answer = self.ask("GET", path, token=self.token)
        assert answer.status == 200, answer.text
        return answer.json

    def end(self, number: int = signal.SIGTERM) -> int:
        """Stop it by a signal; its exit code."""
        self.signal(number)
        return self.wait(TIMEOUT_S)
