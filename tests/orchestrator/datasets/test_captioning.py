"""Captions: the journal first, the files after it, and nothing that an editor wrote is ever lost."""

import errno
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from contract.errors import CaptionCollision, CaptionUnreadable, StaleVersion
from orchestrator.datasets.captions import Caption, Key
from orchestrator.datasets.journal import Edit
from orchestrator.files.beneath import CREATE, Folder
from orchestrator.ids import new_id
from tests.orchestrator.datasets.shelf import Shelf, copy_photographs, open_shelf
from tests.orchestrator.traversal import swap

pytestmark = pytest.mark.anyio


async def history(shelf: Shelf, path: str) -> list[tuple[str, str | None, str | None]]:
    """Action, before and after of every change of an image's tags, the oldest first."""
    id = (await shelf.images())[path].id
    edits = reversed(await shelf.edits())
    entries = [(edit.action, entry) for edit in edits for entry in await shelf.entries(edit)]
    return [(action, entry.before, entry.after) for action, entry in entries if entry.image_id == id]


async def test_a_caption_goes_into_the_journal_and_into_its_file(shelf: Shelf) -> None:
    caption = await shelf.put("chelsea.png", "a cat")
    assert (caption.text, caption.version, caption.is_written) == ("a cat", 1, True)
    assert shelf.files() == {"chelsea.txt": b"a cat\n"}
    assert await history(shelf, "chelsea.png") == [("edit", None, "a cat\n")]
    assert shelf.leftovers() == []


async def test_both_kinds_have_files_of_their_own(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "cat, fur")
    await shelf.put("chelsea.png", "A cat looks at you.", "caption")
    assert shelf.files() == {"chelsea.txt": b"cat, fur\n", "chelsea.caption": b"A cat looks at you.\n"}


