"""The settings of the studio, and the user's keys of services."""

from typing import Annotated

import anyio.to_thread
import msgspec

from contract.base import Reply, Strict
from contract.errors import FileUnreadable, FileUnwritable, NotFound, SettingsInvalid
from contract.handshake import Key
from orchestrator.api.calls import Answer, Call, TextAnswer
from orchestrator.api.registry import Routes
from orchestrator.keys.keys import KeyState
from orchestrator.settings import Settings
from orchestrator.settings.patch import SettingsPatch

routes = Routes("settings")

ServiceName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]


class KeyList(Reply, kw_only=True):
    """Every service that a key can be given for."""

    items: list[KeyState]


class KeyBody(Strict, frozen=True, kw_only=True):
    """A key. Nobody is told it again."""

    value: Key

    def __repr__(self) -> str:
        return "KeyBody(…)"


@routes.get("/settings", has_etag=True, errors=(SettingsInvalid,))
async def read_settings(call: Call) -> Answer[Settings]:
    """Read the settings, defaults included.

    They are those of `settings.toml`, also when it was edited by hand meanwhile.
    """
    store = call.studio.settings
    return Answer(body=await store.refresh(), etag=store.etag)


@routes.patch("/settings", has_etag=True, needs_match=True, errors=(SettingsInvalid, FileUnwritable))
async def change_settings(call: Call, body: SettingsPatch) -> Answer[Settings]:
    """Change settings by a merge patch.

    As RFC 7396 has it: what is left out stays, null takes the default, lists are replaced as a whole.
    Comments in `settings.toml` stay.
    """
    store = call.studio.settings
    await store.refresh()
    call.require_match(store.etag)
    changed = await store.change(msgspec.to_builtins(body), store.etag)
    return Answer(body=changed, etag=store.etag)


@routes.get("/settings/schema", gives="application/schema+json")
async def read_settings_schema(call: Call) -> TextAnswer:
    """Read the JSON Schema of the settings, for forms: titles, help, units, ranges and levels of detail."""
    schema = msgspec.json.encode(msgspec.json.schema(Settings))
    return TextAnswer(text=schema.decode(), media_type="application/schema+json")


@routes.get("/keys", errors=(FileUnreadable,))
async def list_keys(call: Call) -> KeyList:
    """List the services that a key can be given for, and whether it was."""
    return KeyList(items=await anyio.to_thread.run_sync(call.studio.keys.list))


@routes.put("/keys/{name}", errors=(NotFound, FileUnreadable, FileUnwritable))
async def set_key(call: Call, name: ServiceName, body: KeyBody) -> KeyState:
    """Set the key of a service. It goes into the system's keyring, or else into a file of its own."""
    state = await anyio.to_thread.run_sync(call.studio.keys.set, name, body.value)
    call.studio.queue.renew_kernels()
    call.studio.events.publish(("settings",), "key.set", state)
    return state


@routes.delete("/keys/{name}", errors=(NotFound, FileUnreadable, FileUnwritable))
async def delete_key(call: Call, name: ServiceName) -> None:
    """Forget the key of a service."""
    await anyio.to_thread.run_sync(call.studio.keys.delete, name)
    call.studio.queue.renew_kernels()
    call.studio.events.publish(("settings",), "key.deleted", {"name": name})
