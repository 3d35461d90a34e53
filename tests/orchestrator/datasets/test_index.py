"""What lies in a folder and what is known of it: new, changed, vanished, broken, linked and hidden files."""

import os
import sys
from pathlib import Path

import pytest

from contract.errors import FileMissing
from orchestrator.datasets.place import Place
from orchestrator.datasets.scan import MAX_DEPTH, walk
from orchestrator.workers.pool import WorkerPool
from tests.builders.pictures import BROKEN, ZOO
from tests.orchestrator.datasets.shelf import SHIPPED, Shelf, copy_photographs, open_shelf

pytestmark = pytest.mark.anyio
links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


async def test_every_picture_of_a_folder_becomes_known(empty: Shelf) -> None:
    copy_photographs(empty.folder)
    copy_photographs(empty.folder / "10_cat" / "deep", ["chelsea.png"])
    found = await empty.look()
    assert (found.images, found.added, found.problems) == (5, 5, 0)
    image = (await empty.images())["10_cat/deep/chelsea.png"]
    assert (image.width, image.height, image.format) == (451, 300, "png")
    assert image.sha256 == (await empty.images())["chelsea.png"].sha256
    assert image.size_bytes == (SHIPPED / "chelsea.png").stat().st_size


async def test_a_second_look_reads_nothing_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*arguments: object, **options: object) -> None:
        raise AssertionError("a worker was asked")

    monkeypatch.setattr(WorkerPool, "run", run)
    found = await shelf.look()
    assert (found.images, found.added, found.changed, found.removed) == (4, 0, 0, 0)


