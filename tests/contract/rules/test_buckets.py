"""The buckets are those of the reference trainer, and every picture fits into its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.rules.buckets import BucketRules, Placed, Size

# What kohya-ss/sd-scripts (commit 48d368f) makes of these, by running its rules.
_SD15 = (
    "256x832 256x896 256x960 256x1024 320x704 320x768 384x640 448x576 512x512 576x448 640x384 704x320 "
    "768x320 832x256 896x256 960x256 1024x256"
)
_SDXL = (
    "512x1856 512x1920 512x1984 512x2048 576x1664 576x1728 576x1792 640x1536 640x1600 704x1408 704x1472 "
    "768x1280 768x1344 832x1216 896x1152 960x1088 1024x1024 1088x960 1152x896 1216x832 1280x768 1344x768 "
    "1408x704 1472x704 1536x640 1600x640 1664x576 1728x576 1792x576 1856x512 1920x512 1984x512 2048x512"
)
_PLACES = [
    (1024, 512, 2048, 64, True, (1920, 1080), (1344, 768), (1365, 768)),
    (1024, 512, 2048, 64, True, (600, 451), (1152, 896), (1192, 896)),
    (1024, 256, 2048, 64, True, (832, 1216), (832, 1216), (832, 1216)),
    (512, 256, 1024, 64, True, (427, 640), (384, 640), (427, 640)),
    (512, 256, 1024, 32, True, (100, 900), (256, 1024), (256, 2304)),
    (1024, 512, 2048, 64, False, (1920, 1080), (1344, 768), (1365, 768)),
    (1024, 512, 2048, 64, False, (600, 451), (576, 448), (600, 451)),
    (512, 256, 1024, 64, False, (427, 640), (384, 576), (384, 576)),
    (512, 256, 1024, 32, False, (4000, 3000), (544, 416), (555, 416)),
    (512, 256, 1024, 8, False, (3001, 999), (864, 288), (865, 288)),
]

rules = st.builds(
    lambda width, height, least, most, step, upscale: BucketRules(
        resolution=Size(64 * width, 64 * height),
        min_side=64 * least,
        max_side=64 * (max(width, height, least) + most),
        step=step,
        upscale=upscale,
    ),
    st.integers(4, 16),
    st.integers(4, 16),
    st.integers(1, 4),
    st.integers(0, 16),
    st.sampled_from([8, 32, 64]),
    st.booleans(),
)
sides = st.integers(1, 8000)


@pytest.mark.parametrize(
    ("side", "least", "most", "sizes"), [(512, 256, 1024, _SD15), (1024, 512, 2048, _SDXL)]
)
def test_the_sizes_are_those_of_the_reference_trainer(side: int, least: int, most: int, sizes: str) -> None:
    made = BucketRules(resolution=Size(side, side), min_side=least, max_side=most)
    assert " ".join(map(str, made.sizes)) == sizes


@pytest.mark.parametrize("place", _PLACES, ids=str)
def test_a_picture_goes_where_the_reference_trainer_puts_it(
    place: tuple[int, int, int, int, bool, tuple[int, int], tuple[int, int], tuple[int, int]],
) -> None:
    side, least, most, step, upscale, picture, bucket, resized = place
    made = BucketRules(resolution=Size(side, side), min_side=least, max_side=most, step=step, upscale=upscale)
    assert made.place(*picture) == Placed(Size(*bucket), Size(*resized))


@given(rules, sides, sides)
def test_every_picture_covers_a_bucket_of_whole_steps(made: BucketRules, width: int, height: int) -> None:
    bucket, resized = made.place(width, height)
    assert bucket.width % made.step == 0 == bucket.height % made.step
    # The reference rounds the side of a shrunk picture to the nearest pixel before it takes whole steps.
    assert bucket.area <= made.resolution.area + (0 if made.upscale else sum(bucket))
    assert min(bucket) >= made.step
    assert resized.width >= bucket.width and resized.height >= bucket.height


@given(rules, sides, sides)
def test_a_picture_is_enlarged_only_where_that_is_allowed_or_a_side_is_less_than_a_step(
    made: BucketRules, width: int, height: int
) -> None:
    placed = made.place(width, height)
    if not made.upscale and placed.resized.area > width * height:
        assert min(width, height) < made.step or min(placed.bucket) == made.step


@given(rules, sides, sides)
def test_a_picture_turned_by_a_quarter_goes_to_the_bucket_turned_by_a_quarter_or_one_as_good(
    made: BucketRules, width: int, height: int
) -> None:
    if made.upscale and made.enabled:
        upright, turned = made.place(width, height), made.place(height, width)
        assert Size(turned.bucket.height, turned.bucket.width) in made.sizes
        error = abs(upright.bucket.aspect - width / height)
        assert all(error <= abs(size.aspect - width / height) for size in made.sizes) or upright.cropped == 0


def test_without_buckets_everything_is_trained_at_the_resolution() -> None:
    made = BucketRules(resolution=Size(512, 640), enabled=False)
    assert made.sizes == (Size(512, 640),)
    assert made.place(1000, 1000) == Placed(Size(512, 640), Size(640, 640))


def test_the_share_that_is_cut_off_is_known() -> None:
    assert Placed(Size(512, 512), Size(512, 1024)).cropped == 0.5
    assert Placed(Size(512, 512), Size(512, 512)).cropped == 0


def test_a_thin_line_gets_a_bucket_of_no_more_than_the_area() -> None:
    made = BucketRules(resolution=Size(512, 512), upscale=False)
    assert made.place(1, 5000) == Placed(Size(64, 4096), Size(64, 320000))


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 12},
        {"step": 0},
        {"min_side": 1024, "max_side": 512},
        {"min_side": 100},
        {"max_side": 256},
        {"resolution": Size(32, 512)},
        {"resolution": Size(500, 500), "enabled": False},
    ],
    ids=str,
)
def test_rules_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        BucketRules(**({"resolution": Size(512, 512)} | wrong))  # type: ignore[arg-type]


def test_a_picture_without_pixels_has_no_bucket() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        BucketRules(resolution=Size(512, 512)).place(0, 5)
