"""Strategies refuse what they cannot do; what they do is tested with the decoder."""

import pytest
from specimens import Specimen

from ritz.diffusion import Factor, FixedPartition, LeftToRight, RandomK, RemaskLowest, RunningConfidence, Threshold, TopK


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Threshold(1.5), "tau"),
        (lambda: Threshold(-0.1), "tau"),
        (lambda: TopK(0), "steps"),
        (lambda: TopK(2, "loudness"), "confidence"),
        (lambda: RandomK(), "k or steps"),
        (lambda: RandomK(k=1, steps=2), "k or steps"),
        (lambda: Factor(0.0), "f must"),
        (lambda: FixedPartition([(-1,)]), "sets"),
        (lambda: RemaskLowest(0, 1), "number"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


@pytest.mark.parametrize(
    ("make", "name"), [(lambda: FixedPartition(()), "sets"), (lambda: FixedPartition(3), "sets"), (lambda: RemaskLowest(1, 1, 3), "base")]
)
def test_wrong_types(make, name):
    with pytest.raises(TypeError, match=name):
        make()


def test_strategies_are_values():
    assert TopK(3) == TopK(3)
    assert hash(RemaskLowest(1, 2, TopK(3))) == hash(RemaskLowest(1, 2, TopK(3)))


SPECIMENS = {
    "TopK": Specimen(TopK, lambda: {"steps": 3, "confidence": "margin"}),
    "RandomK": Specimen(lambda steps: RandomK(steps=steps), lambda: {"steps": 3}, accepts={"steps": ()}),
    "LeftToRight": Specimen(LeftToRight, lambda: {"k": 2}),
    "Threshold": Specimen(Threshold, lambda: {"tau": 0.5, "confidence": "entropy"}),
    "Factor": Specimen(Factor, lambda: {"f": 1.0, "confidence": "margin"}, accepts={"f": ("inf",)}),
    "FixedPartition": Specimen(FixedPartition, lambda: {"sets": ((0,), (1,))}),
    "RemaskLowest": Specimen(RemaskLowest, lambda: {"number": 1, "steps": 2}),
    "RunningConfidence": Specimen(RunningConfidence, lambda: {"steps": 3, "confidence": "probability"}),
}
