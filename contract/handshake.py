"""How host and kernel agree: `initialize` and its answer."""

from typing import Annotated, Final

from msgspec import Meta

from contract import COMPATIBLE_LEVEL, SUPPORTED_LEVELS
from contract.base import Params, Reply, Strict
from contract.envelope import MAX_MESSAGE_BYTES
from contract.errors import LevelUnsupported

#: 64 megapixels: more than any camera photograph that belongs into a training set, less than a bomb.
MAX_IMAGE_PIXELS: Final = 64_000_000


class Offer(Strict, frozen=True, kw_only=True):
    """The contract levels that a host can speak."""

    levels: Annotated[list[int], Meta(min_length=1)]


class ClientInfo(Strict, frozen=True, kw_only=True):
    """Who the host is; for logs."""

    name: str
    version: str = ""


class LimitsWanted(Strict, frozen=True, kw_only=True):
    """Limits that a host may set; a field left out keeps the kernel's default."""

    max_message_bytes: Annotated[int, Meta(ge=1024 * 1024, le=256 * 1024 * 1024)] = MAX_MESSAGE_BYTES
    max_image_pixels: Annotated[int, Meta(ge=1)] = MAX_IMAGE_PIXELS


#: A service's key, such as a token: what may stand in an HTTP header as it is.
Key = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[!-~]+\Z")]


class InitializeParams(Params, frozen=True, kw_only=True):
    """`roots` are the directories that the kernel may read and write under; none means no files at all.

    `keys` are the user's keys by the name of the service, such as `huggingface`: kept in memory only, never
    said again and never logged.
    """

    contract: Offer
    client: ClientInfo
    parent_pid: Annotated[int, Meta(ge=1)] | None = None
    roots: list[str] = []
    limits: LimitsWanted = LimitsWanted()
    keys: dict[str, Key] = {}

    def __repr__(self) -> str:
        return f"InitializeParams(client={self.client!r}, keys of {sorted(self.keys)})"


class KernelInfo(Reply, kw_only=True):
    """`instance_id` is new at every start of the process: messages of another instance are stale."""

    name: str
    version: str
    instance_id: str
    pid: int


class MethodInfo(Reply, kw_only=True):
    """What a host may count on: versions accepted, is a repeat harmless, does an attempt resume."""

    payload_versions: list[int]
    idempotent: bool
    resumable: bool


class Limits(Reply, kw_only=True):
    """Sizes are bytes; `progress_hz` is the rate of `progress` notifications of one job."""

    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_image_pixels: int = MAX_IMAGE_PIXELS
    max_concurrent_jobs: int = 1
    max_pending_requests: int = 1024
    outcomes_kept: int = 256
    progress_hz: float = 10.0
    grace_s: float = 10.0


class InitializeResult(Reply, kw_only=True):
    """`capabilities` are flags; a flag that is absent means unsupported."""

    level: int
    compatible: int
    kernel: KernelInfo
    methods: dict[str, MethodInfo]
    capabilities: dict[str, bool]
    limits: Limits


def choose_level(offered: list[int]) -> int:
    """The newest level both sides speak. Raises LevelUnsupported (1001) with `data.supported`."""
    common = set(offered) & set(SUPPORTED_LEVELS)
    if not common:
        raise LevelUnsupported(
            f"No common contract level: this kernel speaks {COMPATIBLE_LEVEL} to {SUPPORTED_LEVELS[-1]}.",
            supported=list(SUPPORTED_LEVELS),
            where="$.params.contract.levels",
        )
    return max(common)


def decode_limits(wanted: LimitsWanted) -> Limits:
    """The limits in force for what a host asked."""
    return Limits(max_message_bytes=wanted.max_message_bytes, max_image_pixels=wanted.max_image_pixels)
