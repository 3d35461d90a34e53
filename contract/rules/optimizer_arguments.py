"""Arguments of optimizers as people paste them: `weight_decay=0.01 betas=0.9,0.99`.

Understood are kohya's `optimizer_args` (a list of `name=value`, or one line of them with blanks or commas
between, quoted or not) and the text that its LoRAs carry as `ss_optimizer`: `torch.optim.adamw.AdamW(…)`.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Final

#: What a value can be. Tuples become lists, as in TOML and JSON.
Plain = None | bool | int | float | str
Value = Plain | list[Plain]

#: Longer than any that is meant.
MAX_TEXT: Final = 4_096

_CALL: Final = re.compile(r"\s*[A-Za-z_][\w.]*\s*\((.*)\)\s*", re.DOTALL)
_NAMED: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_WORD: Final = re.compile(r"[A-Za-z_][\w.-]*")
_AROUND_EQUALS: Final = re.compile(r"\s*=\s*")
_CLOSES: Final = {"(": ")", "[": "]", "{": "}"}
_WORDS: Final[dict[str, Plain]] = {"true": True, "false": False, "none": None, "null": None}
#: Numbers that Python's literals have no word for.
_NUMBERS: Final = frozenset(("inf", "-inf"))


class ArgumentsInvalid(Exception):
    """Raised where a text is no list of arguments; its own text is a sentence for people."""


def parse_arguments(text: str | Sequence[str]) -> dict[str, Value]:
    """The arguments by name. Values are Python's literals; other single words are texts.

    Raises ArgumentsInvalid.
    """
    whole = text if isinstance(text, str) else ", ".join(text)
    if len(whole) > MAX_TEXT:
        raise ArgumentsInvalid(f"Arguments of an optimizer have at most {MAX_TEXT} characters.")
    if call := _CALL.fullmatch(whole):
        whole = call[1]
    found: dict[str, list[str]] = {}
    for piece in _pieces(_AROUND_EQUALS.sub("=", whole)):
        _take(_unquoted(piece), found)
    return {name: _value(name, texts) for name, texts in found.items()}


def _take(piece: str, found: dict[str, list[str]]) -> None:
    """A named piece begins an argument; one without a name goes on with the last, as `0.99` of 0.9,0.99."""
    if named := _NAMED.fullmatch(piece):
        if named[1] in found:
            raise ArgumentsInvalid(f"`{named[1]}` is given twice.")
        found[named[1]] = [named[2]]
    elif found:
        found[next(reversed(found))].append(piece)
    else:
        raise ArgumentsInvalid(f"`{piece}` is no argument; arguments look like `weight_decay=0.01`.")


def _pieces(text: str) -> Iterator[str]:
    """What stands between blanks and commas that are in no brackets and no quotes."""
    piece, quote, open_brackets = "", "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _CLOSES:
            open_brackets += letter
        elif open_brackets and letter == _CLOSES[open_brackets[-1]]:
            open_brackets = open_brackets[:-1]
        elif not open_brackets and (letter.isspace() or letter == ","):
            if piece:
                yield piece
            piece = ""
            continue
        piece += letter
    if quote or open_brackets:
        raise ArgumentsInvalid(f"`{quote or open_brackets[-1]}` is never closed.")
    if piece:
        yield piece


def _unquoted(piece: str) -> str:
    """`"weight_decay=0.01"` without its quotes; a quoted text without a name keeps them."""
    inside = piece[1:-1].strip()
    quoted = len(piece) > 1 and piece[0] == piece[-1] and piece[0] in "'\""
    return inside if quoted and _NAMED.fullmatch(inside) else piece


def _value(name: str, texts: list[str]) -> Value:
    if len(texts) == 1:
        return _read(name, texts[0])
    return [_plain(_read(name, text)) for text in texts]


def _read(name: str, text: str) -> Value:
    try:
        return _literal(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ArgumentsInvalid(f"The value of `{name}` cannot be read: `{text}`.") from None


def _literal(text: str) -> Value:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text in _NUMBERS:
        return float(text)
    if _WORD.fullmatch(text):
        return text
    value = ast.literal_eval(text)
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else _plain(value)


def _plain(value: object) -> Plain:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(type(value))
