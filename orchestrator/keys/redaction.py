"""Secrets taken out of what is written down: as they are, and in the disguises in which they get about."""

import base64
import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

#: What stands in a secret's place.
MARK: Final = "***"
#: Characters; what is shorter stands in innocent text as well, and is too short to be a key.
MIN_LENGTH: Final = 6


class Redactor:
    """Knows secrets and takes them out of text. What it has learned it keeps: a log may still have it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: set[str] = set()
        self._text: re.Pattern[str] | None = None
        self._data: re.Pattern[bytes] | None = None
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Take these out too, from now on."""
        self._forms.update(form for secret in secrets if len(secret) >= MIN_LENGTH for form in _forms(secret))
        if self._forms:
            # The longest first, so that nothing is left over of it.
            pattern = "|".join(re.escape(form) for form in sorted(self._forms, key=len, reverse=True))
            self._text, self._data = re.compile(pattern), re.compile(pattern.encode())

    def text(self, text: str) -> str:
        """`text` without secrets."""
        return text if self._text is None else self._text.sub(MARK, text)

    def tree(self, value: Any) -> Any:
        """A document of plain JSON types without secrets in any of its texts, names of fields included."""
        match value:
            case str():
                return self.text(value)
            case list() | tuple():
                return [self.tree(each) for each in value]
            case dict():
                return {self.tree(name): self.tree(each) for name, each in value.items()}
        return value

    def data(self, data: bytes) -> bytes:
        """`data` without secrets. Pass whole lines: one that the end of `data` cuts in two is not seen."""
        return data if self._data is None else self._data.sub(MARK.encode(), data)


class RedactingFilter(logging.Filter):
    """Takes secrets out of log records, tracebacks included, before any handler formats them."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: the record goes on, without secrets."""
        record.msg, record.args = self._redactor.text(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._redactor.text(record.exc_text)
        return True


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield from _in_base64(secret.encode())


def _in_base64(raw: bytes) -> Iterator[str]:
    """What of base64 is the same whatever stands before and after the secret, at each of three offsets."""
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        first = -(-offset * 8 // 6)
        last = (offset + len(raw)) * 8 // 6
        inner = encoded[first:last].decode()
        yield inner
        yield inner.replace("+", "-").replace("/", "_")
