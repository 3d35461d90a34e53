"""What metadata says of a training, and what it may say instead."""

import json

import pytest

from kernel.engines.inspection.training import damaged, decoded, tags, triggers

_FREQUENCY = {
    "10_ohwx woman": {"ohwx": 20, " 1girl": 19, "smile": 4},
    "5_style": {"ohwx": 20, "1girl": 20, "tree": 7},
}
_DIRS = {"10_ohwx woman": {"n_repeats": 10, "img_count": 20}, "5_style": {"n_repeats": 5, "img_count": 20}}


def _metadata(**more: str) -> dict[str, str]:
    return {"ss_tag_frequency": json.dumps(_FREQUENCY), "ss_dataset_dirs": json.dumps(_DIRS)} | more


def _words(metadata: dict[str, str]) -> dict[str, str]:
    return dict(triggers(metadata, tags(metadata)))


def test_tags_are_summed_over_folders() -> None:
    found = tags(_metadata())
    assert found.counts == {"ohwx": 40, "1girl": 39, "tree": 7, "smile": 4}
    assert found.images == 40


def test_trigger_words_say_where_they_are_from() -> None:
    assert _words(_metadata(**{"modelspec.trigger_phrase": "a photo of ohwx", "ss_output_name": "name"})) == {
        "a photo of ohwx": "modelspec.trigger_phrase",
        "ohwx": "in 100% of the images",
        "1girl": "in 98% of the images",
        "ohwx woman": "name of the image folder",
        "style": "name of the image folder",
    }


def test_the_name_of_the_output_is_the_last_guess() -> None:
    assert _words({"ss_output_name": "my_lora"}) == {"my_lora": "ss_output_name, perhaps"}
    assert _words({"ss_output_name": "None"}) == {}


def test_tags_of_data_sets_count_where_there_are_no_others() -> None:
    datasets = [
        {"tag_frequency": {"a": {"x": 8}}, "subsets": [{"img_count": 8}]},
        {"tag_frequency": {"b": {"x": 2, "y": 9}}, "subsets": [{"img_count": 1}, {"img_count": 1}]},
    ]
    found = tags({"ss_datasets": json.dumps(datasets)})
    assert (found.counts, found.images) == ({"x": 10, "y": 9}, 10)


def test_counts_of_another_kind_than_images_make_no_trigger_word() -> None:
    few = {"a": {"n_repeats": 1, "img_count": 3}}
    assert "x" not in _words(
        {"ss_tag_frequency": json.dumps({"a": {"x": 3}}), "ss_dataset_dirs": json.dumps(few)}
    )
    assert "ohwx" not in _words(_metadata(ss_dataset_dirs=json.dumps({"a": {"img_count": 10}})))


def test_values_are_decoded_from_their_json() -> None:
    metadata = {"ss_datasets": '[{"a": 1}]', "ss_epoch": "10", "ss_x": "None", "other": "{}", "ss_bad": "{1"}
    assert decoded(metadata) == {"ss_datasets": [{"a": 1}], "ss_epoch": "10", "ss_x": "None", "ss_bad": "{1"}
    assert damaged(metadata) == ["ss_bad"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"x"', '{"a": 1}', '{"a": {"x": "y"}}', '{"a": {"x": -1, "y": true}}',
     '{"a": {"x": 1e300}}', "[" * 5000, '{"a": {"x": 99999999999999999999999}}', "\ud800"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["ss_tag_frequency", "ss_dataset_dirs", "ss_datasets"])
def test_nonsense_says_nothing_and_breaks_nothing(key: str, text: str) -> None:
    metadata = {key: text}
    found = tags(metadata)
    assert (found.counts, found.images) == ({}, None)
    assert [word for word in triggers(metadata, found) if word.source != "name of the image folder"] == []
    decoded(metadata)
    damaged(metadata)
