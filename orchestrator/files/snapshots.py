"""Where the files of a model's folder really lie."""

import os
from itertools import chain

from contract.rules.paths import from_wire
from orchestrator.files.folders import names_in


def folders_of_model(named: str | None) -> list[str]:
    """The folder of a model, named as it travels, and those that its links lead to; none for one on the hub.

    A snapshot in the hub's cache holds links to `../../blobs`; naming the folder means these files too.
    """
    if named is None:
        return []
    return _of_folder(from_wire(named))


def folders_of_weights(named: str) -> list[str]:
    """The folder that a file lies in, its links followed; of a folder, such as a model in the layout of
    diffusers, that, those in it, and those that their links lead to. `named` as it travels."""
    path = from_wire(named)
    if not os.path.isdir(path):
        return [os.path.dirname(os.path.realpath(path))]
    below = [os.path.join(path, name) for name in sorted(names_in(path))]
    parts = [_of_folder(each) for each in below if os.path.isdir(each)]
    return list(dict.fromkeys([*_of_folder(path), *chain.from_iterable(parts)]))


def _of_folder(folder: str) -> list[str]:
    # If it cannot be read, the kernel says so, by the names of the files that it misses.
    real = [os.path.realpath(os.path.join(folder, name)) for name in names_in(folder)]
    return [folder, *sorted({os.path.dirname(path) for path in real if os.path.isfile(path)})]
