"""Tagging: frozen at the start, kept as it comes, once, in one edit; whatever dies meanwhile."""

import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import DiskFull, FileMissing, KernelFault
from contract.notifications import Partial
from orchestrator.datasets import tagging
from orchestrator.datasets.captioning import Captioning
from orchestrator.files.beneath import CREATE, Folder
from tests.orchestrator.datasets.shelf import SHIPPED, Shelf, copy_photographs
from tests.orchestrator.datasets.stub_run import JOB, MODEL, Attempt, StubRun

pytestmark = pytest.mark.anyio


def attempt(shelf: Shelf, number: int = 1, **options: Any) -> Attempt:
    source = {"dataset": shelf.dataset.id}
    return Attempt(StubRun(shelf.studio, source, attempt=number, **options))


def names(paths: list[str]) -> list[str]:
    return [path.rpartition("/")[2] for path in paths]


async def test_a_whole_dataset_is_tagged_in_one_edit(shelf: Shelf) -> None:
    run = attempt(shelf)
    assert names(await run.begin()) == ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]
    run.say({"astronaut.png": "red", "chelsea.png": "cat"})
    run.say({"coffee.png": "cup", "rocket.jpg": "rocket"})
    result = await run.end()
    assert (result.tagged, result.written, result.skipped, result.failed_count) == (4, 4, 0, 0)
    assert await shelf.texts() == {
        "astronaut.png": "red",
        "chelsea.png": "cat",
        "coffee.png": "cup",
        "rocket.jpg": "rocket",
    }
    (edit,) = await shelf.edits()
    assert (edit.id, edit.action, edit.author, edit.job_id, edit.changes) == (
        result.edit_id,
        "tagging",
        "job",
        JOB,
        4,
    )
    assert shelf.files()["chelsea.txt"] == b"cat\n"
    told = [item["path"] for name, data in run.run.events for item in data["items"] if name == "job.item"]
    assert sorted(told) == ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]


async def test_what_the_kernel_gets_is_absolute_and_granted(shelf: Shelf) -> None:
    model = shelf.studio.home / "models" / "demo"
    (model / "real").mkdir(parents=True)
    (model / "real" / "model.onnx").write_bytes(b"x")
    run = attempt(shelf, settings={"model": {"path": str(model)}})
    paths = await run.begin()
    assert run.prepared is not None
    assert run.prepared.roots == [str(shelf.folder), str(run.run.folder), str(model)]
    assert paths[0] == str(shelf.folder / "astronaut.png")
    manifest = (run.run.folder / "manifest.jsonl").read_bytes().splitlines()
    assert msgspec.json.decode(manifest[1])["sha256"] == (await shelf.images())["chelsea.png"].sha256


async def test_images_that_have_a_caption_are_skipped_at_the_start(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "coffee.txt").write_bytes(b"")
    (shelf.folder / "rocket.txt").write_bytes(b"caf\xe9")
    run = attempt(shelf, existing="skip")
    assert names(await run.begin()) == ["astronaut.png"]
    run.say({"astronaut.png": "red"})
    result = await run.end()
    assert (result.written, result.skipped, result.failed_count) == (1, 3, 0)
    assert shelf.files()["rocket.txt"] == b"caf\xe9"


async def test_a_caption_that_came_meanwhile_is_left_alone(shelf: Shelf) -> None:
    run = attempt(shelf, existing="skip")
    await run.begin()
    (shelf.folder / "chelsea.txt").write_bytes(b"an editor's cat")
    run.say({"chelsea.png": "cat", "coffee.png": "cup"})
    result = await run.end()
    assert (result.tagged, result.written, result.skipped) == (2, 1, 1)
    assert shelf.files() == {"chelsea.txt": b"an editor's cat", "coffee.txt": b"cup\n"}


async def test_appending_works_on_what_is_there_then(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "cat, fur")
    run = attempt(shelf, existing="append", settings={**MODEL, "always_first": ["sks"]})
    await run.begin()
    (shelf.folder / "chelsea.txt").write_bytes(b"cat, whiskers")
    run.say({"chelsea.png": "sks, red, cat", "coffee.png": "sks, cup"})
    await run.end()
    assert await shelf.texts() | {} == {
        "astronaut.png": None,
        "chelsea.png": "sks, cat, whiskers, red",
        "coffee.png": "sks, cup",
        "rocket.jpg": None,
    }


