"""How secrets are made, kept and compared."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from contract.errors import SettingsInvalid
from orchestrator.access.secret import MIN_TOKEN, checked_token, digest, match, new_secret


def test_a_secret_is_256_bits_that_need_no_quoting() -> None:
    assert re.fullmatch(r"lk_[A-Za-z0-9_-]{43}", new_secret())
    assert len({new_secret() for _ in range(1_000)}) == 1_000


def test_what_is_kept_of_a_secret_does_not_contain_it() -> None:
    assert len(digest("lk_secret")) == 32
    assert digest("lk_secret") != digest("lk_secreT")


@settings(deadline=None)
@given(st.text())
def test_every_text_has_a_digest(text: str) -> None:
    assert len(digest(text)) == 32


@settings(deadline=None)
@given(st.text())
def test_no_other_text_matches(text: str) -> None:
    secret = new_secret()
    assume(text != secret)
    assert match(digest(text), [(digest(secret), "in")]) is None
    assert match(digest(secret), [(digest(secret), "in"), (digest(text), "other")]) == "in"


def test_all_that_is_known_is_looked_at_wherever_the_right_one_stands() -> None:
    looked_at = []
    secrets = [new_secret() for _ in range(5)]

    def known() -> object:
        for each in secrets:
            looked_at.append(each)
            yield digest(each), each

    assert match(digest(secrets[0]), known()) == secrets[0]  # type: ignore[arg-type]
    assert looked_at == secrets


@pytest.mark.parametrize(
    "token", ["", "short", "x" * (MIN_TOKEN - 1), "x" * 30 + " ", "ü" * 30, "x" * 30 + "\n"]
)
def test_a_token_from_outside_that_is_weak_or_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        checked_token(token)
    assert refused.value.where == "LORAKEET_TOKEN"
    assert not token or token not in str(refused.value)


def test_a_token_from_outside_needs_no_form_of_ours() -> None:
    assert checked_token("x" * MIN_TOKEN) == "x" * MIN_TOKEN
    assert checked_token(new_secret())
