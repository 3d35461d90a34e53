"""What a kernel refuses, each with a typed error that names the field and the file."""

import os
import sys
import zipfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
from onnx import TensorProto, helper

from contract.errors import (
    FileMissing,
    FileUnreadable,
    InvalidParams,
    LorakeetError,
    ManifestInvalid,
    ModelExternalData,
    ModelIncomplete,
    ModelInterface,
    ModelMismatch,
    ModelNotOnnx,
    NoImages,
    PathNotAbsolute,
    PathOutsideRoots,
    VersionUnsupported,
)
from tests.builders.demo_tagger import FOLDER, build
from tests.builders.pictures import BROKEN, NASTY, ZOO, write
from tests.kernel_process import KernelProcess

Message = dict[str, Any]
_numbers = count()
#: Makes the model's folder what the case wants.
Change = Callable[[Path], object]

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


def tag(folder: Path, **changes: Any) -> Message:
    """Params that are right for the demo tagger in `folder`/model, but for `changes`."""
    params: Message = {
        "job_id": f"job_{next(_numbers)}",
        "v": 2,
        "inputs": {"images": [str(folder / "x.png")]},
        "settings": {"model": {"path": str(folder / "model")}},
    }
    return params | changes


def assert_refused(
    kernel: KernelProcess, params: Message, error: type[LorakeetError], where: str, words: str = ""
) -> Message:
    """One typed answer, nothing tagged, and a kernel that goes on."""
    response = kernel.request("tag", params)
    assert "error" in response, response
    refused: Message = response["error"]
    assert (refused["code"], refused["data"]["kind"]) == (error.code, error.kind), refused
    assert refused["data"]["where"] == where
    assert words in refused["message"], refused["message"]
    assert "Traceback" not in str(refused) and "msgspec" not in str(refused)
    assert "partial" not in [each["method"] for each in kernel.notifications]
    assert "result" in kernel.request("ping")
    return refused


# Models -----------------------------------------------------------------------------------------------------


class Model(NamedTuple):
    """A model that is refused. `where` is below the test's folder."""

    name: str
    change: Change
    error: type[LorakeetError]
    where: str
    words: str


def _replace(old: str, new: str, count: int = -1) -> Change:
    def change(model: Path) -> None:
        path = model / "selected_tags.csv"
        path.write_text(path.read_text(encoding="utf-8").replace(old, new, count), encoding="utf-8")

    return change


def _put(name: str, content: bytes) -> Change:
    return lambda model: (model / name).write_bytes(content)


def _rows(drop: int) -> Change:
    def change(model: Path) -> None:
        path = model / "selected_tags.csv"
        rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(rows[:-drop]), encoding="utf-8")

    return change


def _zip(model: Path) -> None:
    with zipfile.ZipFile(model / "model.onnx", "w") as file:
        file.writestr("data.pkl", "x")


def _half(model: Path) -> None:
    path = model / "model.onnx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _external(location: str) -> Change:
    """Let the first constant lie in another file."""

    def change(model: Path) -> None:
        proto = onnx.load(str(model / "model.onnx"))
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "4")):
            tensor.external_data.add(key=key, value=value)
        (model / "model.onnx").write_bytes(proto.SerializeToString())

    return change


def _external_through_a_link(model: Path) -> None:
    (model.parent.parent / "secret.bin").write_bytes(bytes(4))
    (model / "weights.bin").symlink_to(model.parent.parent / "secret.bin")
    _external("weights.bin")(model)


