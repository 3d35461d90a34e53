import os
from typing import Any

import msgspec
import pytest

from contract.errors import InvalidParams
from contract.fields import describe
from contract.validation import decode
from orchestrator.settings import OWN_ROOTS, ModelFolder, Root, Settings

_HERE = os.path.abspath(os.sep + "photos")


def _problems(**tables: Any) -> dict[str, str]:
    with pytest.raises(InvalidParams) as refused:
        decode(tables, Settings)
    return {each["where"]: each["message"] for each in refused.value.details["problems"]}


def test_every_field_says_what_it_is() -> None:
    for table in describe(Settings):
        fields = describe(table.annotation) if isinstance(table.annotation, type) else [table]
        assert [each.name for each in fields if not each.text or each.title == each.name] == []


def test_the_defaults() -> None:
    settings = Settings()
    assert settings.kernel.command is None and settings.kernel.idle_s == 600
    limits = settings.limits
    assert (limits.max_upload_bytes, limits.min_free_bytes) == (2 << 30, 1 << 30)
    assert (limits.events_kept, limits.workers) == (200_000, 2)
    assert not (settings.roots or settings.model_folders or settings.devices or settings.access.hosts)


def test_every_table_is_understood() -> None:
    settings = decode(
        {
            "kernel": {"command": ["lorakeet-kernel"], "idle_s": 5},
            "limits": {"workers": 4},
            "roots": [{"id": "my-photos", "path": _HERE, "title": "Photographs"}],
            "model_folders": [{"path": _HERE, "layout": "comfyui"}],
            "devices": [{"id": "cuda:0", "weight": 3}, {"id": "cpu"}, {"id": "cuda:1", "enabled": False}],
            "access": {"hosts": ["a.example", "[::1]:80"], "origins": ["https://a.example:8"]},
        },
        Settings,
    )
    assert settings.roots == [Root(id="my-photos", path=_HERE, title="Photographs")]
    assert [(each.id, each.weight, each.enabled) for each in settings.devices] == [
        ("cuda:0", 3.0, True),
        ("cpu", 1.0, True),
        ("cuda:1", 1.0, False),
    ]


@pytest.mark.parametrize("root", [*OWN_ROOTS, "", "A", "a b", "-a", "a-", "a/b", "..", "a" * 65, "ä", "a\n"])
def test_an_id_is_a_short_plain_name_that_the_studio_does_not_use_itself(root: str) -> None:
    assert _problems(roots=[{"id": root, "path": _HERE}]).keys() == {"$.roots[0].id"}


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("photos", "absolute"),
        ("~/photos", "absolute"),
        ("", "absolute"),
        ("/a/../b", "`..`"),
        ("/a\0b", "NUL"),
        ("/", "whole disk"),
        ("//", "whole disk"),
        ("/.", "whole disk"),
        ("file://host/a", "local file"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
def test_a_folder_is_absolute_and_not_the_whole_disk(path: str, word: str) -> None:
    problems = _problems(roots=[{"id": "a", "path": path}], model_folders=[{"path": path}])
    assert problems.keys() == {"$.roots[0].path", "$.model_folders[0].path"}
    assert all(word in message for message in problems.values()), problems


def test_what_stands_twice_is_refused_in_the_words_of_the_field() -> None:
    problems = _problems(
        roots=[
            {"id": "a", "path": _HERE},
            {"id": "b", "path": _HERE + "/"},
            {"id": "a", "path": _HERE + "2"},
        ],
        model_folders=[{"path": _HERE}, {"path": _HERE, "layout": "a1111"}],
        devices=[{"id": "cpu"}, {"id": "cuda:0"}, {"id": "cpu"}],
    )
    assert problems == {
        "$.roots[2].id": "is the same as that of roots[0]",
        "$.roots[1].path": "is the same as that of roots[0]",
        "$.model_folders[1].path": "is the same as that of model_folders[0]",
        "$.devices[2].id": "is the same as that of devices[0]",
    }


@pytest.mark.parametrize("weight", [0, -1, 1001, float("nan"), float("inf")])
def test_a_weight_is_a_number_above_zero(weight: float) -> None:
    assert _problems(devices=[{"id": "cpu", "weight": weight}]).keys() == {"$.devices[0].weight"}


@pytest.mark.parametrize("device", ["", "CPU", "cuda:", "cuda:-1", "cuda 0", "0"])
def test_a_device_is_named_as_torch_does(device: str) -> None:
    assert _problems(devices=[{"id": device}]).keys() == {"$.devices[0].id"}


def test_the_cpu_cannot_be_switched_off() -> None:
    problems = _problems(devices=[{"id": "cpu", "enabled": False}])
    assert "always there" in problems["$.devices[0].enabled"]


@pytest.mark.parametrize("command", [[], [""], [" ", "x"]])
def test_a_command_names_a_program(command: list[str]) -> None:
    assert "names no program" in _problems(kernel={"command": command})["$.kernel.command"]


@pytest.mark.parametrize(
    "host", ["*", "", "A.example", "https://a", "a/b", "a:b", "a b", "a.example.", "::1"]
)
def test_a_host_is_a_name_and_no_pattern(host: str) -> None:
    assert _problems(access={"hosts": ["ok", host]}).keys() == {"$.access.hosts[1]"}


@pytest.mark.parametrize(
    "origin", ["*", "null", "a.example", "https://a/", "https://a/b", "ftp://a", "https://u@a"]
)
def test_an_origin_is_a_scheme_and_a_host(origin: str) -> None:
    assert _problems(access={"origins": [origin]}).keys() == {"$.access.origins[0]"}


def test_everything_wrong_is_named_at_once() -> None:
    problems = _problems(
        kernel={"command": 5, "idle_s": 0},
        limits={"workers": 0, "typo": 1},
        roots=[{"path": "x"}, {"id": "runs", "path": "x"}],
    )
    assert problems.keys() == {
        "$.kernel.command",
        "$.kernel.idle_s",
        "$.limits.workers",
        "$.limits.typo",
        "$.roots[0].id",
        "$.roots[1].id",
        "$.roots[1].path",
    }


def test_the_id_of_a_model_folder_follows_from_its_path_and_is_no_id_of_a_root() -> None:
    folder = ModelFolder(path=_HERE)
    assert folder.id == ModelFolder(path=_HERE, layout="a1111").id != ModelFolder(path=_HERE + "2").id
    assert _problems(roots=[{"id": folder.id, "path": _HERE}]).keys() == {"$.roots[0].id"}


def test_the_settings_have_a_schema_for_forms() -> None:
    schema = msgspec.json.schema(Settings)
    idle = schema["$defs"]["KernelSettings"]["properties"]["idle_s"]
    assert (idle["title"], idle["x-unit"], idle["default"]) == ("Idle time", "seconds", 600.0)
