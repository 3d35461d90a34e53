"""The machine over HTTP, and as events."""

from typing import Any, cast

import anyio
import httpx
import msgspec
import pytest

from orchestrator.machine.system_feed import feed
from orchestrator.studio import Studio

pytestmark = pytest.mark.anyio


async def test_the_machine_is_described(client: httpx.AsyncClient, studio: Studio) -> None:
    state = (await client.get("/system")).json()
    assert state["memory"]["total_bytes"] > 0
    assert [each["id"] for each in state["devices"]][-1] == "cpu"
    assert state["disks"][0]["path"] == str(studio.home)


async def test_what_doctor_finds_is_told_with_what_mends_it(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAKEET_KERNEL", "/no/such/program")
    report = (await client.get("/system/doctor")).json()
    (finding,) = [each for each in report["problems"] if each["kind"] == "kernel_unavailable"]
    assert "/no/such/program" in finding["message"] and "LORAKEET_KERNEL" in finding["hint"]
    monkeypatch.delenv("LORAKEET_KERNEL")
    assert (await client.get("/system/doctor")).json() == report, "it is good for a minute"


async def test_who_follows_the_system_gets_samples(studio: Studio) -> None:
    chunk = b""
    with anyio.fail_after(20):
        async for chunk in studio.events.follow({"system"}):
            if b"event: system.sampled" in chunk:
                break
    data = next(line for line in chunk.splitlines() if line.startswith(b"data: "))
    assert msgspec.json.decode(data.removeprefix(b"data: "))["devices"][-1]["id"] == "cpu"


async def test_where_nobody_listens_nothing_is_sampled(studio: Studio) -> None:
    """Neither a system nor settings are there to be asked."""
    looks = 0

    class Unheard:
        @property
        def readers(self) -> int:
            nonlocal looks
            looks += 1
            if looks == 3:
                tasks.cancel_scope.cancel()
            return 0

    nothing: Any = None
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed, nothing, nothing, cast(Any, Unheard()), 0.001)
    assert looks == 3


async def test_a_machine_that_cannot_be_looked_at_does_not_end_the_studio(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        tries = 0

        def sample(self, settings: object) -> object:
            self.tries += 1
            if self.tries == 2:
                return {"fine": True}
            raise RuntimeError("no /proc here")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, cast(Any, Broken()), studio.settings, studio.events, 0.01)
        with anyio.fail_after(20):
            async for chunk in studio.events.follow({"system"}):
                if b'"fine":true' in chunk:
                    break
        tasks.cancel_scope.cancel()
    assert "no /proc here" in caplog.text
