"""The tables of `settings.toml`. What they may say is said here once: flags, forms and files are derived."""

import hashlib
from typing import Annotated, Final, Literal

from contract.base import Strict
from contract.fields import field
from contract.handshake import MAX_IMAGE_PIXELS
from contract.rules.paths import from_wire
from orchestrator.settings.rules import (
    DEVICE,
    HOST,
    ORIGIN,
    SLUG,
    command_problems,
    device_problems,
    id_problems,
    misfits,
    path_problems,
    refuse,
    same,
    twice,
)

#: The largest numbers of bytes and pixels that anybody means.
_MOST_BYTES: Final = 10**15
_MOST_PIXELS: Final = 10**12

Layout = Literal["plain", "comfyui", "a1111"]


class KernelSettings(Strict, frozen=True, kw_only=True):
    """`[kernel]`."""

    command: Annotated[
        list[str] | None, field("Command", "Program and arguments that start a kernel.", detail="advanced")
    ] = None
    idle_s: Annotated[
        float,
        field(
            "Idle time",
            "A kernel that has had nothing to do for so long is ended, and its memory is free again.",
            unit="seconds",
            gt=0,
            le=604_800,
        ),
    ] = 600.0

    def __post_init__(self) -> None:
        refuse(command_problems(self.command))


class LimitSettings(Strict, frozen=True, kw_only=True):
    """`[limits]`."""

    max_image_pixels: Annotated[
        int,
        field(
            "Largest image",
            "Images with more pixels are refused before they are decoded.",
            unit="pixels",
            ge=1,
            le=_MOST_PIXELS,
        ),
    ] = MAX_IMAGE_PIXELS
    max_upload_bytes: Annotated[
        int,
        field(
            "Largest upload",
            "Larger files are refused when they are uploaded.",
            unit="bytes",
            ge=1,
            le=_MOST_BYTES,
        ),
    ] = 2 * 1024**3
    min_free_bytes: Annotated[
        int,
        field(
            "Least free space",
            "With less than this free in the data directory, the studio says that it is not ready.",
            unit="bytes",
            ge=0,
            le=_MOST_BYTES,
        ),
    ] = 1024**3
    events_kept: Annotated[
        int,
        field(
            "Events kept",
            "Older events are forgotten; a browser that missed them reads everything anew.",
            unit="events",
            detail="expert",
            ge=1_000,
            le=100_000_000,
        ),
    ] = 200_000
    workers: Annotated[
        int,
        field(
            "Workers",
            "Processes that make thumbnails and import files beside each other.",
            unit="processes",
            detail="advanced",
            ge=1,
            le=64,
        ),
    ] = 2


class Root(Strict, frozen=True, kw_only=True):
    """`[[roots]]`: a folder that the studio may use where it lies."""

    id: Annotated[
        str,
        field(
            "Id",
            "Its short name in addresses: small letters, digits, hyphens.",
            schema={"pattern": SLUG},
        ),
    ]
    path: Annotated[str, field("Folder", "Where it lies, as an absolute path.")]
    title: Annotated[str | None, field("Title", "What people read. Default: the folder's name.")] = None

    def __post_init__(self) -> None:
        refuse([*id_problems(self.id), *path_problems(self.path)])

    @property
    def folder(self) -> str:
        """The folder as this system names it."""
        return from_wire(self.path)


class ModelFolder(Strict, frozen=True, kw_only=True):
    """`[[model_folders]]`: models of other programs, used where they lie."""

    path: Annotated[str, field("Folder", "Where it lies, as an absolute path.")]
    layout: Annotated[
        Layout,
        field(
            "Layout",
            "Whose folders are in it: `comfyui`, `a1111` (also Forge), or `plain`, where each file says what "
            "it is.",
        ),
    ] = "plain"

    def __post_init__(self) -> None:
        refuse(path_problems(self.path))

    @property
    def folder(self) -> str:
        """The folder as this system names it."""
        return from_wire(self.path)

    @property
    def id(self) -> str:
        """Its name in addresses, the same as long as the path is. No root can have it."""
        return f"folder_{hashlib.sha256(self.path.encode()).hexdigest()[:12]}"


class DeviceSettings(Strict, frozen=True, kw_only=True):
    """`[[devices]]`: how much work a device gets."""

    id: Annotated[
        str, field("Device", "Such as `cuda:0`, or `cpu`.", schema={"pattern": DEVICE}, max_length=32)
    ]
    weight: Annotated[
        float,
        field(
            "Weight", "A device of weight 3 gets three jobs where one of weight 1 gets one.", gt=0, le=1000
        ),
    ] = 1.0
    enabled: Annotated[bool, field("Enabled", "Whether it gets new jobs.")] = True

    def __post_init__(self) -> None:
        refuse(device_problems(self.id, self.enabled))


class AccessSettings(Strict, frozen=True, kw_only=True):
    """`[access]`: by which names browsers may reach the studio."""

    hosts: Annotated[
        list[str],
        field(
            "Hosts",
            "Names under which the studio is reached beside this machine's own, such as a proxy's: "
            "`name` or `name:port`, no address of a page.",
            detail="advanced",
        ),
    ] = []
    origins: Annotated[
        list[str],
        field(
            "Origins",
            "Pages of other programs that may call the studio: scheme, name and port of each.",
            detail="advanced",
        ),
    ] = []

    def __post_init__(self) -> None:
        hosts = misfits("hosts", self.hosts, HOST, "a host such as `studio.example:8000`")
        origins = misfits("origins", self.origins, ORIGIN, "an origin such as `https://studio.example`")
        refuse([*hosts, *origins])


class Settings(Strict, frozen=True, kw_only=True):
    """Everything in `settings.toml`."""

    kernel: KernelSettings = KernelSettings()
    limits: LimitSettings = LimitSettings()
    access: AccessSettings = AccessSettings()
    roots: Annotated[list[Root], field("Folders", "Folders that the studio may use where they lie.")] = []
    model_folders: Annotated[
        list[ModelFolder], field("Model folders", "Folders with models of other programs.")
    ] = []
    devices: Annotated[list[DeviceSettings], field("Devices", "What is not here has weight 1.")] = []

    def __post_init__(self) -> None:
        refuse(
            [
                *twice("roots", "id", [each.id for each in self.roots]),
                *twice("roots", "path", [same(each.folder) for each in self.roots]),
                *twice("model_folders", "path", [same(each.folder) for each in self.model_folders]),
                *twice("devices", "id", [each.id for each in self.devices]),
            ]
        )
