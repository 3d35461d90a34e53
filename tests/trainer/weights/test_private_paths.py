"""Paths in metadata lose their folders, of whatever system; tags and texts that only look alike do not."""

import json

import pytest

from trainer.weights.private_paths import without_paths


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/home/anna/models/base.safetensors", "base.safetensors"),
        ("/home/anna/10_cat/", "10_cat"),
        ("C:\\Users\\Anna\\base.ckpt", "base.ckpt"),
        ("D:/train/img", "img"),
        ("\\\\server\\share\\img", "img"),
        ("~/lora/img", "img"),
        ("file:///home/anna/x.txt", "x.txt"),
        ("/home/anna/a folder with ü/x y.txt", "x y.txt"),
    ],
)
def test_a_path_is_its_last_part(path: str, last: str) -> None:
    assert without_paths({"ss_sd_model_name": path}) == {"ss_sd_model_name": last}
    nested = json.dumps([{"image_dir": path, "other": [path]}])
    stripped = json.loads(without_paths({"ss_datasets": nested})["ss_datasets"])
    assert stripped == [{"image_dir": last, "other": [last]}]


@pytest.mark.parametrize(
    "text",
    [
        "runwayml/stable-diffusion-v1-5",
        "https://civitai.com/models/1",
        "/m/",
        "\\m/",
        "/\\/\\/",
        "either/or",
        "1girl, solo",
        "2026-11-20T08:36:04",
        "torch.optim.adamw.AdamW(weight_decay=0.1)",
        "data:image/png;base64,iVBORw0/KGgo/AAA",
        "{not json",
        "[" * 100_000,
        '{"number": 1.50, "big": 123456789012345678901234567890}',
        "",
    ],
)
def test_what_is_no_path_stays_as_it_was_written(text: str) -> None:
    assert without_paths({"some_key": text}) == {"some_key": text}


def test_folders_that_are_keys_are_stripped_and_their_tags_are_not() -> None:
    tags = {"/o/o": 3, "C:\\d": 1, "1girl": 5}
    frequency = json.dumps({"/home/anna/img/10_cat": tags, "/other/10_cat": {}, "C:\\img\\5_dog\\": {}})
    metadata = {
        "ss_tag_frequency": frequency,
        "ss_datasets": json.dumps(
            [{"tag_frequency": json.loads(frequency), "subsets": [{"image_dir": "a/b"}]}]
        ),
        "ss_dataset_dirs": json.dumps({"img/10_cat": {"n_repeats": 10, "img_count": 8}}),
    }
    stripped = {key: json.loads(text) for key, text in without_paths(metadata).items()}
    folders = {"10_cat": tags, "10_cat_2": {}, "5_dog": {}}
    assert stripped["ss_tag_frequency"] == folders
    assert stripped["ss_datasets"] == [{"tag_frequency": folders, "subsets": [{"image_dir": "b"}]}]
    assert stripped["ss_dataset_dirs"] == {"10_cat": {"n_repeats": 10, "img_count": 8}}


def test_other_letters_stay_as_readable_as_they_were() -> None:
    assert without_paths({"x": '{"a": "/home/ü/ä"}'}) == {"x": '{"a": "ä"}'}
    assert without_paths({"x": '{"a": "/home/u/\\u00e4"}'}) == {"x": '{"a": "\\u00e4"}'}
