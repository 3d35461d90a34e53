"""Whatever the bytes of a file are, a worker answers with a picture or a typed error, and lives on."""

import io
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image, ImageCms

from contract.errors import ImageError, LorakeetError, OutOfMemory, from_wire
from orchestrator.groups import task_group
from orchestrator.workers.pool import WorkerPool
from orchestrator.workers.tasks import SCAN, THUMBNAIL, ScanArguments, ThumbnailArguments
from tests.builders.pictures import photo
from tests.orchestrator.workers.bombs import BOMBS
from tests.orchestrator.workers.mutations import mutated

pytestmark = pytest.mark.anyio

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM")
#: What may be said of a damaged file. The disk's own errors would be the test's fault.
ALLOWED: Final = (ImageError, OutOfMemory)
BATCH: Final = 100


def originals(form: str) -> list[bytes]:
    """Small pictures with everything that a file of this format may have beside its pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    small = photo("coffee").resize((72, 48))
    beside: dict[str, Any] = {"exif": exif, "icc_profile": profile}
    frames: dict[str, Any] = {"save_all": True, "append_images": [small.rotate(90)]}
    ways: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "PNG": [("RGB", beside), ("P", {}), ("LA", {}), ("RGB", frames)],
        "JPEG": [("RGB", beside), ("L", {"progressive": True}), ("CMYK", {}), ("RGB", {"progressive": True})],
        "WEBP": [("RGB", beside), ("RGBA", {"lossless": True}), ("RGB", frames)],
        "GIF": [("P", {}), ("P", {"transparency": 3}), ("RGB", frames)],
        "AVIF": [("RGB", beside | {"speed": 10}), ("RGBA", {"speed": 10})],
        "TIFF": [("RGB", beside), ("RGB", {"compression": "tiff_lzw"}), ("RGB", {"compression": "jpeg"})],
        "PPM": [("RGB", {}), ("L", {})],
    }
    return [_saved(small.convert(mode), form, options) for mode, options in ways.get(form, [("RGB", {})])]


def _saved(image: Image.Image, form: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool(2) as pool:
        yield pool


async def outcome(pool: WorkerPool, path: Path) -> LorakeetError | None:
    """What a thumbnail of it ends with."""
    arguments = ThumbnailArguments(
        path=str(path), root=str(path.parent), target=f"{path.parent}/thumbnails/{path.name}.webp", size=128
    )
    try:
        await pool.run(THUMBNAIL, arguments)
    except LorakeetError as error:
        return error
    return None


async def fuzz(pool: WorkerPool, folder: Path, form: str, seed: int, count: int) -> dict[str, int]:
    """How often each outcome was met, over scans and thumbnails; fails at the first that is not allowed."""
    chance = random.Random(f"{form} {seed}")
    sources = originals(form)
    met: dict[str, int] = {}

    async def judge(path: Path) -> None:
        count_outcome(await outcome(pool, path), path)

    def count_outcome(error: LorakeetError | None, path: Path) -> None:
        name = type(error).__name__
        met[name] = met.get(name, 0) + 1
        assert error is None or isinstance(error, ALLOWED), (form, seed, path.name, error, error.details)

    for start in range(0, count, BATCH):
        paths = [folder / f"{start + number}.img" for number in range(min(BATCH, count - start))]
        for path in paths:
            path.write_bytes(mutated(chance.choice(sources), chance))
        scan = await pool.run(SCAN, ScanArguments(root=str(folder), paths=[str(path) for path in paths]))
        for path, file in zip(paths, scan.files, strict=True):
            count_outcome(None if file.error is None else from_wire(file.error), path)
        async with task_group() as tasks:
            for path in paths:
                tasks.start_soon(judge, path)
        for path in paths:
            path.unlink()
    return met


async def fuzzed_without_a_death(pool: WorkerPool, folder: Path, form: str, seed: int, count: int) -> None:
    met = await fuzz(pool, folder, form, seed, count)
    # Damage that is never noticed, or always, would test nothing.
    assert met.pop("NoneType") > count / 20
    assert sum(met.values()) > count / 20


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("form", FORMATS)
async def test_damaged_pictures_are_refused_and_kill_no_worker(
    form: str, seed: int, pool: WorkerPool, tmp_path: Path
) -> None:
    await fuzzed_without_a_death(pool, tmp_path, form, seed, 300)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("form", FORMATS)
async def test_many_damaged_pictures_are_refused_and_kill_no_worker(
    form: str, seed: int, pool: WorkerPool, tmp_path: Path
) -> None:
    await fuzzed_without_a_death(pool, tmp_path, form, seed, 10_000)


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_does_not_go_off(name: str, pool: WorkerPool, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    scan = await pool.run(SCAN, ScanArguments(root=str(tmp_path), paths=[str(path)]))
    seen = scan.files[0].error
    for error in (None if seen is None else from_wire(seen), await outcome(pool, path)):
        assert error is None or isinstance(error, ALLOWED), (error, error.details)
