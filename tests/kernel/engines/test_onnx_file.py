"""An ONNX file is refused by its structure alone, quickly, whatever it holds."""

import os
import pickle
import random
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from contract.errors import FileUnreadable, ModelError, ModelExternalData, ModelIncomplete, ModelNotOnnx
from kernel.engines.onnx_file import check, external_files
from tests.builders.demo_tagger import FOLDER
from tests.builders.vit import build_vit_tagger


def outside(location: str, name: str = "weight") -> onnx.TensorProto:
    """A tensor whose bytes lie in the file `location`."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def sparse(values: onnx.TensorProto, indices: onnx.TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[1])


def graph(*tensors: onnx.TensorProto) -> onnx.GraphProto:
    return helper.make_graph([], "g", [], [], tensors)


def model(content: onnx.GraphProto | None = None) -> onnx.ModelProto:
    return helper.make_model(content or graph(), producer_name="test")


def saved(folder: Path, content: onnx.ModelProto | bytes) -> str:
    path = folder / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return str(path)


def model_with_tensors_everywhere() -> onnx.ModelProto:
    """Every place of onnx.proto from which a tensor can be reached, numbered in file order."""
    node = helper.make_node("If", [], ["out"], name="n")
    node.attribute.add(name="t").t.CopyFrom(outside("a1"))
    node.attribute.add(name="g").g.CopyFrom(graph(outside("a2")))
    node.attribute.add(name="ts").tensors.extend([outside("a3"), outside("a4")])
    node.attribute.add(name="gs").graphs.extend([graph(outside("a5")), graph()])
    node.attribute.add(name="s").sparse_tensor.CopyFrom(sparse(outside("a6"), outside("a7")))
    node.attribute.add(name="ss").sparse_tensors.append(sparse(outside("a8"), outside("a9")))
    whole = graph(outside("b1"))
    whole.node.append(node)
    whole.sparse_initializer.append(sparse(outside("b2"), outside("b3")))
    made = model(whole)
    training = made.training_info.add()
    training.initialization.CopyFrom(graph(outside("c1")))
    training.algorithm.CopyFrom(graph(outside("c2")))
    function = made.functions.add(name="f")
    inner = function.node.add(op_type="Constant")
    inner.attribute.add(name="value").t.CopyFrom(outside("d1"))
    function.attribute_proto.add(name="default").t.CopyFrom(outside("d2"))
    return made


def test_every_place_a_tensor_can_hide_in_is_searched(tmp_path: Path) -> None:
    found = external_files(saved(tmp_path, model_with_tensors_everywhere()))
    assert found == [f"a{n}" for n in range(1, 10)] + ["b1", "b2", "b3", "c1", "c2", "d1", "d2"]


def test_a_location_counts_once_and_in_file_order(tmp_path: Path) -> None:
    tensors = (outside("z.bin"), outside("a.bin"), outside("z.bin"))
    assert external_files(saved(tmp_path, model(graph(*tensors)))) == ["z.bin", "a.bin"]


def test_a_location_counts_also_where_the_tensor_does_not_say_external(tmp_path: Path) -> None:
    tensor = outside("../secret")
    tensor.data_location = TensorProto.DEFAULT
    with pytest.raises(ModelExternalData):
        check(saved(tmp_path, model(graph(tensor))))


def test_real_models_pass(tmp_path: Path) -> None:
    check(str(FOLDER / "model.onnx"))
    build_vit_tagger(tmp_path, size=32, width=16, depth=2, heads=2, tags=40)
    check(str(tmp_path / "model.onnx"))


def test_data_beside_the_model_passes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("model.data", "sub/more.data", "..dots"):
        (tmp_path / name).write_bytes(bytes(4))
    tensors = [outside(name) for name in ("model.data", "sub/more.data", "./model.data", "..dots")]
    check(saved(tmp_path, model(graph(*tensors))))


LEAVING = (
    "/etc/passwd",
    "../model.data",
    "sub/../../model.data",
    "sub\\..\\..\\model.data",
    "C:\\Windows\\win.ini",
    "c:model.data",
    "\\\\server\\share\\x",
    "\\model.data",
    "",
    ".",
    "x\0y",
    "*/_ORT_MEM_ADDR_/*",
)


@pytest.mark.parametrize("location", LEAVING)
def test_a_location_that_leaves_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "model.data").write_bytes(bytes(4))
    (tmp_path / "in").mkdir()
    path = saved(tmp_path / "in", model(graph(outside(location))))
    with pytest.raises(ModelExternalData) as caught:
        check(path)
    assert caught.value.where == path
    assert caught.value.details == {"location": location}
    assert "'model.onnx'" in caught.value.message


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_that_leaves_the_folder_is_refused_unless_its_root_is_allowed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "abc").write_bytes(bytes(4))
    (blobs / "def").write_bytes(model(graph(outside("model.data"))).SerializeToString())
    (snapshot / "model.data").symlink_to(blobs / "abc")
    (snapshot / "model.onnx").symlink_to(blobs / "def")
    path = str(snapshot / "model.onnx")
    with pytest.raises(ModelExternalData):
        check(path)
    with pytest.raises(ModelExternalData):
        check(path, allowed_root=str(tmp_path / "blob"))  # no folder, only the beginning of its name
    check(path, allowed_root=str(blobs))
    check(path, allowed_root=str(tmp_path))


def test_missing_data_makes_the_model_incomplete(tmp_path: Path) -> None:
    path = saved(tmp_path, model(graph(outside("model.data"))))
    with pytest.raises(ModelIncomplete) as caught:
        check(path)
    assert caught.value.details == {"location": "model.data"}
    assert caught.value.where == path


def test_a_missing_model_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(ModelIncomplete):
        check(str(tmp_path / "model.onnx"))


def test_a_folder_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable):
        check(str(tmp_path))


def safetensors() -> bytes:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return len(header).to_bytes(8, "little") + header + bytes(4)


OTHERS = {
    "empty": (b"", "empty"),
    "text": (b"once upon a time " * 20, "not an ONNX model"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
    "html": (b"\n<!DOCTYPE html><html><title>404</title></html>", "web page"),
    "json": (b'{"error":"Repository not found"}', "not an ONNX model"),
    "pickle": (pickle.dumps({"weight": [1, 2, 3]}), "pickle"),
    "torch": (b"PK\x03\x04" + bytes(100), "PyTorch"),
    "safetensors": (safetensors(), "safetensors"),
    "zeros": (bytes(1000), "not an ONNX model"),
    "no graph": (onnx.ModelProto(ir_version=8, producer_name="x").SerializeToString(), "not an ONNX model"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_kind_of_file_is_no_onnx_model_and_is_named(name: str, tmp_path: Path) -> None:
    content, said = OTHERS[name]
    path = saved(tmp_path, content)
    with pytest.raises(ModelNotOnnx) as caught:
        check(path)
    assert said in caught.value.message
    assert caught.value.hint
    assert caught.value.where == path


def test_a_git_lfs_pointer_comes_with_the_command_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotOnnx) as caught:
        check(saved(tmp_path, OTHERS["lfs"][0]))
    assert caught.value.hint is not None and "git lfs pull" in caught.value.hint


def test_a_model_cut_anywhere_is_refused_or_has_all_it_needs(tmp_path: Path) -> None:
    whole = model_with_tensors_everywhere().SerializeToString()
    for length in range(1, len(whole)):
        with pytest.raises(ModelError):
            check(saved(tmp_path, whole[:length]))


def nested(depth: int) -> bytes:
    """Graphs in attributes of nodes in graphs: three messages a level."""
    inner = graph(outside("/deep"))
    for _ in range(depth):
        node = helper.make_node("If", [], ["x"])
        node.attribute.add(name="g").g.CopyFrom(inner)
        inner = graph()
        inner.node.append(node)
    return bytes(model(inner).SerializeToString())


def test_depth_is_bounded_by_what_protobuf_reads(tmp_path: Path) -> None:
    assert external_files(saved(tmp_path, nested(31))) == ["/deep"]
    with pytest.raises(ModelNotOnnx):
        check(saved(tmp_path, nested(33)))


def test_a_file_of_a_million_opening_messages_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelNotOnnx):
        check(saved(tmp_path, b"\x3a\xff\xff\xff\xff\x0f" * 1_000_000))


def test_the_bytes_of_tensors_are_not_read(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, model()))
    size = 1 << 42  # more than any machine could read or hold
    weight = b"\x4a" + varint(size)  # TensorProto.raw_data = 9
    tensor = b"\x2a" + varint(len(weight) + size) + weight  # GraphProto.initializer = 5
    with path.open("ab") as file:
        file.write(b"\x3a" + varint(len(tensor) + size) + tensor)  # ModelProto.graph = 7
        try:
            file.truncate(file.tell() + size)
        except OSError:
            pytest.skip("this file system has no such files")
    check(str(path))
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(ModelNotOnnx):
        check(str(path))


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))


def test_the_walk_finds_what_protobuf_finds_or_refuses(tmp_path: Path) -> None:
    """Damaged models against onnx's own parser: whatever that can read, we see every location of it."""
    dice = random.Random(int(os.environ.get("LORAKEET_FUZZ_SEED", "0")))
    whole = model_with_tensors_everywhere().SerializeToString()
    read = 0
    for _ in range(int(os.environ.get("LORAKEET_FUZZ_ROUNDS", "1500"))):
        damaged = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 5))):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path = saved(tmp_path, bytes(damaged))
        try:
            found = external_files(path)
        except ModelNotOnnx:
            continue
        try:
            parsed = onnx.load_model_from_string(bytes(damaged))
        except Exception:  # noqa: BLE001  – whatever its parser says no with: there is nothing to compare
            continue
        read += 1
        assert locations(parsed) <= set(found)
    assert read > 100


def locations(message: object) -> set[str]:
    """Every location in a parsed message, found by reflection and not by field numbers."""
    found = set()
    if isinstance(message, TensorProto):
        entries = [(text(entry.key), text(entry.value)) for entry in message.external_data]
        found |= {value for key, value in entries if key == "location"}
    for descriptor, value in message.ListFields():  # type: ignore[attr-defined]
        if descriptor.message_type is not None:
            for child in value if descriptor.is_repeated else [value]:
                found |= locations(child)
    return found


def text(value: str | bytes) -> str:
    """protobuf gives strings that are no UTF-8 as bytes."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    dice = random.Random(1)
    for _ in range(300):
        with pytest.raises(ModelError):
            check(saved(tmp_path, dice.randbytes(dice.randrange(1, 300))))


def test_a_real_model_with_external_data_as_onnx_writes_it(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(1000, np.float32), "w")
    path = str(tmp_path / "model.onnx")
    onnx.save_model(
        model(graph(tensor)), path, save_as_external_data=True, location="w.data", size_threshold=0
    )
    assert external_files(path) == ["w.data"]
    check(path)
    (tmp_path / "w.data").unlink()
    with pytest.raises(ModelIncomplete):
        check(path)
