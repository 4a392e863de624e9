"""The ground all rooms stand on: arrays, argument checks, random numbers, results, progress, files, optional libraries."""

from ritz.core.arrays import as_operator, is_torch, kind, like, namespace, to_csr, to_numpy
from ritz.core.files import atomic_path, existing_file, write_json, write_text
from ritz.core.optional import MissingExtra, optional_import
from ritz.core.progress import progress, quiet, shows_progress
from ritz.core.randomness import random_generator, spawn_seeds, torch_generator
from ritz.core.results import ConvergenceWarning, Result, warn_not_converged
from ritz.core.validation import (
    array,
    choice,
    flag,
    integer,
    matrix,
    positive,
    real,
    same_shape,
    sparse_matrix,
    square_matrix,
    symmetric_matrix,
)
