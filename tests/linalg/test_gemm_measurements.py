"""Tables of measured products: consistent rows, files, budget, power."""

import numpy as np
import pytest
from specimens import Specimen

from ritz.linalg import GemmMeasurements, measure_gemms
from ritz.linalg.power_meter import EnergyCounter

RNG = np.random.default_rng(0)
SIZES = np.concatenate([RNG.integers(32, 500, (12, 3)), RNG.choice([8, 16, 64], (12, 3))], axis=1)
SECONDS = 2e-10 * SIZES[:, :3].prod(axis=1)
TABLE = GemmMeasurements.of(SIZES, SECONDS, power_w=30 + SIZES[:, 3] / 10)
SPECIMENS = {
    "measure_gemms": Specimen(
        measure_gemms,
        lambda: {
            "shapes": [(8, 8, 8)],
            "tiles": [(4, 4, 4)],
            "kernel": "tiled",
            "dtype": "float32",
            "repeats": 1,
            "warmup": 0,
            "budget_seconds": 5.0,
            "rng": 0,
        },
        spare=frozenset({"shapes", "tiles"}),
        accepts={"rng": ("none",)},
    ),
    "GemmMeasurements": Specimen(GemmMeasurements, lambda: {"table": TABLE.table}, spare=frozenset({"table"})),
}


def test_every_row_is_consistent():
    measured = measure_gemms([(33, 20, 17), (8, 40, 64)], [(8, 8, 8), (16, 64, 16)], repeats=2, rng=0)
    assert [tuple(row) for row in measured.sizes.tolist()] == [
        (33, 20, 17, 8, 8, 8), (33, 20, 17, 16, 64, 16), (8, 40, 64, 8, 8, 8), (8, 40, 64, 16, 64, 16)
    ]  # fmt: skip
    for table in (measured.table, TABLE.table):
        assert np.all(table["runtime_s"] > 0)
        np.testing.assert_array_equal(table["energy_j"], table["runtime_s"] * table["power_w"])
        np.testing.assert_array_equal(table["tflops"], 2.0 * table["m"] * table["n"] * table["k"] / table["runtime_s"] / 1e12)
    with pytest.raises(ValueError, match="read-only"):
        measured.table["m"] = 1


def test_blas_and_the_budget():
    assert len(measure_gemms([(20, 30, 40)] * 2, kernel="blas", repeats=1, rng=0).table) == 2
    few = measure_gemms([(256, 256, 256)] * 200, [(1, 8, 8)], repeats=1, warmup=0, budget_seconds=0.3, rng=0)
    assert 0 < len(few.table) < 200


def test_csv_round_trip_and_its_errors(tmp_path):
    for table in (TABLE, GemmMeasurements.of(SIZES[:3], SECONDS[:3])):
        table.to_csv(tmp_path / "a.csv")
        found = GemmMeasurements.from_csv(tmp_path / "a.csv").table
        for name in found.dtype.names:
            np.testing.assert_array_equal(found[name], table.table[name])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0].startswith("m,n,k,tile_m")
    (tmp_path / "b.csv").write_text("\n".join([lines[0], lines[1], lines[2].replace(",", ",x", 1)]))
    with pytest.raises(ValueError, match="line 3"):
        GemmMeasurements.from_csv(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("m,n\n1,2\n")
    with pytest.raises(ValueError, match="line 1: must name the columns"):
        GemmMeasurements.from_csv(tmp_path / "c.csv")


def test_energy_counters(tmp_path):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("900")
    (zone / "max_energy_range_uj").write_text("999")
    counter = EnergyCounter(tmp_path)
    assert counter.is_readable

    def run():
        (zone / "energy_uj").write_text("100")  # 200 microjoules later, the counter having wrapped

    seconds = 0.01
    assert 0 < counter.mean_power(run, seconds) <= 200e-6 / seconds
    assert not EnergyCounter(tmp_path / "nothing").is_readable


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: measure_gemms([(8, 8)]), r"shapes\[0\] must be three sizes"),
        (lambda: measure_gemms([(8, 8, 8)], [(1, 1, 1)], kernel="blas"), "tiles must be None for BLAS"),
        (lambda: measure_gemms([], [(1, 1, 1)]), "must not be empty"),
        (lambda: measure_gemms([(8, 8, 8)], power="watts"), "power must be one of"),
        (lambda: GemmMeasurements.of(SIZES[:2], SECONDS), "sizes must have shape"),
        (lambda: GemmMeasurements(np.ones(3)), "table must be a structured array"),
    ],
)
def test_refusals(act, message):
    with pytest.raises((ValueError, TypeError), match=message):
        act()
