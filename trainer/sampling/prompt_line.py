"""One line of prompts: `a parrot --n blurry --w 768 --h 512 --d 42 --l 7.5 --s 30 --g 3.5 --ss euler_a`.

The syntax is that of the reference trainer, kohya-ss/sd-scripts: the text first, then flags in any order,
each of two dashes and letters, small or capital. Dashes that no letters follow, as in `a -- b`, belong to the
text.
"""

import re
from typing import Final

from contract.validation import Problem
from trainer.sampling.prompt_options import BY_FLAG, UNSUPPORTED, Option, OptionInvalid, PromptOptions

_FLAG: Final = re.compile(r"(?:^|(?<=\s))--([A-Za-z]+)(?=\s|$)")
_KNOWN: Final = ", ".join(f"--{flag}" for flag in BY_FLAG)


def parse_line(line: str, place: str) -> PromptOptions | list[Problem]:
    """The prompt of a line, or all that is wrong with it, each at `place`."""
    text, *parts = _FLAG.split(line)
    found: dict[str, object] = {"text": text.strip()}
    problems = [Problem(place, "has no prompt before its options")] if not text.strip() else []
    for flag, value in zip(parts[::2], parts[1::2], strict=True):
        option = BY_FLAG.get(flag.lower())
        if option is None:
            wrong: str | None = _unknown(flag)
        elif option.field in found:
            wrong = "is given twice"
        else:
            wrong = _read(option, value.strip(), found)
        if wrong is not None:
            problems.append(Problem(place, f"`--{flag}` {wrong}"))
    return problems or PromptOptions(**found)  # type: ignore[arg-type]


def _read(option: Option, value: str, found: dict[str, object]) -> str | None:
    """Take over a value; what is wrong with it, if anything."""
    try:
        found[option.field] = option.read(value)
    except OptionInvalid as invalid:
        return f"{invalid}, not `{value[:100]}`"
    return None


def _unknown(flag: str) -> str:
    if (what := UNSUPPORTED.get(flag.lower())) is not None:
        return f"{what} are not supported; leave the option out"
    return f"is no option; there are {_KNOWN}"
