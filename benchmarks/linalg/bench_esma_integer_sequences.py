"""Integer sequences: Berlekamp-Massey compiled and in plain Python, the search on e against its limit, and recurrences against SymPy."""

import numpy as np
import sympy
from sympy.series.sequences import SeqPer

from ritz.linalg import berlekamp_massey, extend_recurrence, find_conjectures, linear_recurrence
from ritz.linalg.linear_recurrences import LinearRecurrence, _massey
from ritz.studies import benchmark, compare
from ritz.studies.timing import within


def plain_massey(s: list[int], p: int) -> list[int]:
    """The textbook's loop on Python integers."""
    C, B, L, m, b = [1], [1], 0, 1, 1
    for n in range(len(s)):
        d = (s[n] + sum(C[i] * s[n - i] for i in range(1, min(L, len(C) - 1) + 1))) % p
        if d == 0:
            m += 1
            continue
        T, factor = C[:], d * pow(b, -1, p) % p
        C += [0] * (len(B) + m - len(C))
        for j, value in enumerate(B):
            C[j + m] = (C[j + m] - factor * value) % p
        if n >= 2 * L:
            L, B, b, m = n + 1 - L, T, d, 1
        else:
            m += 1
    return C


@benchmark
def massey():
    sequence = np.random.default_rng(0).integers(199, size=400).tolist()

    def plain():
        return plain_massey(sequence, 199)

    assert [c % 199 for c in berlekamp_massey(sequence, 199).coefficients] == np.trim_zeros(plain(), "b")
    residues = np.array(sequence[::-1], np.float64)
    return [
        compare("400 random terms, p = 199: the loop", lambda: _massey(residues, 199, True), plain, peer_name="plain Python", target=100),
        compare("the same, checks and result included", lambda: berlekamp_massey(sequence, 199), plain, peer_name="plain Python"),
    ]


@benchmark
def search():
    find_conjectures(sympy.GoldenRatio, coefficient_limit=1)
    return within("the published search on e", lambda: find_conjectures(sympy.E, sign_periods=(2, 2)), limit=10)


@benchmark
def over_the_rationals():
    """An order-12 recurrence; SymPy solves Hankel systems of growing order."""
    rule = LinearRecurrence((1, *np.random.default_rng(0).integers(-9, 10, size=11).tolist(), 5), 12)
    terms = extend_recurrence(rule, list(range(1, 13)), 48)
    peer = SeqPer(tuple(terms), (sympy.Symbol("n"), 0, sympy.oo))
    assert linear_recurrence(terms).coefficients == rule.coefficients
    assert [-c for c in peer.find_linear_recurrence(48)] == list(rule.coefficients[1:])
    return compare(
        "order 12 from 48 terms",
        lambda: linear_recurrence(terms),
        lambda: peer.find_linear_recurrence(48),
        peer_name="SymPy find_linear_recurrence",
        target=20,
    )
