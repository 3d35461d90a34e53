"""When two requests are the same job."""

import msgspec
import pytest

from contract.rules.identity import params_digest

PARAMS = b'{"job_id":"a","v":2,"inputs":{"images":["/a","/b"]},"settings":{"x":0.35}}'


@pytest.mark.parametrize(
    "same",
    [
        b'{"settings":{"x":0.35},"inputs":{"images":["/a","/b"]},"v":2,"job_id":"a"}',
        b' { "job_id" : "\\u0061", "v":2,\t"inputs":{"images":["/a","/b"]},"settings":{"x":0.350}} ',
        PARAMS[:-1] + b',"attempt":1}',
        PARAMS[:-1] + b',"attempt":7}',
    ],
)
def test_order_spacing_spelling_and_attempt_make_no_difference(same: bytes) -> None:
    assert params_digest(same) == params_digest(PARAMS)


@pytest.mark.parametrize(
    "other",
    [
        b"{}",
        PARAMS.replace(b'"a",', b'"b",'),
        PARAMS.replace(b'["/a","/b"]', b'["/b","/a"]'),
        PARAMS.replace(b"0.35", b"0.36"),
        PARAMS.replace(b'"v":2', b'"v":"2"'),
        PARAMS[:-1] + b',"more":null}',
        PARAMS.replace(b'{"x"', b'{"attempt":2,"x"'),
    ],
)
def test_anything_else_does(other: bytes) -> None:
    assert params_digest(other) != params_digest(PARAMS)


def test_a_digest_is_lower_case_hex_of_sha256() -> None:
    assert params_digest(b"{}") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_what_is_not_json_has_none() -> None:
    with pytest.raises(msgspec.DecodeError):
        params_digest(b"{")
