"""The recipe in a file of weights: the same text for the same training, and the TOML that repeats it."""

from typing import Any

import msgspec
import pytest

from contract.errors import SettingsInvalid
from contract.methods.train import TrainSettings
from contract.methods.train_file import train_file
from contract.methods.training.recipe import (
    MAX_PICTURES,
    TrainRecipe,
    UsedFile,
    UsedPicture,
    UsedPictures,
    WantedFile,
    as_training_table,
    caption_digest,
    decode_recipe,
    encode_recipe,
    used_pictures,
    wanted_files,
    without_places,
)

_HASH = "4c" * 32
_USED: dict[Any, UsedFile] = {
    "model.base": UsedFile(name="base.safetensors", sha256=_HASH),
    "model.vae": UsedFile(name="vae", sha256="ab" * 32, is_folder=True),
    "network.start_from": UsedFile(name="first.safetensors", sha256="cd" * 32),
}
_SETTINGS = msgspec.convert(
    {
        "model": {"base": {"path": "/home/ann/base.safetensors"}, "vae": {"path": "/home/ann/vae"}},
        "network": {"type": "locon", "rank": 4, "start_from": {"path": "/home/ann/first.safetensors"}},
        "training": {"steps": 100},
        "subsets": [{"name": "10_cat", "prefix": "a cat, "}],
        "optimizer": {"type": "lion", "rates": {"te1": 1e-5}},
    },
    TrainSettings,
)


def _pictures(count: int = 3) -> UsedPictures:
    each = [UsedPicture(f"{number:064x}", 0, 10, caption_digest(f"cat {number}")) for number in range(count)]
    return used_pictures(["10_cat"], each)


def _recipe(**changed: Any) -> TrainRecipe:
    known: dict[str, Any] = {
        "name": "ink",
        "settings": without_places(_SETTINGS, _USED),
        "base": _USED["model.base"],
        "vae": _USED["model.vae"],
        "start_from": _USED["network.start_from"],
        "pictures": _pictures(),
        "steps": 100,
        "epochs": 4,
        "compute": "fp32",
        "device": "cpu",
        "versions": {"lorakeet": "0.1.0"},
    }
    return TrainRecipe(**(known | changed))


def test_a_recipe_comes_back_as_it_was() -> None:
    text = encode_recipe(_recipe())
    found = decode_recipe(text, "ink.safetensors")
    assert found == _recipe()
    assert encode_recipe(found) == text
    assert text.startswith('{"base":')
    assert msgspec.json.decode(text)["kind"] == "train"


def test_it_has_names_and_hashes_in_place_of_paths() -> None:
    text = encode_recipe(_recipe())
    assert "/home" not in text
    settings = _recipe().settings
    assert (settings.model.base.path, settings.model.base.sha256) == ("base.safetensors", _HASH)
    assert settings.model.vae is not None
    # A job could not check the hash of a folder.
    assert (settings.model.vae.path, settings.model.vae.sha256) == ("vae", None)


def test_the_table_repeats_every_setting_with_the_files_where_they_are() -> None:
    files: Any = {
        "model.base": "/b/base.safetensors",
        "model.vae": "/b/vae",
        "network.start_from": "/b/first.safetensors",
    }
    found = train_file(as_training_table(_recipe(), files=files, folders=["/b/cats"]))
    assert found.source is not None
    assert found.source.folders == ["/b/cats"]
    assert found.output is not None
    assert found.output.name == "ink"
    assert found.settings.model.base.path == "/b/base.safetensors"
    assert found.settings.model.base.sha256 == _HASH
    assert without_places(found.settings, _USED) == _recipe().settings


def test_a_file_that_was_not_found_keeps_its_name_and_hash() -> None:
    table = as_training_table(_recipe())
    assert table["model"]["base"] == {"path": "base.safetensors", "sha256": _HASH}
    assert "source" not in table


def test_what_is_wanted_is_named_with_its_field() -> None:
    assert wanted_files(_recipe(vae=None)) == [
        WantedFile("model.base", "base.safetensors", _HASH, is_folder=False),
        WantedFile("network.start_from", "first.safetensors", "cd" * 32, is_folder=False),
    ]


def test_a_name_that_is_none_for_a_file_of_settings_is_left_out() -> None:
    assert "output" not in as_training_table(_recipe(name="a:b"))


def test_of_many_pictures_the_digest_is_kept_alone() -> None:
    assert _pictures(MAX_PICTURES).each is not None
    many = _pictures(MAX_PICTURES + 1)
    assert (many.count, many.each) == (MAX_PICTURES + 1, None)
    assert len(encode_recipe(_recipe(pictures=many))) < 5000
    assert len(encode_recipe(_recipe(pictures=_pictures(MAX_PICTURES)))) < 250_000


@pytest.mark.parametrize("changed", ["sha256", "subset", "repeats", "caption"])
def test_the_digest_is_another_where_anything_of_a_picture_is(changed: str) -> None:
    picture = UsedPicture("0" * 64, 0, 1, caption_digest("a"))
    other = msgspec.structs.replace(
        picture, **{changed: {"sha256": "1" * 64, "caption": caption_digest("b")}.get(changed, 2)}
    )
    assert used_pictures(["a"], [picture]).digest != used_pictures(["a"], [other]).digest


def test_the_order_of_pictures_counts() -> None:
    first, second = UsedPicture("0" * 64, 0, 1, "a"), UsedPicture("1" * 64, 0, 1, "a")
    assert used_pictures([], [first, second]).digest != used_pictures([], [second, first]).digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type": "loras", "loras": []}', "the recipe of a merge"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"kind": "train"}', "cannot be read"),
        ('{"kind": "other"}', "cannot be read"),
        ('{"kind": "train", "format": 99}', "newer version"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_is_no_recipe_of_a_training_is_refused_by_the_name_of_its_file(text: str, says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says) as caught:
        decode_recipe(text, "ink.safetensors")
    assert caught.value.where == "ink.safetensors"


def test_fields_of_later_versions_are_no_hindrance() -> None:
    value = msgspec.json.decode(encode_recipe(_recipe())) | {"more": 1}
    assert decode_recipe(msgspec.json.encode(value).decode(), "a") == _recipe()