async def test_a_changed_file_keeps_its_id_and_its_captions(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    before = (await shelf.images())["chelsea.png"]
    (shelf.folder / "chelsea.png").write_bytes((SHIPPED / "coffee.png").read_bytes())
    assert (await shelf.look()).changed == 1
    after = (await shelf.images())["chelsea.png"]
    assert (after.id, after.added_ms) == (before.id, before.added_ms)
    assert after.sha256 == (await shelf.images())["coffee.png"].sha256
    assert (await shelf.caption("chelsea.png")).text == "a cat"


async def test_a_vanished_file_is_forgotten_unless_the_journal_speaks_of_it(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    before = (await shelf.images())["chelsea.png"]
    content = (shelf.folder / "chelsea.png").read_bytes()
    for name in ("chelsea.png", "coffee.png"):
        (shelf.folder / name).unlink()
    assert (await shelf.look()).removed == 2
    assert set(await shelf.images()) == {"astronaut.png", "rocket.jpg"}
    (shelf.folder / "chelsea.png").write_bytes(content)
    assert (await shelf.look()).added == 1
    assert (await shelf.images())["chelsea.png"].id == before.id
    assert (await shelf.caption("chelsea.png")).text == "a cat"
    assert (await shelf.entries((await shelf.edits())[0]))[0].path == "chelsea.png"


async def test_what_cannot_be_decoded_is_known_with_its_problem(empty: Shelf) -> None:
    for broken in BROKEN:
        broken.write(empty.folder / broken.name)
    (empty.folder / "page.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    found = await empty.look()
    known = await empty.images()
    assert found.problems == sum(each.problem is not None for each in known.values())
    page = known["page.png"]
    assert page.problem is not None
    assert page.problem["data"]["kind"] == "image_invalid"
    assert (page.sha256, page.width) == (None, None)


async def test_every_form_of_picture_is_known(empty: Shelf) -> None:
    for picture in ZOO[:12]:
        picture.write(empty.folder / picture.name)
    await empty.look()
    known = await empty.images()
    for picture in ZOO[:12]:
        image = known[picture.name]
        assert (image.width, image.height) == picture.size, picture.name
        assert image.problem is None, picture.name


async def test_hidden_files_and_folders_are_left_out(empty: Shelf) -> None:
    copy_photographs(empty.folder / ".cache", ["chelsea.png"])
    copy_photographs(empty.folder, ["coffee.png"])
    (empty.folder / "coffee.png").rename(empty.folder / ".coffee.png")
    assert (await empty.look()).images == 0


@links
async def test_a_link_out_of_the_dataset_is_named_and_not_read(empty: Shelf, tmp_path: Path) -> None:
    copy_photographs(tmp_path / "private", ["chelsea.png"])
    copy_photographs(empty.folder, ["coffee.png"])
    (empty.folder / "out.png").symlink_to(tmp_path / "private" / "chelsea.png")
    (empty.folder / "within.png").symlink_to("coffee.png")
    (empty.folder / "nowhere.png").symlink_to("nothing.png")
    (empty.folder / "folder").symlink_to(tmp_path / "private")
    await empty.look()
    known = await empty.images()
    assert set(known) == {"coffee.png", "out.png", "within.png", "nowhere.png"}
    assert known["out.png"].problem is not None
    assert known["out.png"].problem["data"]["kind"] == "path_outside_roots"
    assert known["out.png"].sha256 is None
    assert known["within.png"].sha256 == known["coffee.png"].sha256
    assert known["nowhere.png"].problem is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX has pipes with names")
async def test_a_pipe_is_no_picture_and_nobody_waits_for_it(empty: Shelf) -> None:
    os.mkfifo(empty.folder / "pipe.png")
    await empty.look()
    assert (await empty.images())["pipe.png"].problem is not None


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux'")
async def test_a_name_that_is_no_unicode_is_known_and_captioned(empty: Shelf) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (empty.folder / name).write_bytes((SHIPPED / "chelsea.png").read_bytes())
    await empty.look()
    (path,) = await empty.images()
    assert path == "file:///caf%E9.png"
    await empty.put(path, "a cat")
    assert (empty.folder / os.fsdecode(b"caf\xe9.txt")).read_bytes() == b"a cat\n"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
async def test_a_folder_that_cannot_be_read_loses_nothing(shelf: Shelf) -> None:
    copy_photographs(shelf.folder / "locked", ["coffee.png"])
    await shelf.look()
    (shelf.folder / "locked").chmod(0)
    found = await shelf.look()
    (shelf.folder / "locked").chmod(0o700)
    assert found.locked == ["locked"]
    assert "locked/coffee.png" in await shelf.images()


async def test_folders_in_folders_have_an_end(empty: Shelf) -> None:
    deep = empty.folder.joinpath(*["a"] * (MAX_DEPTH + 1))
    copy_photographs(deep, ["coffee.png"])
    copy_photographs(deep.parent, ["chelsea.png"])
    found = await empty.look()
    assert found.images == 1
    assert len(found.locked) == 1


async def test_a_folder_that_is_gone_is_an_error_and_forgets_nothing(shelf: Shelf) -> None:
    shelf.folder.rename(shelf.folder.with_name("unplugged"))
    with pytest.raises(FileMissing):
        await shelf.look()
    assert len(await shelf.images()) == 4


async def test_captions_that_lie_there_become_the_beginning_of_the_history(empty: Shelf) -> None:
    copy_photographs(empty.folder)
    (empty.folder / "chelsea.txt").write_bytes(b"cat, fur\r\n")
    (empty.folder / "chelsea.caption").write_bytes(b"A cat.")
    (empty.folder / "nobody.txt").write_bytes(b"of no image")
    assert (await empty.look()).captions == 2
    (edit,) = await empty.edits()
    assert (edit.action, edit.author, edit.changes) == ("import", "outside", 2)
    assert {(each.kind, each.before, each.after) for each in await empty.entries(edit)} == {
        ("tags", None, "cat, fur\r\n"),
        ("caption", None, "A cat."),
    }
    assert (await empty.look()).captions == 0
    (empty.folder / "chelsea.txt").write_bytes(b"cat, fux\r\n")
    os.utime(empty.folder / "chelsea.txt", ns=(1, (await empty.caption("chelsea.png")).file_mtime_ns or 0))
    assert (await empty.look()).captions == 1
    assert (await empty.edits())[0].action == "outside"


async def test_what_a_crash_left_of_a_caption_is_cleared_when_it_is_old(shelf: Shelf) -> None:
    old = shelf.folder / f".lorakeet-{'0' * 32}-{'1' * 8}.tmp"
    new = shelf.folder / f".lorakeet-{'0' * 32}-{'2' * 8}.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    await shelf.look()
    assert shelf.leftovers() == [new.name]


async def test_a_picture_that_ends_its_worker_costs_no_other(
    empty: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contract.errors import WorkerDied
    from orchestrator.workers.tasks import ScanArguments

    real = WorkerPool.run

    async def run(self: WorkerPool, task: object, arguments: ScanArguments, **options: object) -> object:
        if any("coffee" in path for path in arguments.paths):
            raise WorkerDied("died")
        return await real(self, task, arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(WorkerPool, "run", run)
    copy_photographs(empty.folder)
    found = await empty.look()
    known = await empty.images()
    assert (found.images, found.problems) == (4, 1)
    assert known["coffee.png"].problem is not None
    assert known["coffee.png"].problem["data"]["kind"] == "worker_died"
    assert known["chelsea.png"].sha256 is not None


def test_a_walk_names_files_as_they_are_kept(tmp_path: Path) -> None:
    copy_photographs(tmp_path / "b", ["coffee.png"])
    copy_photographs(tmp_path, ["rocket.jpg"])
    found = walk(Place(str(tmp_path), ()))
    assert [file.path for file in found.files] == ["b/coffee.png", "rocket.jpg"]


async def test_two_looks_at_once_know_every_image_once(tmp_path: Path) -> None:
    import anyio

    async with open_shelf(tmp_path / "home") as shelf:
        copy_photographs(shelf.folder)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(shelf.look)
        assert len(await shelf.images()) == 4
