"""Subsets: what is left out is as in `data`."""

from contract.methods.training.captions import Captions
from contract.methods.training.data import TrainData
from contract.methods.training.subsets import Subset

OF_ALL = Captions(shuffle=True, keep_tokens=2, prefix="a, ", tag_dropout=0.1, max_tokens=75)


def test_a_subset_that_says_nothing_has_the_captions_of_all() -> None:
    assert Subset(name="a").captions(OF_ALL) == OF_ALL


def test_a_subset_has_its_own_way_where_it_says_so_and_no_is_an_answer() -> None:
    subset = Subset(name="a", shuffle=False, keep_tokens=0, prefix="", suffix=", b", caption_dropout=0.5)
    assert subset.captions(OF_ALL) == Captions(
        suffix=", b", caption_dropout=0.5, tag_dropout=0.1, max_tokens=75
    )


def test_a_subset_flips_and_crops_as_data_says_unless_it_says_otherwise() -> None:
    data = TrainData(flip=True, random_crop=False)
    assert Subset(name="a").flips(data)
    assert not Subset(name="a", flip=False).flips(data)
    assert not Subset(name="a").crops_randomly(data)
    assert Subset(name="a", random_crop=True).crops_randomly(data)