def _interface(shape: list[Any], tags: Any = 25, inputs: int = 1, kind: int = TensorProto.FLOAT) -> Change:
    """A model that takes `shape` and gives scores for `tags`."""

    def change(model: Path) -> None:
        given = [helper.make_tensor_value_info(f"x{n}", kind, shape) for n in range(inputs)]
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", tags])
        nodes = [
            helper.make_node("Cast", ["x0"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["f"], ["flat"]),
            helper.make_node("Slice", ["flat", "from", "to", "axis"], ["y"]),
        ]
        size = tags if isinstance(tags, int) else 25
        constants = [
            helper.make_tensor(name, TensorProto.INT64, [1], [value])
            for name, value in (("from", 0), ("to", size), ("axis", 1))
        ]
        graph = helper.make_graph(nodes, "g", given, [result], constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (model / "model.onnx").write_bytes(proto.SerializeToString())

    return change


def _undeclared(model: Path) -> None:
    _interface(["batch", 64, 64, 3], tags="tags")(model)
    _rows(1)(model)


ONNX, CSV = "model/model.onnx", "model/selected_tags.csv"
MODELS = (
    Model(
        "no csv", lambda m: (m / "selected_tags.csv").unlink(), ModelIncomplete, "model", "selected_tags.csv"
    ),
    Model("no model", lambda m: (m / "model.onnx").unlink(), ModelIncomplete, "model", "model.onnx"),
    Model("a csv with fewer rows", _rows(1), ModelMismatch, CSV, "25 outputs, selected_tags.csv has 24"),
    Model("a csv with no rows", _rows(25), ModelMismatch, CSV, "has 0 rows"),
    Model("a csv of text", _put("selected_tags.csv", b"hello\n"), ModelMismatch, CSV, "category, name"),
    Model("an empty csv", _put("selected_tags.csv", b""), ModelMismatch, CSV, "no column"),
    Model("a csv of bytes", _put("selected_tags.csv", b"\xff\xfe\0" * 99), ModelMismatch, CSV, "UTF-8"),
    Model("a csv without categories", _replace("category", "x"), ModelMismatch, CSV, "no column category"),
    Model("a category that is no number", _replace(",4,", ",four,", 1), ModelMismatch, CSV, "line 23"),
    Model("a category far too large", _replace(",4,", ",99999999,", 1), ModelMismatch, CSV, "line 23"),
    Model("rows cut short", _replace(",4,1000", ""), ModelMismatch, CSV, "line 23"),
    Model("an empty model", _put("model.onnx", b""), ModelNotOnnx, ONNX, "is empty"),
    Model("a model of text", _put("model.onnx", b"hello\n" * 99), ModelNotOnnx, ONNX, "'model.onnx' is not"),
    Model("a zip", _zip, ModelNotOnnx, ONNX, "zip or PyTorch"),
    Model("a Git LFS pointer", _put("model.onnx", LFS), ModelNotOnnx, ONNX, "Git LFS pointer"),
    Model("a web page", _put("model.onnx", b"<!DOCTYPE html><p>"), ModelNotOnnx, ONNX, "web page"),
    Model("half a model", _half, ModelNotOnnx, ONNX, "damaged"),
    Model("data in the folder above", _external("../x.bin"), ModelExternalData, ONNX, "'../x.bin'"),
    Model("data anywhere", _external("/etc/passwd"), ModelExternalData, ONNX, "'/etc/passwd'"),
    Model("data behind a link", _external_through_a_link, ModelExternalData, ONNX, "'weights.bin'"),
    Model("data that is missing", _external("weights.bin"), ModelIncomplete, ONNX, "'weights.bin'"),
    Model("channels first", _interface(["batch", 3, 64, 64]), ModelInterface, ONNX, "[batch, size, size, 3]"),
    Model("not square", _interface(["batch", 64, 32, 3]), ModelInterface, ONNX, "input"),
    Model("no fixed size", _interface(["batch", "h", "w", 3]), ModelInterface, ONNX, "fixed size"),
    Model("two inputs", _interface(["batch", 64, 64, 3], inputs=2), ModelInterface, ONNX, "input"),
    Model(
        "whole numbers",
        _interface(["batch", 64, 64, 3], kind=TensorProto.UINT8),
        ModelInterface,
        ONNX,
        "float",
    ),
    Model("other outputs", _interface(["batch", 64, 64, 3], tags=7), ModelMismatch, CSV, "7 outputs"),
    Model("other outputs that it does not declare", _undeclared, ModelMismatch, CSV, "25 outputs"),
)


def test_a_model_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path / case.name / "root" for case in MODELS])
        for case in MODELS:
            root = tmp_path / case.name / "root"
            write(root, [NASTY[0]._replace(name="x.png")])
            build(root / "model")
            case.change(root / "model")
            assert_refused(kernel, tag(root), case.error, str(root / case.where), case.words)
        kernel.kill()
        assert "Traceback" not in kernel.stderr


