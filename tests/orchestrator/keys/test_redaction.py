import base64
import json
import logging
import urllib.parse

import pytest
from hypothesis import given, settings, strategies

from orchestrator.keys.redaction import MARK, RedactingFilter, Redactor

_SECRET = 'hf_Canary+/%"\\ä7531'


@pytest.mark.parametrize(
    "disguised",
    [
        _SECRET,
        f"Bearer {_SECRET}",
        urllib.parse.quote(_SECRET),
        urllib.parse.quote_plus(_SECRET),
        json.dumps({"key": _SECRET}),
        json.dumps({"key": _SECRET}, ensure_ascii=False),
        repr([_SECRET]),
        base64.b64encode(_SECRET.encode()).decode(),
        base64.urlsafe_b64encode(_SECRET.encode()).decode().rstrip("="),
        base64.b64encode(f"user:{_SECRET}".encode()).decode(),
        base64.b64encode(f"me:{_SECRET}:more".encode()).decode(),
    ],
)
def test_a_secret_is_taken_out_of_every_disguise(disguised: str) -> None:
    redactor = Redactor([_SECRET])
    for clean in (redactor.text(f"a {disguised} b"), redactor.data(f"a {disguised} b".encode()).decode()):
        assert MARK in clean
        assert clean.startswith("a ") and clean.endswith(" b")
        assert "Canary" not in clean and disguised not in clean


@given(
    strategies.text(strategies.characters(codec="ascii"), min_size=8, max_size=40),
    strategies.binary(max_size=9),
    strategies.binary(max_size=9),
)
@settings(max_examples=200, deadline=None)
def test_whatever_stands_around_it_in_base64_a_secret_cannot_be_read(
    secret: str, before: bytes, after: bytes
) -> None:
    whole = base64.b64encode(before + secret.encode() + after).decode()
    assert MARK in Redactor([secret]).text(whole)


def test_in_documents_every_text_is_cleaned_before_it_is_escaped_once_more() -> None:
    quoted = json.dumps(_SECRET)
    document = {"said": [f"no model for {quoted}", 5, None], quoted: {"hint": repr(_SECRET)}}
    assert Redactor([_SECRET]).tree(document) == {
        "said": [f'no model for "{MARK}"', 5, None],
        f'"{MARK}"': {"hint": f"'{MARK}'"},
    }


def test_text_without_secrets_stays_as_it_is() -> None:
    redactor = Redactor([_SECRET])
    assert redactor.text("nothing to hide") == "nothing to hide"
    assert Redactor().text(_SECRET) == _SECRET
    assert Redactor().data(b"\xff\xfe") == b"\xff\xfe" == redactor.data(b"\xff\xfe")


def test_what_is_too_short_to_be_a_secret_is_not_taken_out_of_every_word() -> None:
    assert Redactor(["a", "", "cat"]).text("a cat sat") == "a cat sat"


def test_of_two_secrets_one_inside_the_other_nothing_is_left() -> None:
    assert Redactor(["secret", "secret-and-more"]).text("x secret-and-more y") == f"x {MARK} y"


def test_a_secret_can_be_learned_later_and_is_not_forgotten() -> None:
    redactor = Redactor(["first-one"])
    redactor.learn("second-one")
    assert redactor.text("first-one second-one") == f"{MARK} {MARK}"


def test_log_records_lose_their_secrets_with_arguments_and_tracebacks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.handler.addFilter(hiding := RedactingFilter(Redactor([_SECRET])))
    log = logging.getLogger("lorakeet.test")
    try:
        log.warning("the key is %s", _SECRET)
        try:
            raise ValueError(f"bad header {_SECRET}")
        except ValueError:
            log.exception("it failed")
    finally:
        caplog.handler.removeFilter(hiding)
    assert f"the key is {MARK}" in caplog.text and f"bad header {MARK}" in caplog.text
    assert "Canary" not in caplog.text
