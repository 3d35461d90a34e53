"""Every operation of the studio, in the order of the document."""

from collections.abc import Iterator

from orchestrator.api.registry import Operation
from orchestrator.api.routes import RESOURCES


def operations() -> Iterator[Operation]:
    """The rows of the table."""
    for routes in RESOURCES:
        yield from routes.operations
