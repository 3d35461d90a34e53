"""The numbers of a run."""

import math
from pathlib import Path

import msgspec
import pytest

from contract.errors import FileUnwritable
from contract.methods.train import TrainMetrics
from trainer.run.metrics import METRICS, LossAverage, MetricsLog


def _item(step: int) -> TrainMetrics:
    return TrainMetrics(
        step=step,
        epoch=1,
        loss=0.5,
        loss_average=0.5,
        rates={"unet": 1e-4},
        seconds=0.1,
        images_per_s=10.0,
        data_wait=0.0,
    )


def _steps(folder: Path) -> list[int]:
    return [msgspec.json.decode(line)["step"] for line in (folder / METRICS).read_bytes().splitlines()]


def test_the_average_is_that_of_the_last_epoch() -> None:
    average = LossAverage(per_epoch=3)
    assert math.isnan(average.mean)
    for loss in (1.0, 2.0, 3.0, 7.0):
        average.add(loss)
    assert average.losses == [2.0, 3.0, 7.0]
    assert average.mean == 4.0


def test_the_average_goes_on_from_what_was_kept_of_it() -> None:
    whole, first = LossAverage(4), LossAverage(4)
    for loss in (0.1, 0.2, 0.3):
        whole.add(loss)
        first.add(loss)
    resumed = LossAverage(4, first.losses)
    for average in (whole, resumed):
        for loss in (0.4, 0.5):
            average.add(loss)
    assert resumed.mean == whole.mean


def test_an_average_of_a_long_epoch_is_of_its_last_ten_thousand_losses() -> None:
    average = LossAverage(1_000_000, [1.0] * 5)
    for _ in range(10_000):
        average.add(2.0)
    assert len(average.losses) == 10_000
    assert average.mean == 2.0


def test_what_a_run_does_again_is_forgotten(tmp_path: Path) -> None:
    with MetricsLog(str(tmp_path), 0) as log:
        for step in (1, 2, 3, 4):
            log.add(_item(step))
    with MetricsLog(str(tmp_path), 2) as log:
        assert _steps(tmp_path) == [1, 2]
        log.add(_item(3))
    assert _steps(tmp_path) == [1, 2, 3]


def test_half_a_line_and_what_is_none_are_left_out(tmp_path: Path) -> None:
    with MetricsLog(str(tmp_path), 0) as log:
        log.add(_item(1))
    with (tmp_path / METRICS).open("ab") as file:
        file.write(b'"\xff"\n{"step": 2}\n' + msgspec.json.encode(_item(2)))
    with MetricsLog(str(tmp_path), 9):
        pass
    assert _steps(tmp_path) == [1]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / METRICS).mkdir()
    (tmp_path / METRICS / "something").touch()
    with pytest.raises(FileUnwritable, match="metrics.jsonl"):
        MetricsLog(str(tmp_path), 0)
