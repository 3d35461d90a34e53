"""The cache of thumbnails: made once, found again, and never half."""

import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from anyio import to_thread

from contract.errors import FileUnreadable, ImageInvalid, LorakeetError, NotFound, WorkerDied
from orchestrator.datasets.thumbnails import Thumbnails
from orchestrator.groups import task_group
from orchestrator.workers.pool import WorkerPool
from tests.builders.pictures import photo
from tests.orchestrator.workers.odd_worker import COMMAND, DEED, Deed

pytestmark = pytest.mark.anyio
posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no FIFOs and signals")


class Counted(WorkerPool):
    """A pool of one worker that counts what it is given."""

    def __init__(self) -> None:
        super().__init__(1, command=COMMAND)
        self.tasks = 0

    async def run(self, *arguments: Any, **options: Any) -> Any:
        self.tasks += 1
        return await super().run(*arguments, **options)


class Image(NamedTuple):
    """A file, and the digest of its content."""

    path: Path
    sha256: str


def image(path: Path, turn: int = 0) -> Image:
    path.parent.mkdir(exist_ok=True)
    photo("coffee").rotate(turn).save(path)
    return Image(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def coffee(tmp_path: Path) -> Image:
    return image(tmp_path / "pictures" / "coffee.jpg")


@pytest.fixture
async def pool() -> AsyncIterator[Counted]:
    async with Counted() as pool:
        yield pool


@pytest.fixture
def thumbnails(tmp_path: Path, pool: Counted) -> Thumbnails:
    return Thumbnails(tmp_path / "caches" / "thumbnails", pool)


async def get(thumbnails: Thumbnails, image: Image, **options: Any) -> Path:
    return await thumbnails.get(image.sha256, 256, image.path, image.path.parent, **options)


def test_a_thumbnail_lies_where_its_content_says(tmp_path: Path) -> None:
    path = Thumbnails(tmp_path, WorkerPool()).path_of("ab" + "0" * 62, 512)
    assert path == tmp_path / "ab" / f"ab{'0' * 62}.512.webp"


@pytest.mark.parametrize("sha256", ["", "../" * 21 + "a", "AB" + "0" * 62, "0" * 63, "0" * 64 + "\n"])
async def test_what_is_no_digest_has_no_thumbnail(sha256: str, thumbnails: Thumbnails, coffee: Image) -> None:
    with pytest.raises(NotFound):
        await thumbnails.get(sha256, 256, coffee.path, coffee.path.parent)


async def test_a_thumbnail_is_made_once_and_then_costs_no_worker(
    thumbnails: Thumbnails, coffee: Image, pool: Counted
) -> None:
    assert not thumbnails.has(coffee.sha256, 256)
    path = await get(thumbnails, coffee)
    assert path == thumbnails.path_of(coffee.sha256, 256)
    assert thumbnails.has(coffee.sha256, 256)
    assert not thumbnails.has(coffee.sha256, 128)
    made = path.read_bytes()
    assert await get(thumbnails, coffee) == path
    assert (path.read_bytes(), pool.tasks) == (made, 1)


async def test_a_hit_needs_neither_worker_nor_picture(
    thumbnails: Thumbnails, coffee: Image, tmp_path: Path
) -> None:
    path = await get(thumbnails, coffee)
    coffee.path.unlink()
    async with Counted() as pool:
        assert await get(Thumbnails(path.parent.parent, pool), coffee) == path
        assert pool.pids() == []


async def test_many_who_ask_at_once_get_the_one_that_is_made(
    thumbnails: Thumbnails, coffee: Image, pool: Counted
) -> None:
    paths = []

    async def ask() -> None:
        paths.append(await get(thumbnails, coffee))

    async with task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
    assert paths == [thumbnails.path_of(coffee.sha256, 256)] * 50
    assert pool.tasks == 1


@pytest.mark.parametrize("damage", [b"", b"RIFF", bytes(500), b"RIFF\x08\0\0\0WEBP", None])
async def test_a_damaged_thumbnail_is_made_again(
    damage: bytes | None, thumbnails: Thumbnails, coffee: Image
) -> None:
    path = await get(thumbnails, coffee)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if damage is None else damage)
    assert not thumbnails.has(coffee.sha256, 256)
    await get(thumbnails, coffee)
    assert path.read_bytes() == whole