def test_the_files_of_a_model_may_not_be_links_that_leave_the_roots(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(root, [NASTY[0]._replace(name="x.png")])
    build(outside)
    (root / "model").mkdir()
    for name in ("model.onnx", "selected_tags.csv"):
        (root / "model" / name).symlink_to(outside / name)
    with KernelProcess() as kernel:
        kernel.initialize(roots=[root])
        where = "$.params.settings.model.path"
        assert_refused(kernel, tag(root), PathOutsideRoots, where, "outside the granted roots")


def test_an_error_about_a_folder_whose_name_is_no_text_still_names_it(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/mod\xe9l"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes only Unicode")
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        uri = f"file://{tmp_path}/mod%E9l"
        params = tag(tmp_path, settings={"model": {"path": uri}})
        assert_refused(kernel, params, ModelIncomplete, uri, "model.onnx")


# Params -----------------------------------------------------------------------------------------------------

PARAMS: list[tuple[str, Message, type[LorakeetError], str, str]] = [
    ("no inputs", {"inputs": {}}, InvalidParams, "$.params.inputs.images", "exactly one"),
    ("no images", {"inputs": {"images": []}}, InvalidParams, "$.params.inputs.images", "length >= 1"),
    (
        "images and manifest",
        {"inputs": {"images": ["/x"], "manifest": "/x"}},
        InvalidParams,
        "$.params.inputs.images",
        "exactly one",
    ),
    (
        "an image that is no text",
        {"inputs": {"images": ["/x", 5]}},
        InvalidParams,
        "$.params.inputs.images[1]",
        "",
    ),
    ("version 3", {"v": 3}, VersionUnsupported, "$.params.v", "[1, 2]"),
    ("version 0", {"v": 0}, VersionUnsupported, "$.params.v", "0"),
    ("version 2.5", {"v": 2.5}, VersionUnsupported, "$.params.v", "2.5"),
    ("version true", {"v": True}, VersionUnsupported, "$.params.v", "true"),
    ("version null", {"v": None}, VersionUnsupported, "$.params.v", "null"),
    ("attempt 0", {"attempt": 0}, InvalidParams, "$.params.attempt", ">= 1"),
    ("an unknown field", {"colour": "red"}, InvalidParams, "$.params.colour", "not a known field"),
    ("a relative path", {"inputs": {"images": ["x.png"]}}, PathNotAbsolute, "$.params.inputs.images[0]", ""),
    ("an empty path", {"inputs": {"images": [""]}}, PathNotAbsolute, "$.params.inputs.images[0]", ""),
    ("a path at home", {"inputs": {"images": ["~/x"]}}, PathNotAbsolute, "$.params.inputs.images[0]", "~/x"),
    (
        "a URI of another machine",
        {"inputs": {"images": ["file://host/x.png"]}},
        PathNotAbsolute,
        "$.params.inputs.images[0]",
        "host",
    ),
    (
        "a path outside",
        {"inputs": {"images": ["/etc/passwd"]}},
        PathOutsideRoots,
        "$.params.inputs.images[0]",
        "`/etc/passwd`",
    ),
    (
        "a manifest outside",
        {"inputs": {"manifest": "/etc/passwd"}},
        PathOutsideRoots,
        "$.params.inputs.manifest",
        "",
    ),
]
#: Settings beside the model, and the field that is named.
SETTINGS: list[tuple[Message, str]] = [
    ({"general_threshold": 1.01}, "general_threshold"),
    ({"general_threshold": -0.01}, "general_threshold"),
    ({"character_threshold": 35}, "character_threshold"),
    ({"character_threshold": "0.5"}, "character_threshold"),
    ({"score_floor": 2}, "score_floor"),
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": 257}, "batch_size"),
    ({"batch_size": 1.5}, "batch_size"),
    ({"ratings": "middle"}, "ratings"),
    ({"order": "random"}, "order"),
    ({"decode": "sloppy"}, "decode"),
    ({"separator": ""}, "separator"),
    ({"exclude": "a, b"}, "exclude"),
    ({"exclude": ["a", None]}, "exclude[1]"),
    ({"replace": {"a": 1}}, 'replace["a"]'),
    ({"treshold": 0.5}, "treshold"),
    ({"model": {}}, "model.repo"),
    ({"model": {"repo": "a/b", "path": "/x"}}, "model.repo"),
    ({"model": {"path": "/x", "revision": "main"}}, "model.revision"),
    ({"model": "a/b"}, "model"),
]


def test_params_that_are_wrong_are_refused_by_field(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, FOLDER])
        for name, changes, error, where, words in PARAMS:
            assert assert_refused(kernel, tag(tmp_path, **changes), error, where, words), name
        for settings, field in SETTINGS:
            params = tag(tmp_path, settings={"model": {"path": str(FOLDER)}, **settings})
            assert_refused(kernel, params, InvalidParams, f"$.params.settings.{field}")
        kernel.kill()
        assert kernel.stderr == ""


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        params = {
            "job_id": "a",
            "v": 2,
            "settings": {"general_threshold": 2, "batch_size": "8", "colour": "red"},
        }
        refused = assert_refused(kernel, params, InvalidParams, "$.params.inputs", "more)")
        assert {each["where"] for each in refused["data"]["details"]["problems"]} == {
            "$.params.inputs",
            "$.params.settings.model",
            "$.params.settings.general_threshold",
            "$.params.settings.batch_size",
            "$.params.settings.colour",
        }


