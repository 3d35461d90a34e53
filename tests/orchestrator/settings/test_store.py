import errno
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from contract.errors import DiskFull, FileUnwritable, InvalidParams, SettingsInvalid, StaleVersion
from orchestrator.settings import Settings, SettingsStore, load
from orchestrator.settings.store import merged

pytestmark = pytest.mark.anyio


def _file(home: Path) -> Path:
    return home / "settings.toml"


async def test_a_change_is_in_force_on_the_disk_and_told(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    told: list[Settings] = []
    store.listen(told.append)
    changed = await store.change({"limits": {"workers": 5}}, store.etag)
    assert changed.limits.workers == 5
    assert store.current == changed == load(tmp_path) == told[0]
    assert len(told) == 1


async def test_a_change_is_a_merge_patch(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    await store.change(
        {"limits": {"workers": 5, "events_kept": 5000}, "devices": [{"id": "cpu"}]}, store.etag
    )
    await store.change({"limits": {"workers": None, "min_free_bytes": 7}, "devices": None}, store.etag)
    limits = store.current.limits
    assert (limits.workers, limits.events_kept, limits.min_free_bytes) == (2, 5000, 7)
    assert store.current.devices == []


@pytest.mark.parametrize(
    ("target", "patch", "outcome"),
    [
        # The examples of RFC 7396, appendix A, as far as they are objects.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
async def test_merging_follows_its_rfc(target: Any, patch: Any, outcome: Any) -> None:
    assert merged(target, patch) == outcome


async def test_a_version_follows_from_what_the_settings_say(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    first = store.etag
    await store.change({"limits": {"workers": 5}}, first)
    assert store.etag != first and store.etag == SettingsStore(tmp_path).etag
    await store.change({"limits": {"workers": None}}, store.etag)
    assert store.etag == first


async def test_of_two_changes_of_one_version_one_is_refused(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    seen = store.etag
    outcomes: list[object] = []

    async def change(workers: int) -> None:
        try:
            outcomes.append(await store.change({"limits": {"workers": workers}}, seen))
        except StaleVersion as stale:
            outcomes.append(stale.details["etag"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change, 3)
        tasks.start_soon(change, 4)
    assert sorted(type(each).__name__ for each in outcomes) == ["Settings", "str"]
    assert store.etag in outcomes


async def test_every_problem_is_named_at_once_and_nothing_changes(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    with pytest.raises(InvalidParams) as refused:
        await store.change({"limits": {"workers": 0, "typo": 1}, "kernel": 5, "new": {}}, store.etag)
    fields = {each["where"] for each in refused.value.details["problems"]}
    assert fields == {"$.limits.workers", "$.limits.typo", "$.kernel", "$.new"}
    assert store.current == Settings() and not _file(tmp_path).exists()


async def test_a_folder_that_contains_the_data_directory_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "data"
    home.mkdir()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "photos").mkdir()
    store = SettingsStore(home)
    for folder in (home, tmp_path, tmp_path / "link"):
        with pytest.raises(InvalidParams, match="contains the data directory") as refused:
            await store.change({"roots": [{"id": "a", "path": str(folder)}]}, store.etag)
        assert refused.value.where == "$.roots[0].path"
    await store.change({"roots": [{"id": "a", "path": str(tmp_path / "photos")}]}, store.etag)
    _file(home).write_text(f'[[model_folders]]\npath = "{tmp_path.as_posix()}"\n', encoding="utf-8")
    with pytest.raises(SettingsInvalid, match=r"model_folders\[0\]\.path: contains the data directory"):
        load(home)


async def test_an_edit_of_the_file_makes_an_older_change_stale_and_is_told(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    told: list[Settings] = []
    store.listen(told.append)
    seen = store.etag
    _file(tmp_path).write_text("[limits]\nworkers = 7 # mine\n", encoding="utf-8")
    with pytest.raises(StaleVersion) as stale:
        await store.change({"limits": {"events_kept": 5000}}, seen)
    assert stale.value.details["etag"] == store.etag != seen
    assert [each.limits.workers for each in told] == [7]
    await store.change({"limits": {"events_kept": 5000}}, store.etag)
    assert "workers = 7 # mine" in _file(tmp_path).read_text(encoding="utf-8")


async def test_an_edit_is_seen_when_asked(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    _file(tmp_path).write_text("[limits]\nworkers = 7\n", encoding="utf-8")
    assert (await store.refresh()).limits.workers == 7
    _file(tmp_path).unlink()
    assert await store.refresh() == Settings()


async def test_an_edit_that_cannot_be_read_is_refused_and_never_overwritten(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    await store.change({"limits": {"workers": 7}}, store.etag)
    _file(tmp_path).write_text("[limits]\nworkers = many\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(SettingsInvalid, match="line 2"):
            await store.change({"limits": {"workers": 8}}, store.etag)
    assert store.current.limits.workers == 7
    assert "many" in _file(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, FileUnwritable)]
)
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
async def test_what_cannot_be_written_changes_nothing(
    step: str, number: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SettingsStore(tmp_path)
    await store.change({"limits": {"workers": 5}}, store.etag)

    def fail(*arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(kind, match=r"settings\.toml"):
            await store.change({"limits": {"workers": 6}}, store.etag)
    assert store.current.limits.workers == load(tmp_path).limits.workers == 5
    assert os.listdir(tmp_path) == ["settings.toml"]
    await store.change({"limits": {"workers": 6}}, store.etag)
    assert load(tmp_path).limits.workers == 6


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the right to write is everybody's here")
async def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    os.chmod(tmp_path, 0o500)
    try:
        with pytest.raises(FileUnwritable, match="Permission denied"):
            await store.change({"limits": {"workers": 6}}, store.etag)
    finally:
        os.chmod(tmp_path, 0o700)


async def test_a_change_that_nobody_waits_for_any_more_is_whole(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path)
    with anyio.CancelScope() as scope:
        store.listen(lambda settings: scope.cancel())
        await store.change({"limits": {"workers": 6}}, store.etag)
    assert store.current == load(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
async def test_a_link_to_where_settings_are_kept_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    kept = tmp_path / "kept.toml"
    kept.write_text("# kept\n", encoding="utf-8")
    _file(tmp_path / "home").symlink_to(kept)
    store = SettingsStore(tmp_path / "home")
    await store.change({"limits": {"workers": 6}}, store.etag)
    assert _file(tmp_path / "home").is_symlink()
    assert "workers = 6" in kept.read_text(encoding="utf-8")
