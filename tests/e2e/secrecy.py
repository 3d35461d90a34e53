"""Secrets looked for in bytes, as they are and in the disguises in which they get about."""

import base64
import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus


def found(secrets: Mapping[str, str], data: bytes) -> list[str]:
    """The names of those that are in `data`."""
    return [name for name, secret in secrets.items() if any(each in data for each in _forms(secret))]


def _forms(secret: str) -> Iterator[bytes]:
    quoted = (quote(secret), quote(secret, safe=""), quote_plus(secret))
    # As JSON inside of JSON, too: a document that is logged within a line of JSON.
    escaped = json.dumps(secret)[1:-1]
    for text in (secret, *quoted, escaped, json.dumps(escaped)[1:-1], repr(secret)[1:-1]):
        yield text.encode()
    yield secret.encode().hex().encode()
    yield from _in_base64(secret.encode())


def _in_base64(secret: bytes) -> Iterator[bytes]:
    """What of it is the same whatever stands around it, for each of three places that it can begin at."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret + b"\0" * 2)
        inner = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")
