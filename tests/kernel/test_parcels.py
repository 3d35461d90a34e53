"""No parcel is larger than agreed, whatever it is made of; nor is any line."""

import json
import os
from typing import Any

from contract.envelope import Success, encode
from contract.errors import OutOfMemory
from contract.methods.job import FailedImage
from contract.notifications import Partial
from kernel.parcels import Parcels, weight
from kernel.writer import Stream, Writer


def failure(index: int) -> FailedImage:
    name = f"/{'ä' * 200}/{index}.png"
    return FailedImage(index=index, image=name, error=OutOfMemory("m" * 300, where=name).to_wire())


def sent(items: list[Any], failed: list[Any], max_bytes: int) -> list[tuple[list[Any], list[Any]]]:
    parcels: list[tuple[list[Any], list[Any]]] = []
    with Parcels(lambda *parcel: parcels.append(parcel), interval_s=60, max_bytes=max_bytes) as collecting:
        collecting.add(items, failed)
    return parcels


def test_failures_are_weighed_like_items() -> None:
    failures = [failure(index) for index in range(500)]
    parcels = sent(["x" * 5000] * 10, failures, 20_000)
    assert [each for _, failed in parcels for each in failed] == failures
    assert len(parcels) > 10
    for items, failed in parcels:
        assert sum(map(weight, [*items, *failed])) <= 20_000


def test_an_item_that_is_too_heavy_travels_alone() -> None:
    assert [items for items, _ in sent(["a", "x" * 900, "b"], [], 500)] == [["a"], ["x" * 900], ["b"]]


def test_what_waits_can_be_sent_before_something_that_belongs_behind_it() -> None:
    parcels: list[list[Any]] = []
    with Parcels(lambda items, _: parcels.append(items), interval_s=60) as collecting:
        collecting.add([1], [])
        collecting.add([2], [])
        assert parcels == [[1]]
        collecting.flush()
        collecting.flush()
        assert parcels == [[1], [2]]


def written(limit: int, *replies: bytes, notification: Any = None) -> list[Any]:
    """What a writer makes of these, line by line."""
    reading, writing = os.pipe()
    writer = Writer(writing, lost=lambda: None, broken=lambda: None)
    writer.max_line = lambda: limit
    if notification is not None:
        writer.lossless("partial", notification, Stream())
    for reply in replies:
        writer.reply(reply)
    writer.start()
    writer.close(10)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert all(len(each) <= limit for each in lines)
    return [json.loads(each) for each in lines]


def test_a_reply_that_is_too_long_becomes_an_internal_error_of_the_same_id(capsys: Any) -> None:
    fits = encode(Success(id=1, result=""))
    fits = encode(Success(id=1, result="x" * (1000 - len(fits) + 1)))
    long, later = encode(Success(id="a", result="x" * 1000)), encode(Success(id=3, result=0))
    first, second, third = written(1000, fits, long, later)
    assert (first["id"], third["id"]) == (1, 3) and "result" in first
    assert (second["id"], second["error"]["code"]) == ("a", -32603)
    assert second["error"]["data"]["trace_id"] in capsys.readouterr().err


def test_a_reply_whose_id_is_too_long_is_answered_without_it() -> None:
    (answer,) = written(1000, encode(Success(id="x" * 2000, result=0)))
    assert answer["id"] is None and answer["error"]["code"] == -32603


def test_a_notification_that_is_too_long_is_dropped_and_told_of(capsys: Any) -> None:
    partial = Partial(job_id="a", items=["x" * 2000])
    assert written(1000, encode(Success(id=3, result=0)), notification=partial)[0]["id"] == 3
    assert "`partial`" in capsys.readouterr().err
