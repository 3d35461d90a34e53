"""Level 1 only grows: what its frozen document promises, today's contract keeps."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract import LEVEL, SUPPORTED_LEVELS
from contract.export import openrpc
from tests.contract.freeze import LEVELS, freeze
from tests.contract.growth import broken

TODAY = openrpc()


def _methods(document: dict[str, Any]) -> dict[str, Any]:
    return {method["name"]: method for method in document["methods"]}


def _schema(document: dict[str, Any], name: str) -> Any:
    return document["components"]["schemas"][name]


def _field(document: dict[str, Any], struct: str, field: str) -> Any:
    return _schema(document, struct)["properties"][field]


@pytest.mark.parametrize("path", sorted(LEVELS.glob("*.json")), ids=lambda path: path.stem)
def test_a_frozen_level_is_kept(path: Path) -> None:
    assert list(broken(json.loads(path.read_text(encoding="utf-8")), TODAY)) == []


@pytest.mark.parametrize("level", SUPPORTED_LEVELS)
def test_every_level_is_frozen(level: int) -> None:
    assert (LEVELS / f"{level}.json").is_file()


def test_a_contract_keeps_its_own_promises() -> None:
    assert list(broken(TODAY, copy.deepcopy(TODAY))) == []


def _remove_method(it: Any) -> None:
    it["methods"] = [method for method in it["methods"] if method["name"] != "ping"]


def _rename_error(it: Any) -> None:
    it["x-errors"][0]["kind"] = "syntax_error"


#: Every kind of breakage: what is done to the document, and what is said about it.
BREAKAGES: list[tuple[Callable[[Any], object], str]] = [
    (lambda it: it["x-levels"].remove(1), "level 1: gone"),
    (_remove_method, "method ping: gone"),
    (lambda it: _methods(it)["tag"].update({"x-kind": "query"}), "method tag: was a job, is a query"),
    (lambda it: _methods(it)["tag"].update({"x-idempotent": False}), "method tag: no longer idempotent"),
    (lambda it: _methods(it)["tag"]["x-payloads"].pop("1"), "method tag: payload version 1 gone"),
    (lambda it: _methods(it)["tag"].pop("result"), "tag result: gone"),
    (lambda it: _methods(it)["tag"].pop("x-partial-item"), "tag partial-item: gone"),
    # What a host sends.
    (lambda it: _schema(it, "PingParams")["properties"].pop("echo"), "ping v1.echo: no longer taken"),
    (lambda it: _schema(it, "TagSettings")["required"].append("order"),
     "tag v2.settings.order: newly required"),
    (lambda it: _schema(it, "TagParams").update(required=["job_id", "v", "inputs", "settings", "attempt"]),
     "tag v2.attempt: newly required"),
    (lambda it: _field(it, "TagSettings", "batch_size").update(type="string"),
     "tag v2.settings.batch_size: no longer integer"),
    (lambda it: _field(it, "TagSettings", "general_threshold").update(type="integer"),
     "tag v2.settings.general_threshold: no longer number"),
    (lambda it: _field(it, "TagSettings", "order").update(enum=["confidence"]),
     "tag v2.settings.order: no longer model"),
    (lambda it: _field(it, "TagSettings", "separator").update(enum=[", "]),
     "tag v2.settings.separator: no longer others"),
    (lambda it: _field(it, "TagSettings", "batch_size").update(minimum=2),
     "tag v2.settings.batch_size: minimum is 2 now"),
    (lambda it: _field(it, "TagSettings", "batch_size").update(maximum=128),
     "tag v2.settings.batch_size: maximum is 128 now"),
    (lambda it: _field(it, "TagSettings", "exclude").update(maxItems=9),
     "tag v2.settings.exclude: maxItems is 9 now"),
    (lambda it: _field(it, "JobGetParams", "job_id").update(pattern="^[a-z]+$"),
     "job/get v1.job_id: pattern is ^[a-z]+$ now"),
    (lambda it: _field(it, "TagSettings", "batch_size").update(default=4),
     "tag v2.settings.batch_size: default was 8, is 4"),
    (lambda it: _field(it, "TagSettings", "exclude")["items"].update(type="integer"),
     "tag v2.settings.exclude.items: no longer string"),
    (lambda it: _field(it, "TagSettings", "replace")["additionalProperties"].update(type="integer"),
     "tag v2.settings.replace.additionalProperties: no longer string"),
    (lambda it: _field(it, "PingParams", "echo").update(anyOf=[{"type": "string", "maxLength": 4096}]),
     "ping v1.echo: no longer null"),
    (lambda it: _field(it, "PingParams", "echo")["anyOf"][0].update(maxLength=10),
     "ping v1.echo: maxLength is 10 now"),
    (lambda it: _schema(it, "TagParamsV1").update(additionalProperties=False),
     "tag v1.additionalProperties: no longer taken"),
    (lambda it: _field(it, "TagParamsV1", "v").update(type="integer"), "tag v1.v: no longer anything"),
    # What a kernel says.
    (lambda it: _schema(it, "TagOutcome")["properties"].pop("tag_counts"),
     "tag result.tag_counts: no longer said"),
    (lambda it: _schema(it, "TagOutcome")["required"].remove("tagged"),
     "tag result.tagged: no longer always said"),
    (lambda it: _field(it, "TaggedImage", "caption").update(type=["string", "null"]),
     "tag partial-item.caption: may be null now"),
    (lambda it: _field(it, "TaggedImage", "width").update(type="number"),
     "tag partial-item.width: may be number now"),
    (lambda it: _field(it, "ScoredTag", "category").update(enum=["general", 4]),
     "tag partial-item.tags.items.category: may be integer now"),
    (lambda it: _schema(it, "ScoredTag")["properties"].pop("index"),
     "tag partial-item.tags.items.index: no longer said"),
    (lambda it: _schema(it, "MethodInfo")["properties"].pop("resumable"),
     "initialize result.methods.additionalProperties.resumable: no longer said"),
    (lambda it: _field(it, "Progress", "total").update(anyOf=[{"type": "string"}, {"type": "null"}]),
     "progress.total: may be string now"),
    # Notifications, errors, capabilities.
    (lambda it: it["x-notifications"].pop("artifact"), "notification artifact: gone"),
    (lambda it: it["x-notifications"]["partial"].update(lossy=True), "notification partial: may be lost now"),
    (lambda it: _schema(it, "Log")["properties"].pop("logger"), "log.logger: no longer said"),
    (_rename_error, "error parse_error: gone"),
    (lambda it: it["x-errors"][0].update(code=-1), "error parse_error: code was -32700, is -1"),
    (lambda it: it["x-errors"][0].update(retryable=True), "error parse_error: retryable was False, is True"),
    (lambda it: it["x-capabilities"].pop("replay"), "capability replay: gone"),
    (lambda it: it["x-capabilities"].update(replay=False), "capability replay: gone"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BREAKAGES, ids=[said for _, said in BREAKAGES])
def test_a_breakage_is_seen(change: Callable[[Any], object], said: str) -> None:
    later = copy.deepcopy(TODAY)
    change(later)
    assert said in list(broken(TODAY, later))


def _add_method(it: Any) -> None:
    it["methods"].append({**copy.deepcopy(_methods(it)["ping"]), "name": "pong"})


#: What a level may do.
GROWTH: list[Callable[[Any], object]] = [
    lambda it: it["x-levels"].append(2),
    _add_method,
    lambda it: _methods(it)["tag"].update({"x-resumable": True}),
    lambda it: _methods(it)["tag"]["x-payloads"].update({"3": {"$ref": "#/components/schemas/TagParams"}}),
    lambda it: _schema(it, "PingParams")["properties"].update(twice={"type": "boolean", "default": False}),
    lambda it: _schema(it, "TagSettings").update(required=[]),
    lambda it: _schema(it, "PingParams").pop("additionalProperties"),
    lambda it: _field(it, "TagSettings", "order")["enum"].append("name"),
    lambda it: _field(it, "TagSettings", "batch_size").update(minimum=0, maximum=1024),
    lambda it: _field(it, "TagSettings", "batch_size").pop("maximum"),
    lambda it: _field(it, "TagSettings", "batch_size").update(type="number"),
    lambda it: _field(it, "TagSettings", "batch_size").update(type=["integer", "null"]),
    lambda it: _field(it, "TagSettings", "separator").pop("minLength"),
    lambda it: _schema(it, "TagOutcome")["properties"].update(speed={"type": "number"}),
    lambda it: _schema(it, "TagOutcome")["required"].append("failed"),
    lambda it: _field(it, "JobRecord", "state")["enum"].append("paused"),
    lambda it: _field(it, "Status", "uptime_s").update(type="integer"),
    lambda it: it["x-notifications"].update(sample={"lossy": False, "params": {"type": "object"}}),
    lambda it: it["x-errors"].append({"code": 2999, "kind": "new", "retryable": False, "summary": ""}),
    lambda it: it["x-capabilities"].update(streaming=True),
]


@pytest.mark.parametrize("change", GROWTH, ids=range(len(GROWTH)))
def test_growth_is_no_breakage(change: Callable[[Any], object]) -> None:
    later = copy.deepcopy(TODAY)
    change(later)
    assert later != TODAY
    assert list(broken(TODAY, later)) == []


def test_a_frozen_level_is_not_rewritten(tmp_path: Path) -> None:
    path = freeze(tmp_path)
    assert path.name == f"{LEVEL}.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(FileExistsError, match="never rewritten"):
        freeze(tmp_path)
    assert path.read_text(encoding="utf-8") == "{}"
    freeze(tmp_path, force=True)
    assert json.loads(path.read_text(encoding="utf-8")) == TODAY
