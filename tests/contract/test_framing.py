"""Lines out of chunks."""

import random
import tracemalloc

import pytest

from contract.framing import TOO_LONG, LineSplitter, Skipped


def _lines(data: bytes, *, limit: int, sizes: list[int] | None = None) -> list[bytes | Skipped]:
    """What comes out of `data`, cut into pieces of `sizes` in turn."""
    splitter, found, at = LineSplitter(limit), [], 0
    sizes = sizes or [len(data) or 1]
    turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += list(splitter.feed(data[at : at + size]))
        at, turn = at + size, turn + 1
    return found


def test_any_chunking_gives_the_same_lines() -> None:
    chance = random.Random(7)
    for _ in range(500):
        data = bytes(chance.choices(b"ab\n", weights=(5, 5, 2), k=200))
        limit = chance.randint(0, 12)
        sizes = [chance.randint(1, 20) for _ in range(chance.randint(1, 6))]
        whole = [line if len(line) <= limit else TOO_LONG for line in data.split(b"\n")[:-1]]
        assert _lines(data, limit=limit, sizes=sizes) == whole


def test_a_line_ends_at_its_newline_only() -> None:
    assert _lines(b"a\r\nb\x0bc\x85\xe2\x80\xa8d\n\n\0\n", limit=99) == [
        b"a\r",
        b"b\x0bc\x85\xe2\x80\xa8d",
        b"",
        b"\0",
    ]


def test_an_unfinished_line_waits() -> None:
    splitter = LineSplitter(9)
    assert list(splitter.feed(b"ab")) == []
    assert list(splitter.feed(b"")) == []
    assert list(splitter.feed(b"c\nd")) == [b"abc"]
    assert list(splitter.feed(b"\n")) == [b"d"]


@pytest.mark.parametrize(("length", "fits"), [(9, True), (10, True), (11, False)])
def test_the_limit_itself_is_allowed(length: int, fits: bool) -> None:
    line = b"x" * length
    assert _lines(line + b"\n", limit=10) == [line if fits else TOO_LONG]


def test_the_line_behind_one_that_is_too_long_is_whole() -> None:
    for sizes in ([1], [5], [1000]):
        assert _lines(b"x" * 50 + b"\nok\n" + b"y" * 11 + b"\n", limit=10, sizes=sizes) == [
            TOO_LONG,
            b"ok",
            TOO_LONG,
        ]


def test_a_line_that_is_too_long_is_reported_once_and_costs_no_memory() -> None:
    splitter, chunk, limit = LineSplitter(1 << 20), b"x" * (1 << 16), 1 << 21
    tracemalloc.start()
    try:
        for _ in range(1024):  # 64 MiB
            assert list(splitter.feed(chunk)) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit
    assert list(splitter.feed(b"\nok\n")) == [TOO_LONG, b"ok"]


def test_the_limit_may_change_between_two_lines() -> None:
    splitter = LineSplitter(3)
    found = []
    for line in splitter.feed(b"abc\nabcd\nabcd\n"):
        found.append(line)
        splitter.max_bytes = len(found) + 2
    assert found == [b"abc", TOO_LONG, b"abcd"]
