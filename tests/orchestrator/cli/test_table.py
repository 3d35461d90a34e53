"""Rows in columns."""

import pytest

from orchestrator.cli.table import lines, size


def test_columns_line_up_whatever_letters_they_have() -> None:
    assert list(lines([("a", "1"), ("日本", "2"), ("cafe\u0301", "3")])) == [
        "a     1",
        "日本  2",
        "cafe\u0301  3",
    ]
    assert list(lines([])) == []


def test_no_line_ends_in_blanks() -> None:
    assert list(lines([("a", "long"), ("b", "")])) == ["a  long", "b"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (380 * 2**20, "380.0 MiB"), (2**50, "1024.0 TiB")],
)
def test_sizes_have_the_unit_that_is_easy_to_read(count: int, text: str) -> None:
    assert size(count) == text