async def test_appending_nothing_new_leaves_the_file_to_the_byte(shelf: Shelf) -> None:
    (shelf.folder / "chelsea.txt").write_bytes(b"\xef\xbb\xbfcat, fur")
    run = attempt(shelf, existing="append")
    await run.begin()
    run.say({"chelsea.png": "cat"})
    result = await run.end()
    assert (result.written, result.skipped, result.edit_id) == (0, 1, None)
    assert shelf.files() == {"chelsea.txt": b"\xef\xbb\xbfcat, fur"}


async def test_overwriting_replaces_and_the_whole_run_can_be_undone(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "coffee.txt").write_bytes(b"cup\r\n")
    run = attempt(shelf, existing="overwrite")
    await run.begin()
    run.say({"chelsea.png": "red", "coffee.png": "red", "rocket.jpg": "red"})
    await run.end()
    assert set(shelf.files().values()) == {b"red\n"}
    assert await shelf.revert((await shelf.edits())[0]) == []
    assert shelf.files() == {"chelsea.txt": b"a cat\n", "coffee.txt": b"cup\r\n"}


async def test_images_that_cannot_be_captioned_fail_by_themselves(shelf: Shelf) -> None:
    copy_photographs(shelf.folder / "a", ["chelsea.png"])
    (shelf.folder / "a" / "chelsea.jpg").write_bytes((SHIPPED / "rocket.jpg").read_bytes())
    (shelf.folder / "rocket.txt").write_bytes(b"caf\xe9")
    (shelf.folder / "coffee.png").write_bytes(b"no picture")
    run = attempt(shelf, existing="overwrite")
    assert names(await run.begin()) == ["astronaut.png", "chelsea.png"]
    run.fail("astronaut.png")
    run.say({"chelsea.png": "cat"})
    result = await run.end()
    assert (result.written, result.failed_count) == (1, 5)
    assert {each.path.rpartition("/")[2]: each.error["data"]["kind"] for each in result.failed} == {
        "chelsea.png": "caption_collision",
        "chelsea.jpg": "caption_collision",
        "rocket.jpg": "caption_unreadable",
        "coffee.png": "image_invalid",
        "astronaut.png": "image_invalid",
    }
    assert "It is no picture." in run.run.lines[0]


async def test_a_caption_that_became_unreadable_meanwhile_is_not_touched(shelf: Shelf) -> None:
    run = attempt(shelf, existing="overwrite")
    await run.begin()
    (shelf.folder / "chelsea.txt").write_bytes(b"caf\xe9")
    run.say({"chelsea.png": "cat"})
    result = await run.end()
    assert (result.tagged, result.written, result.skipped, result.failed_count) == (1, 0, 0, 1)
    assert shelf.files() == {"chelsea.txt": b"caf\xe9"}


async def test_a_later_attempt_does_the_rest_and_counts_the_whole(shelf: Shelf) -> None:
    first = attempt(shelf)
    await first.begin()
    first.say({"astronaut.png": "red", "chelsea.png": "cat"})
    await first.end(well=False)
    copy_photographs(shelf.folder / "new", ["coffee.png"])
    second = attempt(shelf, 2)
    assert names(await second.begin()) == ["coffee.png", "rocket.jpg"]
    assert second.prepared is not None
    assert first.prepared is not None
    assert second.prepared.inputs == first.prepared.inputs
    second.say({"coffee.png": "cup", "rocket.jpg": "rocket"})
    result = await second.end()
    assert (result.tagged, result.written) == (4, 4)
    assert len(await shelf.edits()) == 1
    assert "new/coffee.png" not in await shelf.texts()


async def test_what_comes_twice_counts_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "BATCH", 2)
    run = attempt(shelf, existing="append")
    await run.begin()
    run.say({"chelsea.png": "cat"})
    run.say({"chelsea.png": "another"})
    run.say({"chelsea.png": "a third", "coffee.png": "cup"})
    result = await run.end()
    assert (result.tagged, result.written) == (2, 2)
    assert (await shelf.texts())["chelsea.png"] == "cat"


async def test_nothing_left_to_do_needs_no_kernel(shelf: Shelf) -> None:
    for path in await shelf.images():
        await shelf.put(path, "there")
    run = attempt(shelf)
    assert await run.begin() == []
    assert run.prepared is None
    result = await run.end(well=False)
    assert (result.tagged, result.written, result.skipped) == (0, 0, 4)


