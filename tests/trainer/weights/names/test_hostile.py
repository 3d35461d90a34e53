"""Names and shapes in files of others may be anything: they find no site, and raise nothing."""

import random
from collections.abc import Iterator

import pytest

from contract.rules.families import detect
from trainer.weights.names import FAMILIES, published, sites

_PARTS = ["", "x", "-1", "9" * 5000, "99999", "\u0663", "\u00b2", "weight", ".", "..", "\U0001f600", "lora_A"]
_SHAPES: list[tuple[int, ...]] = [
    (),
    (0,),
    (3,),
    (0, 0),
    (1, 1),
    (5, 7),
    (7, 3),
    (3, 3, 3, 3),
    (2**62, 2**62),
]


def _broken(names: list[str], chance: random.Random) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each name with one of its parts put otherwise or left out, and some shape."""
    for name in names:
        parts = name.split(".")
        index = chance.randrange(len(parts))
        if chance.random() < 0.2:
            del parts[index]
        elif chance.random() < 0.7:
            parts[index] = chance.choice(_PARTS)
        yield ".".join(parts), chance.choice(_SHAPES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("naming", ["weight", "kohya", "peft", "generic"])
def test_broken_names_and_shapes_raise_nothing(family: str, naming: str) -> None:
    chance = random.Random(f"{family} {naming}")
    found = [str(getattr(site, naming)) for site in chance.sample(published(family).all, 80)]
    keys = found if naming == "weight" else [f"{name}.weight" for name in found]
    keys += [name.partition(".")[2] for name in keys]
    for _ in range(3):
        tensors = dict(_broken(keys, chance))
        here = sites(family, tensors)
        assert all(site.weight in tensors for site in here.all)
        for key in tensors:
            here.find(key)
            published(family).find(key)
        detect(tensors, {})
        detect({f"{key}.lora_down.weight": shape for key, shape in tensors.items()}, {})


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_site_lie_inside_its_weight(family: str) -> None:
    chance = random.Random(family)
    for _ in range(3):
        tensors = {site.weight: chance.choice(_SHAPES) for site in published(family).all}
        for site in sites(family, tensors).all:
            if site.rows is not None:
                assert 0 <= site.rows[0] < site.rows[1] <= tensors[site.weight][0]
