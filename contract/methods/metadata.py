"""`metadata`, version 1: the header of a safetensors file, edited; its tensors are not touched."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field
from contract.methods.job import JobParams, Outcome
from contract.methods.weights import FileInput, FileOutput
from contract.validation import Contradiction


class MetadataSettings(Strict, frozen=True, kw_only=True):
    """Everything that a user chooses about an edit of metadata. `remove` goes first, then `set`."""

    set: Annotated[dict[str, str], field("Set", "Key → text written under it, new or in its place.")] = {}
    remove: Annotated[
        list[str], field("Remove", "Keys to remove; `*` stands for any characters, as in `ss_*`.")
    ] = []
    strip_paths: Annotated[
        bool,
        field(
            "Strip paths",
            "Of every file or folder named in training metadata, leave the last part of its path.",
        ),
    ] = False

    def __post_init__(self) -> None:
        if not (self.set or self.remove or self.strip_paths):
            raise Contradiction(("set", "nothing is to be changed"))
        if "" in self.set:
            raise Contradiction(("set", "a key needs a name"))


class MetadataParams(JobParams, frozen=True, kw_only=True):
    """The request of `metadata`. Without `outputs` the file itself is replaced, in one step."""

    v: Literal[1] = 1
    inputs: FileInput
    outputs: FileOutput | None = None
    settings: MetadataSettings


class MetadataOutcome(Outcome, kw_only=True):
    """How an edit ended: the keys that are new, have another text, or are gone."""

    file: str
    bytes: int
    sha256: str
    added: list[str]
    changed: list[str]
    removed: list[str]
