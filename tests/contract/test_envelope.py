"""Lines taken apart: what is a request, what is not, and with which code and id it is answered."""

import json
import random
from typing import Any

import msgspec
import pytest

from contract.envelope import Malformed, Notification, Success, decode_incoming, decode_request, encode

GOOD = b'{"jsonrpc":"2.0","id":7,"method":"tag","params":{"job_id":"a"}}'


def _refusal(line: bytes) -> tuple[int, Any, str | None]:
    with pytest.raises(Malformed) as caught:
        decode_request(line)
    return caught.value.error.code, caught.value.id, caught.value.error.where


def test_params_stay_raw() -> None:
    request = decode_request(GOOD)
    assert (request.method, request.id, bytes(request.params)) == ("tag", 7, b'{"job_id":"a"}')
    assert request.id is not msgspec.UNSET


@pytest.mark.parametrize("given", [0, -1, 2**63, "", "a", None])
def test_an_id_is_a_whole_number_a_text_or_null(given: int | str | None) -> None:
    request = decode_request(json.dumps({"jsonrpc": "2.0", "id": given, "method": "ping"}).encode())
    assert request.id == given


def test_without_an_id_it_is_a_notification_and_without_params_they_are_empty() -> None:
    request = decode_request(b'{"jsonrpc":"2.0","method":"exit"}')
    assert request.id is msgspec.UNSET
    assert bytes(request.params) == b"{}"


def test_members_that_are_not_of_the_envelope_are_ignored() -> None:
    assert decode_request(b'{"jsonrpc":"2.0","id":1,"method":"ping","extra":[1]}\r').id == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", (-32700, None, None)),
        (b"hello", (-32700, None, None)),
        (GOOD[:-1], (-32700, None, None)),
        (GOOD + b" x", (-32700, None, None)),
        (b"\xef\xbb\xbf" + GOOD, (-32700, None, None)),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', (-32700, None, None)),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":NaN}}', (-32700, None, None)),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + b"[" * 100_000, (-32700, None, None)),
        (b"[" + GOOD + b"]", (-32600, None, None)),
        (b"[]", (-32600, None, None)),
        (b"null", (-32600, None, None)),
        (b'"ping"', (-32600, None, None)),
        (b"{}", (-32600, None, "$.method")),
        (b'{"jsonrpc":"2.0","id":7}', (-32600, 7, "$.method")),
        (b'{"jsonrpc":"2.0","id":"a","method":null}', (-32600, "a", "$.method")),
        (b'{"jsonrpc":"2.0","id":7,"result":1}', (-32600, 7, "$.method")),
        (b'{"id":7,"method":"ping"}', (-32600, 7, "$.jsonrpc")),
        (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', (-32600, 7, "$.jsonrpc")),
        (b'{"jsonrpc":"1.0","method":"ping"}', (-32600, None, "$.jsonrpc")),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', (-32600, None, "$.id")),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', (-32600, None, "$.id")),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', (-32600, None, "$.id")),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}', (-32600, 7, "$.params")),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":null}', (-32600, 7, "$.params")),
        (b'{"jsonrpc":"2.0","method":"ping","params":"a"}', (-32600, None, "$.params")),
    ],
)
def test_every_malformed_line_has_its_code_its_id_and_its_place(
    line: bytes, expected: tuple[int, Any, str | None]
) -> None:
    assert _refusal(line) == expected


#: Lines that are wrong in a value, and broken behind it.
BROKEN_BEHIND_A_WRONG_VALUE = [
    b'{"method":5,',
    b"[1,2",
    b'{"id":[],"method":"\xff"}',
    b'{"method":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"method":5,"x":1e999}',
]


@pytest.mark.parametrize("line", BROKEN_BEHIND_A_WRONG_VALUE, ids=range(len(BROKEN_BEHIND_A_WRONG_VALUE)))
def test_a_line_that_is_wrong_first_and_broken_behind_is_not_json(line: bytes) -> None:
    assert _refusal(line) == (-32700, None, None)


def test_a_wrong_jsonrpc_is_named_whatever_its_type() -> None:
    assert _refusal(b'{"jsonrpc":2,"id":7,"method":"ping"}') == (-32600, 7, "$.jsonrpc")


def test_no_line_of_any_bytes_raises_anything_but_malformed() -> None:
    chance = random.Random(20261120)
    for _ in range(20_000):
        line = _mangled(chance, GOOD)
        try:
            request = decode_request(line)
        except Malformed as malformed:
            assert malformed.error.code in (-32700, -32600)
            assert encode(malformed.error.to_wire())
        else:
            assert bytes(request.params)[:1] == b"{"
            assert request.jsonrpc == "2.0"


def _mangled(chance: random.Random, line: bytes) -> bytes:
    """`line` with a few bytes taken out, put in or replaced, most of them such as JSON is made of."""
    data = bytearray(line)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        piece = bytes(chance.choices(b'{}[]:,"\\0123ea\xff\n ', k=chance.randint(0, 3)))
        data[at : at + chance.randint(0, 3)] = piece
    return bytes(data)


def test_what_is_encoded_is_one_line() -> None:
    line = encode(Success(id=1, result={"text": "two\nlines"}))
    assert line == b'{"jsonrpc":"2.0","id":1,"result":{"text":"two\\nlines"}}\n'


def test_a_host_reads_responses_and_notifications() -> None:
    response = decode_incoming(encode(Success(id=1, result=[None])))
    assert response.id == 1
    assert response.method is msgspec.UNSET
    assert isinstance(response.result, msgspec.Raw)
    assert bytes(response.result) == b"[null]"
    said = decode_incoming(encode(Notification(method="log", params={"a": 1})))
    assert said.id is msgspec.UNSET
    assert said.method == "log"
    assert isinstance(said.params, msgspec.Raw)
    assert bytes(said.params) == b'{"a":1}'


@pytest.mark.parametrize(("line", "code"), [(b"Loading model...", -32700), (b"[]", -32600), (b"{}", -32600)])
def test_a_host_is_told_of_a_line_that_is_no_message(line: bytes, code: int) -> None:
    with pytest.raises(Malformed) as caught:
        decode_incoming(line)
    assert caught.value.error.code == code
