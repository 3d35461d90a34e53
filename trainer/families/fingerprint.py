"""What tells the numbers of a part of a model from all others, by a look at a few megabytes of them."""

import hashlib
from collections.abc import Mapping
from typing import Final

from trainer.families.pieces import Layout

#: Bytes at the beginning and at the end of each tensor that are looked at; shorter ones whole. Training
#: changes all numbers of a tensor, so two models that differ anywhere differ here.
_LOOK: Final = 4096


def fingerprint(parts: Mapping[str, Layout]) -> str:
    """64 hex digits, of the layouts of components by name: the same for the same numbers in another file.

    Raises WeightsChanged.
    """
    digest = hashlib.sha256()
    for component, layout in sorted(parts.items()):
        for name, piece in sorted(layout.items()):
            facts = piece.file.header.tensors[piece.key]
            said = (component, name, facts.dtype, piece.shape, piece.rows, piece.turned)
            digest.update(repr(said).encode())
            raw = piece.file.raw(piece.key)
            digest.update(raw[:_LOOK])
            digest.update(raw[max(_LOOK, len(raw) - _LOOK) :])
    return digest.hexdigest()
