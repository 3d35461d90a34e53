"""Payload versions: peeked at, decoded, climbed; results on their way down."""

from typing import Any, Literal

import msgspec
import pytest

from contract.base import Params
from contract.errors import InvalidParams, VersionUnsupported
from contract.methods.tag import TagParams
from contract.methods.tag_v1 import TagParamsV1, upgrade_1_to_2
from contract.validation import Contradiction, decode
from contract.versions import Payload


class First(msgspec.Struct, frozen=True, kw_only=True):
    words: str
    v: Any = 1


class Second(msgspec.Struct, frozen=True, kw_only=True):
    words: list[str]
    v: Literal[2]


class Third(Params, frozen=True, kw_only=True):
    words: list[str]
    limit: int
    v: Literal[3]


def _up_1(old: First) -> Second:
    if "!" in old.words:
        raise Contradiction(("words", "no shouting"))
    return Second(words=old.words.split(), v=2)


def _up_2(old: Second) -> Third:
    return Third(words=old.words, limit=len(old.words), v=3)


PAYLOAD = Payload(
    Third,
    older={1: First, 2: Second},
    upgrades={1: _up_1, 2: _up_2},
    # Version 2 calls it by another name than 3; 1 knows a text only.
    downgrades={2: lambda result: {"count": result["total"]}, 1: lambda result: str(result["count"])},
)


def test_the_versions_are_known_oldest_first() -> None:
    assert (PAYLOAD.versions, PAYLOAD.version, PAYLOAD.newest) == ([1, 2, 3], 3, Third)


def test_the_first_version_need_not_be_1() -> None:
    payload = Payload(Third, first=3)
    assert (payload.versions, payload.version) == ([3], 3)
    raw = b'{"v": 3, "words": ["a"], "limit": 1}'
    assert payload.decode(raw) == (Third(words=["a"], limit=1, v=3), 3)
    for unknown in (b"{}", b'{"v": 2}'):
        with pytest.raises(VersionUnsupported) as caught:
            payload.decode(unknown)
        assert caught.value.supported == [3]


@pytest.mark.parametrize(
    ("raw", "version"),
    [
        (b'{"words": "a b"}', 1),
        (b'{"words": "a b", "v": 1}', 1),
        (b'{"v": 2, "words": ["a", "b"]}', 2),
        (b'{"words": ["a", "b"], "limit": 2, "v": 3}', 3),
    ],
)
def test_every_version_climbs_to_the_newest(raw: bytes, version: int) -> None:
    assert PAYLOAD.decode(raw) == (Third(words=["a", "b"], limit=2, v=3), version)


@pytest.mark.parametrize(
    "version", ["4", "0", "-1", "true", "false", "null", '"2"', "2.0", "[1]", "{}", "99999999999999999999"]
)
def test_another_version_is_refused_by_number_and_place(version: str) -> None:
    with pytest.raises(VersionUnsupported) as caught:
        PAYLOAD.decode(f'{{"v": {version}, "words": 5}}'.encode())
    assert caught.value.to_wire().data.supported == [1, 2, 3]
    assert caught.value.where == "$.params.v"


def test_a_payload_is_held_against_its_own_version() -> None:
    with pytest.raises(InvalidParams) as caught:
        PAYLOAD.decode(b'{"v": 2, "words": "a b"}')
    assert caught.value.where == "$.params.words"


def test_params_without_a_version_are_told_as_what_they_were_read() -> None:
    payload = Payload(TagParams, older={1: TagParamsV1}, upgrades={1: upgrade_1_to_2})
    with pytest.raises(InvalidParams) as caught:
        payload.decode(b'{"job_id": "a", "inputs": {}, "settings": {}}')
    assert "version 1" in str(caught.value.hint) and "`v: 2`" in str(caught.value.hint)


def test_an_upgrade_may_refuse() -> None:
    with pytest.raises(InvalidParams, match="no shouting"):
        PAYLOAD.decode(b'{"words": "a!"}')


def test_an_upgrade_that_refuses_a_field_names_it() -> None:
    payload = Payload(TagParams, older={1: TagParamsV1}, upgrades={1: upgrade_1_to_2})
    with pytest.raises(InvalidParams) as caught:
        payload.decode(b'{"job_id": "a", "images": ["/a.jpg"], "model": "wd15"}')
    assert caught.value.where == "$.params.model"


def test_a_result_goes_down_to_the_version_that_was_asked() -> None:
    result = {"total": 2}
    assert [PAYLOAD.result_for(version, result) for version in (3, 2, 1)] == [{"total": 2}, {"count": 2}, "2"]


def test_where_nothing_differs_a_result_stays_as_it_is() -> None:
    payload = Payload(Third, older={1: First, 2: Second})
    assert payload.result_for(1, result := object()) is result


def test_a_payload_without_versions_has_none_to_refuse() -> None:
    class Plain(Params, frozen=True, kw_only=True):
        a: int

    payload = Payload(Plain)
    assert payload.decode(b'{"a": 1}') == (Plain(a=1), 1)
    with pytest.raises(InvalidParams):
        payload.decode(b'{"a": 1, "v": 1}')


OLD = {
    "job_id": "job_1",
    "images": ["/a.jpg", "/b.jpg"],
    "attempt": 2,
    "model": "wd14-vit-v2",
    "blacklist_tags": " solo,, simple background ,",
    "remove_underscore": False,
}


def test_version_1_of_tag_keeps_the_defaults_of_its_time() -> None:
    new = upgrade_1_to_2(decode({"job_id": "job_1", "images": ["/a.jpg"]}, TagParamsV1))
    assert isinstance(new, TagParams)
    settings = new.settings
    assert (settings.general_threshold, settings.character_threshold) == (0.35, 0.35)
    assert (settings.batch_size, settings.remove_underscores, settings.exclude) == (4, True, [])
    assert settings.model.repo == "SmilingWolf/wd-v1-4-vit-tagger-v2"


def test_version_1_of_tag_says_the_same_in_other_words() -> None:
    new = upgrade_1_to_2(decode(OLD, TagParamsV1))
    assert (new.job_id, new.attempt, new.v, new.inputs.images) == ("job_1", 2, 2, ["/a.jpg", "/b.jpg"])
    assert new.settings.exclude == ["solo", "simple background"]
    assert new.settings.remove_underscores is False
    assert decode(msgspec.to_builtins(new), TagParams) == new


def test_a_name_that_version_1_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="no known tagger"):
        upgrade_1_to_2(decode(OLD | {"model": "wd15"}, TagParamsV1))
