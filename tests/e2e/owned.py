"""A real studio with all that its owner has: the token, and a browser's session."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from orchestrator.cli.serve import TOKEN_VARIABLE
from tests.studio_process import StudioProcess

HOST: Final = "127.0.0.1"


class Owned(NamedTuple):
    """A studio that runs on loopback."""

    process: StudioProcess
    port: int
    token: str
    cookie: str

    @property
    def origin(self) -> str:
        """Where its pages are from, for whoever is on this machine."""
        return f"http://{HOST}:{self.port}"

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """A program of the owner's; paths are below `/api/v1`."""
        headers = {"authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=f"{self.origin}/api/v1", headers=headers, timeout=30.0) as client:
            yield client

    def new_code(self) -> str:
        """What logs one browser in."""
        with self.client() as client:
            url: str = client.post("/session/links").raise_for_status().json()["url"]
            return url.rpartition("=")[2]


@contextmanager
def owned(home: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Owned]:
    """Start one, and log in by its link."""
    with StudioProcess(home, *arguments, env=env) as process:
        port = int(process.url.rpartition(":")[2])
        with httpx.Client() as browser:
            link = f"http://{HOST}:{port}/login?{process.ready['link'].partition('?')[2]}"
            assert browser.get(link).status_code == 303
            ((_, cookie),) = browser.cookies.items()
        # A token from outside is known to whoever gave it.
        token = process.ready["token"] or dict(env or {})[TOKEN_VARIABLE]
        yield Owned(process, port, token, cookie)