def test_a_version_1_with_an_unknown_model_is_refused(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        params = {"job_id": "a", "images": [str(tmp_path / "x")], "model": "wd99"}
        assert_refused(kernel, params, InvalidParams, "$.params.model", "wd-vit-v3")


# Paths ------------------------------------------------------------------------------------------------------


def test_one_path_outside_the_roots_refuses_the_whole_request(tmp_path: Path, demo_tagger: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root-and-more"
    (good,), (secret,) = write(root, ZOO[:1]), write(outside, ZOO[:1])
    (root / "file link.jpg").symlink_to(secret)
    (root / "folder link").symlink_to(outside)
    (root / "inner link.jpg").symlink_to(good)
    (root / "loop").symlink_to(root / "loop")
    model = {"model": {"path": str(demo_tagger)}}
    with KernelProcess() as kernel:
        kernel.initialize(roots=[root, demo_tagger])
        for leaving in (
            secret,
            root / "file link.jpg",
            root / "folder link" / secret.name,
            f"file://{outside}/{secret.name}",
            outside,
        ):
            params = tag(tmp_path, inputs={"images": [str(good), str(leaving)]}, settings=model)
            assert_refused(kernel, params, PathOutsideRoots, "$.params.inputs.images[1]", f"`{leaving}`")
        for crooked in (
            f"{root}/../root/{good.name}",
            f"{root}/..",
            f"{root}/a/../{good.name}",
            f"file://{root}/%2e%2e/root-and-more/{secret.name}",
            f"{root}/\0{good.name}",
        ):
            params = tag(tmp_path, inputs={"images": [str(good), crooked]}, settings=model)
            assert_refused(kernel, params, PathNotAbsolute, "$.params.inputs.images[1]")
        allowed = [root / "inner link.jpg", good]
        params = tag(tmp_path, inputs={"images": [str(each) for each in allowed]}, settings=model)
        assert kernel.request("tag", params)["result"]["tagged"] == 2
        params = tag(tmp_path, inputs={"images": [str(root / "loop"), str(good)]}, settings=model)
        failed = kernel.request("tag", params)["result"]["failed"]
        assert [each["index"] for each in failed] == [0]


def test_without_roots_there_are_no_files_at_all(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize()
        assert_refused(kernel, tag(tmp_path), PathOutsideRoots, "$.params.inputs.images[0]")


@pytest.mark.parametrize(
    ("root", "kind"), [("relative", "path_not_absolute"), ("/a/../b", "path_not_absolute")]
)
def test_roots_are_absolute_and_plain(root: str, kind: str) -> None:
    with KernelProcess() as kernel:
        params = {"contract": {"levels": [1]}, "client": {"name": "t"}, "roots": ["/tmp", root]}
        error = kernel.request("initialize", params)["error"]
        assert (error["data"]["kind"], error["data"]["where"]) == (kind, "$.params.roots[1]")
        kernel.initialize(roots=["/tmp"])
        error = kernel.request("roots/set", {"roots": [root]})["error"]
        assert (error["data"]["kind"], error["data"]["where"]) == (kind, "$.params.roots[0]")


# Manifests --------------------------------------------------------------------------------------------------


MANIFESTS: list[tuple[bytes, type[LorakeetError], str, str]] = [
    (b'{"path": "ROOT/x.png"}\nnot JSON\n', ManifestInvalid, ":2", ":2 is no manifest item"),
    (b'{"path": "ROOT/x.png"}\n\n{"path": "ROOT/x.png"}', ManifestInvalid, ":2", ""),
    (b'{"image": "ROOT/x.png"}', ManifestInvalid, ":1", "path"),
    (b'{"path": "ROOT/x.png", "colour": 5}', ManifestInvalid, ":1", "colour"),
    (b'{"path": 5}', ManifestInvalid, ":1", "path"),
    (b'["ROOT/x.png"]', ManifestInvalid, ":1", ""),
    (b'{"path": "ROOT/\xff.png"}', ManifestInvalid, ":1", ""),
    (b"[" * 100_000, ManifestInvalid, ":1", ""),
    (b'{"path": "ROOT/x.png"}\n{"path": "/etc/passwd"}', PathOutsideRoots, ":2", "`/etc/passwd`"),
    (b'{"path": "x.png"}', PathNotAbsolute, ":1", "x.png"),
    (b"", NoImages, "", "lists no images"),
]


def test_a_manifest_is_refused_by_its_line(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, FOLDER])
        for number, (content, error, line, words) in enumerate(MANIFESTS):
            manifest = tmp_path / f"manifest_{number}.jsonl"
            manifest.write_bytes(content.replace(b"ROOT", str(tmp_path).encode()))
            settings = {"model": {"path": str(FOLDER)}}
            params = tag(tmp_path, inputs={"manifest": str(manifest)}, settings=settings)
            where = f"{manifest}{line}" if line else "$.params.inputs.manifest"
            assert_refused(kernel, params, error, where, words)
        kernel.kill()
        assert kernel.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="has no FIFOs")
def test_a_manifest_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    where = "$.params.inputs.manifest"
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, FOLDER])
        for name, error in (("missing", FileMissing), (".", FileUnreadable), ("fifo", FileUnreadable)):
            params = tag(tmp_path, inputs={"manifest": os.path.join(tmp_path, name)})
            assert_refused(kernel, params, error, where, "manifest")


# Pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything")
def test_files_without_permission_are_unreadable(tmp_path: Path, demo_tagger: Path) -> None:
    (path,) = write(tmp_path, ZOO[:1])
    path.chmod(0)
    build(tmp_path / "model")
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        params = tag(tmp_path, inputs={"images": [str(path)]}, settings={"model": {"path": str(demo_tagger)}})
        (failed,) = kernel.request("tag", params)["result"]["failed"]
        assert failed["error"]["data"]["kind"] == "file_unreadable"
        for name in ("model.onnx", "selected_tags.csv"):
            (tmp_path / "model" / name).chmod(0)
            params = tag(tmp_path)
            error = kernel.request("tag", params)["error"]
            assert error["data"]["kind"] == "file_unreadable"
            assert error["data"]["where"] == str(tmp_path / "model" / name)
            (tmp_path / "model" / name).chmod(0o644)


def test_the_limit_of_pixels_is_64_million_or_what_was_agreed_on(tmp_path: Path, demo_tagger: Path) -> None:
    huge = next(each for each in BROKEN if each.name == "huge.png")
    paths = write(tmp_path, [ZOO[0], huge])
    params = tag(
        tmp_path,
        inputs={"images": [str(path) for path in paths]},
        settings={"model": {"path": str(demo_tagger)}},
    )
    for limit, refused in ((None, [1]), (10_000, [0, 1]), (81_000_000, [])):
        with KernelProcess() as kernel:
            limits: dict[str, Any] = {} if limit is None else {"max_image_pixels": limit}
            agreed = kernel.initialize(roots=[tmp_path, demo_tagger], **limits)["limits"]["max_image_pixels"]
            assert agreed == (limit or 64_000_000)
            failed = kernel.request("tag", params)["result"]["failed"]
            assert [each["index"] for each in failed] == refused
            for each in failed:
                assert each["error"]["data"]["kind"] == "image_too_large"
                assert each["error"]["data"]["details"]["max_pixels"] == agreed
                assert str(agreed) in each["error"]["message"]


# The handshake ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"contract": {"levels": [2, 99]}}, 1001, "$.params.contract.levels"),
        ({"contract": {"levels": []}}, -32602, "$.params.contract.levels"),
        ({"contract": {"levels": ["1"]}}, -32602, "$.params.contract.levels[0]"),
        ({"client": {}}, -32602, "$.params.client.name"),
        ({"colour": "red"}, -32602, "$.params.colour"),
        ({"parent_pid": 0}, -32602, "$.params.parent_pid"),
        ({"limits": {"max_message_bytes": 5}}, -32602, "$.params.limits.max_message_bytes"),
        ({"limits": {"max_image_pixels": 0}}, -32602, "$.params.limits.max_image_pixels"),
        ({"roots": "/tmp"}, -32602, "$.params.roots"),
    ],
)
def test_a_handshake_that_is_wrong_is_refused_by_field(changes: Message, code: int, where: str) -> None:
    with KernelProcess() as kernel:
        params = {"contract": {"levels": [1]}, "client": {"name": "t"}} | changes
        error = kernel.request("initialize", params)["error"]
        assert (error["code"], error["data"]["where"]) == (code, where)
        assert error["data"].get("supported") == ([1] if code == 1001 else None)
        assert kernel.request("ping")["error"]["code"] == -32002
