"""JSON records as vectors of one length: similar records get similar vectors, whatever their schema.

Gallant, "Orthogonal Matrices for MBAT Vector Symbolic Architectures, and a 'Soft' VSA Representation for JSON", 2022, arXiv:2202.04771.

An object is ``sum_k Q_k enc(v_k)`` over its keys, with a random orthogonal matrix Q_k for each key, so a leaf under the path a.b.c is added as
``Q_a Q_b Q_c enc(leaf)``. An array is the sequence ``sum_i Q_next^(i-1) Q_item enc(x_i)``. Orthogonal matrices keep norms and angles, so a leaf
counts as much ten objects deep as at the top, and the inner product of two records is, up to noise of order 1/sqrt(D), the sum over the paths
that they share of the similarity of what is there. Transposed matrices lead back down a path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ritz.core import array, choice, flag, integer, real
from ritz.linalg.json_encoder import ITEM, NEXT, RecordEncoder, key_name
from ritz.linalg.json_leaves import THRESHOLDS, floats, knots_of
from ritz.linalg.json_paths import steps
from ritz.linalg.json_trees import Level, batches, levels
from ritz.linalg.orthogonal_families import KINDS, OrthogonalFamily

BATCH_ENTRIES = 1 << 24  # of the vectors of the nodes that are encoded together
_IDENTIFIER = re.compile(r"id$", re.IGNORECASE)
_LAST_KEY = re.compile(r"(?:[^.\[\]\\]|\\.)*$", re.DOTALL)


class JSONVectorizer(TransformerMixin, BaseEstimator):
    """Turn JSON values into vectors by binding with orthogonal matrices and adding up.

    Parameters
    ----------
    n_features : int
        The length D of the vectors; a power of two for Hadamard matrices. About D / (2 ln N) leaves of a record can be told apart from N candidates.
    matrices : {"hadamard", "haar", "householder"}
        The kind of `OrthogonalFamily`.
    strings : {"words", "token", "trigrams"} or callable
        A text is the sum of the vectors of its words in lower case; or one vector; or the sum of the vectors of its runs of three characters in
        lower case, scaled to norm one, so that typos stay near. A callable is an embedding: a list of n texts to an array (n, d), which a random
        semi-orthogonal matrix maps to D dimensions.
    numbers : {"auto", "thermometer", "sincos", "quantile"}
        How a number in its range becomes a unit vector. "sincos": a place on the quarter circle from the vector of the lowest to that of the
        highest. "thermometer": for each of 33 thresholds one of two vectors, below or above, so that the cosine falls linearly with the distance.
        "quantile": a thermometer whose thresholds are quantiles of the numbers at that path in `fit`. "auto": "sincos" where the range is known,
        "thermometer" elsewhere. Numbers outside their range are clamped.
    number_ranges : mapping from path to (lowest, highest), optional
        Ranges by path, e.g. ``{"patient.labs[].value": (0, 10)}``; places in arrays are left out. They take precedence over what `fit` learns.
        A number whose path has no range, neither given nor learned, is placed on a signed-log scale up to 2^53.
    normalize : {"none", "unit", "sqrt"}
        "unit": records have norm one. "sqrt": sums over the members of an object or an array, or the words of a text, are divided by the square
        root of their number, so that large parts do not dominate. "none": the paper's sums.
    arrays : {"sequence", "bag"}
        Whether the order in arrays counts.
    word_order : bool
        Whether the order of words in a text counts (for ``strings="words"``).
    key_weight : float of at least 0
        The weight of a vector for each key of an object, whatever its value: similar schemas are near.
    type_weight : float of at least 0
        The weight of a vector for the type of each value.
    identifiers : {"auto", "never"}
        "auto": integers that are all distinct in `fit`, two at least, at a path that ends in "id", are compared as texts, for equality only.
    seed : int
        Seed of all matrices and vectors. Nothing else is random, and the same seed gives the same vectors in every process.

    Attributes
    ----------
    number_knots_ : dict from path to ndarray
        The range of each path, or its quantiles.
    identifier_paths_ : frozenset of str
        The paths whose integers are compared as texts.

    Notes
    -----
    `transform` works without `fit`, as that of scikit-learn's HashingVectorizer does: ranges are then those given. Empty objects, arrays and
    texts, true, false and null have vectors of their own. Equal keys get equal matrices at any depth, but the matrices do not commute:
    {"a": {"b": x}} is not {"b": {"a": x}}. With Hadamard and Householder matrices a record's vector does not depend, to the last bit, on the
    order of its keys or on the records beside it; with Haar matrices it may, to rounding.
    The paper does not fix thresholds, nor weights of keys and types: those here are ours. A one-sided thermometer (the sum over the thresholds
    passed, normalized) has a cosine that falls like a square root; with a second vector for thresholds ahead it falls linearly.
    Cost: O(nodes * D log D) time for Hadamard matrices. The nodes of many records are encoded together, a level of depth at a time, grouped by key.

    References
    ----------
    .. [1] Gallant, 2022, arXiv:2202.04771.

    Examples
    --------
    >>> vectorizer = JSONVectorizer(normalize="unit")
    >>> a, b, c = vectorizer.transform([{"name": "Ann", "age": 31}, '{"age": 33, "name": "Ann"}', {"title": "sonnet", "lines": 14}])
    >>> bool(a @ b > 0.9), bool(a @ c < 0.3)
    (True, True)
    >>> vectorizer.lookup(vectorizer.unbind(a, "name"), ["Bob", "Ann", "Eve"], k=1)[0][0]
    'Ann'
    """

    def __init__(
        self,
        n_features: int = 1024,
        *,
        matrices: str = "hadamard",
        strings: str | Callable = "words",
        numbers: str = "auto",
        number_ranges: Mapping[str, tuple[float, float]] | None = None,
        normalize: str = "none",
        arrays: str = "sequence",
        word_order: bool = False,
        key_weight: float = 0.25,
        type_weight: float = 0.25,
        identifiers: str = "auto",
        seed: int = 0,
    ):
        self.n_features = n_features
        self.matrices = matrices
        self.strings = strings
        self.numbers = numbers
        self.number_ranges = number_ranges
        self.normalize = normalize
        self.arrays = arrays
        self.word_order = word_order
        self.key_weight = key_weight
        self.type_weight = type_weight
        self.identifiers = identifiers
        self.seed = seed

    def fit(self, X: Iterable[object], y=None) -> JSONVectorizer:
        """Learn the range of the numbers at each path, and which integers are identifiers.

        Parameters
        ----------
        X : iterable of JSON values
            dict, list, number, True, False, None, as Python has them; a str is parsed as JSON text.
        y : ignored

        Raises
        ------
        TypeError, ValueError
            If an option is not as described, or a record is no JSON value; the message names the record and the path.
        """
        self._check_options()
        seen: dict[str, list[float]] = {}
        whole: dict[str, bool] = {}
        for level in (level for group in self._batches(X) for level in group):
            for i in level.of_type("number"):
                path, value = level.paths[i], level.values[i]
                seen.setdefault(path, []).append(value)
                whole[path] = whole.get(path, True) and value == int(value)
        self.identifier_paths_ = frozenset(path for path in seen if whole[path] and self._identifies(path, seen[path]))
        self.number_knots_ = {path: self._knots(floats(values)) for path, values in seen.items() if path not in self.identifier_paths_}
        self.number_knots_ |= knots_of(self.number_ranges or {})
        return self

    def transform(self, X: Iterable[object]) -> np.ndarray:
        """Encode records: (n, D) float32.

        Parameters
        ----------
        X : iterable of JSON values
            As in `fit`.

        Raises
        ------
        TypeError, ValueError
            As in `fit`.
        """
        self._check_options()
        encoder = self._encoder()
        vectors = np.vstack([encoder(group) for group in self._batches(X)])
        if self.normalize == "unit":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the D features, as scikit-learn wants them."""
        return np.array([f"jsonvectorizer{i}" for i in range(self.n_features)], dtype=object)

    def unbind(self, vector, path: str | Sequence[str | int]) -> np.ndarray:
        """Go down a path by transposed matrices: the vector of what is there, plus noise from the rest of the record.

        Parameters
        ----------
        vector : array (D,)
            A record's vector.
        path : str or sequence of str and int
            Like ``"patient.labs[2].name"``, a backslash before any of ``. [ ] \\`` in a key; or ``("patient", "labs", 2, "name")``.

        Returns
        -------
        ndarray (D,)

        Raises
        ------
        TypeError, ValueError
            If the vector has another length or is not finite, or the path makes no sense, or goes into an array that is a bag by place.
        """
        self._check_options()
        vector = array(vector, "vector", shape=(self.n_features,))
        family = OrthogonalFamily(self.n_features, self.matrices, self.seed)
        for step in steps(path):
            if isinstance(step, str):
                vector = family[key_name(step)].T @ vector
                continue
            if self.arrays == "bag" and step > 0:
                raise ValueError(f"path must not go to place {step} of an array whose order was not kept, got {path!r}; any place is [0]")
            for _ in range(step):
                vector = family[NEXT].T @ vector
            vector = family[ITEM].T @ vector
        return vector

    def lookup(self, vector, candidates: Iterable[object], k: int = 5, *, path: str = "") -> list[tuple[object, float]]:
        """Find which values a noisy vector most likely stands for: the k of greatest cosine.

        Parameters
        ----------
        vector : array (D,)
            What `unbind` returned, or a record's vector.
        candidates : iterable of JSON values
            What it may be. A str here is a text, not JSON to be parsed.
        k : int
            How many to return at most.
        path : str
            The path that the candidates are at, places in arrays left out (``"labs[].value"``): numbers are encoded by its range.

        Returns
        -------
        list of (value, cosine)
            The most similar first.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        self._check_options()
        vector = np.asarray(array(vector, "vector", shape=(self.n_features,)), np.float64)
        k = integer(k, "k", at_least=1)
        if not isinstance(path, str):
            raise TypeError(f"path must be text like 'patient.labs[].value', got {type(path).__name__}")
        candidates = _records(candidates, "candidates")
        vectors = self._encoder()(levels(candidates, lambda i: f"candidates[{i}]", path)).astype(np.float64)
        cosines = vectors @ vector / np.maximum(np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector), np.finfo(np.float64).tiny)
        return [(candidates[i], float(cosines[i])) for i in np.argsort(-cosines, kind="stable")[:k]]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "number_knots_")

    def _encoder(self) -> RecordEncoder:
        return RecordEncoder(self, OrthogonalFamily(self.n_features, self.matrices, self.seed))

    def _batches(self, X: Iterable[object]) -> Iterable[list[Level]]:
        first = 0
        for group in batches(_records(X, "X"), max(1, BATCH_ENTRIES // self.n_features)):
            yield levels(group, lambda i, first=first: f"X[{first + i}]")
            first += len(group)

    def _identifies(self, path: str, values: list[float]) -> bool:
        named = _IDENTIFIER.search(_LAST_KEY.search(path).group())
        return self.identifiers == "auto" and named is not None and 1 < len(values) == len(set(values))

    def _knots(self, values: np.ndarray) -> np.ndarray:
        return np.quantile(values, np.linspace(0, 1, THRESHOLDS)) if self.numbers == "quantile" else np.array([values.min(), values.max()])

    def _check_options(self) -> None:
        OrthogonalFamily(integer(self.n_features, "n_features", at_least=1), choice(self.matrices, "matrices", KINDS), 0)
        if not callable(self.strings):
            choice(self.strings, "strings", ("words", "token", "trigrams"))
        choice(self.numbers, "numbers", ("auto", "thermometer", "sincos", "quantile"))
        choice(self.normalize, "normalize", ("none", "unit", "sqrt"))
        choice(self.arrays, "arrays", ("sequence", "bag"))
        choice(self.identifiers, "identifiers", ("auto", "never"))
        flag(self.word_order, "word_order")
        real(self.key_weight, "key_weight", at_least=0)
        real(self.type_weight, "type_weight", at_least=0)
        integer(self.seed, "seed", at_least=0, at_most=2**64 - 1)
        _check_ranges(self.number_ranges)


def _records(X: Iterable[object], name: str) -> list[object]:
    if isinstance(X, str | bytes | Mapping) or not isinstance(X, Iterable):
        raise TypeError(f"{name} must be a list of JSON values, got {type(X).__name__}")
    records = list(X)
    if not records:
        raise ValueError(f"{name} must not be empty")
    return records


def _check_ranges(ranges: object) -> None:
    if ranges is None:
        return
    if not isinstance(ranges, Mapping):
        raise TypeError(f"number_ranges must map paths to pairs of numbers, got {type(ranges).__name__}")
    for path, bounds in ranges.items():
        if not isinstance(path, str) or not isinstance(bounds, Sequence) or len(bounds) != 2:
            raise TypeError(f"number_ranges must map paths to pairs of numbers, got {path!r}: {bounds!r}")
        lowest, highest = (real(bound, f"number_ranges[{path!r}]") for bound in bounds)
        if lowest > highest:
            raise ValueError(f"number_ranges[{path!r}] must be (lowest, highest), got {bounds!r}")
