"""The keys of an adapter file, module by module, with the endings that they really have.

What a program reads depends on how a key is spelt (`.lora_B.weight`, `.lora_up.weight`), not only on what it
is, so the endings stay here as they are.
"""

from collections.abc import Iterable
from typing import NamedTuple

from trainer.weights.adapter_keys import part


class Group(NamedTuple):
    """The keys of one module, by their endings. A key that is no part of a module is a group of its own,
    with its whole name and an empty ending."""

    name: str
    parts: dict[str, str]

    def keys(self, endings: Iterable[str]) -> set[str]:
        """The keys that have one of these endings."""
        return {self.parts[ending] for ending in endings if ending in self.parts}


def grouped(keys: Iterable[str]) -> list[Group]:
    """The groups of a file, in the order of their first keys."""
    groups: dict[str, Group] = {}
    for key in keys:
        found = part(key)
        name = key if found is None else found.module
        groups.setdefault(name, Group(name, {})).parts[key[len(name) :]] = key
    return list(groups.values())
