"""The recurrence in chunks equals single steps, in outputs, states and gradients, and is causal to the last bit."""

import numpy as np
import pytest
import torch

from ritz.sequence.diagonal_recurrence import CHUNK, DiagonalSystem, run, step

LENGTHS = [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]


def _complex(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def _problem(length, dtype=torch.float64):
    rng = np.random.default_rng(length)
    poles = torch.from_numpy(-rng.uniform(0.01, 0.5, (3, 4)) + 1j * rng.uniform(-3, 3, (3, 4)))
    u = torch.from_numpy(rng.standard_normal((2, 3, length))).to(dtype)
    return DiagonalSystem(poles, _complex(rng, 3, 4), _complex(rng, 3, 4)), u, _complex(rng, 2, 3, 4).to(dtype.to_complex())


def _stepwise(system, u, state):
    outputs = []
    for u_t in u.unbind(-1):
        y_t, state = step(system, u_t, state)
        outputs.append(y_t)
    return torch.stack(outputs, dim=-1), state


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_chunks_equal_steps(length, dtype, tolerance):
    problem = _problem(length, dtype)
    for ours, plain in zip(run(*problem), _stepwise(*problem)):
        assert ours.dtype == plain.dtype
        assert (ours - plain).abs().max() <= tolerance * plain.abs().max()


@pytest.mark.parametrize("length", [1, CHUNK + 1])
def test_gradients_of_chunks_equal_those_of_steps(length):
    def gradients(form):
        system, u, state = _problem(length)
        leaves = [leaf.requires_grad_() for leaf in (*system, u, state)]
        y, last = form(DiagonalSystem(*leaves[:3]), u, state)
        (y.square().sum() + last.abs().square().sum()).backward()
        return [leaf.grad for leaf in leaves]

    for ours, plain in zip(gradients(run), gradients(_stepwise)):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10 * plain.abs().max().item())


def test_a_later_input_leaves_earlier_outputs_untouched_to_the_last_bit():
    system, u, state = _problem(3 * CHUNK + 5, torch.float32)
    before, _ = run(system, u, state)
    for t in (1, CHUNK - 1, CHUNK, 2 * CHUNK + 7):
        changed = u.clone()
        changed[..., t] += 1e3
        after, _ = run(system, changed, state)
        assert torch.equal(after[..., :t], before[..., :t])
        assert not torch.equal(after[..., t], before[..., t])
