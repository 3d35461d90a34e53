"""What pool and worker say to each other: a line of JSON a request, a line its answer, one at a time."""

from typing import Any, Final

import msgspec

from contract.errors import WireError

#: Bytes of the longest answer that is taken: a scan of ten thousand files.
MAX_ANSWER_BYTES: Final = 16 << 20


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """`arguments` are those of the task of that name."""

    id: int
    task: str
    arguments: Any


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the worker reads it: its task says what the arguments are."""

    id: int
    task: str
    arguments: msgspec.Raw


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """As the worker writes it: exactly one of `result` and `error`."""

    id: int
    result: Any = msgspec.UNSET
    error: WireError | msgspec.UnsetType = msgspec.UNSET


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as the pool reads it."""

    id: int
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: WireError | msgspec.UnsetType = msgspec.UNSET


encoder: Final = msgspec.json.Encoder()
asked_decoder: Final = msgspec.json.Decoder(Asked)
answered_decoder: Final = msgspec.json.Decoder(Answered)
