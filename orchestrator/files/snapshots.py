"""Where the files of a model's folder really lie."""

import os

from contract.rules.paths import from_wire
from orchestrator.files.folders import names_in


def folders_of_model(named: str | None) -> list[str]:
    """The folder of a model, named as it travels, and those that its links lead to; none for one on the hub.

    A snapshot in the hub's cache holds links to `../../blobs`; naming the folder means these files too.
    """
    if named is None:
        return []
    folder = from_wire(named)
    # If it cannot be read, the kernel says so, by the names of the files that it misses.
    real = [os.path.realpath(os.path.join(folder, name)) for name in names_in(folder)]
    return [folder, *sorted({os.path.dirname(path) for path in real if os.path.isfile(path)})]
