"""Paired timing: ratios of known sleeps, targets, threads, and finding benchmark files."""

import time

import pytest
import torch

from ritz.studies.timing import as_row, compare, find_benchmarks, fixed_threads, within


def test_the_ratio_is_peer_over_ours():
    found = compare("sleep", lambda: time.sleep(0.05), lambda: time.sleep(0.15), peer_name="longer sleep", target=2, pairs=3, shortest=0)
    assert 2 < found.ratio < 4
    assert found.met
    assert as_row(found)["met"] is True
    assert found.seconds == pytest.approx(0.05, rel=0.5)


def test_short_functions_are_repeated():
    calls = []
    compare("short", lambda: calls.append(1), lambda: None, peer_name="nothing", pairs=1, shortest=0.005)
    assert len(calls) > 100


def test_a_limit_is_met_or_not():
    assert within("quick", lambda: None, limit=1.0).met
    assert not within("slow", lambda: time.sleep(0.02), limit=0.01).met
    assert compare("no target", lambda: None, lambda: None, peer_name="itself", pairs=1, shortest=0).met is None


def test_threads_are_fixed_and_given_back():
    before = torch.get_num_threads()
    with fixed_threads(1):
        assert torch.get_num_threads() == 1
        assert compare("x", lambda: None, lambda: None, peer_name="x", pairs=1, shortest=0).threads == 1
    assert torch.get_num_threads() == before


def test_benchmark_files_are_found_by_room_and_word(tmp_path):
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "bench_fast_thing.py").write_text(
        "from ritz.studies import benchmark, compare\n"
        "@benchmark(threads=2)\ndef one(): return compare('a', int, int, peer_name='b', pairs=1, shortest=0)\n"
        "@benchmark\ndef two(): return []\ndef helper(): pass\n"
    )
    found = find_benchmarks(tmp_path, ["fast-thing"])
    assert [(f.__name__, f.threads) for f in found["graphs/fast_thing"]] == [("one", 2), ("two", 1)]
    assert list(find_benchmarks(tmp_path, ["graphs"])) == ["graphs/fast_thing"]
    with pytest.raises(ValueError, match="no benchmark of other"):
        find_benchmarks(tmp_path, ["other"])


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="pairs"):
        compare("x", int, int, peer_name="y", pairs=0)
