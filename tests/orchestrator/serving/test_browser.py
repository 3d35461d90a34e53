"""The browser is opened where there is one, and no list of processes shows the login link."""

import os
import stat
import sys
import webbrowser
from pathlib import Path

import pytest

from orchestrator.serving.browser import FILE, has_browser, open_browser, tidied

LINK = "http://127.0.0.1:7878/login?code=lk_secret"


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": ""}, "linux", False),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"}, "linux", False),
        ({}, "darwin", True),
        ({"SSH_TTY": "/dev/pts/0"}, "darwin", False),
        ({}, "win32", True),
    ],
)
def test_a_browser_is_only_where_somebody_sits(
    environ: dict[str, str], platform: str, expected: bool
) -> None:
    assert has_browser(environ, platform) is expected


def test_the_link_is_in_a_file_for_its_user_and_not_in_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not opened.append(url))  # type: ignore[func-returns-value]
    with tidied(tmp_path):
        assert open_browser(tmp_path, LINK)
        page = tmp_path / FILE
        assert opened == [page.as_uri()]
        assert LINK in page.read_text("utf-8")
        assert sys.platform == "win32" or stat.S_IMODE(page.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == []


def test_without_room_for_the_file_nothing_is_opened(tmp_path: Path) -> None:
    assert open_browser(tmp_path / "missing", LINK) is False
