"""The studio's settings: `settings.toml` in the data directory, refused with its name and field if wrong."""

from orchestrator.settings.file import FILE, decode_table, load, read_toml, save
from orchestrator.settings.rules import CPU, OWN_ROOTS
from orchestrator.settings.store import SettingsStore
from orchestrator.settings.tables import (
    AccessSettings,
    DeviceSettings,
    KernelSettings,
    LimitSettings,
    ModelFolder,
    Root,
    Settings,
)

__all__ = [
    "CPU",
    "FILE",
    "OWN_ROOTS",
    "AccessSettings",
    "DeviceSettings",
    "KernelSettings",
    "LimitSettings",
    "ModelFolder",
    "Root",
    "Settings",
    "SettingsStore",
    "decode_table",
    "load",
    "read_toml",
    "save",
]
