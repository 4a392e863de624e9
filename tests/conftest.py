"""Fixtures of all tests."""

import numba
import pytest
import torch


@pytest.fixture(autouse=True)
def _one_seed_and_thread():
    """Whatever a test leaves to torch's global stream is the same at every run; tests run side by side, each with one thread unless it asks."""
    torch.manual_seed(0)
    numba.set_num_threads(1)
    torch.set_num_threads(1)  # starting numba's threads sets those of OpenMP, which torch shares, to the number of cores


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
