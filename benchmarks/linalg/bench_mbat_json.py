"""JSON vectors: Hadamard against dense matrices, a corpus against a limit in seconds, and batches against a dense product a node."""

from functools import cache

import numpy as np

from ritz.core import random_generator
from ritz.linalg import JSONVectorizer, OrthogonalFamily
from ritz.linalg.json_encoder import RecordEncoder
from ritz.linalg.json_trees import levels
from ritz.studies import benchmark, compare
from ritz.studies.timing import within


@cache
def records(count):
    """Records of 30 leaves in six objects, half of them words and half numbers."""
    rng = random_generator(0)
    return [
        {f"part {i}": {f"field {i} {j}": f"word{rng.integers(2000)}" if j % 2 else float(rng.standard_normal()) for j in range(5)} for i in range(6)}
        for _ in range(count)
    ]


@benchmark
def hadamard_against_haar():
    """One record at D = 4096, its matrices drawn before."""
    record = levels([{"a": {"b": {"a": "x"}, "a": 3.5}, "b": "y"}], name=str)
    encoders = {kind: RecordEncoder(JSONVectorizer(4096), OrthogonalFamily(4096, kind)) for kind in ("hadamard", "haar")}
    return compare("one record, D = 4096", lambda: encoders["hadamard"](record), lambda: encoders["haar"](record), peer_name="haar", target=20)


@benchmark(threads=2)
def a_corpus():
    X, vectorizer = records(10_000), JSONVectorizer(1024)
    vectorizer.fit(X).transform(X[:100])
    return within("10,000 records of 30 leaves, D = 1024", lambda: vectorizer.transform(X), limit=10)


@benchmark
def batches_against_a_product_a_node():
    """The peer multiplies each node's vector by its key's dense matrix and does nothing else: no parsing, no leaves."""
    X, vectorizer = records(300), JSONVectorizer(1024).fit(records(300))
    matrices, v = random_generator(0).standard_normal((36, 1024, 1024), dtype=np.float32), np.ones(1024, np.float32)

    def dense_products():
        for _ in X:
            for matrix in matrices:
                matrix @ v

    return compare(
        "300 records of 36 nodes, D = 1024", lambda: vectorizer.transform(X), dense_products, peer_name="a dense product a node", target=10
    )
