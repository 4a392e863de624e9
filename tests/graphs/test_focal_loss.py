"""Special cases of the class-balanced focal loss, and its definition."""

import pytest
import torch
from specimens import Specimen
from torch.nn import functional as F

from ritz.graphs import class_balanced_focal_loss

LOGITS = torch.tensor([[1.0, -2.0], [0.5, 0.25], [-3.0, 40.0], [0.0, 0.0]])
Y = torch.tensor([0, 1, 1, 0])
COUNTS = torch.tensor([90, 10])

SPECIMENS = {
    "class_balanced_focal_loss": Specimen(
        class_balanced_focal_loss,
        lambda: {"logits": LOGITS.clone(), "y": Y, "class_counts": COUNTS, "beta": 0.9, "gamma": 1.0},
        spare=frozenset({"logits", "y", "class_counts"}),
    ),
}


def test_without_weights_and_damping_it_is_cross_entropy():
    expected = F.binary_cross_entropy_with_logits(LOGITS, F.one_hot(Y, 2).float(), reduction="sum") / 4
    torch.testing.assert_close(class_balanced_focal_loss(LOGITS, Y, COUNTS, beta=0.0, gamma=0.0), expected)


def test_without_damping_it_is_weighted_cross_entropy():
    weights = torch.tensor([(1 - 0.99) / (1 - 0.99**90), (1 - 0.99) / (1 - 0.99**10)])
    weights = 2 * weights / weights.sum()
    each = F.binary_cross_entropy_with_logits(LOGITS, F.one_hot(Y, 2).float(), reduction="none").sum(1)
    torch.testing.assert_close(class_balanced_focal_loss(LOGITS, Y, COUNTS, beta=0.99, gamma=0.0), (weights[Y] * each).mean())


def test_damping_is_the_power_of_the_missed_probability():
    p = torch.sigmoid(LOGITS.double())
    targets = F.one_hot(Y, 2).double()
    truth = torch.where(targets == 1, p, 1 - p)
    expected = (-((1 - truth) ** 2) * torch.log(truth)).nan_to_num(0).sum() / 4
    torch.testing.assert_close(class_balanced_focal_loss(LOGITS.double(), Y, COUNTS, beta=0.0, gamma=2.0), expected)


def test_extreme_logits_have_finite_gradients_and_an_absent_class_weighs_nothing():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    class_balanced_focal_loss(logits, torch.tensor([1, 0]), COUNTS).backward()
    assert torch.isfinite(logits.grad).all()
    only = class_balanced_focal_loss(LOGITS, torch.ones(4, dtype=torch.long), torch.tensor([10, 0]), beta=0.9)
    assert only.item() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"logits": LOGITS[0]}, "logits must"), ({"y": Y[:2]}, "y must"), ({"class_counts": torch.ones(3)}, "class_counts must")],
)
def test_shapes_that_disagree_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        class_balanced_focal_loss(**({"logits": LOGITS, "y": Y, "class_counts": COUNTS} | arguments))
