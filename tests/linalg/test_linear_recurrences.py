"""Linear recurrences: what obeys one is recognized, exactly, modulo primes and over the rationals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import Specimen

from ritz.linalg import LinearRecurrence, berlekamp_massey, characteristic_roots, extend_recurrence, linear_recurrence

FIBONACCI = LinearRecurrence((1, -1, -1), 2)
TERMS = np.array([1, 1, 2, 3, 5, 8, 13, 21])
SPECIMENS = {
    "LinearRecurrence": Specimen(
        LinearRecurrence, lambda: {"coefficients": (1, -1), "order": 1, "modulus": 199},
        spare=frozenset({"coefficients"}), accepts={"modulus": ("none",)}
    ),
    "berlekamp_massey": Specimen(berlekamp_massey, lambda: {"sequence": TERMS.copy(), "p": 199}),
    "linear_recurrence": Specimen(
        linear_recurrence, lambda: {"sequence": TERMS.copy(), "max_order": 3, "primes": 2}, accepts={"max_order": ("none",)}
    ),
    "extend_recurrence": Specimen(extend_recurrence, lambda: {"recurrence": FIBONACCI, "initial": TERMS[:2].copy(), "n": 9}),
    "characteristic_roots": Specimen(characteristic_roots, lambda: {"recurrence": FIBONACCI}),
}  # fmt: skip


def generated(coefficients, initial, n, p):
    """n terms of s_i = -(c_1 s_{i-1} + ...) modulo p, by the definition."""
    terms = list(initial)
    while len(terms) < n:
        terms.append(-sum(c * s for c, s in zip(coefficients, reversed(terms))) % p)
    return terms


def rank(matrix, p):
    matrix, found = [list(map(int, row)) for row in matrix], 0
    for column in range(len(matrix)):
        pivot = next((r for r in range(found, len(matrix)) if matrix[r][column] % p), None)
        if pivot is None:
            continue
        matrix[found], matrix[pivot] = matrix[pivot], matrix[found]
        inverse = pow(matrix[found][column], -1, p)
        matrix[found] = [value * inverse % p for value in matrix[found]]
        for r in range(len(matrix)):
            if r != found:
                matrix[r] = [(x - matrix[r][column] * y) % p for x, y in zip(matrix[r], matrix[found])]
        found += 1
    return found


def test_known_sequences():
    assert berlekamp_massey(TERMS, 199).coefficients == (1, -1, -1)
    assert berlekamp_massey(TERMS, 199).order == 2
    for K in range(6):
        signs = [(-1) ** j * int(np.prod([K + 1 - i for i in range(j)]) // np.prod(range(1, j + 1))) for j in range(K + 2)]
        polynomial = [3 * n**K - n + 7 for n in range(2 * K + 6)] if K > 1 else [5 * n**K for n in range(1, 9)]
        assert berlekamp_massey(polynomial, 199).coefficients == tuple(signs)
        assert linear_recurrence(polynomial).coefficients == tuple(signs)
    for zeros in ([0], [0] * 9):
        assert berlekamp_massey(zeros, 7).coefficients == (1,)
        assert berlekamp_massey(zeros, 7).order == 0
    assert berlekamp_massey([0, 0, 1], 7).order == 3
    interlaced = [value for n in range(12) for value in (3 * n + 1, 5 - n)]
    assert linear_recurrence(interlaced).coefficients == (1, 0, -2, 0, 1)


@pytest.mark.parametrize("p", [2, 3, 199, 2**31 - 1])
@pytest.mark.parametrize("L", [1, 2, 5, 8])
def test_a_random_recurrence_is_recovered_from_twice_its_order(p, L):
    rng = np.random.default_rng(p % 1000 + L)
    for _ in range(20):
        c = [int(v) for v in rng.integers(p, size=L - 1)] + [int(rng.integers(1, p))]
        terms = generated(c, [int(v) for v in rng.integers(p, size=L)], 2 * L + 10, p)
        found = berlekamp_massey(terms[: 2 * L], p)
        if rank([terms[i : i + L] for i in range(L)], p) == L:  # else a shorter one generates them
            assert [value % p for value in found.coefficients[1:]] == c
            assert found.order == L
        assert extend_recurrence(found, terms[: found.order], len(terms)) == terms
        assert all(-p < 2 * value <= p for value in found.coefficients)


def test_one_term_less_may_not_suffice():
    p, terms = 199, generated([7, 11, 13], [0, 0, 1], 6, 199)
    assert berlekamp_massey(terms, p).coefficients == (1, 7, 11, 13)
    assert berlekamp_massey(terms[:5], p).coefficients != (1, 7, 11, 13)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(terms=st.lists(st.integers(0, 12), min_size=1, max_size=16))
def test_it_is_the_shortest_and_its_hankel_system_holds(terms):
    p, n = 13, len(terms)
    found = berlekamp_massey(terms, p)
    c, L = found.coefficients, found.order
    assert len(c) <= L + 1
    assert all(sum(v * terms[i - j] for j, v in enumerate(c)) % p == 0 for i in range(L, n))
    if n >= 2 * L and 0 < L <= 8:
        hankel = [terms[i : i + L] for i in range(L)]
        assert rank(hankel, p) == L  # so nothing shorter does, and the Hankel solution is unique
        solution = [-v % p for v in reversed(c + (0,) * (L + 1 - len(c)))][:L]
        assert [sum(h * s for h, s in zip(row, solution)) % p for row in hankel] == [terms[i + L] % p for i in range(L)]


def test_over_the_rationals_coefficients_are_exact():
    third = [Fraction(1, 3**n) + n for n in range(10)]
    assert linear_recurrence(third).coefficients == (1, Fraction(-7, 3), Fraction(5, 3), Fraction(-1, 3))
    large = LinearRecurrence((1, -(10**30), 7**40), 2)
    assert linear_recurrence(extend_recurrence(large, [1, 2], 9), primes=1).coefficients == large.coefficients
    assert linear_recurrence([0, 0, 1, 1, 1, 1, 1, 1]).order == 3
    assert linear_recurrence([0] * 4).order == 0
    assert linear_recurrence([2, 3, 5, 7, 11, 13, 17, 19, 23, 29]) is None
    assert linear_recurrence(TERMS, max_order=1) is None
    assert linear_recurrence([*TERMS, 35]) is None
    p = 2**31 - 1
    assert linear_recurrence([p**n for n in range(6)]).coefficients == (1, -p)
    assert linear_recurrence([Fraction(1, p**n) for n in range(6)]).coefficients == (1, Fraction(-1, p))


def test_roots_keep_their_multiplicity():
    np.testing.assert_allclose(characteristic_roots(LinearRecurrence((1, 0, -2, 0, 1), 4)), [-1, -1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(characteristic_roots(FIBONACCI).real, [(1 - 5**0.5) / 2, (1 + 5**0.5) / 2])
    np.testing.assert_allclose(characteristic_roots(LinearRecurrence((1, -1), 3)), [0, 0, 1])
    assert characteristic_roots(LinearRecurrence((1,), 0)).shape == (0,)
    np.testing.assert_allclose(np.abs(characteristic_roots(LinearRecurrence((1, *[0] * 11, -2, *[0] * 11, 1), 24))), 1, atol=1e-12)


@pytest.mark.parametrize("p", [1, 0, -7, 4, 199 * 211, 2**31 + 11, 2**61 - 1])
def test_what_is_no_prime_below_2_to_the_31_is_refused(p):
    with pytest.raises(ValueError, match="p must be"):
        berlekamp_massey([1, 2], p)


def test_refusals():
    with pytest.raises(TypeError, match="sequence must be an integer, got float"):
        berlekamp_massey([1, 2.5], 7)
    with pytest.raises(ValueError, match="sequence must not be empty"):
        berlekamp_massey([], 7)
    with pytest.raises(TypeError, match="sequence must be a sequence of integers, got str"):
        berlekamp_massey("123", 7)
    with pytest.raises(TypeError, match="p must be"):
        berlekamp_massey([1], 7.0)
    with pytest.raises(TypeError, match="sequence must hold integers or Fractions, got float"):
        linear_recurrence([1, 0.5])
    with pytest.raises(ValueError, match="initial must hold at least 2 terms"):
        extend_recurrence(FIBONACCI, [1], 5)
    with pytest.raises(TypeError, match="recurrence must be a LinearRecurrence"):
        extend_recurrence((1, -1), [1], 5)
    with pytest.raises(TypeError, match="recurrence must be a LinearRecurrence"):
        characteristic_roots((1, -1))
    for coefficients in ((), (2, 1), [1, 2], (1, 0.5)):
        with pytest.raises((ValueError, TypeError), match="coefficients must"):
            LinearRecurrence(coefficients, 1)
    with pytest.raises(ValueError, match="order must be"):
        LinearRecurrence((1, 2), 0)
