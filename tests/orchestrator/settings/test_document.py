import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings, strategies

from contract.errors import SettingsInvalid
from orchestrator.settings import (
    AccessSettings,
    DeviceSettings,
    KernelSettings,
    LimitSettings,
    ModelFolder,
    Root,
    Settings,
)
from orchestrator.settings.document import rewritten

_FILE = Path("settings.toml")

_BY_HAND = """\
# My studio.
limits.workers = 3  # two are too slow

[kernel]
# The other machine's.
command = [
  "ssh", "box",  # by key
  "lorakeet-kernel",
]

[[roots]]
id = "photos"  # the good ones
path = "/photos"

# The bad ones.
[[roots]]
path = "/other"
id = "other"

[access]
hosts = ["a.example"]
"""


def _read(text: str) -> Settings:
    return msgspec.convert(tomllib.loads(text), Settings)


def _changed(text: str, **changes: object) -> str:
    return rewritten(text, msgspec.structs.replace(_read(text), **changes), _FILE)


def test_what_is_already_said_changes_nothing() -> None:
    assert rewritten(_BY_HAND, _read(_BY_HAND), _FILE) == _BY_HAND
    assert rewritten("", Settings(), _FILE) == ""
    assert rewritten("# nothing yet\r\n", Settings(), _FILE) == "# nothing yet\r\n"


def test_a_default_that_was_written_down_stays_written_down() -> None:
    text = "[limits]\nworkers = 2 # explicitly\n"
    assert rewritten(text, Settings(), _FILE) == text


def test_only_the_line_that_changes_is_changed() -> None:
    text = _changed(_BY_HAND, limits=LimitSettings(workers=5))
    assert text == _BY_HAND.replace("workers = 3", "workers = 5")
    roots = [msgspec.structs.replace(each, title=each.id) for each in _read(_BY_HAND).roots]
    text = _changed(_BY_HAND, roots=roots)
    assert {"# the good ones", "# The bad ones.", "# by key"} <= set(_comments(text))
    assert _read(text).roots == roots


def test_what_takes_its_default_again_is_removed_or_says_so() -> None:
    text = _changed(_BY_HAND, kernel=KernelSettings(), limits=LimitSettings(), roots=[])
    assert "command" not in text and "[[roots]]" not in text and "workers = 2" in text
    assert _read(text) == Settings(access=AccessSettings(hosts=["a.example"]))


def test_what_is_new_is_added_at_the_end_of_its_list() -> None:
    roots = [*_read(_BY_HAND).roots, Root(id="new", path="/new")]
    text = _changed(_BY_HAND, roots=roots)
    assert _read(text).roots == roots
    assert _comments(text) == _comments(_BY_HAND)


def test_what_is_moved_takes_its_comments_along() -> None:
    roots = list(reversed(_read(_BY_HAND).roots))
    text = _changed(_BY_HAND, roots=roots)
    assert _read(text).roots == roots
    assert 'id = "photos"  # the good ones' in text


def test_a_list_written_in_one_line_can_be_changed_too() -> None:
    text = _changed('devices = [{id = "cpu", weight = 2}] # one\n', devices=[DeviceSettings(id="cuda:0")])
    assert _read(text) == Settings(devices=[DeviceSettings(id="cuda:0")])


def test_a_file_that_is_no_toml_is_not_overwritten() -> None:
    with pytest.raises(SettingsInvalid, match=r"settings\.toml is not TOML"):
        rewritten("[kernel\n", Settings(), _FILE)


def _comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


_texts = strategies.text(strategies.characters(exclude_categories=["Cs"]), max_size=12)
_paths = strategies.text("ab/ #\"'\\\n", min_size=1, max_size=6).map(lambda text: "/x" + text)
_any_settings = strategies.builds(
    Settings,
    kernel=strategies.builds(
        KernelSettings,
        command=strategies.none() | strategies.lists(_texts, max_size=3).map(lambda rest: ["k", *rest]),
        idle_s=strategies.floats(1, 1000),
    ),
    limits=strategies.builds(LimitSettings, workers=strategies.integers(1, 64)),
    access=strategies.builds(AccessSettings, hosts=strategies.lists(strategies.sampled_from(["a", "b:1"]))),
    roots=strategies.lists(
        strategies.builds(
            Root,
            id=strategies.sampled_from(["a", "b", "c", "d"]),
            path=_paths,
            title=strategies.none() | _texts,
        ),
        unique_by=(lambda root: root.id, lambda root: root.folder.replace("//", "/").rstrip("/")),
    ),
    model_folders=strategies.lists(strategies.builds(ModelFolder, path=_paths), max_size=1),
    devices=strategies.lists(
        strategies.builds(DeviceSettings, id=strategies.sampled_from(["cpu", "cuda:0", "cuda:1"])),
        unique_by=lambda device: device.id,
    ),
)


@given(before=_any_settings, after=_any_settings)
@settings(max_examples=150, deadline=None)
def test_any_settings_can_be_written_over_any_others(before: Settings, after: Settings) -> None:
    first = rewritten(_BY_HAND, before, _FILE)
    assert _read(first) == before
    assert _read(rewritten(first, after, _FILE)) == after
