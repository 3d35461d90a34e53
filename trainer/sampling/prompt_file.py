"""Files of prompts, as the reference trainer has them.

- .txt: a prompt a line, with flags; empty lines and those that begin with # are skipped.
- .toml: `[[prompt.subset]]`, a table each; what stands in `[prompt]` holds for all of them.
- .json: a list of tables, or of lines with flags.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, Final

from contract.errors import FileMissing, FileUnreadable
from contract.rules.paths import to_wire
from contract.validation import Problem, invalid
from trainer.sampling.prompt_line import parse_line
from trainer.sampling.prompt_options import PromptOptions
from trainer.sampling.prompt_table import parse_table

#: A prompt, or what is wrong with it.
Parsed = PromptOptions | list[Problem]

_AT_LINE: Final = re.compile(r"at line (\d+)")

#: What JSON can escape and no text can have.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def read_prompts(path: str) -> list[PromptOptions]:
    """The prompts of a file, of which there is at least one.

    Raises FileMissing, FileUnreadable, and InvalidParams with the file, line and flag of every problem.
    """
    named = to_wire(path)
    parse = _FORMATS.get(os.path.splitext(path)[1].lower())
    if parse is None:
        raise invalid([Problem(named, "must be a .txt, .toml or .json file")])
    return _all(parse(_text(path, named), named), named)


def parse_prompts(lines: list[str], place: str) -> list[PromptOptions]:
    """The prompts of the field `place` of settings, a line with flags each.

    Raises InvalidParams with the place and flag of every problem.
    """
    return _all((parse_line(line, f"{place}[{index}]") for index, line in enumerate(lines)), place)


def _all(parsed: Iterator[Parsed], place: str) -> list[PromptOptions]:
    found, problems = [], []
    for each in parsed:
        if isinstance(each, PromptOptions):
            found.append(each)
        else:
            problems += each
    if not found and not problems:
        problems.append(Problem(place, "has no prompt"))
    if problems:
        raise invalid(problems)
    return found


def _text(path: str, named: str) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileMissing(f"`{named}` does not exist.", where=named) from error
    except (OSError, ValueError) as error:
        raise FileUnreadable(f"`{named}` cannot be read.", where=named) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise invalid([Problem(f"{named}:{line}", "is no text in UTF-8")]) from None


def _txt(text: str, named: str) -> Iterator[Parsed]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield parse_line(line, f"{named}:{number}")


def _toml(text: str, named: str) -> Iterator[Parsed]:
    try:
        table = tomllib.loads(text).get("prompt")
    except tomllib.TOMLDecodeError as error:
        line = match[1] if (match := _AT_LINE.search(str(error))) else text.count("\n") + 1
        yield [Problem(f"{named}:{line}", "is no TOML")]
        return
    if not isinstance(table, dict):
        yield [Problem(named, "needs a table `[prompt]`, or `[[prompt.subset]]`")]
        return
    common = {key: value for key, value in table.items() if key != "subset"}
    subsets = table.get("subset", [{}])
    if not _are_tables(subsets):
        yield [Problem(f"{named}: prompt.subset", "must be tables, `[[prompt.subset]]`")]
        return
    for index, subset in enumerate(subsets):
        yield parse_table(common | subset, f"{named}: prompt.subset[{index}]")


def _json(text: str, named: str) -> Iterator[Parsed]:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        yield [Problem(f"{named}:{error.lineno}", "is no JSON")]
        return
    except (ValueError, RecursionError):
        yield [Problem(named, "is no JSON")]
        return
    if not isinstance(entries, list):
        yield [Problem(named, "needs a list of prompts")]
        return
    for index, entry in enumerate(entries):
        place = f"{named}: [{index}]"
        if _SURROGATE.search(json.dumps(entry, ensure_ascii=False)):
            yield [Problem(place, "has half a character, which is no text")]
            continue
        if isinstance(entry, str):
            yield parse_line(entry, place)
        elif isinstance(entry, dict):
            yield parse_table(entry, place)
        else:
            yield [Problem(place, "must be a table or a text")]


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


_FORMATS: Final[dict[str, Callable[[str, str], Iterator[Parsed]]]] = {
    ".txt": _txt,
    ".toml": _toml,
    ".json": _json,
}
