"""What these tests share: one browser, where there is one, and a studio."""

import sys
from collections.abc import Iterator

import pytest

from tests.e2e.chromium import Browser, find_chromium
from tests.e2e.owned import Owned, owned
from tests.e2e.tabs import Profile, used


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium; tests that ask for it are skipped where there is none."""
    command = find_chromium()
    if command is None or sys.platform == "win32":
        pytest.skip("NO BROWSER TESTS: there is no `chromium` here; on Debian: apt install chromium")
    running = Browser(command, tmp_path_factory.mktemp("chromium"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def profile(browser: Browser) -> Iterator[Profile]:
    """A user of the browser who has been nowhere yet."""
    with used(browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owned]:
    """A studio for all tests of a file."""
    with owned(tmp_path_factory.mktemp("studio") / "home") as opened:
        yield opened
