"""A model as it is listed."""

import hashlib
from typing import Annotated, Final

import msgspec

from contract.base import Reply
from orchestrator.models.detect import Kind

#: The id of the tagger that comes with the kernel.
DEMO_TAGGER: Final = "model_demo_tagger"

ModelId = Annotated[str, msgspec.Meta(pattern=r"^model_([0-9a-f]{24}|demo_tagger)\Z")]


class Model(Reply, kw_only=True):
    """A file with a model, or a tagger's folder.

    `family`, `dtype`, `title` and `trigger` are null where its header does not say them. Where `loadable` is
    false, `reason` says why and what to do. `is_link`: it lies elsewhere, and only a link to it is here.
    """

    id: str
    name: str
    kind: Kind
    family: str | None
    root: str
    path: str
    format: str
    dtype: str | None
    title: str | None
    trigger: str | None
    size_bytes: int
    modified_at: str
    loadable: bool
    reason: str | None
    is_link: bool
    builtin: bool


def model_id(root: str, path: str) -> str:
    """The id of what is at `path` below `root`: the same as long as it stays there."""
    return f"model_{hashlib.sha256(f'{root}/{path}'.encode()).hexdigest()[:24]}"
