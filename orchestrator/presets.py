"""Presets: partial settings with a name, laid under what a job says."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from contract.errors import InvalidParams, NotFound, StateConflict
from contract.fields import arms
from contract.validation import Problem, decode, invalid
from orchestrator.clock import now_ms
from orchestrator.jobs.named_models import spelled
from orchestrator.store.database import Database

_REQUIRED: Final = "is required"


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `settings` are plain values; `version` counts its changes."""

    id: str
    kind: str
    name: str
    description: str
    settings: dict[str, Any]
    version: int
    created_ms: int
    changed_ms: int


class Presets:
    """The presets of a studio. `kinds` has the settings of every kind of job: a Struct or a union."""

    def __init__(self, control: Database, kinds: Mapping[str, Any]) -> None:
        self._control = control
        self._kinds = kinds

    async def list(self, kind: str | None, after: tuple[str, str], limit: int) -> list[Preset]:
        """By kind and name, from after the (kind, name) `after` on."""

        def read(db: sqlite3.Connection) -> list[Preset]:
            rows = db.execute(
                "SELECT * FROM presets WHERE (kind, name) > (?, ?) AND (?3 IS NULL OR kind = ?3)"
                " ORDER BY kind, name LIMIT ?",
                (*after, kind, limit),
            )
            return [_preset(row) for row in rows]

        return await self._control.read(read)

    async def count(self, kind: str | None) -> int:
        """How many there are."""

        def read(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT count(*) FROM presets WHERE ?1 IS NULL OR kind = ?1", (kind,))
            count: int = row.fetchone()[0]
            return count

        return await self._control.read(read)

    async def get(self, name: str, kind: str | None = None) -> Preset:
        """By id, or by name within a kind. Raises NotFound."""
        found = await self._control.read(lambda db: _find(db, name, kind))
        if found is None:
            raise NotFound(f"There is no preset {name}.", where=name)
        return found

    async def create(
        self, id: str, kind: str, name: str, description: str, settings: dict[str, Any]
    ) -> Preset:
        """Make one; the same `id` again changes nothing. Raises InvalidParams and StateConflict."""
        self._check(kind, settings)
        now = now_ms()
        preset = Preset(
            id=id,
            kind=kind,
            name=name,
            description=description,
            settings=settings,
            version=1,
            created_ms=now,
            changed_ms=now,
        )

        def write(db: sqlite3.Connection) -> Preset:
            if (made := _find(db, id, None)) is not None:
                return made
            _put(db, preset)
            return preset

        return await self._control.write(write)

    async def change(
        self, before: Preset, *, name: str, description: str, settings: dict[str, Any]
    ) -> Preset:
        """Replace what it says. Raises InvalidParams, StateConflict and NotFound (meanwhile deleted)."""
        self._check(before.kind, settings)
        after = msgspec.structs.replace(
            before,
            name=name,
            description=description,
            settings=settings,
            version=before.version + 1,
            changed_ms=now_ms(),
        )

        def write(db: sqlite3.Connection) -> Preset:
            _still(db, before)
            db.execute("DELETE FROM presets WHERE id = ?", (before.id,))
            _put(db, after)
            return after

        return await self._control.write(write)

    async def delete(self, preset: Preset) -> None:
        """Raises StateConflict where it was changed meanwhile."""

        def write(db: sqlite3.Connection) -> None:
            _still(db, preset)
            db.execute("DELETE FROM presets WHERE id = ?", (preset.id,))

        await self._control.write(write)

    def _check(self, kind: str, settings: dict[str, Any]) -> None:
        check_partial(self._kinds, kind, settings)


def check_partial(kinds: Mapping[str, Any], kind: str, settings: dict[str, Any]) -> None:
    """Raises InvalidParams unless `settings` could be a part of the settings of `kind`."""
    if kind not in kinds:
        raise invalid([Problem("$.kind", f"is none of {', '.join(kinds)}")])
    # Of a union: that which they fit best.
    wrong = min((_wrong(each, settings) for each in _candidates(kinds[kind], settings)), key=len)
    if wrong:
        raise invalid(wrong)


def _candidates(wanted: Any, settings: dict[str, Any]) -> list[Any]:
    """What partial settings may be meant for: everything in a union, where they do not say what they are."""
    each = arms(wanted)
    tag_field = each[0].__struct_config__.tag_field
    return [wanted] if len(each) == 1 or tag_field in settings else list(each)


def _wrong(wanted: Any, settings: dict[str, Any]) -> list[Problem]:
    """What is wrong with them beside that something is missing."""
    try:
        decode(spelled(wanted, _tagged(wanted, settings)), wanted, path="$.settings")
    except InvalidParams as error:
        return [
            Problem(each["where"], each["message"])
            for each in error.details["problems"]
            if not each["message"].startswith(_REQUIRED)
        ]
    return []


def _tagged(wanted: Any, settings: dict[str, Any]) -> dict[str, Any]:
    config = getattr(wanted, "__struct_config__", None)
    return settings if config is None or config.tag is None else {config.tag_field: config.tag, **settings}


def laid_under(preset: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` over a preset's; tables of the same fields are laid over each other."""
    merged = dict(preset)
    for name, value in settings.items():
        below = merged.get(name)
        # Two ways to name one thing, such as a model by repository and by folder, do not add up.
        alike = isinstance(below, dict) and isinstance(value, dict) and below.keys() == value.keys()
        merged[name] = laid_under(below, value) if alike and isinstance(below, dict) else value
    return merged


def _put(db: sqlite3.Connection, preset: Preset) -> None:
    row = msgspec.structs.asdict(preset) | {"settings": msgspec.json.encode(preset.settings)}
    try:
        db.execute(
            "INSERT INTO presets VALUES (:id, :kind, :name, :description, :settings, :version,"
            " :created_ms, :changed_ms)",
            row,
        )
    except sqlite3.IntegrityError:
        raise StateConflict(f"There is a preset named {preset.name} already.", where=preset.name) from None


def _still(db: sqlite3.Connection, preset: Preset) -> None:
    now = _find(db, preset.id, None)
    if now is None or now.version != preset.version:
        raise StateConflict("The preset was changed meanwhile.", where=preset.id)


def _find(db: sqlite3.Connection, name: str, kind: str | None) -> Preset | None:
    row = db.execute(
        "SELECT * FROM presets WHERE id = ?1 OR (name = ?1 AND kind = ?2)", (name, kind)
    ).fetchone()
    return None if row is None else _preset(row)


def _preset(row: sqlite3.Row) -> Preset:
    return msgspec.convert(dict(row) | {"settings": msgspec.json.decode(row["settings"])}, Preset)
