"""Products of few bits, activations rounded and packed within the time, against torch in float32 and in int8."""

from ritz.studies import Comparison, benchmark
from ritz.studies.linalg.bipolar_int_matmul import compare_products

M, K = 1024, 4096


def timed(N: int, weight_bits: int, activation_bits: int, *, fp32: float | None, int8: float | None = None) -> list[Comparison]:
    """Both peers, with their targets and the rate at which W is read."""
    found = []
    for peer, target in (("torch fp32", fp32), ("torch int8", int8)):
        one = compare_products(M, N, K, weight_bits, activation_bits, 7)[peer]
        rate = weight_bits * M * K / 8 / one.seconds / 1e9
        found.append(Comparison(**one.as_dict() | {"target": target, "extra": {"GB/s of W": rate}}))
    return found


@benchmark
def one_row():
    return [
        *timed(1, 1, 1, fp32=4.0, int8=1.5),
        *(one for w, x in ((1, 2), (1, 4), (2, 2)) for one in timed(1, w, x, fp32=4.0)),
        *(one for w, x in ((3, 4), (4, 4)) for one in timed(1, w, x, fp32=None)),
    ]


@benchmark
def sixteen_rows():
    return [
        *(one for w, x in ((1, 1), (1, 2), (1, 4), (2, 2)) for one in timed(16, w, x, fp32=3.0)),
        *(one for w, x in ((3, 4), (4, 4)) for one in timed(16, w, x, fp32=None)),
    ]
