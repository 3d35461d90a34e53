"""Fewer points that say the same."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.jobs.metrics import Point, Sample, downsampled, forget, keep, series
from orchestrator.store.telemetry import open_telemetry

_POINTS = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=300).map(
    lambda values: [Point(step, value) for step, value in enumerate(values)]
)


@settings(deadline=None)
@given(_POINTS, st.integers(4, 60))
def test_extremes_and_ends_are_never_left_out(points: list[Point], most: int) -> None:
    kept = downsampled(points, most)
    assert len(kept) <= most
    assert set(kept) <= set(points)
    assert [point.step for point in kept] == sorted({point.step for point in kept})
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
        assert min(point.value for point in kept) == min(point.value for point in points)
        assert max(point.value for point in kept) == max(point.value for point in points)


@settings(deadline=None)
@given(_POINTS, st.integers(4, 60))
def test_few_points_stay_as_they_are(points: list[Point], most: int) -> None:
    assert downsampled(points[:most], most) == points[:most]


@pytest.mark.anyio
async def test_a_step_that_comes_again_replaces_what_it_said(tmp_path: Path) -> None:
    async with open_telemetry(tmp_path) as telemetry:
        await keep(telemetry, "job_1", [Sample(1, 0, {"loss": 3.0, "lr": 1.0}), Sample(2, 0, {"loss": 2.0})])
        await keep(telemetry, "job_1", [Sample(2, 1, {"loss": 1.5, "bad": math.nan})])
        await keep(telemetry, "job_2", [Sample(1, 0, {"loss": 9.0})])
        assert await series(telemetry, "job_1", None, 0, 100) == {
            "loss": [(1, 3.0), (2, 1.5)],
            "lr": [(1, 1.0)],
        }
        assert await series(telemetry, "job_1", ["loss", "other"], 2, 100) == {"loss": [(2, 1.5)]}
        await forget(telemetry, "job_1")
        assert await series(telemetry, "job_1", None, 0, 100) == {}
        assert await series(telemetry, "job_2", None, 0, 100) == {"loss": [(1, 9.0)]}
