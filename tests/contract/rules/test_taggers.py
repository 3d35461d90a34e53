"""What people write when they name a tagger."""

import pytest

from contract.methods.tag import TaggerModel
from contract.rules.taggers import SHORT_NAMES, model_reference


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("wd14-vit-v2", {"repo": "SmilingWolf/wd-v1-4-vit-tagger-v2"}),
        ("SmilingWolf/wd-vit-tagger-v3", {"repo": "SmilingWolf/wd-vit-tagger-v3"}),
        ("owner/name@v1.0", {"repo": "owner/name", "revision": "v1.0"}),
        ("owner/name@refs/pr/1", {"repo": "owner/name", "revision": "refs/pr/1"}),
        ("owner/name@", {"repo": "owner/name"}),
        ("/taggers/demo", {"path": "/taggers/demo"}),
        ("/taggers/a@b", {"path": "/taggers/a@b"}),
        ("C:\\taggers\\demo", {"path": "C:\\taggers\\demo"}),
        ("c:/taggers/demo", {"path": "c:/taggers/demo"}),
        ("\\\\server\\taggers", {"path": "\\\\server\\taggers"}),
    ],
)
def test_a_name_a_repository_or_a_folder(text: str, fields: dict[str, str]) -> None:
    assert model_reference(text) == fields
    TaggerModel(**fields)


@pytest.mark.parametrize("text", ["", "wd15", "owner/", "/".join("abc"), "a\\b", "owner/a\\b", "@main"])
def test_what_is_none_of_these_is_refused_with_the_names_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="wd-vit-v3"):
        model_reference(text)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_every_short_name_is_a_repository(name: str) -> None:
    owner, slash, repository = SHORT_NAMES[name].partition("/")
    assert owner and slash and repository and "/" not in name
