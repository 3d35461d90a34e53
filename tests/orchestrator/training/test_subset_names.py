"""Datasets and folders have the same subsets, whoever looks through them."""

import os
from pathlib import Path

import pytest

from contract.methods.training.subsets import Subset
from orchestrator.training.subset_names import subset_of
from trainer.data.collection import listed_in
from trainer.data.subset import subsets_of


@pytest.mark.parametrize(
    ("folder", "named", "subset"),
    [
        ("", (), "photos"),
        ("cats", (), "photos"),
        ("10_cat", (), "10_cat"),
        ("10_cat/close", (), "10_cat"),
        ("10_cat/close/eyes", ("10_cat/close",), "10_cat/close"),
        ("styles/5_ink", (), "photos"),
        ("styles/5_ink", ("styles",), "styles"),
        ("styles/5_ink", ("styles", "styles/5_ink"), "styles/5_ink"),
        ("0_rest", (), None),
        ("0_rest/deep", (), None),
        ("0_rest/deep", ("0_rest/deep",), "0_rest/deep"),
        ("10_", (), "photos"),
        ("ten_cat", (), "photos"),
    ],
)
def test_a_picture_belongs_to_the_nearest_subset_above_it(
    folder: str, named: tuple[str, ...], subset: str | None
) -> None:
    assert subset_of(folder.split("/") if folder else [], set(named), "photos") == subset


def test_a_kernel_that_looks_through_the_folder_says_the_same(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    folders = ["", "plain", "3_cat", "3_cat/close", "3_cat/2_far", "0_rest", "0_rest/in", "styles/4_ink", "7"]
    for folder in folders:
        (source / folder).mkdir(parents=True, exist_ok=True)
        (source / folder / "a.png").touch()
    named = ["3_cat/close", "styles"]
    subsets = subsets_of([str(source)], [Subset(name=name) for name in named])
    theirs = {
        os.path.relpath(os.path.dirname(each.path), source): subsets[each.subset].name
        for each in listed_in(subsets)
    }
    ours = {
        folder or ".": subset
        for folder in folders
        if (subset := subset_of(folder.split("/") if folder else [], set(named), "photos")) is not None
    }
    assert ours == theirs
