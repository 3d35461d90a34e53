"""A secret that lets somebody in: how it is made, what of it is kept, and how it is compared."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final, TypeVar

from contract.errors import SettingsInvalid

#: Every secret of ours begins so, for log filters and for people who find one.
PREFIX: Final = "lk_"
#: Characters that a token from outside must have.
MIN_TOKEN: Final = 24
_BYTES: Final = 32

T = TypeVar("T")


def new_secret() -> str:
    """256 bits of chance, as text that stands in headers, links and cookies as it is."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def digest(secret: str) -> bytes:
    """What is kept of a secret. Without salt, as nobody guesses 256 bits from their hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def match(wanted: bytes, known: Iterable[tuple[bytes, T]]) -> T | None:
    """What belongs to the digest `wanted`. Every one is looked at, so that the time tells nothing."""
    found = None
    for each, value in known:
        if hmac.compare_digest(each, wanted):
            found = value
    return found


def checked_token(token: str) -> str:
    """`token`, where it may be one. Raises SettingsInvalid."""
    if len(token) < MIN_TOKEN:
        raise SettingsInvalid(
            f"The token has {len(token)} characters; it must have {MIN_TOKEN} at least.",
            where="LORAKEET_TOKEN",
            hint='`python3 -c "import secrets; print(secrets.token_urlsafe(32))"` makes a good one.',
        )
    if not all("!" <= character <= "~" for character in token):
        raise SettingsInvalid(
            "The token has characters that no header can carry: use letters, digits and signs, no blanks.",
            where="LORAKEET_TOKEN",
        )
    return token
