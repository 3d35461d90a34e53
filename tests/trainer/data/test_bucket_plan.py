"""The plan says where every picture goes and what that costs, before anything is loaded."""

from pathlib import Path

import msgspec
import pytest

from contract.errors import InvalidParams
from contract.methods.training.buckets import Buckets
from contract.methods.training.data import TrainData
from contract.rules.buckets import BucketRules, Size
from tests.trainer.data.folders import PHOTOS, RULES, pictures, plan_of, subset
from trainer.data.bucket_plan import BucketPlan, rules_of
from trainer.data.collection import Picture
from trainer.data.sampler import Sampler


def picture(width: int, height: int, *, repeats: int = 1) -> Picture:
    return Picture("a.png", "0" * 64, Size(width, height), 0, repeats, "")


def test_the_plan_is_shown_as_data(tmp_path: Path) -> None:
    plan = plan_of(subset(pictures(tmp_path / "a"), repeats=3), batch_size=4)
    shown = plan.shown(accumulation=2)
    assert [(row.width, row.height, row.pictures, row.samples, row.batches) for row in shown.buckets] == [
        (64, 192, 1, 3, 1),
        (128, 128, 5, 15, 4),
    ]
    assert (shown.pictures, shown.samples, shown.batches, shown.steps) == (len(PHOTOS), 18, 5, 3)
    assert 0 < shown.cropped < 0.5
    assert msgspec.json.decode(msgspec.json.encode(shown), type=type(shown)) == shown


def test_the_cropped_share_counts_repeats(tmp_path: Path) -> None:
    rules = BucketRules(resolution=Size(128, 128), min_side=128, max_side=128)
    plan = BucketPlan([picture(128, 128), picture(128, 256, repeats=3)], rules, 1)
    shown = plan.shown()
    assert shown.cropped == shown.buckets[0].cropped == pytest.approx(3 / 4 * 1 / 2)
    assert shown.aspect_error == pytest.approx(1 / 4)
    assert shown.enlarged == 0


def test_pictures_that_are_scaled_up_are_counted() -> None:
    plan = BucketPlan([picture(100, 100), picture(128, 128), picture(300, 300)], RULES, 1)
    assert plan.shown().enlarged == 1


def test_the_plan_counts_what_the_sampler_gives(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a")
    for batch_size in (1, 2, 5):
        plan = plan_of(subset(folder, repeats=2), subset(folder), batch_size=batch_size)
        repeats = [picture.repeats for picture in plan.pictures]
        made = Sampler(plan.buckets, repeats, batch_size=batch_size, seed=0, accumulation=2)
        shown = plan.shown(accumulation=2)
        assert (shown.batches, shown.steps) == (made.batches_per_epoch, made.steps_per_epoch)


def test_the_rules_are_those_of_the_settings_and_the_family_has_the_resolution() -> None:
    assert rules_of(TrainData(), 1024).resolution == Size(1024, 1024)
    data = TrainData(resolution=640, buckets=Buckets(min_side=320, max_side=960, step=32, upscale=True))
    assert rules_of(data, 1024) == BucketRules(
        resolution=Size(640, 640), min_side=320, max_side=960, step=32, upscale=True
    )
    assert rules_of(TrainData(buckets=Buckets(enabled=False)), 512).sizes == (Size(512, 512),)


def test_settings_that_have_no_bucket_for_the_familys_resolution_are_refused() -> None:
    with pytest.raises(InvalidParams, match="1024"):
        rules_of(TrainData(buckets=Buckets(max_side=768, upscale=True)), 1024)


def test_a_plan_without_pictures_is_empty() -> None:
    shown = BucketPlan([], RULES, 1).shown()
    assert (shown.buckets, shown.steps, shown.cropped) == ([], 0, 0)
