"""The work that workers can do: what each task takes and gives, and where its function is. Paths travel as
`contract.rules.paths.to_wire` writes them."""

from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from contract.base import Reply, Strict
from contract.errors import WireError

#: The decoding limit where a caller has no other: 64 megapixels.
MAX_PIXELS: Final = 64_000_000

Format = Literal["png", "jpeg", "webp", "gif", "avif", "bmp", "tiff", "jpeg2000", "ppm"]
#: What the name of a file ends in while it is written; then it is renamed.
UNFINISHED: Final = ".part"
#: Pixels of the longest side of a thumbnail.
ThumbnailSize = Literal[128, 256, 512]

P = TypeVar("P", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


class Task(msgspec.Struct, Generic[P, R], frozen=True):
    """`home` is `module:function`, from `arguments` to `result`; only workers import the module."""

    name: str
    arguments: type[P]
    result: type[R]
    home: str

    def perform(self, arguments: P) -> R:
        """Do it, here and now. Raises LorakeetError; anything else is a bug of the task."""
        from importlib import import_module

        module, _, function = self.home.partition(":")
        result: R = getattr(import_module(module), function)(arguments)
        return result


class Confinement(Strict, frozen=True, kw_only=True):
    """`memory_bytes`: what the process may take beyond what it has."""

    memory_bytes: int


class Confined(Reply, kw_only=True):
    """`memory_is_limited`: whether this system can do that."""

    memory_is_limited: bool


class ScanArguments(Strict, frozen=True, kw_only=True):
    """Files to look at, all of them below `root`, links followed."""

    root: str
    paths: list[str]
    max_pixels: int = MAX_PIXELS


class Picture(Reply, kw_only=True):
    """What header and content of an image file say; `width` and `height` are as people see it.

    `sha256`: of the whole file, lower-case hex.
    """

    width: int
    height: int
    format: Format
    has_alpha: bool
    sha256: str


class ScannedFile(Reply, kw_only=True):
    """A file of a scan: exactly one of `picture` and `error`. The size and the time of change in nanoseconds
    are known of every file that could be opened."""

    path: str
    size_bytes: int | None = None
    mtime_ns: int | None = None
    picture: Picture | None = None
    error: WireError | None = None


class ScanResult(Reply, kw_only=True):
    """One entry for every path, in the order of the arguments."""

    files: list[ScannedFile]


class ThumbnailArguments(Strict, frozen=True, kw_only=True):
    """`target`: the file to write, a .webp; nobody else writes it meanwhile. `sha256`: what the content of
    the image must be."""

    path: str
    root: str
    target: str
    size: ThumbnailSize
    sha256: str | None = None
    max_pixels: int = MAX_PIXELS


class ThumbnailResult(Reply, kw_only=True):
    """The thumbnail that was written: pixels, and bytes of the file."""

    width: int
    height: int
    bytes: int


CONFINE: Final = Task("confine", Confinement, Confined, "orchestrator.workers.confinement:confine")
SCAN: Final = Task("scan", ScanArguments, ScanResult, "orchestrator.workers.scan:scan")
THUMBNAIL: Final = Task(
    "thumbnail", ThumbnailArguments, ThumbnailResult, "orchestrator.workers.thumbnail:make"
)

TASKS: Final[dict[str, Task[Any, Any]]] = {task.name: task for task in (CONFINE, SCAN, THUMBNAIL)}
