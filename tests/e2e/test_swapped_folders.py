"""A folder that somebody exchanges for a link to elsewhere, over and over, while its files are asked for."""

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.journey import picture
from tests.e2e.owned import owned
from tests.orchestrator.traversal import CANARY
from tests.studio_process import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="only administrators may make links")


@contextmanager
def _exchanging(folder: Path, link: Path) -> Iterator[None]:
    """`folder` is a folder and what `link` leads to, by turns, for as long as the block lasts."""
    is_over, aside = threading.Event(), folder.with_name("aside")

    def exchange() -> None:
        while not is_over.is_set():
            os.rename(folder, aside)
            os.rename(link, folder)
            os.rename(folder, link)
            os.rename(aside, folder)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize(
    "times", [500, pytest.param(50_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_a_file_is_never_read_through_a_link_however_late_it_comes(times: int, tmp_path: Path) -> None:
    root, outside, home = tmp_path / "root", tmp_path / "outside", tmp_path / "home"
    for folder in (root / "album", outside, home):
        folder.mkdir(parents=True)
    (root / "album" / "photo.png").write_bytes(picture())
    (outside / "photo.png").write_bytes(CANARY)
    (tmp_path / "link").symlink_to(outside)
    (home / "settings.toml").write_text(f'[[roots]]\nid = "pics"\npath = "{root}"\n', encoding="utf-8")
    with owned(home) as studio, studio.client() as client:
        body = {"name": "Swapped", "folder": {"root": "pics", "path": ""}}
        dataset = client.post("/datasets", json=body).raise_for_status().json()["id"]
        path = f"/datasets/{dataset}/images"
        (image,) = until(lambda: client.get(path).json()["items"])
        with _exchanging(root / "album", tmp_path / "link"):
            replies = [client.get(f"{path}/{image['id']}/file") for _ in range(times)]
    assert not any(CANARY in reply.content for reply in replies)
    assert set(Counter(reply.status_code for reply in replies)) <= {200, 404, 422}
    assert any(reply.content == picture() for reply in replies)
