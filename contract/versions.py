"""Payload versions: peek at `v`, decode into that version's Struct, climb by pure functions to the newest.

Handlers know one version. Results go down the mirror table to the version that was asked.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from contract.base import Params
from contract.errors import InvalidParams, VersionUnsupported
from contract.validation import Contradiction, Problem, decode, invalid

P = TypeVar("P", bound=Params)


class _Peek(msgspec.Struct):
    v: Any = 1


_peek = msgspec.json.Decoder(_Peek)


class Payload(Generic[P]):
    """The versions of one method's params, oldest first.

    `upgrades[n]` turns version n into n + 1, or raises Contradiction; `downgrades[n]` turns a result of
    version n + 1 into one of n, where they differ at all. `first` is the oldest version where there are no
    older ones: that of `train` is 2, as version 1 is of programs before this one.
    """

    def __init__(
        self,
        newest: type[P],
        *,
        older: Mapping[int, type[msgspec.Struct]] | None = None,
        upgrades: Mapping[int, Callable[[Any], Any]] | None = None,
        downgrades: Mapping[int, Callable[[Any], Any]] | None = None,
        first: int = 1,
    ) -> None:
        self.newest = newest
        self.structs: dict[int, type[msgspec.Struct]] = dict(older or {})
        self.version = max(self.structs, default=first - 1) + 1
        self.structs[self.version] = newest
        self._is_versioned = "v" in newest.__struct_fields__
        self._upgrades = upgrades or {}
        self._downgrades = downgrades or {}

    @property
    def versions(self) -> list[int]:
        """Every version accepted, oldest first."""
        return sorted(self.structs)

    def decode(self, raw: bytes) -> tuple[P, int]:
        """The params in `raw` as the newest Struct, and the version they came in.

        Raises VersionUnsupported (1002) and InvalidParams (−32602).
        """
        version, value = self._version_of(raw), msgspec.json.decode(raw)
        try:
            params: Any = decode(value, self.structs[version], path="$.params")
        except InvalidParams as error:
            if version != self.version and "v" not in value:
                error.hint = f"Without `v` these are read as version 1; the newest is `v: {self.version}`."
            raise
        try:
            for step in range(version, self.version):
                params = self._upgrades[step](params)
        except Contradiction as error:
            raise invalid([Problem(f"$.params.{field}", text) for field, text in error.problems]) from None
        return params, version

    def result_for(self, version: int, result: Any) -> Any:
        """`result` as a host that asked in `version` expects it."""
        for step in range(self.version - 1, version - 1, -1):
            result = self._downgrades.get(step, _same)(result)
        return result

    def _version_of(self, raw: bytes) -> int:
        if not self._is_versioned:
            return self.version
        version = _peek.decode(raw).v
        if isinstance(version, bool) or not isinstance(version, int) or version not in self.structs:
            known, given = self.versions, msgspec.json.encode(version).decode()
            raise VersionUnsupported(
                f"Payload version {given} is not known; this kernel accepts {known}.",
                supported=known,
                where="$.params.v",
            )
        return version


def _same(result: Any) -> Any:
    return result
