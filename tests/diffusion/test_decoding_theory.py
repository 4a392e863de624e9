"""Floors of parallel decoding against the law that an ideal model really decodes, and accuracies in closed form against simulation."""

import itertools
import math

import numpy as np
import pytest
import torch
from specimens import Specimen

from ritz.diffusion import (
    FixedPartition,
    RandomK,
    TabularMaskedModel,
    best_partition,
    conditional_total_correlation,
    list_task_accuracy,
    parallel_decode,
    parallel_kl_bound,
    total_correlation,
)

JOINT = np.random.default_rng(0).gamma(0.4, size=(2, 2, 2, 2, 2)) + 1e-3


def _decoded_law(joint, partition):
    """Probability of every sequence when an ideal model decodes the sets one after the other, each set independently."""
    model = TabularMaskedModel(joint)
    sequences = torch.tensor(list(itertools.product(range(joint.shape[0]), repeat=joint.ndim)))
    log_law = torch.zeros(len(sequences), dtype=torch.float64)
    seen = torch.full_like(sequences, model.mask_id)
    for positions in partition:
        logits = torch.log_softmax(model(seen), -1)
        for i in positions:
            log_law += logits[torch.arange(len(sequences)), i, sequences[:, i]]
        seen[:, list(positions)] = sequences[:, list(positions)]
    return log_law.exp().reshape(joint.shape).numpy()


@pytest.mark.parametrize("partition", [[(0, 1, 2, 3, 4)], [(0, 2), (1, 3, 4)], [(4,), (0, 1), (2, 3)], [(0,), (1,), (2,), (3,), (4,)]])
def test_the_bound_is_the_divergence_of_the_decoded_law(partition):
    p, q = JOINT / JOINT.sum(), _decoded_law(JOINT, partition)
    assert q.sum() == pytest.approx(1, abs=1e-10)
    assert parallel_kl_bound(JOINT, partition) == pytest.approx(float((p * np.log(p / q)).sum()), abs=1e-10)


def test_the_decoder_draws_that_law():
    model, partition, n = TabularMaskedModel(JOINT), ((0, 2), (1, 3, 4)), 20_000
    masked = torch.full((n, 5), model.mask_id)
    tokens = parallel_decode(model, masked, strategy=FixedPartition(partition), temperature=1.0, generator=0).tokens
    law = torch.bincount(tokens @ torch.tensor([16, 8, 4, 2, 1]), minlength=32).double() / n
    assert float((law - torch.from_numpy(_decoded_law(JOINT, partition)).flatten()).abs().sum()) / 2 < 0.02


def test_total_correlation_is_zero_for_independent_variables_only():
    a, b, c = np.random.default_rng(1).gamma(1.0, size=(3, 4))
    independent = np.einsum("i,j,k->ijk", a, b, c)
    assert total_correlation(independent) == pytest.approx(0, abs=1e-12)
    assert total_correlation(JOINT) > 1e-3
    assert total_correlation(np.eye(3)) == pytest.approx(math.log(3))


def test_conditioning_by_hand():
    p = JOINT / JOINT.sum()
    expected = 0.0
    for x in itertools.product(range(2), repeat=2):
        slice_ = p[x[0], :, x[1]]
        expected += slice_.sum() * total_correlation(slice_)
    assert conditional_total_correlation(JOINT, [0, 2]) == pytest.approx(expected, abs=1e-12)
    assert parallel_kl_bound(JOINT, [(1, 3, 4)], given=[0, 2]) == pytest.approx(expected, abs=1e-12)


def _ordered_partitions(items, steps):
    for assignment in itertools.product(range(steps), repeat=len(items)):
        if len(set(assignment)) == steps:
            yield [tuple(i for i, step in zip(items, assignment) if step == t) for t in range(steps)]


def test_the_best_partition_is_the_best_of_all_and_improves_with_the_steps():
    bounds = []
    for steps in range(1, 6):
        partition, bound = best_partition(JOINT, steps)
        assert len(partition) == steps
        assert parallel_kl_bound(JOINT, partition) == pytest.approx(bound, abs=1e-12)
        assert bound == pytest.approx(min(parallel_kl_bound(JOINT, p) for p in _ordered_partitions(range(5), steps)), abs=1e-12)
        bounds.append(bound)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(bounds))
    assert bounds[-1] == pytest.approx(0, abs=1e-12)


def shuffle_table(n):
    table = np.zeros((n,) * n)
    for permutation in itertools.permutations(range(n)):
        table[permutation] = 1
    return table


def replace_table(n):
    table = np.zeros((n + 1,) * n)
    for i in range(n):
        table[tuple(n if j == i else j for j in range(n))] = 1
    return table


@pytest.mark.parametrize("n", [3, 4, 5, 6])
@pytest.mark.parametrize(("task", "make"), [("shuffle", shuffle_table), ("replace_random", replace_table)])
def test_accuracies_in_closed_form_are_those_of_the_ideal_model(task, make, n):
    table, runs = make(n), 20_000
    model, allowed = TabularMaskedModel(table), torch.from_numpy(table > 0)
    for k in range(1, n + 1):
        masked = torch.full((runs, n), model.mask_id)
        tokens = parallel_decode(model, masked, strategy=RandomK(k=k), temperature=1.0, generator=k).tokens
        right = allowed[tuple(tokens.T)].double().mean()
        expected = list_task_accuracy(task, n, k)
        assert float(right) == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / runs) + 1e-12)


def test_known_values():
    assert list_task_accuracy("replace_random", 6, 2) == pytest.approx(0.7335, abs=5e-5)
    assert list_task_accuracy("replace_random", 6, 3) == pytest.approx(0.6044, abs=5e-5)
    assert list_task_accuracy("shuffle", 6, 6) == pytest.approx(math.factorial(6) / 6**6)
    assert list_task_accuracy("sort", 6, 6) == 1.0
    assert all(list_task_accuracy(task, 5, 1) == pytest.approx(1) for task in ("shuffle", "replace_random"))
    for n in (3, 6):
        assert total_correlation(shuffle_table(n)) == pytest.approx(n * math.log(n) - math.log(math.factorial(n)))
        assert total_correlation(replace_table(n)) == pytest.approx((n - 1) * math.log(n / (n - 1)))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: total_correlation(-np.eye(2)), "joint"),
        (lambda: conditional_total_correlation(JOINT, [0, 0]), "given"),
        (lambda: conditional_total_correlation(JOINT, [7]), "given"),
        (lambda: parallel_kl_bound(JOINT, [(0, 1)]), "partition"),
        (lambda: parallel_kl_bound(JOINT, [(0, 1, 2), (2, 3, 4)]), "partition"),
        (lambda: best_partition(JOINT, 6), "steps"),
        (lambda: best_partition(np.ones((2,) * 9), 2), "joint"),
        (lambda: list_task_accuracy("juggle", 3, 1), "task"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


_TABLE = {"joint": ("more dimensions",)}
SPECIMENS = {
    "total_correlation": Specimen(total_correlation, lambda: {"joint": np.eye(2)}, accepts=_TABLE),
    "conditional_total_correlation": Specimen(conditional_total_correlation, lambda: {"joint": np.eye(2), "given": (0,)}, accepts=_TABLE),
    "parallel_kl_bound": Specimen(lambda joint: parallel_kl_bound(joint, [[0, 1]]), lambda: {"joint": np.eye(2)}),
    "best_partition": Specimen(best_partition, lambda: {"joint": np.eye(2), "steps": 2}, accepts=_TABLE),
    "list_task_accuracy": Specimen(list_task_accuracy, lambda: {"task": "shuffle", "n": 4, "k": 2}),
}