async def test_a_picture_that_changed_has_no_thumbnail_of_what_it_was(
    thumbnails: Thumbnails, coffee: Image
) -> None:
    image(coffee.path, turn=90)
    with pytest.raises(FileUnreadable, match="changed"):
        await get(thumbnails, coffee)


async def test_everybody_who_waits_hears_why_there_is_none_and_the_next_may_try_again(
    thumbnails: Thumbnails, tmp_path: Path, pool: Counted
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    broken = Image(tmp_path / "a.png", hashlib.sha256(b"no picture").hexdigest())
    heard: list[LorakeetError] = []

    async def ask() -> None:
        with pytest.raises(ImageInvalid) as caught:
            await get(thumbnails, broken)
        heard.append(caught.value)

    async with task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
    assert len({id(error) for error in heard}) == 5
    assert pool.tasks == 1
    await ask()
    assert pool.tasks == 2


@pytest.fixture
async def busy(tmp_path: Path, pool: Counted) -> AsyncIterator[int]:
    """The pool's worker, busy until it is killed."""
    fifo = tmp_path / "fifo"
    if sys.platform != "win32":
        os.mkfifo(fifo)

    async def begin() -> None:
        with pytest.raises(WorkerDied):
            await pool.run(DEED, Deed(name="begin", argument=str(fifo)))

    async with task_group() as tasks:
        tasks.start_soon(begin)
        await to_thread.run_sync(fifo.read_text, abandon_on_cancel=True)
        (pid,) = pool.pids()
        yield pid
        tasks.cancel_scope.cancel()


@posix
async def test_when_the_one_who_asked_first_leaves_the_next_has_it_made(
    thumbnails: Thumbnails, coffee: Image, busy: int
) -> None:
    first = anyio.CancelScope()

    async def ask_and_leave() -> None:
        with first:
            await get(thumbnails, coffee)

    async with task_group() as tasks:
        tasks.start_soon(ask_and_leave)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(get, thumbnails, coffee)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        os.kill(busy, signal.SIGKILL)
    assert thumbnails.has(coffee.sha256, 256)


@posix
async def test_what_is_looked_at_is_made_first_though_it_was_asked_for_in_bulk(
    thumbnails: Thumbnails, tmp_path: Path, busy: int
) -> None:
    images = [image(tmp_path / "pictures" / f"{number}.jpg", number) for number in range(4)]
    order: list[str] = []

    async def ask(number: int, priority: str) -> None:
        await get(thumbnails, images[number], priority=priority)
        order.append(f"{number} {priority}")

    async with task_group() as tasks:
        for number in range(4):
            tasks.start_soon(ask, number, "bulk")
            await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, 2, "interactive")
        await anyio.wait_all_tasks_blocked()
        os.kill(busy, signal.SIGKILL)
    assert sorted(order[:2]) == ["2 bulk", "2 interactive"]
    assert sorted(order[2:]) == ["0 bulk", "1 bulk", "3 bulk"]


def write_half(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")


@posix
async def test_a_worker_that_dies_leaves_nothing_behind(
    thumbnails: Thumbnails, coffee: Image, pool: Counted, tmp_path: Path
) -> None:
    """A worker that is stopped, and killed for it, may have written half."""
    folder = thumbnails.path_of(coffee.sha256, 256).parent
    write_half(folder / f"{coffee.sha256}.256.webp.part")
    await pool.run(DEED, Deed(name="say"))
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)

    async def ask() -> None:
        with pytest.raises(WorkerDied):
            await get(thumbnails, coffee)

    async with task_group() as tasks:
        tasks.start_soon(ask)
        while pool.tasks < 2:
            await anyio.lowlevel.checkpoint()
        # Now the task is on its way to the worker.
        await anyio.wait_all_tasks_blocked()
        os.kill(pid, signal.SIGKILL)
    assert os.listdir(folder) == []
    await get(thumbnails, coffee)
