"""Which modules are trained, by globs on their names."""

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Final

from contract.errors import InvalidParams

#: Where these settings are in the params of a job.
_WHERE: Final = "$.params.settings.network"


def chosen(names: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """The names that a glob of `include` fits, or all where there is none, without those that one of
    `exclude` fits; in their order. Upper and lower case differ.

    Raises InvalidParams for a glob that fits no name, as it is mistyped, and where nothing is left.
    """
    included = _fitting(names, include, "include") if include else set(names)
    left = included - _fitting(names, exclude, "exclude")
    if not left:
        raise InvalidParams(
            "The filters of the network leave no module to train.",
            where=f"{_WHERE}.exclude",
            hint="Exclude less, or train another component.",
        )
    return [name for name in names if name in left]


def _fitting(names: Sequence[str], globs: Sequence[str], field: str) -> set[str]:
    found: set[str] = set()
    for index, glob in enumerate(globs):
        pattern = re.compile(translate(glob))
        fitting = {name for name in names if pattern.match(name)}
        if not fitting:
            raise InvalidParams(
                f"`{glob}` fits none of the {len(names)} modules of the network.",
                where=f"{_WHERE}.{field}[{index}]",
                hint=f"Names are as in files, `{names[0]}`; `*` stands for any characters."
                if names
                else None,
            )
        found |= fitting
    return found
