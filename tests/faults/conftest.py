"""What the fault tests share: the report of all trials, and data directories that were filled once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.homes import Prepared, prepare
from tests.faults.report import FILE, REPORT, Report
from tests.faults.supervisor import Supervisor, is_possible
from tests.faults.trial_studio import Trace, traced
from tests.studio_process import StudioProcess


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """The report of this run, written at its end."""
    yield REPORT
    REPORT.write()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The counts stand in the output of every run that made some."""
    if REPORT.classes:
        terminalreporter.section(f"faults ({FILE.name})")
        for line in REPORT.lines():
            terminalreporter.line(line)


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    """The mark of all that one test starts."""
    with traced(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def watched() -> None:
    """For tests that decide of every change of a disk."""
    if why := is_possible():
        pytest.skip(f"NO FULL DISKS ARE TRIED HERE: {why}")


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory, demo_tagger: Path) -> Prepared:
    """A data directory in which everything can be done; one picture of `jobs` has a caption."""
    sizes = {"captions": 16, "jobs": 8, "uploads": 0}
    prepared = prepare(tmp_path_factory.mktemp("few") / "home", demo_tagger, sizes)
    with StudioProcess(prepared.home) as studio, studio.client() as client:
        images = f"/datasets/{prepared.datasets['jobs']}/images"
        first = client.get(images).json()["items"][0]["id"]
        path = f"{images}/{first}/captions/tags"
        assert client.put(path, json={"text": "kept"}, headers={"if-none-match": "*"}).is_success
    return prepared


@pytest.fixture
def home(few: Prepared, tmp_path: Path) -> Path:
    """A copy of it."""
    return few.copy(tmp_path)


@pytest.fixture
def disk(watched: None, home: Path, tmp_path: Path) -> Iterator[Supervisor]:
    """The disk that it is on."""
    with Supervisor(home, tmp_path / "door") as watching:
        yield watching


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory, demo_tagger: Path) -> Prepared:
    """A data directory with enough photographs to be killed amidst of."""
    return prepare(tmp_path_factory.mktemp("many") / "home", demo_tagger, {"photographs": 160})
