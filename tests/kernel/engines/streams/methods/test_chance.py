import torch

from kernel.engines.streams.methods.chance import uniform


def test_any_part_of_a_sequence_is_the_same_by_itself() -> None:
    whole = uniform(1, "a", 1, 0, 1_000)
    for start in (0, 1, 7, 8, 9, 500):
        assert torch.equal(uniform(1, "a", 1, start, 100), whole[start : start + 100])


def test_seed_tensor_and_stream_have_sequences_of_their_own() -> None:
    sequences = [uniform(*key, 0, 100) for key in ((1, "a", 1), (2, "a", 1), (1, "b", 1), (1, "a", 2))]
    assert len({tuple(each.tolist()) for each in sequences}) == 4


def test_numbers_are_shares_and_evenly_spread() -> None:
    drawn = uniform(3, "a", 1, 0, 1 << 20)
    assert 0 <= float(drawn.min()) and float(drawn.max()) < 1
    counts = torch.histc(drawn, 64, 0, 1)
    # Chi-square with 63 degrees of freedom: above 120 once in 100,000 seeds.
    expected = (1 << 20) / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 120


def test_the_sequence_stays_what_it_is() -> None:
    """A recipe that is run again in years must draw the same."""
    assert [f"{value:.7f}" for value in uniform(42, "model.weight", 1, 0, 4).tolist()] == [
        "0.8700054",
        "0.7525815",
        "0.9758167",
        "0.8069229",
    ]
