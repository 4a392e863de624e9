"""Blocks on threads and on ray: in order, with the same bits, and through the death of a worker."""

import os
import pickle
import signal
from typing import NamedTuple

import numpy as np
import pytest
from graphs.test_personalized_pagerank import random_digraph
from graphs.test_powerwalk import same_bits

from ritz.core import MissingExtra
from ritz.graphs import FastRP, PowerWalk, fastrp
from ritz.graphs.ray_tasks import Backend, Placed, contiguous_blocks
from ritz.graphs.sparse_products import SparseRows


@pytest.fixture(scope="module")
def ray():
    """A cluster of two workers on this machine."""
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def _numbers() -> Placed:
    return Placed(SparseRows(np.arange(4), np.arange(3), np.array([1.0, 10.0, 100.0])))


def _scaled(rows: NamedTuple, factor: int) -> np.ndarray:
    return rows.values * factor


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_answer_in_the_order_of_the_blocks(workers):
    found = Backend("local", workers).run(_scaled, [_numbers()], [(k,) for k in range(20)])
    np.testing.assert_array_equal(list(found), np.arange(20)[:, None] * [1, 10, 100])


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_a_block_is_raised(workers):
    def broken(rows, k):
        if k == 2:
            raise ArithmeticError("block 2")
        return k

    with pytest.raises(ArithmeticError, match="block 2"):
        list(Backend("local", workers).run(broken, [_numbers()], [(k,) for k in range(9)]))


def test_what_is_placed_cannot_be_written_and_is_left_as_it_was():
    values = np.ones(3)
    placed = Placed(SparseRows(np.arange(4), np.arange(3), values))
    with pytest.raises(ValueError, match="read-only"):
        placed.value.values[0] = 2
    values[0] = 3
    assert pickle.loads(pickle.dumps(placed)).value.values[0] == 3


def test_blocks_cover_everything_once():
    for count, blocks in ((10, 3), (3, 10), (1, 1), (7115, 16)):
        cuts = contiguous_blocks(count, blocks)
        assert [i for first, last in cuts for i in range(first, last)] == list(range(count))
        sizes = [last - first for first, last in cuts]
        assert max(sizes) - min(sizes) <= 1
        assert len(cuts) == min(count, blocks)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"ritz\[distributed\]"):
        PowerWalk(backend="ray").fit(np.eye(2))
    with pytest.raises(MissingExtra, match=r"ritz\[distributed\]"):
        fastrp(np.eye(2), 2, backend="ray")


def test_powerwalk_on_ray_has_the_bits_of_threads(ray):
    A = random_digraph(150, dangling=10)
    plain = PowerWalk(n_walks=20, rng=5).fit(A)
    answers, best = plain.query(np.arange(100)), plain.query([7, 3], top_k=4)
    for workers in (1, 2, 4):
        model = PowerWalk(n_walks=20, backend="ray", num_workers=workers, rng=5).fit(A)
        assert same_bits(model.index_, plain.index_)
        assert model.n_steps_ == plain.n_steps_
        assert same_bits(model.query(np.arange(100)), answers)
    np.testing.assert_array_equal(model.query([7, 3], top_k=4), best)


@pytest.mark.parametrize("dim", [1, 33, 77])
def test_fastrp_on_ray_has_the_bits_of_threads(ray, dim):
    graph = random_digraph(120, dangling=4)
    options = {"weights": (1.0, 0.0, 2.0), "rng": 0}
    np.testing.assert_array_equal(fastrp(graph, dim, backend="ray", num_workers=2, **options), fastrp(graph, dim, **options))
    changed = graph.copy()
    changed[3, 5] += 1
    updated = [FastRP(dim, backend=backend, **options).fit(graph).update(changed).embedding_ for backend in ("local", "ray")]
    np.testing.assert_array_equal(*updated)


def test_a_task_whose_worker_is_killed_runs_again(ray, tmp_path):
    def killed_once(rows, number, marker, kill):
        if number == 2 and not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), kill)
        return rows.values * number

    marker = str(tmp_path / "killed")
    found = Backend("ray", 2).run(killed_once, [_numbers()], [(k, marker, signal.SIGKILL) for k in range(5)])
    np.testing.assert_array_equal(list(found), np.arange(5)[:, None] * [1, 10, 100])
    assert os.path.exists(marker)


def test_an_error_in_a_ray_task_is_raised(ray):
    def broken(rows):
        raise ArithmeticError("in a task")

    with pytest.raises(ArithmeticError, match="in a task"):
        list(Backend("ray", 2).run(broken, [_numbers()], [()]))


def test_arrays_are_placed_once(ray, monkeypatch):
    put = []
    monkeypatch.setattr(ray, "put", lambda value, original=ray.put: put.append(value) or original(value))
    model = PowerWalk(n_walks=5, backend="ray", num_workers=2, rng=0).fit(random_digraph(50))
    assert len(put) == 1
    model.query([1, 2])
    model.query([3])
    assert len(put) == 2
