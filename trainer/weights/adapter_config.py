"""The alphas of an adapter that diffusers saved: in its metadata, as the LoraConfig of peft has them.

Facts: peft 0.21 (`alpha_pattern`, `use_rslora`), diffusers 0.42 (`lora_adapter_metadata`).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

#: Where diffusers keeps ranks and alphas of the LoRAs it saves, as JSON.
CONFIG_KEY: Final = "lora_adapter_metadata"
#: A key of `alpha_pattern` that is no more than the end of a path.
_PLAIN: Final = re.compile(r"[\w.-]+")
#: What makes a search take longer than anyone can wait: repeated groups, references, looking around, more
#: repetitions than these, and long texts.
_SLOW: Final = re.compile(r"\)[*+{]|\\[1-9]|\(\?(?!:)")
_REPEATED: Final = re.compile(r"[*+{]")
_MOST_REPEATED: Final = 3
_LONGEST: Final = 300


class PatternRefused(Exception):
    """Raised for a key of `alpha_pattern` that could take forever to look for; the text is the key."""


class AdapterConfig:
    """What the metadata of a file say of alphas; nothing where they say nothing sensible."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        try:
            config = json.loads(metadata.get(CONFIG_KEY, "{}"))
        except (ValueError, RecursionError):
            config = {}
        self._config: dict[str, Any] = config if isinstance(config, dict) else {}
        self._patterns: dict[str, _Patterns] = {}

    def alpha(self, name: str, rank: int) -> float | None:
        """The alpha of a module, so that alpha ÷ rank is its factor; None where nothing is said.

        It may be NaN or infinite. Raises PatternRefused.
        """
        component, _, path = name.partition(".")
        alpha = self._of(component).find(path)
        if alpha is None:
            alpha = self._config.get(f"{component}.lora_alpha")
        if not isinstance(alpha, int | float) or isinstance(alpha, bool):
            return None
        try:
            # rsLoRA divides by the root of the rank (Kalajdzievski, arXiv:2312.03732).
            is_root = self._config.get(f"{component}.use_rslora") is True
            return float(alpha) * math.sqrt(rank) if is_root else float(alpha)
        except OverflowError:
            return math.inf

    def _of(self, component: str) -> "_Patterns":
        if component not in self._patterns:
            given = self._config.get(f"{component}.alpha_pattern")
            self._patterns[component] = _Patterns(given if isinstance(given, dict) else {})
        return self._patterns[component]


class _Said(NamedTuple):
    """An alpha by its place among the patterns, of which the first that fits counts."""

    place: int
    alpha: Any


class _Patterns:
    """The alphas of an `alpha_pattern`. Most of its keys are plain ends of paths, and a file can have a
    thousand of them for a thousand modules."""

    def __init__(self, patterns: Mapping[str, Any]) -> None:
        """Raises PatternRefused."""
        self._plain: dict[str, _Said] = {}
        self._searched: list[tuple[re.Pattern[str], _Said]] = []
        for place, (pattern, alpha) in enumerate(patterns.items()):
            said = _Said(place, alpha)
            if _PLAIN.fullmatch(pattern) and len(pattern) <= _LONGEST:
                self._plain[pattern] = said
            elif (search := _search(pattern)) is not None:
                self._searched.append((search, said))

    def find(self, path: str) -> Any:
        """The alpha for a path; None where no pattern fits."""
        found = [self._plain[end] for end in _ends(path) if end in self._plain]
        if len(path) <= _LONGEST:
            found += [said for search, said in self._searched if search.match(path)]
        return min(found, key=lambda said: said.place).alpha if found else None


def _search(pattern: str) -> re.Pattern[str] | None:
    """A key as peft searches for it, at the end of a path; None for what is no regular expression."""
    if len(pattern) > _LONGEST or _SLOW.search(pattern) or len(_REPEATED.findall(pattern)) > _MOST_REPEATED:
        raise PatternRefused(pattern[:_LONGEST])
    try:
        return re.compile(rf"(?:.*\.)?(?:{pattern})$")
    except re.error:
        return None


def _ends(path: str) -> Iterator[str]:
    """What is behind each dot of a path, and the path itself, as far as patterns can be so long."""
    start = len(path)
    while start >= 0 and len(path) - start <= _LONGEST:
        start = path.rfind(".", 0, start)
        yield path[start + 1 :]
