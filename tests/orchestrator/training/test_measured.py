"""The tables say of a training what its own file says, whatever came between."""

from pathlib import Path

import msgspec
import pytest

from contract.errors import DiskFull
from contract.methods.train import TrainMetrics
from orchestrator.clock import now_ms
from orchestrator.jobs import metrics
from orchestrator.training.measured import measurements, settle
from tests.orchestrator.datasets.shelf import Shelf, copy_photographs
from tests.orchestrator.training.stub_run import StubRun, asked

pytestmark = pytest.mark.anyio


def step(number: int, loss: float = 0.5) -> TrainMetrics:
    return TrainMetrics(
        step=number,
        epoch=1,
        loss=loss,
        loss_average=loss,
        rates={"unet": 1e-4},
        grad_norm=2.0,
        seconds=1.0,
        images_per_s=1.0,
        data_wait=0.0,
        memory=1024,
    )


async def run_of(shelf: Shelf) -> StubRun:
    copy_photographs(shelf.folder, ["rocket.jpg"])
    return StubRun(shelf.studio, await asked(shelf.studio, {"dataset": shelf.dataset.id}))


async def keep(run: StubRun, *items: TrainMetrics) -> None:
    samples = [metrics.Sample(each.step, now_ms(), measurements(each)) for each in items]
    await metrics.keep(run.studio.telemetry, run.job.id, samples)


async def losses(run: StubRun) -> dict[int, float]:
    series = await metrics.series(run.studio.telemetry, run.job.id, None, 0, 100)
    assert {tuple(point.step for point in points) for points in series.values()} <= {
        tuple(point.step for point in series["loss"])
    }
    return {point.step: point.value for point in series["loss"]}


def write(run: StubRun, *items: TrainMetrics, torn: bytes = b"") -> None:
    lines = b"".join(msgspec.json.encode(each) + b"\n" for each in items)
    (run.folder / "metrics.jsonl").write_bytes(lines + torn)


async def test_what_a_dead_studio_did_not_keep_is_added_and_what_was_gone_back_over_is_dropped(
    shelf: Shelf,
) -> None:
    run = await run_of(shelf)
    await keep(run, step(1), step(2), *(step(number, 0.9) for number in (5, 6, 7)))
    write(run, *(step(number) for number in range(1, 7)), torn=b'{"step": 7, "lo')
    await settle(run)
    assert await losses(run) == {1: 0.5, 2: 0.5, 3: 0.5, 4: 0.5, 5: 0.9, 6: 0.9}


async def test_a_run_without_a_file_keeps_what_there_is(shelf: Shelf) -> None:
    run = await run_of(shelf)
    await keep(run, step(1), step(2))
    await settle(run)
    (run.folder / "metrics.jsonl").write_bytes(b"half a line")
    await settle(run)
    assert await losses(run) == {1: 0.5, 2: 0.5}


async def test_a_full_disk_is_no_reason_to_fail(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await run_of(shelf)
    write(run, step(1))

    async def full(work: object) -> None:
        raise DiskFull("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(run.studio.telemetry, "write", full)
        await settle(run)
    await settle(run)
    assert await losses(run) == {1: 0.5}


def test_the_file_is_the_one_that_kernels_write(tmp_path: Path) -> None:
    from orchestrator.training.measured import FILE
    from trainer.run.metrics import METRICS

    assert FILE == METRICS
