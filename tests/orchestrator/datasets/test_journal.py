"""The journal by itself: rows, what they come to, and how they are undone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.datasets import journal
from orchestrator.datasets.captions import Key, captions_of
from orchestrator.datasets.images import Image, put
from orchestrator.datasets.journal import Change, Edit, apply, revert
from orchestrator.datasets.table import DatasetTable, new_dataset
from orchestrator.store.control import open_control
from orchestrator.store.database import Database

pytestmark = pytest.mark.anyio

DS = "ds_1"
IDS = [f"img_{number}" for number in range(2_000)]


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_control(tmp_path) as opened:
        await DatasetTable(opened).add(new_dataset(DS, "name", "datasets", "name", managed=True))
        await opened.write(lambda db: put(db, [image(id) for id in IDS]))
        yield opened


def image(id: str) -> Image:
    return Image(
        id=id,
        dataset_id=DS,
        path=f"{id}.png",
        stem=id,
        size_bytes=1,
        mtime_ns=1,
        sha256=None,
        width=None,
        height=None,
        format=None,
        problem=None,
        added_ms=1,
        removed_ms=None,
    )


def edit(id: str, reverts: str | None = None) -> Edit:
    action: journal.Action = "revert" if reverts else "edit"
    return Edit(id=id, dataset_id=DS, action=action, author="user", reverts=reverts)


async def write(control: Database, id: str, contents: dict[str, str | None]) -> int:
    """Make an edit of tags; how many captions are others now."""
    changes = [Change(Key(image_id, "tags"), content) for image_id, content in contents.items()]
    return len(await control.write(lambda db: apply(db, edit(id), changes)))


async def contents(control: Database, ids: list[str]) -> list[str | None]:
    found = await control.read(lambda db: captions_of(db, ids, ["tags"]))
    return [found[Key(id, "tags")].content for id in ids]


async def test_a_whole_dataset_is_changed_and_changed_back(control: Database) -> None:
    """More than fit into one query."""
    assert await write(control, "edit_1", dict.fromkeys(IDS, "a")) == 2_000
    assert set(await contents(control, IDS)) == {"a"}
    undone = await control.write(lambda db: revert(db, edit("edit_2", "edit_1"), []))
    assert (len(undone.captions), undone.kept) == (2_000, [])
    assert set(await contents(control, IDS)) == {None}
    again = await control.write(lambda db: revert(db, edit("edit_3", "edit_2"), []))
    assert len(again.captions) == 2_000
    assert set(await contents(control, IDS)) == {"a"}


async def test_an_edit_may_be_added_to_and_is_undone_as_a_whole(control: Database) -> None:
    await write(control, "edit_1", {IDS[0]: "a", IDS[1]: "a"})
    await write(control, "edit_1", {IDS[1]: "b", IDS[2]: "b"})
    found = await control.read(lambda db: journal.find(db, DS, "edit_1"))
    assert found is not None
    assert found.changes == 4
    await control.write(lambda db: revert(db, edit("edit_2", "edit_1"), []))
    assert await contents(control, IDS[:3]) == [None, None, None]


async def test_what_is_no_change_leaves_no_trace(control: Database) -> None:
    assert await write(control, "edit_1", {IDS[0]: None}) == 0
    assert await control.read(lambda db: journal.find(db, DS, "edit_1")) is None


async def test_an_image_that_is_gone_is_left_out(control: Database) -> None:
    assert await write(control, "edit_1", {"img_gone": "a", IDS[0]: "a"}) == 1


async def test_what_must_not_be_touched_is_kept(control: Database) -> None:
    await write(control, "edit_1", {IDS[0]: "a", IDS[1]: "a"})
    key = Key(IDS[0], "tags")
    undone = await control.write(lambda db: revert(db, edit("edit_2", "edit_1"), [key]))
    assert undone.kept == [key]
    assert await contents(control, IDS[:2]) == ["a", None]


async def test_the_history_is_in_the_order_in_which_it_was_written(control: Database) -> None:
    """Whatever the ids, which are made before."""
    for id in ("edit_9", "edit_1", "edit_5"):
        await write(control, id, {IDS[0]: id})
    found = await control.read(lambda db: journal.edits(db, DS, 2**62, 10))
    assert [each.id for each in found] == ["edit_5", "edit_1", "edit_9"]
    older = await control.read(lambda db: journal.edits(db, DS, found[0].number, 1))
    assert [each.id for each in older] == ["edit_1"]
    assert await control.read(lambda db: journal.count_edits(db, DS)) == 3


async def test_a_forgotten_dataset_takes_its_history_with_it(control: Database) -> None:
    await write(control, "edit_1", {IDS[0]: "a"})
    table = DatasetTable(control)
    await table.forget(await table.get(DS))
    for name in ("images", "edits", "journal", "captions"):
        query = f"SELECT count(*) FROM {name}"
        assert (await control.read(lambda db, query=query: db.execute(query).fetchone()))[0] == 0  # type: ignore[misc]