async def test_a_removed_caption_has_no_file_and_a_history(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    caption = await shelf.put("chelsea.png", None)
    assert (caption.text, caption.version, caption.is_written) == (None, 2, True)
    assert shelf.files() == {}
    assert (await history(shelf, "chelsea.png"))[-1] == ("edit", "a cat\n", None)


async def test_the_same_text_again_is_no_change(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    assert (await shelf.put("chelsea.png", "a cat")).version == 1
    assert len(await shelf.edits()) == 1


async def test_an_edit_outside_becomes_a_row_before_anything_is_written(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "chelsea.txt").write_bytes(b"an editor's cat")
    await shelf.put("chelsea.png", "another cat")
    assert await history(shelf, "chelsea.png") == [
        ("edit", None, "a cat\n"),
        ("outside", "a cat\n", "an editor's cat"),
        ("edit", "an editor's cat", "another cat\n"),
    ]
    assert shelf.files() == {"chelsea.txt": b"another cat\n"}


async def test_an_edit_outside_is_seen_even_if_nothing_but_the_text_is_new(shelf: Shelf) -> None:
    """As within one tick of a file system's clock."""
    caption = await shelf.put("chelsea.png", "one cat")
    (shelf.folder / "chelsea.txt").write_bytes(b"two cat\n")
    os.utime(shelf.folder / "chelsea.txt", ns=(1, caption.file_mtime_ns or 0))
    await shelf.put("chelsea.png", "another cat")
    assert ("outside", "one cat\n", "two cat\n") in await history(shelf, "chelsea.png")


async def test_an_edit_outside_makes_the_version_that_was_read_stale(shelf: Shelf) -> None:
    seen = await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "chelsea.txt").write_bytes(b"an editor's cat")

    def check(now: Caption) -> None:
        if now.version != seen.version:
            raise StaleVersion("changed")

    edit = Edit(id=new_id("edit"), dataset_id=shelf.dataset.id, action="edit", author="user")
    with pytest.raises(StaleVersion):
        await shelf.studio.datasets.captioning.put(shelf.dataset, edit, seen.key, "mine", check)
    assert shelf.files() == {"chelsea.txt": b"an editor's cat"}
    assert (await shelf.caption("chelsea.png")).text == "an editor's cat"


async def test_a_file_that_was_removed_outside_is_a_change_too(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "chelsea.txt").unlink()
    await refresh(shelf)
    assert (await shelf.caption("chelsea.png")).text is None
    assert (await history(shelf, "chelsea.png"))[-1] == ("outside", "a cat\n", None)


async def test_a_folder_that_is_gone_says_nothing_of_its_captions(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    images = await shelf.images()
    shelf.folder.rename(shelf.folder.with_name("unplugged"))
    captioning = shelf.studio.datasets.captioning
    await captioning.refresh(shelf.dataset, [each.id for each in images.values()], closely=True)
    shelf.folder.with_name("unplugged").rename(shelf.folder)
    assert (await shelf.caption("chelsea.png")).text == "a cat"
    assert len(await shelf.edits()) == 1


async def test_an_image_that_went_with_its_caption_leaves_the_journal_alone(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "chelsea.txt").unlink()
    (shelf.folder / "chelsea.png").unlink()
    await refresh(shelf)
    assert len(await shelf.edits()) == 1


async def test_a_list_is_fresh_without_reading_what_has_not_changed(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    ids = [each.id for each in (await shelf.images()).values()]
    captioning = shelf.studio.datasets.captioning
    assert await captioning.refresh(shelf.dataset, ids) == 0
    (shelf.folder / "chelsea.txt").write_bytes(b"another cat")
    (shelf.folder / "coffee.txt").write_bytes(b"a cup")
    assert await captioning.refresh(shelf.dataset, ids) == 2
    assert await captioning.refresh(shelf.dataset, ids) == 0
    assert (await shelf.texts())["coffee.png"] == "a cup"


async def test_a_file_that_was_only_touched_is_no_change(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    os.utime(shelf.folder / "chelsea.txt", ns=(1, 1))
    await refresh(shelf)
    assert len(await shelf.edits()) == 1
    assert (await shelf.caption("chelsea.png")).file_mtime_ns == 1


@pytest.mark.parametrize(
    "content",
    [
        b"a, b",
        b"\xef\xbb\xbfa, b\r\n",
        b"  a, b \n\n",
        b"line one\r\nline two\r\n",
        b"",
        b"\n",
        b"a\0b",
        "עברית, \u202eabc, 🐈‍⬛\n".encode(),
        b"x" * 1_000_000,
    ],
)
async def test_what_an_editor_wrote_comes_back_to_the_byte(shelf: Shelf, content: bytes) -> None:
    (shelf.folder / "chelsea.txt").write_bytes(content)
    await refresh(shelf)
    assert shelf.files()["chelsea.txt"] == content
    await shelf.put("chelsea.png", "something else")
    kept = await shelf.revert((await shelf.edits())[0])
    assert kept == []
    assert shelf.files()["chelsea.txt"] == content


@pytest.mark.parametrize("content", [b"caf\xe9", b"\xff\xfea\0", b"\xed\xa0\x80", b"x" * (1024 * 1024 + 1)])
async def test_a_file_that_is_no_text_is_never_touched(shelf: Shelf, content: bytes) -> None:
    (shelf.folder / "chelsea.txt").write_bytes(content)
    await refresh(shelf)
    for text in ("new", None):
        with pytest.raises(CaptionUnreadable):
            await shelf.put("chelsea.png", text)
    assert shelf.files() == {"chelsea.txt": content}
    assert await shelf.edits() == []
    assert isinstance((await shelf.caption("chelsea.png")).problem, CaptionUnreadable)


async def test_a_file_that_was_converted_can_be_used_again(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "chelsea.txt").write_bytes(b"caf\xe9")
    await refresh(shelf)
    (shelf.folder / "chelsea.txt").write_bytes("café".encode())
    await refresh(shelf)
    caption = await shelf.caption("chelsea.png")
    assert (caption.text, caption.problem) == ("café", None)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
async def test_a_caption_that_is_a_link_is_never_touched(shelf: Shelf, tmp_path: Path) -> None:
    target = tmp_path / "mine.txt"
    target.write_bytes(b"mine")
    (shelf.folder / "chelsea.txt").symlink_to(target)
    with pytest.raises(CaptionUnreadable):
        await shelf.put("chelsea.png", "a cat")
    assert target.read_bytes() == b"mine"
    assert (shelf.folder / "chelsea.txt").is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
async def test_who_swaps_folders_for_links_gets_nothing_written_or_read(shelf: Shelf, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "chelsea.txt").write_bytes(b"a secret")
    copy_photographs(shelf.folder / "deep", ["chelsea.png"])
    await shelf.look()
    (shelf.folder / "link").symlink_to(outside)
    stop = threading.Event()
    swapper = threading.Thread(target=swap, args=(shelf.folder / "deep", shelf.folder / "link", stop))
    swapper.start()
    try:
        for number in range(40):
            await shelf.put("deep/chelsea.png", f"cat {number}")
    finally:
        stop.set()
        swapper.join(10)
    assert {each.name: each.read_bytes() for each in outside.iterdir()} == {"chelsea.txt": b"a secret"}
    told = [entry.after for edit in await shelf.edits() for entry in await shelf.entries(edit)]
    assert "a secret" not in told
    await refresh(shelf)
    assert (shelf.folder / "deep" / "chelsea.txt").read_bytes() == b"cat 39\n"


async def test_images_that_would_share_a_caption_have_none(shelf: Shelf) -> None:
    copy_photographs(shelf.folder, ["rocket.jpg"])
    (shelf.folder / "rocket.jpg").rename(shelf.folder / "chelsea.jpg")
    (shelf.folder / "chelsea.txt").write_bytes(b"whose?")
    await shelf.look()
    for path in ("chelsea.png", "chelsea.jpg"):
        with pytest.raises(CaptionCollision):
            await shelf.put(path, "mine")
    assert shelf.files() == {"chelsea.txt": b"whose?"}
    (shelf.folder / "chelsea.jpg").unlink()
    await shelf.look()
    assert (await shelf.caption("chelsea.png")).text == "whose?"


async def test_undo_restores_what_was_before_and_keeps_what_was_changed_since(shelf: Shelf) -> None:
    await shelf.put("coffee.png", "a cup")
    ids = {path: each.id for path, each in (await shelf.images()).items()}
    edit = await tag_all(shelf, "tagged")
    await shelf.put("rocket.jpg", "changed since")
    (shelf.folder / "astronaut.txt").write_bytes(b"changed outside since")
    kept = await shelf.revert(edit)
    assert set(kept) == {ids["rocket.jpg"], ids["astronaut.png"]}
    assert await shelf.texts() == {
        "astronaut.png": "changed outside since",
        "chelsea.png": None,
        "coffee.png": "a cup",
        "rocket.jpg": "changed since",
    }
    assert shelf.files() == {
        "astronaut.txt": b"changed outside since",
        "coffee.txt": b"a cup\n",
        "rocket.txt": b"changed since\n",
    }
    assert (await shelf.edits())[0].kept == 2


async def test_undoing_an_undo_does_it_again(shelf: Shelf) -> None:
    edit = await tag_all(shelf, "tagged")
    for number in range(4):
        assert await shelf.revert(edit) == []
        edit = (await shelf.edits())[0]
        expected = "tagged" if number % 2 else None
        assert set((await shelf.texts()).values()) == {expected}
    assert len(shelf.files()) == 4


async def test_an_edit_found_outside_can_be_undone(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    (shelf.folder / "chelsea.txt").write_bytes(b"a mistake")
    await refresh(shelf)
    assert await shelf.revert((await shelf.edits())[0]) == []
    assert shelf.files() == {"chelsea.txt": b"a cat\n"}


async def test_a_full_disk_costs_no_caption(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    await shelf.put("coffee.png", "a cup")
    fill(monkeypatch)
    caption = await shelf.put("chelsea.png", "a cat")
    assert (caption.text, caption.is_written) == ("a cat", False)
    assert shelf.files() == {"coffee.txt": b"a cup\n"}
    counts = await shelf.studio.datasets.table.counts(shelf.dataset.id)
    assert counts.unwritten == 1
    monkeypatch.undo()
    await shelf.put("rocket.jpg", "a rocket")
    assert shelf.files() == {
        "chelsea.txt": b"a cat\n",
        "coffee.txt": b"a cup\n",
        "rocket.txt": b"a rocket\n",
    }
    assert (await shelf.caption("chelsea.png")).is_written
    assert shelf.leftovers() == []


async def test_a_full_disk_is_told(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch)
    told = heard(shelf, monkeypatch)
    await shelf.put("chelsea.png", "a cat")
    said = dict(told)["dataset.captions_unwritten"]
    assert said["unwritten"] == 1
    assert said["problem"]["code"] == "disk_full"


async def test_what_an_editor_wrote_while_the_disk_was_full_is_not_overwritten(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(monkeypatch)
    await shelf.put("chelsea.png", "a cat")
    monkeypatch.undo()
    (shelf.folder / "chelsea.txt").write_bytes(b"an editor's cat")
    await shelf.studio.datasets.captioning.settle(shelf.dataset, everything=False)
    assert shelf.files() == {"chelsea.txt": b"an editor's cat"}
    assert await history(shelf, "chelsea.png") == [
        ("edit", None, "a cat\n"),
        ("outside", "a cat\n", "an editor's cat"),
    ]


async def test_a_waiting_file_is_written_at_the_next_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_shelf(tmp_path / "home") as shelf:
        copy_photographs(shelf.folder)
        await shelf.look()
        await shelf.put("chelsea.png", "a cat")
        fill(monkeypatch)
        await shelf.put("chelsea.png", "two cats")
        monkeypatch.undo()
        assert shelf.files() == {"chelsea.txt": b"a cat\n"}
    async with open_shelf(tmp_path / "home") as shelf:
        await shelf.studio.datasets.settle(everything=False)
        assert shelf.files() == {"chelsea.txt": b"two cats\n"}


async def test_an_editor_who_is_quicker_than_the_writer_wins(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The editor saves after the file was looked at, and just before it is replaced."""
    await shelf.put("chelsea.png", "a cat")
    real = Folder.open

    def open_late(self: Folder, name: str, flags: int, mode: int = 0o666) -> int:
        if flags == CREATE:
            monkeypatch.undo()
            (shelf.folder / "coffee.txt").write_bytes(b"an editor's cup")
        return real(self, name, flags, mode)

    monkeypatch.setattr(Folder, "open", open_late)
    await shelf.put("coffee.png", "a cup")
    assert shelf.files()["coffee.txt"] == b"an editor's cup"
    await refresh(shelf)
    assert (await shelf.caption("coffee.png")).text == "an editor's cup"


async def refresh(shelf: Shelf) -> None:
    """Look into every caption file."""
    ids = [each.id for each in (await shelf.images()).values()]
    await shelf.studio.datasets.captioning.refresh(shelf.dataset, ids, closely=True)


async def tag_all(shelf: Shelf, text: str) -> Edit:
    """One edit of all images."""
    from orchestrator.datasets.journal import Change, apply

    edit = Edit(id=new_id("edit"), dataset_id=shelf.dataset.id, action="tagging", author="job")
    ids = [each.id for each in (await shelf.images()).values()]
    changes = [Change(Key(id, "tags"), f"{text}\n") for id in ids]
    captioning = shelf.studio.datasets.captioning
    await captioning.change(shelf.dataset, ids, ["tags"], lambda db, scene: apply(db, edit, changes))
    return edit


def fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no new file be made in any folder."""
    real = Folder.open

    def refuse(self: Folder, name: str, flags: int, mode: int = 0o666) -> int:
        if flags == CREATE:
            raise OSError(errno.ENOSPC, "no space")
        return real(self, name, flags, mode)

    monkeypatch.setattr(Folder, "open", refuse)


def heard(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What is published from here on."""
    told: list[tuple[str, Any]] = []

    def publish(topics: tuple[str, ...], name: str, data: Any, *, kept: bool = True) -> None:
        told.append((name, data))

    monkeypatch.setattr(shelf.studio.events, "publish", publish)
    return told
