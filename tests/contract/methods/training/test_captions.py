"""Captions: whether a picture has other texts in other epochs."""

from contract.methods.training.captions import Captions


def test_texts_vary_where_tags_are_moved_or_dropped() -> None:
    assert Captions(shuffle=True).vary
    assert Captions(tag_dropout=0.1).vary


def test_texts_do_not_vary_by_what_is_put_around_them_or_left_out_whole() -> None:
    assert not Captions(prefix="a, ", suffix=", b", caption_dropout=0.5, keep_tokens=3).vary
