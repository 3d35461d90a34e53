"""Numbers in the names of modules. Names come from files of others, and may have anything in them."""

from typing import Final

#: No model has blocks with longer numbers.
_DIGITS: Final = 4


def is_number(text: str) -> bool:
    """Whether a part of a name is the number of a block."""
    return len(text) <= _DIGITS and text.isascii() and text.isdecimal()
