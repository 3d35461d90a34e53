"""Everything that the studio answers to, with the header cases carried over to each.

The table of cases says what becomes of one request. Here stands what that means for a route of another method
or another kind of path, so that every case can be tried on every route.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from orchestrator.api.operations import operations
from orchestrator.api.registry import PREFIX
from tests.e2e.samples import path_of
from tests.orchestrator.api.guard_cases import Case

#: No operation knows this parameter: whoever is let in gets 422 for it before anything is done.
HARMLESS: Final = "let_in_and_no_further"

_SAFE: Final = ("GET", "HEAD")


class Target(NamedTuple):
    """A method of a path. `open` needs no token; `health` is not even closed to pages of others."""

    method: str
    path: str
    kind: Literal["api", "page", "open", "health"]

    @property
    def opens_in_a_tab(self) -> bool:
        """Whether a link of another site may lead to it."""
        return self.method == "GET" and self.kind in ("page", "open")


def targets() -> Iterator[Target]:
    """Every operation, what stands beside them, and what is not there."""
    for each in operations():
        path = path_of(each, {})
        kind: Literal["api", "page", "health"] = "health" if each.is_public else "api"
        if each.at_root:
            kind = "page"
        yield Target(each.method, path, kind)
        if each.method == "GET":
            yield Target("HEAD", path, kind)
    for method in ("GET", "HEAD", "POST"):
        yield Target(method, "/login", "open")
    for method in ("GET", "HEAD"):
        yield Target(method, "/", "open")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        yield Target(method, "/nothing", "page")
        yield Target(method, f"{PREFIX}/nothing", "api")


def applies(case: Case, target: Target) -> bool:
    """Whether `case` has a meaning at `target`: that health is open says nothing of other paths."""
    return case.path != "health" or target.kind == "health" or case.kind is not None


def refusal(case: Case, target: Target) -> str | None:
    """The code of the problem that `case` gets at `target`; None where it is let in."""
    if case.kind == "host_refused" or target.kind == "health":
        return case.kind if case.kind == "host_refused" else None
    if _has(case, "Sec-Fetch-Dest: document"):
        return None if target.opens_in_a_tab else "cross_site"
    if _says_where_from(case) and case.kind == "cross_site":
        return case.kind
    if target.kind == "open":
        return None
    if not _says_where_from(case) and (case.kind == "cross_site" or _has_cookie_only(case)):
        # Such a cookie proves nothing; reading needs no proof.
        return None if target.method in _SAFE or case.method == "OPTIONS" else "cross_site"
    return case.kind


def _has(case: Case, line: str) -> bool:
    return line in case.headers


def _says_where_from(case: Case) -> bool:
    return any(each.startswith(("Origin:", "Sec-Fetch-Site:")) for each in case.headers)


def _has_cookie_only(case: Case) -> bool:
    """Whether it is let in by its cookie."""
    lines = " ".join(case.headers)
    return case.kind is None and "Cookie:" in lines and "Bearer" not in lines
