"""Writing ONNX graphs a line an operator, for the taggers that tests build."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import TensorProto, helper, numpy_helper

OPSET = 17  # has LayerNormalization; onnxruntime reads it from 1.12 on
IR_VERSION = 8  # of the same age, instead of whatever the installed onnx prefers


class Graph:
    """A graph under construction: `g("Add", a, b)` appends a node and returns the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def const(self, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        name = f"const_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def save(self, path: Path, *, scores: str, size: int, tags: int, doc: str) -> None:
        """Write the tagger `input` float32 [batch, size, size, 3] → `output` float32 [batch, tags]."""
        self._nodes.append(helper.make_node("Identity", [scores], ["output"]))
        graph = helper.make_graph(
            self._nodes,
            "tagger",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", size, size, 3])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", tags])],
            self._constants,
        )
        model = helper.make_model(
            graph,
            producer_name="lorakeet",
            doc_string=doc,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())


def save_tags(path: Path, rows: Iterable[tuple[str, int]]) -> None:
    """Write `selected_tags.csv` of (name, category) in the order of the model's outputs."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["tag_id", "name", "category", "count"])
        for index, (name, category) in enumerate(rows):
            writer.writerow([1_000_000 + index, name, category, 1000])
