"""Small pictures of numbers."""

import pytest

from orchestrator.cli.bars import HEIGHT, WIDTH, bar, columns


def test_the_largest_number_fills_the_chart_and_others_their_share() -> None:
    assert list(columns([0.5, 1.0, 0.25], ["IN00", "IN01", "M00"])) == [
        "   ██",
        "▄▄ ██",
        "██ ██ ▆▆",
        "IN00  M00",
    ]


def test_nothing_is_drawn_for_zero_and_something_for_whatever_is_more() -> None:
    *_, bottom, _ = columns([0.0, 1e-9, 1.0, None], ["A0", "A1", "A2", "A3"])
    assert bottom == "   ▁▁ ██ ··"
    assert [row.strip() for row in columns([0.0, None], ["A0", "A1"])] == [""] * (HEIGHT - 1) + ["··", "A0"]


def test_many_numbers_are_drawn_narrower() -> None:
    for count in (1, 22, 23, 33, 34, 66):
        rows = list(columns([1.0] * count, [f"B{index}" for index in range(count)]))
        assert max(map(len, rows)) <= WIDTH
        assert rows[0].replace(" ", "").count("█") in (count, 2 * count)


def test_each_kind_of_block_has_its_first_label_that_has_room() -> None:
    labels = ["IN04", "IN05", "M00", "OUT00", "OUT01", "OUT02"]
    *_, axis = columns([1.0] * 6, labels)
    assert axis == "IN04  M00   OUT01"


@pytest.mark.parametrize(("value", "drawn"), [(0.0, ""), (1e-9, "#"), (5.0, "#####"), (10.0, "##########")])
def test_a_bar_is_as_long_as_its_share(value: float, drawn: str) -> None:
    assert bar(value, 10.0, 10, "#") == drawn
