"""The files that the scenarios speak of: pictures, taggers, manifests, weights and what to train with.

python -m tests.golden.files FOLDER     makes them there and says so as JSON
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto, external_data_helper, helper

from tests.builders.demo_tagger import FOLDER as DEMO
from tests.builders.graph import save_tags
from tests.builders.pictures import BROKEN, NASTY, ZOO, Broken, Picture, write
from tests.golden import training, weights

#: Pictures whose tags have scores far enough apart for their order to be the same on every machine.
PICTURES: Final = frozenset(
    (
        "flower.jpg",
        "rocket.jpg",
        "coffee.png",
        "astronaut.png",
        "logo.png",
        "exif_6.jpg",
        "rgba_hides_red.png",
        "line_1x5000.png",
        "with space.png",
        "🦜 Kääpiö.png",
        "empty.jpg",
        "cut.jpg",
        "text.jpg",
        "huge.png",
    )
)
#: Enough work that a job is still running when the next lines arrive.
MANY: Final = 2_000


def build(folder: Path) -> dict[str, str]:
    """Make everything in `folder`, which is empty or new; the variables of the transcripts."""
    folder = folder.resolve()
    names = ("images", "models", "outside", "weights", "training")
    images, models, outside, files, trained = (folder / name for name in names)
    everything: tuple[Picture | Broken, ...] = (*ZOO, *NASTY, *BROKEN)
    write(images, [each for each in everything if each.name in PICTURES])
    write(outside, [each for each in ZOO if each.name == "rocket.jpg"])
    _manifests(images)
    _taggers(models)
    weights.build(files)
    training.build(trained)
    if sys.platform != "win32":
        (images / "link.jpg").symlink_to(outside / "rocket.jpg")
    folders = {**dict(zip(names, (images, models, outside, files, trained), strict=True)), "demo": DEMO}
    return {name: str(path) for name, path in folders.items()}


def _manifests(images: Path) -> None:
    good = [{"path": str(images / "flower.jpg"), "caption": "a flower"}, {"path": str(images / "logo.png")}]
    _lines(images / "good.jsonl", *map(json.dumps, good))
    _lines(images / "many.jsonl", *[json.dumps(good[0])] * MANY)
    _lines(images / "broken.jsonl", json.dumps(good[0]), '{"path": 5}')
    _lines(images / "leaving.jsonl", json.dumps({"path": str(images.parent / "outside" / "rocket.jpg")}))
    _lines(images / "empty.jsonl")


def _lines(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _taggers(models: Path) -> None:
    names = ("no_csv", "short_csv", "not_onnx", "external", "half", "interface")
    no_csv, short_csv, not_onnx, external, half, interface = (_copy(models / name) for name in names)
    (no_csv / "selected_tags.csv").unlink()
    table = short_csv / "selected_tags.csv"
    _lines(table, *table.read_text(encoding="utf-8").splitlines()[:-1])
    _lines(not_onnx / "model.onnx", "<!DOCTYPE html><title>404</title>")
    _point_at(external / "model.onnx", "../../outside/secret.bin")
    _point_at(half / "model.onnx", "weights.bin")
    _planes_first(interface)


def _copy(folder: Path) -> Path:
    shutil.copytree(DEMO, folder)
    return folder


def _point_at(path: Path, location: str) -> None:
    """Let the first tensor of the model lie in another file."""
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())


def _planes_first(folder: Path) -> None:
    """A model of the same output, whose input has its channels first."""
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 64, 64])
    target = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])
    nodes = [helper.make_node("ReduceMean", ["input"], ["output"], axes=[2, 3], keepdims=0)]
    graph = helper.make_graph(nodes, "planes", [source], [target])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    save_tags(folder / "selected_tags.csv", [("red", 0), ("green", 0), ("blue", 0)])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(build(Path(sys.argv[1]))) + os.linesep)
