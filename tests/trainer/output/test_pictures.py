"""What is said of the pictures, and that no folder of anybody is."""

import json
from typing import Any

import pytest

from contract.methods.training.captions import Captions
from tests.trainer.output.parts import MOMENT, facts, pictures, settings, subset
from trainer.data.collection import Picture
from trainer.data.subset import Subset
from trainer.output import training_metadata
from trainer.output.pictures import folder_names


def _said(**changed: Any) -> dict[str, str]:
    return training_metadata(facts(**changed), MOMENT)


def test_folders_tags_and_buckets_are_as_the_reference_trainer_has_them() -> None:
    said = _said()
    assert json.loads(said["ss_dataset_dirs"]) == {"train8": {"n_repeats": 1, "img_count": 8}}
    assert json.loads(said["ss_reg_dataset_dirs"]) == {}
    tags = {"1girl": 5, "solo": 3, "landscape": 1, "red hair": 1}
    assert json.loads(said["ss_tag_frequency"]) == {"train8": tags}
    assert list(json.loads(said["ss_tag_frequency"])["train8"]) == list(tags)
    buckets = json.loads(said["ss_bucket_info"])
    assert buckets["buckets"] == {
        "0": {"resolution": [512, 512], "count": 7},
        "1": {"resolution": [640, 384], "count": 1},
    }
    assert buckets["mean_img_ar_error"] == pytest.approx(abs(640 / 384 - 1.5) / 8)


def test_the_list_of_datasets_has_every_field_of_the_reference_trainer() -> None:
    [dataset] = json.loads(_said()["ss_datasets"])
    assert dataset.keys() == set(
        "is_dreambooth batch_size_per_device num_train_images num_reg_images resolution enable_bucket "
        "min_bucket_reso max_bucket_reso tag_frequency bucket_info resize_interpolation subsets".split()
    )
    [own] = dataset["subsets"]
    assert own.keys() == set(
        "img_count num_repeats color_aug flip_aug random_crop shuffle_caption keep_tokens "
        "keep_tokens_separator secondary_separator enable_wildcard caption_prefix caption_suffix "
        "resize_interpolation image_dir class_tokens is_reg".split()
    )
    assert dataset["resolution"] == [512, 512]
    assert (own["image_dir"], own["img_count"], own["class_tokens"]) == ("train8", 8, None)


def test_keys_for_single_options_are_there_too() -> None:
    said = _said(subsets=[subset(flip=True)])
    assert said["ss_resolution"] == "(512, 512)"
    assert (said["ss_batch_size_per_device"], said["ss_total_batch_size"]) == ("1", "1")
    assert (said["ss_flip_aug"], said["ss_random_crop"], said["ss_color_aug"]) == ("True", "False", "False")
    assert (said["ss_enable_bucket"], said["ss_bucket_no_upscale"]) == ("True", "False")
    assert (said["ss_min_bucket_reso"], said["ss_max_bucket_reso"]) == ("256", "2048")


def test_repeats_count_as_images_but_not_as_pictures_with_a_tag() -> None:
    said = _said(pictures=pictures(repeats=3), subsets=[subset(repeats=3)])
    assert said["ss_num_train_images"] == "24"
    assert json.loads(said["ss_dataset_dirs"]) == {"train8": {"n_repeats": 3, "img_count": 8}}
    assert json.loads(said["ss_tag_frequency"])["train8"]["1girl"] == 5


def test_without_buckets_there_is_nothing_of_them() -> None:
    said = _said(own=settings(data={"buckets": {"enabled": False}}))
    assert said["ss_bucket_info"] == "null"
    assert said["ss_min_bucket_reso"] == "None"


def test_tags_are_left_out_where_that_is_chosen() -> None:
    said = _said(own=settings(metadata={"tag_counts": False, "recipe": False}))
    assert "ss_tag_frequency" not in said
    assert not any("1girl" in text for text in said.values())


def test_tags_are_those_of_the_captions_separator() -> None:
    rules = Captions(separator=";", keep_separator="")
    every = [Picture("/a.png", "0" * 64, pictures()[0].size, 0, 1, "a, b; c;;")]
    said = _said(pictures=every, subsets=[Subset(name="x", folder="/x", captions=rules)])
    assert json.loads(said["ss_tag_frequency"]) == {"x": {"a, b": 1, "c": 1}}


def test_of_very_many_tags_the_commonest_stay() -> None:
    size = pictures()[0].size
    every = [
        Picture(f"/{number}.png", f"{number:064x}", size, number % 2, 1, f"common, {number:06d}" + "x" * 2000)
        for number in range(1200)
    ]
    said = _said(pictures=every, subsets=[subset("a"), subset("b")])
    found = json.loads(said["ss_tag_frequency"])
    assert found["a"]["common"] == found["b"]["common"] == 600
    assert len(said["ss_tag_frequency"]) < 1_200_000
    assert len(found["a"]) > 100


def test_subsets_of_one_last_name_are_told_apart() -> None:
    every = [subset("a/ink"), subset("b/ink"), subset("ink_2"), subset("", folder="/home/ann/ink/")]
    assert folder_names(every) == ["ink", "ink_2", "ink_2_2", "ink_3"]


def test_a_folder_whose_name_is_no_text_is_still_said() -> None:
    said = _said(subsets=[subset("ink\udcff", folder="/x/ink\udcff")])
    assert list(json.loads(said["ss_dataset_dirs"])) == ["ink?"]
    assert all(text.encode() for text in said.values())
