"""What all job params share: who the job is, which attempt, and what it works on."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from contract.base import Params, Reply, Strict
from contract.errors import WireError
from contract.validation import Contradiction

#: Minted by the host, opaque to the kernel (ours are `job_` + ULID).
#: `\Z` and not `$`, after which Python lets a newline follow; the exporter writes `$` for other languages.
JobId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z", description="Minted by the host.")]
#: Counted from 1; a higher attempt resumes.
Attempt = Annotated[int, Meta(ge=1)]

#: From so many items on, hosts write a manifest instead of an inline list.
MANIFEST_FROM = 1_000


class ImageInputs(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """The pictures of a job: absolute paths, or a manifest of them (JSON lines of ManifestItem).

    A path that is not valid Unicode is sent as a `file:` URI with its bytes percent-encoded.
    """

    images: Annotated[list[str], Meta(min_length=1)] | None = None
    manifest: str | None = None

    def __post_init__(self) -> None:
        if (self.images is None) == (self.manifest is None):
            raise Contradiction(("images", "give exactly one of `images` and `manifest`"))


class ManifestItem(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a manifest. `sha256` is lower-case hex of the file's bytes."""

    path: str
    sha256: str | None = None
    caption: str | None = None
    subset: str | None = None


class JobParams(Params, frozen=True, kw_only=True):
    """The params of a job at any version from 2 on."""

    job_id: JobId
    attempt: Attempt = 1


class JobPeek(msgspec.Struct, kw_only=True):
    """Enough of a job's params to register it before anything else is looked at."""

    job_id: JobId
    attempt: Attempt = 1


class Outcome(Reply, kw_only=True):
    """What every job ends with. Timings are seconds; `replayed` marks an answer given before."""

    timings: dict[str, float] = {}
    warnings: list[str] = []
    artifacts: list[Any] = []
    replayed: bool = False


class FailedImage(Reply, kw_only=True):
    """A picture that could not be used, and why. `index` counts from 0 in the job's inputs."""

    index: int
    image: str
    error: WireError
