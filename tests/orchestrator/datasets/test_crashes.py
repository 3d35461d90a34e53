"""A studio that dies within a change: the journal is right, and the files follow with the next boot."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.datasets.dies import DIED
from tests.orchestrator.datasets.shelf import Shelf, open_shelf

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[3]
TAGGED = {f"{name}.txt": b"tagged\n" for name in ("astronaut", "chelsea", "coffee", "rocket")}


def killed(home: Path, point: str) -> Path:
    """The folder of the dataset of a studio that died at `point`."""
    command = [sys.executable, "-m", "tests.orchestrator.datasets.dies", str(home), point]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=50, check=False)
    assert done.returncode == DIED, done.stderr.decode()
    return home / "datasets" / "shelf"


async def settled(shelf: Shelf) -> None:
    """What every boot does beside the first requests; the boot's own, which is waited for, may be at it."""
    await shelf.studio.datasets.settle(everything=not shelf.studio.boot.was_clean)
    ids = [each.id for each in (await shelf.images()).values()]
    await shelf.studio.datasets.captioning.refresh(shelf.dataset, ids, closely=True)


@pytest.mark.parametrize(
    "point", ["after the journal", "within a file", "between two files", "before the record"]
)
async def test_what_is_in_the_journal_comes_into_the_files(tmp_path: Path, point: str) -> None:
    killed(tmp_path, point)
    async with open_shelf(tmp_path) as shelf:
        await settled(shelf)
        assert set((await shelf.texts()).values()) == {"tagged"}
        assert shelf.files() == TAGGED
        assert [each.action for each in await shelf.edits()] == ["tagging", "edit"]
        counts = await shelf.studio.datasets.table.counts(shelf.dataset.id)
        assert counts.unwritten == 0


async def test_what_was_not_promised_did_not_happen(tmp_path: Path) -> None:
    killed(tmp_path, "in the transaction")
    async with open_shelf(tmp_path) as shelf:
        await settled(shelf)
        assert shelf.files() == {"chelsea.txt": b"a cat\n"}
        assert len(await shelf.edits()) == 1


async def test_what_an_editor_wrote_before_the_next_boot_is_kept(tmp_path: Path) -> None:
    folder = killed(tmp_path, "after the journal")
    (folder / "chelsea.txt").write_bytes(b"an editor's cat")
    (folder / "rocket.txt").write_bytes(b"an editor's rocket")
    async with open_shelf(tmp_path) as shelf:
        await settled(shelf)
        assert shelf.files() == TAGGED | {
            "chelsea.txt": b"an editor's cat",
            "rocket.txt": b"an editor's rocket",
        }
        assert (await shelf.texts())["chelsea.png"] == "an editor's cat"
        changes = await shelf.entries((await shelf.edits())[0])
        assert {(each.before, each.after) for each in changes} == {
            ("tagged\n", "an editor's cat"),
            ("tagged\n", "an editor's rocket"),
        }


@pytest.mark.parametrize("torn", [b"", b"\0" * 7])
async def test_a_file_that_a_power_cut_emptied_is_written_again(tmp_path: Path, torn: bytes) -> None:
    folder = killed(tmp_path, "before the record")
    (folder / "rocket.txt").write_bytes(torn)
    async with open_shelf(tmp_path) as shelf:
        await settled(shelf)
        assert shelf.files() == TAGGED
        assert len(await shelf.edits()) == 2


async def test_a_file_that_was_emptied_on_purpose_stays_empty(tmp_path: Path) -> None:
    """What was recorded had reached the disk, so an empty file is somebody's wish."""
    folder = killed(tmp_path, "in the transaction")
    (folder / "chelsea.txt").write_bytes(b"")
    async with open_shelf(tmp_path) as shelf:
        await settled(shelf)
        assert shelf.files() == {"chelsea.txt": b""}
        assert (await shelf.edits())[0].action == "outside"


@pytest.mark.parametrize("point", ["before an image is known", "before an image is in the folder"])
async def test_an_upload_that_was_broken_off_leaves_nothing_half(tmp_path: Path, point: str) -> None:
    folder = killed(tmp_path, point)
    is_there = (folder / "new.png").exists()
    assert is_there == (point == "before an image is known")
    async with open_shelf(tmp_path) as shelf:
        assert list((tmp_path / "uploads").iterdir()) == []
        assert shelf.leftovers() == []
        assert (await shelf.look()).added == is_there
        image = (await shelf.images()).get("new.png")
        assert (image is not None) == is_there
        assert image is None or image.problem is None
