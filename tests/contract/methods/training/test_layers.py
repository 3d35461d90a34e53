"""Layers: what is said above wins, and what it makes meaningless below goes."""

from typing import Any

import pytest

from contract.methods.train import TrainSettings
from contract.methods.training.layers import layered


def _layered(*layers: dict[str, Any]) -> dict[str, Any]:
    return layered(TrainSettings, *layers)


def test_tables_are_laid_over_each_other_field_by_field() -> None:
    below = {"data": {"flip": True, "captions": {"shuffle": True, "keep_tokens": 1}}}
    above = {"data": {"captions": {"keep_tokens": 2}}, "logging": {"every_steps": 5}}
    assert _layered(below, above) == {
        "data": {"flip": True, "captions": {"shuffle": True, "keep_tokens": 2}},
        "logging": {"every_steps": 5},
    }


def test_nothing_that_is_given_is_changed() -> None:
    below: dict[str, Any] = {"data": {"captions": {"shuffle": True}}}
    _layered(below, {"data": {"captions": {"shuffle": False}}})
    assert below == {"data": {"captions": {"shuffle": True}}}


def test_lists_replace_lists() -> None:
    below = {"subsets": [{"name": "a"}, {"name": "b"}], "network": {"include": ["x"]}}
    above = {"subsets": [{"name": "c"}], "network": {"include": []}}
    assert _layered(below, above) == {
        "subsets": [{"name": "c"}],
        "network": {"type": "lora", "include": []},
    }


def test_what_is_not_said_to_be_chosen_is_the_default() -> None:
    assert _layered({"optimizer": {"eps": 1e-6}, "objective": {"loss": {}}}) == {
        "optimizer": {"type": "adamw", "eps": 1e-6},
        "objective": {"loss": {"type": "l2"}},
    }


def test_another_choice_takes_nothing_from_the_one_below() -> None:
    below = {"optimizer": {"type": "adamw", "learning_rate": 2e-4, "weight_decay": 0.1}}
    above = {"optimizer": {"type": "prodigy"}}
    assert _layered(below, above) == {"optimizer": {"type": "prodigy"}}


def test_another_choice_takes_nothing_from_the_default_below_either() -> None:
    above = {"optimizer": {"type": "lion"}}
    assert _layered({"optimizer": {"learning_rate": 2e-4}}, above) == {"optimizer": {"type": "lion"}}


def test_the_same_choice_keeps_what_is_below() -> None:
    below = {"schedule": {"type": "linear", "end": 0.1}}
    for above in ({"type": "linear", "warmup_steps": 5}, {"warmup_steps": 5}):
        assert _layered(below, {"schedule": above}) == {
            "schedule": {"type": "linear", "end": 0.1, "warmup_steps": 5}
        }


@pytest.mark.parametrize(
    ("table", "below", "above", "whole"),
    [
        ("training", {"epochs": 10, "seed": 1}, {"steps": 500}, {"steps": 500, "seed": 1}),
        ("training", {"steps": 500}, {"epochs": 10}, {"epochs": 10}),
        ("sampling", {"prompts": ["a"], "seed": 1}, {"file": "/p.txt"}, {"file": "/p.txt", "seed": 1}),
    ],
)
def test_one_way_to_say_a_thing_takes_the_place_of_the_other(
    table: str, below: dict[str, Any], above: dict[str, Any], whole: dict[str, Any]
) -> None:
    assert _layered({table: below}, {table: above}) == {table: whole}


def test_both_ways_in_one_layer_stay_to_be_refused() -> None:
    both = {"training": {"epochs": 1, "steps": 1}}
    assert _layered({"training": {"epochs": 2}}, both) == both


def test_a_warm_up_of_one_kind_takes_the_place_of_the_other_in_every_schedule() -> None:
    below = {"schedule": {"type": "polynomial", "warmup_share": 0.1}}
    above = {"schedule": {"warmup_steps": 0}}
    assert _layered(below, above) == {"schedule": {"type": "polynomial", "warmup_steps": 0}}


def test_the_hash_of_a_file_goes_with_it() -> None:
    below = {"model": {"prediction": "v", "base": {"path": "/a", "sha256": "0" * 64}}}
    another, same = ({"model": {"base": {"path": path}}} for path in ("/b", "/a"))
    assert _layered(below, another) == {"model": {"prediction": "v", "base": {"path": "/b"}}}
    assert _layered(below, same) == below


def test_a_file_by_its_path_alone_takes_the_place_of_a_table() -> None:
    below = {"model": {"base": {"path": "/a", "sha256": "0" * 64}}}
    assert _layered(below, {"model": {"base": "/b"}}) == {"model": {"base": "/b"}}


def test_arguments_go_with_the_class_they_were_for() -> None:
    below = {"optimizer": {"type": "custom", "import_name": "a.B", "arguments": {"k": 1, "l": 2}}}
    assert _layered(below, {"optimizer": {"import_name": "a.C"}}) == {
        "optimizer": {"type": "custom", "import_name": "a.C"}
    }
    assert _layered(below, {"optimizer": {"arguments": {"l": 3}}})["optimizer"]["arguments"] == {
        "k": 1,
        "l": 3,
    }


def test_what_is_meant_for_nothing_stays_to_be_refused() -> None:
    strange = {"nothing": {"a": 1}, "data": 5, "optimizer": {"type": "none", "x": 1}, "schedule": []}
    assert _layered({"data": {"flip": True}, "optimizer": {"type": "lion"}}, strange) == strange


def test_no_layer_is_nothing() -> None:
    assert _layered() == {}