async def test_the_manifest_is_frozen_whatever_happens_to_the_dataset(shelf: Shelf) -> None:
    first = attempt(shelf)
    await first.begin()
    await first.end(well=False)
    await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "coffee.png").unlink()
    await shelf.look()
    second = attempt(shelf, 2)
    assert len(await second.begin()) == 4
    second.say({"chelsea.png": "cat", "coffee.png": "cup"})
    result = await second.end()
    assert (result.tagged, result.written) == (1, 0)


async def test_items_are_kept_while_the_job_goes_on(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    monkeypatch.setattr(tagging, "INTERVAL_S", 0.01)
    kept = anyio.Event()
    run = attempt(shelf)
    await run.begin()
    real = StubRun.publish

    def publish(self: StubRun, name: str, data: Any) -> None:
        real(self, name, data)
        kept.set()

    monkeypatch.setattr(StubRun, "publish", publish)
    run.say({"chelsea.png": "cat"})
    with anyio.fail_after(20):
        await kept.wait()
    assert (await shelf.texts())["chelsea.png"] == "cat"
    run.say({"coffee.png": "cup"})
    assert (await run.end()).written == 2


async def test_a_full_database_fails_the_job_and_the_next_attempt_goes_on(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Captioning.change

    async def refuse(self: Captioning, *arguments: Any) -> Any:
        raise DiskFull("The disk is full.")

    first = attempt(shelf)
    await first.begin()
    monkeypatch.setattr(Captioning, "change", refuse)
    first.say({"chelsea.png": "cat"})
    with pytest.raises(DiskFull):
        await first.end()
    assert await shelf.edits() == []
    monkeypatch.setattr(Captioning, "change", real)
    second = attempt(shelf, 2)
    assert len(await second.begin()) == 4


async def test_caption_files_that_find_no_room_follow_later(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Folder.open

    def refuse(self: Folder, name: str, flags: int, mode: int = 0o666) -> int:
        if flags == CREATE:
            raise OSError(errno.ENOSPC, "no space")
        return real(self, name, flags, mode)

    run = attempt(shelf)
    await run.begin()
    with monkeypatch.context() as patched:
        patched.setattr(Folder, "open", refuse)
        run.say({"chelsea.png": "cat"})
        result = await run.end()
    assert result.written == 1
    assert shelf.files() == {}
    await shelf.studio.datasets.captioning.settle(shelf.dataset, everything=False)
    assert shelf.files() == {"chelsea.txt": b"cat\n"}


@pytest.mark.parametrize("item", [{"index": 99}, {"index": -1}, {"nonsense": 1}, 5, {"index": 0}])
async def test_a_kernel_that_makes_things_up_is_at_fault(shelf: Shelf, item: Any) -> None:
    run = attempt(shelf)
    await run.begin()
    whole = {"image": "x", "width": 1, "height": 1, "caption": "x", "rating": {}, "tags": []}
    made = {**whole, **item} if isinstance(item, dict) and item.get("index") else item
    run.work.take(run.run, Partial(job_id=JOB, items=[made]))
    with pytest.raises(KernelFault):
        await run.end()
    assert await shelf.edits() == []


async def test_a_dataset_whose_folder_is_gone_cannot_be_tagged(shelf: Shelf, tmp_path: Path) -> None:
    shelf.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileMissing):
        await attempt(shelf).begin()


async def test_single_files_become_lines_and_no_captions(shelf: Shelf) -> None:
    path = shelf.dataset.path
    files = [
        {"root": "datasets", "path": f"{path}/{name}"} for name in ("chelsea.png", "coffee.png", "x.png")
    ]
    first = Attempt(StubRun(shelf.studio, {"files": files}))
    assert names(await first.begin()) == ["chelsea.png", "coffee.png"]
    first.say({"chelsea.png": "cat"})
    await first.end(well=False)
    results = first.run.folder / "results.jsonl"
    with results.open("ab") as file:
        file.write(b'{"index": 1, "ima')
    second = Attempt(StubRun(shelf.studio, {"files": files}, attempt=2))
    assert names(await second.begin()) == ["coffee.png"]
    second.say({"coffee.png": "cup"})
    result = await second.end()
    assert (result.tagged, result.failed_count, result.edit_id) == (2, 1, None)
    lines = [msgspec.json.decode(line) for line in results.read_bytes().splitlines()]
    assert {(names([line["image"]])[0], line["caption"]) for line in lines} == {
        ("chelsea.png", "cat"),
        ("coffee.png", "cup"),
    }
    assert second.run.artifacts == [("results", results, "application/jsonl")]
    assert shelf.files() == {}
