import pytest

from contract.rules.block_numbers import is_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", True), ("59", True), ("9999", True), ("", False), ("-1", False), ("1.0", False), ("x", False)]
    + [("\u0663", False), ("\u00b2", False), ("9" * 5000, False)],
)
def test_only_short_plain_numbers_are_numbers(text: str, expected: bool) -> None:
    assert is_number(text) is expected
