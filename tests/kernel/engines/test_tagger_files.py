"""The files of a tagger: rows cut short, inputs without a size, data that changes beside the model."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from contract.errors import ModelInterface, ModelMismatch
from kernel.engines import labels, tagger
from tests.builders.demo_tagger import build


def test_a_row_that_ends_before_its_name_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "selected_tags.csv"
    path.write_text("tag_id,category,name\n1,0,red\n2,0\n", encoding="utf-8")
    with pytest.raises(ModelMismatch, match="line 3"):
        labels.read(str(path))


@pytest.mark.parametrize("side", [0, -1])
def test_an_input_without_a_side_is_refused(side: int) -> None:
    value = SimpleNamespace(name="input", type="tensor(float)", shape=["batch", side, side, 3])
    session = SimpleNamespace(get_inputs=lambda: [value])
    with pytest.raises(ModelInterface):
        tagger._input_of(session, "/model.onnx")


def test_the_stamp_changes_with_every_file_of_a_tagger(tmp_path: Path) -> None:
    build(tmp_path)
    tensor = numpy_helper.from_array(np.zeros(1000, np.float32), "w")
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
    onnx.save_model(
        model, str(tmp_path / "model.onnx"), save_as_external_data=True, location="w.data", size_threshold=0
    )
    stamps = [tagger.stamp(str(tmp_path))]
    assert tagger.stamp(str(tmp_path)) == stamps[0]
    for name in ("w.data", "selected_tags.csv", "model.onnx"):
        os.utime(tmp_path / name, ns=(1, 1))
        stamps.append(tagger.stamp(str(tmp_path)))
    (tmp_path / "w.data").unlink()
    stamps.append(tagger.stamp(str(tmp_path)))
    assert len(set(stamps)) == 5
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert tagger.stamp(str(tmp_path)) not in stamps
