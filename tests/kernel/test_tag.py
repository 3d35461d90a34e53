"""`tag` through a real kernel: every kind of picture, every kind of name, every kind of model."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from contract.rules.paths import to_wire
from tests.builders.demo_tagger import TAGS, build
from tests.builders.pictures import BROKEN, NASTY, ZOO, Picture, write
from tests.kernel_process import KernelProcess

Message = dict[str, Any]


def tag(model: Path, images: Sequence[Path], job_id: str = "a", **settings: Any) -> Message:
    return {
        "job_id": job_id,
        "v": 2,
        "inputs": {"images": [to_wire(str(image)) for image in images]},
        "settings": {"model": {"path": str(model)}, **settings},
    }


def items_of(kernel: KernelProcess, job_id: str = "a") -> list[Message]:
    """The tagged pictures of a job, in the order of its inputs."""
    partials = [each["params"] for each in kernel.notifications if each["method"] == "partial"]
    items = [item for each in partials if each["job_id"] == job_id for item in each["items"]]
    return sorted(items, key=lambda item: int(item["index"]))


def captions_of(kernel: KernelProcess, job_id: str) -> list[str]:
    return [item["caption"] for item in items_of(kernel, job_id)]


def fired(item: Message) -> set[str]:
    """The tags at the default thresholds."""
    lowest = {"general": 0.35, "character": 0.85}
    return {each["name"] for each in item["tags"] if each["score"] >= lowest[each["category"]]}


def with_batch(folder: Path, size: int) -> Path:
    """The demo tagger with a fixed batch size."""
    build(folder)
    model = onnx.load(str(folder / "model.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


# Pictures and names -----------------------------------------------------------------------------------------


def assert_tagged(item: Message, picture: Picture, path: Path) -> None:
    assert item["image"] == to_wire(str(path))
    assert (item["width"], item["height"]) == picture.size, picture.name
    assert fired(item) == picture.tags, picture.name


@pytest.mark.parametrize("decode", ["fast", "exact"])
def test_every_picture_of_the_zoo_gets_its_tags(decode: str, tmp_path: Path, demo_tagger: Path) -> None:
    paths = write(tmp_path, ZOO)
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        result = kernel.request("tag", tag(demo_tagger, paths, decode=decode), timeout=50)["result"]
        assert (result["tagged"], result["failed"], result["failed_count"]) == (len(ZOO), [], 0)
        for item, picture, path in zip(items_of(kernel), ZOO, paths, strict=True):
            assert_tagged(item, picture, path)
        kernel.kill()
        assert kernel.stderr == ""


def test_every_nasty_name_is_tagged_and_comes_back_as_it_was_sent(tmp_path: Path, demo_tagger: Path) -> None:
    folder = tmp_path / "a folder, Kääpiö's 🦜"
    paths = write(folder, NASTY)
    with KernelProcess() as kernel:
        kernel.initialize(roots=[folder, demo_tagger])
        result = kernel.request("tag", tag(demo_tagger, paths))["result"]
        assert result["tagged"] == len(NASTY)
        for item, picture, path in zip(items_of(kernel), NASTY, paths, strict=True):
            assert_tagged(item, picture, path)


def test_a_name_may_be_sent_as_a_uri_though_it_needs_none(tmp_path: Path, demo_tagger: Path) -> None:
    (path,) = write(tmp_path, NASTY[:1])
    uri = path.as_uri()
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        request = tag(demo_tagger, [path])
        request["inputs"]["images"] = [uri]
        assert kernel.request("tag", request)["result"]["tagged"] == 1
        assert items_of(kernel)[0]["image"] == uri


def test_broken_pictures_are_entries_of_failed_and_never_the_end(tmp_path: Path, demo_tagger: Path) -> None:
    good, broken = write(tmp_path, ZOO[:10]), write(tmp_path, BROKEN)
    paths = [path for pair in zip(good, broken, strict=False) for path in pair] + broken[10:]
    missing, folder = tmp_path / "missing.png", tmp_path / "folder.png"
    folder.mkdir()
    expected = {str(path): each.error.kind for path, each in zip(broken, BROKEN, strict=True)}
    expected |= {str(missing): "file_missing", str(folder): "file_unreadable"}
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        result = kernel.request("tag", tag(demo_tagger, [*paths, missing, folder]))["result"]
        assert result["tagged"] == len(good)
        assert result["failed_count"] == len(expected)
        assert {each["image"]: each["error"]["data"]["kind"] for each in result["failed"]} == expected
        for each in result["failed"]:
            error = each["error"]
            assert error["data"]["where"] == each["image"] == str([*paths, missing, folder][each["index"]])
            assert error["data"]["job_id"] == "a"
            assert Path(each["image"]).name in error["message"]
        told = [
            item
            for each in kernel.notifications
            if each["method"] == "partial"
            for item in each["params"]["failed"]
        ]
        assert told == result["failed"]
        for item in items_of(kernel):
            picture = ZOO[good.index(Path(item["image"]))]
            assert fired(item) == picture.tags


# Inputs and settings ----------------------------------------------------------------------------------------


def test_a_manifest_of_many_items_is_tagged_like_an_inline_list(tmp_path: Path, demo_tagger: Path) -> None:
    paths = write(tmp_path, ZOO[:3])
    manifest = tmp_path / "manifest.jsonl"
    rows = [
        {"path": str(paths[0])},
        {"path": paths[1].as_uri(), "sha256": "0" * 64},
        {"path": str(paths[2]), "caption": "old", "subset": "10_cats"},
    ]
    manifest.write_text("\n".join(json.dumps(row) for row in rows * 500), encoding="utf-8")
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        inline = kernel.request("tag", tag(demo_tagger, paths, "inline"))["result"]
        request = {**tag(demo_tagger, [], "listed"), "inputs": {"manifest": str(manifest)}}
        listed = kernel.request("tag", request, timeout=50)["result"]
        assert listed["tagged"] == 1500
        assert listed["tag_counts"] == {name: 500 * count for name, count in inline["tag_counts"].items()}
        assert captions_of(kernel, "listed") == captions_of(kernel, "inline") * 500


def test_both_payload_versions_write_the_same_captions(tmp_path: Path, demo_tagger: Path) -> None:
    paths = write(tmp_path, ZOO[:12])
    old = {
        "job_id": "old",
        "images": [str(path) for path in paths],
        "model": str(demo_tagger),
        "general_threshold": 0.4,
        "blacklist_tags": "high contrast, bright_above",
        "remove_underscore": False,
    }
    new = tag(
        demo_tagger,
        paths,
        "new",
        general_threshold=0.4,
        character_threshold=0.35,
        exclude=["high contrast", "bright_above"],
        remove_underscores=False,
        batch_size=4,
    )
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        results = [kernel.request("tag", params)["result"] for params in (old, new)]
        assert results[0]["tag_counts"] == results[1]["tag_counts"] != {}
        assert captions_of(kernel, "old") == captions_of(kernel, "new")
        assert "wide_image" in captions_of(kernel, "new")[0]
        assert "contrast" not in " ".join(captions_of(kernel, "new"))
        # The old version is told of once, however often it is used.
        kernel.request("tag", {**old, "job_id": "older", "v": 1})
        assert captions_of(kernel, "older") == captions_of(kernel, "old")
        logs = [each["params"] for each in kernel.notifications if each["method"] == "log"]
        assert [each["level"] for each in logs] == ["warning"] and "1" in logs[0]["message"]


def test_settings_shape_the_caption(tmp_path: Path, demo_tagger: Path) -> None:
    coffee = next(picture for picture in ZOO if picture.name.startswith("coffee"))
    (path,) = write(tmp_path, [coffee])
    cases: list[tuple[Message, str]] = [
        ({}, "red, wide image, bright above, crimson knight (palette)"),
        ({"order": "model"}, "red, bright above, wide image, crimson knight (palette)"),
        ({"ratings": "first"}, "general, red, wide image, bright above, crimson knight (palette)"),
        (
            {"ratings": "last", "exclude": ["red"]},
            "wide image, bright above, crimson knight (palette), general",
        ),
        (
            {"always_first": ["my_trigger"], "exclude": ["RED"]},
            "my_trigger, wide image, bright above, crimson knight (palette)",
        ),
        (
            {"character_tags_first": True, "separator": " | "},
            "crimson knight (palette) | red | wide image | bright above",
        ),
        (
            {"remove_underscores": False, "escape_brackets": True},
            "red, wide_image, bright_above, crimson_knight_\\(palette\\)",
        ),
        (
            {"expand_character_tags": True, "replace": {"red": "ruby"}},
            "ruby, wide image, bright above, crimson knight, palette",
        ),
        ({"exclude": ["red", "wide image", "bright_above", "crimson_knight_\\(palette\\)"]}, ""),
    ]
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        for number, (settings, caption) in enumerate(cases):
            job_id = f"job_{number}"
            assert "result" in kernel.request("tag", tag(demo_tagger, [path], job_id, **settings))
            assert captions_of(kernel, job_id) == [caption], settings


def test_tags_carry_names_and_scores_from_the_floor_up(tmp_path: Path, demo_tagger: Path) -> None:
    (path,) = write(tmp_path, ZOO[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        for job_id, floor in (("all", 0.0), ("some", 0.05), ("few", 0.9)):
            kernel.request("tag", tag(demo_tagger, [path], job_id, score_floor=floor, general_threshold=0.9))
            (item,) = items_of(kernel, job_id)
            scores = [each["score"] for each in item["tags"]]
            assert scores == sorted(scores, reverse=True)
            assert all(score >= min(floor, 0.85) for score in scores)
            assert all(TAGS[each["index"]].name == each["name"] for each in item["tags"])
            assert set(item["rating"]) == {each.name for each in TAGS if each.category == 9}
            if job_id == "all":
                assert len(item["tags"]) == len(TAGS) - len(item["rating"])


# Models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_the_size_of_the_batch_changes_nothing(batch_size: int, tmp_path: Path, demo_tagger: Path) -> None:
    pictures = ZOO[:7]
    paths = write(tmp_path, pictures)
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        result = kernel.request("tag", tag(demo_tagger, paths, batch_size=batch_size))["result"]
        assert result["tagged"] == 7
        assert [fired(item) for item in items_of(kernel)] == [picture.tags for picture in pictures]


@pytest.mark.parametrize("fixed", [1, 4])
def test_a_model_with_a_fixed_batch_size_takes_any_number_of_pictures(fixed: int, tmp_path: Path) -> None:
    model = with_batch(tmp_path / "model", fixed)
    pictures = ZOO[:7]
    paths = write(tmp_path, pictures)
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        for batch_size in (1, 3, 8):
            job_id = f"job_{batch_size}"
            result = kernel.request("tag", tag(model, paths, job_id, batch_size=batch_size))["result"]
            assert result["tagged"] == 7
            assert [fired(each) for each in items_of(kernel, job_id)] == [each.tags for each in pictures]


def test_a_batch_of_broken_pictures_alone_never_reaches_the_model(tmp_path: Path, demo_tagger: Path) -> None:
    paths = write(tmp_path, BROKEN)
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        result = kernel.request("tag", tag(demo_tagger, paths, batch_size=2))["result"]
        assert (result["tagged"], result["failed_count"]) == (0, len(BROKEN))
        assert result["tag_counts"] == {}


def test_a_model_stays_loaded_for_the_next_job_until_it_is_unloaded(
    tmp_path: Path, demo_tagger: Path
) -> None:
    paths = write(tmp_path, ZOO[:1])
    name = f"tagger:{demo_tagger}"
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        while kernel.receive().get("method") != "kernel/state":
            pass

        def loadings() -> list[list[str]]:
            kernel.request("ping")
            states = [each["params"] for each in kernel.notifications if each["method"] == "kernel/state"]
            return [each["loaded"] for each in states]

        kernel.request("tag", tag(demo_tagger, paths, "one"))
        assert loadings() == [[], [name]]
        kernel.request("tag", tag(demo_tagger, paths, "two"))
        assert loadings() == [[], [name]]
        assert kernel.request("model/unload", {"models": ["tagger:other"]})["result"]["unloaded"] == []
        assert kernel.request("model/unload", {"models": [name]})["result"]["unloaded"] == [name]
        assert loadings() == [[], [name], []]
        kernel.request("tag", tag(demo_tagger, paths, "three"))
        assert loadings() == [[], [name], [], [name]]


def test_another_model_takes_the_place_of_the_first_one(tmp_path: Path, demo_tagger: Path) -> None:
    other = tmp_path / "other"
    build(other)
    paths = write(tmp_path, ZOO[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        for number, model in enumerate((demo_tagger, other)):
            kernel.request("tag", tag(model, paths, f"job_{number}"))
        assert kernel.request("status")["result"]["state"]["loaded"] == [f"tagger:{other}"]
        # A model that does not load has still sent the old one away.
        (other / "model.onnx").write_bytes(b"\x08\x01" * 50)
        assert "error" in kernel.request("tag", tag(other, paths, "job_2"))
        assert kernel.request("status")["result"]["state"]["loaded"] == []


def test_a_model_whose_files_change_is_loaded_again(tmp_path: Path) -> None:
    model = tmp_path / "model"
    build(model)
    paths = write(tmp_path, ZOO[:1])
    table = model / "selected_tags.csv"
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        kernel.request("tag", tag(model, paths, "before"))
        table.write_text(table.read_text(encoding="utf-8").replace("wide_image", "very_wide_image"))
        kernel.request("tag", tag(model, paths, "after"))
        assert "very wide image" not in captions_of(kernel, "before")[0]
        assert "very wide image" in captions_of(kernel, "after")[0]


def test_a_csv_with_a_byte_order_mark_and_other_line_ends_is_the_same_table(tmp_path: Path) -> None:
    model = tmp_path / "model"
    build(model)
    rows = list(csv.reader((model / "selected_tags.csv").read_text(encoding="utf-8").splitlines()))
    with (model / "selected_tags.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, lineterminator="\r\n", quoting=csv.QUOTE_ALL).writerows(rows)
    paths = write(tmp_path, ZOO[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        assert kernel.request("tag", tag(model, paths))["result"]["tagged"] == 1
        assert fired(items_of(kernel)[0]) == ZOO[0].tags


def test_the_outcome_says_what_the_session_ran_on_and_for_how_long(tmp_path: Path, demo_tagger: Path) -> None:
    paths = write(tmp_path, ZOO[:4])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        result = kernel.request("tag", tag(demo_tagger, paths))["result"]
        probed = kernel.request("probe", timeout=60)["result"]["engines"]
        runtime = next(each for each in probed if each["name"] == "onnxruntime")
        assert result["provider"] == runtime["providers"][0]
        assert result["timings"].keys() == {"load_s", "decode_s", "run_s", "wall_s"}
        assert all(seconds > 0 for seconds in result["timings"].values())
        assert result["timings"]["wall_s"] >= result["timings"]["load_s"]
        assert result["warnings"] == [] and result["artifacts"] == []
        counts = result["tag_counts"]
        assert list(counts.values()) == sorted(counts.values(), reverse=True)
        assert sum(counts.values()) == sum(len(picture.tags) for picture in ZOO[:4])


def test_the_kernel_writes_nothing_beside_the_pictures(tmp_path: Path, demo_tagger: Path) -> None:
    paths = write(tmp_path, ZOO[:3])
    before = {each.name: each.stat().st_mtime_ns for each in os.scandir(tmp_path)}
    with KernelProcess(cwd=tmp_path) as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        assert kernel.request("tag", tag(demo_tagger, paths))["result"]["tagged"] == 3
        kernel.close_stdin()
        assert kernel.wait() == 0
    assert {each.name: each.stat().st_mtime_ns for each in os.scandir(tmp_path)} == before
