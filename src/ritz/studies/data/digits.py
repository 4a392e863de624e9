"""Handwritten digits: the 1,797 real 8 x 8 images that come with scikit-learn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Training and test images (n, 64) float32 in [0, 1], and labels (n,) int64."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def digits(seed: int = 0, *, test_fraction: float = 0.25) -> Split:
    """Return the digits split at random, stratified by class.

    Examples
    --------
    >>> digits().x_train.shape
    (1347, 64)
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        (images / 16).astype(np.float32), labels.astype(np.int64), test_size=test_fraction, random_state=seed, stratify=labels
    )
    return Split(x_train, y_train, x_test, y_test)
