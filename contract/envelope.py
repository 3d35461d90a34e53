"""One JSON-RPC 2.0 object a line: taking the envelope apart without touching what is inside.

`params` stay raw, so that an unknown method or a wrong field is answered with its own
code and the caller's id.
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from contract.errors import InvalidRequest, LorakeetError, ParseError, WireError

#: A line longer than this is refused; both sides may agree on another figure in the handshake.
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024

Id = int | str | None


class Request(msgspec.Struct, kw_only=True):
    """What a host sends. Without `id` it is a notification and is never answered."""

    method: str
    jsonrpc: str = ""
    id: int | str | None | UnsetType = UNSET
    params: Raw = Raw(b"{}")


class Success(msgspec.Struct, kw_only=True):
    """The answer to a request that went well."""

    jsonrpc: str = "2.0"
    id: Id
    result: Any


class Failure(msgspec.Struct, kw_only=True):
    """The answer to a request that did not."""

    jsonrpc: str = "2.0"
    id: Id
    error: WireError


class Notification(msgspec.Struct, kw_only=True):
    """What a kernel says without being asked."""

    jsonrpc: str = "2.0"
    method: str
    params: Any


class Incoming(msgspec.Struct, kw_only=True):
    """Any line that a kernel sends, as a host first sees it."""

    jsonrpc: str
    id: Id | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: WireError | UnsetType = UNSET


class Malformed(Exception):
    """Raised for a line that is no request; carries the error and the id to answer with."""

    def __init__(self, error: LorakeetError, id: Id = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.id = id


_request = msgspec.json.Decoder(Request)
_incoming = msgspec.json.Decoder(Incoming)
_encoder = msgspec.json.Encoder()


def decode_request(line: bytes) -> Request:
    """The request in `line`. Raises Malformed with −32700 or −32600, with the caller's id if there is one."""
    try:
        request = _request.decode(line)
    except msgspec.ValidationError:
        raise _malformed(line) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed(ParseError("The line is not JSON in UTF-8.")) from None
    if request.jsonrpc != "2.0":
        given = None if request.id is UNSET else request.id
        raise Malformed(InvalidRequest('`jsonrpc` must be "2.0".', where="$.jsonrpc"), given)
    if bytes(memoryview(request.params)[:1]) != b"{":
        raise _params_no_object(request)
    return request


def decode_incoming(line: bytes) -> Incoming:
    """The response or notification in `line`. Raises Malformed; a host counts such a line as a kernel bug."""
    try:
        return _incoming.decode(line)
    except msgspec.ValidationError:
        raise Malformed(InvalidRequest("The line is no JSON-RPC message.")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed(ParseError("The line is not JSON in UTF-8.")) from None


def encode(message: Any) -> bytes:
    """`message` as one line, newline included."""
    return _encoder.encode(message) + b"\n"


def _params_no_object(request: Request) -> Malformed:
    given = None if request.id is UNSET else request.id
    return Malformed(InvalidRequest("`params` must be an object.", where="$.params"), given)


def _malformed(line: bytes) -> Malformed:
    """No request: say why, and find the id if it can be trusted. What follows the first wrong value is unread
    so far, and may be no JSON at all."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Malformed(ParseError("The line is not JSON in UTF-8."))
    if isinstance(value, list):
        return Malformed(InvalidRequest("Batches are not accepted; send one object a line."))
    if not isinstance(value, dict):
        return Malformed(InvalidRequest("The line is no JSON object."))
    given = value.get("id")
    trusted = given if isinstance(given, int | str) and not isinstance(given, bool) else None
    if "id" in value and given is not None and trusted is None:
        return Malformed(InvalidRequest("`id` must be a whole number, a string or null.", where="$.id"))
    if not isinstance(value.get("jsonrpc", ""), str):
        return Malformed(InvalidRequest('`jsonrpc` must be "2.0".', where="$.jsonrpc"), trusted)
    return Malformed(InvalidRequest("`method` must be a string.", where="$.method"), trusted)
