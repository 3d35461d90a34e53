"""Values as people write them."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from contract.errors import FileMissing, FileUnreadable, FileUnwritable, LorakeetError, SettingsInvalid
from orchestrator.cli.values import assignment, dotted, nested, read_table, shown, value_of, write_table


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        ("3", 3),
        ("true", True),
        ('["a", "b"]', ["a", "b"]),
        ('[{ id = "x" }]', [{"id": "x"}]),
        ('[{"id": "x"}]', [{"id": "x"}]),
        ('"quoted"', "quoted"),
        ("plain words", "plain words"),
        ("C:\\models", "C:\\models"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
        ("null", None),
    ],
)
def test_a_value_is_toml_or_json_or_the_text_itself(text: str, value: Any) -> None:
    assert value_of(text) == value


def test_what_is_shown_can_be_given_again() -> None:
    for value in (0.5, True, "words", ["a", 1], [{"id": "x", "title": None}]):
        assert value_of(shown(value)) == value
    assert shown(None) == ""


def test_names_with_dots_lead_into_tables() -> None:
    assert nested([assignment("a.b=1"), assignment("a.c = x=y"), assignment("d=")]) == {
        "a": {"b": 1, "c": "x=y"},
        "d": "",
    }
    assert dict(dotted({"a": {"b": 1}, "c": []})) == {"a.b": 1, "c": []}
    with pytest.raises(SettingsInvalid, match="a value and a table"):
        nested([("a", 1), ("a.b", 2)])
    for text in ("novalue", "=1", " =1"):
        with pytest.raises(argparse.ArgumentTypeError):
            assignment(text)


@pytest.mark.parametrize("name", ["t.toml", "t.json"])
def test_a_table_comes_back_from_its_file(tmp_path: Path, name: str) -> None:
    table = {"kind": "tag", "settings": {"exclude": ["a"], "model": {"repo": "x/y"}}}
    write_table(tmp_path / name, table)
    assert read_table(tmp_path / name) == table
    with pytest.raises(FileUnwritable, match="there already"):
        write_table(tmp_path / name, table)


def test_toml_has_no_word_for_nothing_and_json_has(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="null"):
        write_table(tmp_path / "t.toml", {"a": None})
    write_table(tmp_path / "t.json", {"a": None})
    assert read_table(tmp_path / "t.json") == {"a": None}


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("t.toml", b"a =", SettingsInvalid),
        ("t.toml", b"\xff", SettingsInvalid),
        ("t.json", b"{", SettingsInvalid),
        ("t.json", b"[]", SettingsInvalid),
        ("t.json", b'"\xff"', SettingsInvalid),
        ("missing.toml", None, FileMissing),
        ("folder", None, FileUnreadable),
    ],
)
def test_a_file_that_is_no_table_is_named(
    tmp_path: Path, name: str, content: bytes | None, error: type[LorakeetError]
) -> None:
    (tmp_path / "folder").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=name.partition(".")[0]):
        read_table(tmp_path / name)
