"""One prompt as a table of keys: `{prompt = "a parrot", width = 768, sample_steps = 30}`.

The keys are those of the reference trainer's .toml and .json files of prompts.
"""

from collections.abc import Mapping
from typing import Any, Final

from contract.validation import Problem
from trainer.sampling.prompt_options import BY_KEY, OptionInvalid, PromptOptions

_TEXT: Final = "prompt"
_KNOWN: Final = ", ".join((_TEXT, *BY_KEY))
_TEXTS: Final = frozenset({"negative", "sampler"})


def parse_table(table: Mapping[str, Any], place: str) -> PromptOptions | list[Problem]:
    """The prompt of a table, or all that is wrong with it, each with `place` and the key in `where`."""
    text = table.get(_TEXT)
    problems = []
    if not isinstance(text, str) or not text.strip():
        problems.append(Problem(f"{place}.{_TEXT}", "is required, a text"))
    found: dict[str, object] = {"text": str(text).strip()}
    for key, value in table.items():
        if key != _TEXT:
            problems += _read(key, value, f"{place}.{key}", found)
    return problems or PromptOptions(**found)  # type: ignore[arg-type]


def _read(key: str, value: Any, where: str, found: dict[str, object]) -> list[Problem]:
    if (option := BY_KEY.get(key)) is None:
        return [Problem(where, f"is no key of a prompt; there are {_KNOWN}")]
    is_fit = isinstance(value, str if option.field in _TEXTS else int | float)
    try:
        if not is_fit or isinstance(value, bool):
            raise OptionInvalid("needs a text" if option.field in _TEXTS else "needs a number")
        found[option.field] = option.read(str(value))
    except OptionInvalid as invalid:
        return [Problem(where, f"{invalid}, not `{str(value)[:100]}`")]
    return []
