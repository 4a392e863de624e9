"""MBAT with orthogonal and with Gaussian matrices: recall of sequences, norms of deep records, tables as JSON, and records with mistakes in them."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from ritz.core import random_generator
from ritz.linalg import JSONVectorizer, OrthogonalFamily, bind, sequence
from ritz.linalg.json_encoder import RecordEncoder
from ritz.linalg.json_trees import levels
from ritz.linalg.keyed_randomness import keyed_generator
from ritz.linalg.orthogonal_families import DenseRotation
from ritz.linalg.vector_symbols import symbol_vectors
from ritz.studies import Run, study
from ritz.studies.data.customers import customers, with_mistakes

TABLES = {"wine": load_wine, "breast cancer": load_breast_cancer}
PLAIN = {"key_weight": 0.0, "type_weight": 0.0}


@study("mbat-json", minutes=2)
def study_mbat_json(run: Run) -> None:
    """Orthogonal matrices bring long sequences back and keep the norms of deep records, where Gaussian ones lose both."""
    _sequences(run)
    _norms(run)
    _tables(run)
    _duplicates(run)


def _sequences(run: Run) -> None:
    D, words, trials = 512, 200, run.pick(smoke=1, default=30)
    rows = []
    for kind in run.progress(("hadamard", "householder", "haar", "gaussian"), "sequences"):
        for length in (4, 8, 16):
            found = [_recall(kind, D, words, length, run.seed + trial) for trial in range(trials)]
            rows.append({"matrices": kind, "length": length, "recall": float(np.mean(found)), "worst trial": min(found)})
    run.table(f"sequence recall among {words} words, D = {D}, {trials} trials", rows)
    recall = {(row["matrices"], row["length"]): row["recall"] for row in rows}
    run.claim("16 words, orthogonal (hadamard): recall at least 0.95", measured=recall["hadamard", 16], holds=recall["hadamard", 16] >= 0.95)
    run.claim("16 words, Gaussian matrices: recall at most 0.7", measured=recall["gaussian", 16], holds=recall["gaussian", 16] <= 0.7)
    run.figure("recall", partial(_draw_recall, rows), caption="recall of the words of a sequence by its length")


def _recall(kind: str, D: int, count: int, length: int, seed: int) -> float:
    """Unbind by the transpose, step by step; take the nearest word at each."""
    rng = random_generator(seed)
    words = symbol_vectors((f"word {i}" for i in range(count)), D, seed).astype(np.float64)
    Q = rng.standard_normal((D, D)) / np.sqrt(D) if kind == "gaussian" else OrthogonalFamily(D, kind, seed)["next"]
    chosen = rng.choice(count, length, replace=False)
    state, right = sequence(words[chosen], Q), 0
    for word in chosen:
        right += int(np.argmax(words @ state) == word)
        state = bind(Q.T, state)
    return right / length


def nested(features: np.ndarray, depth: int) -> list[dict]:
    """Rows of a table as JSON: the feature's number in binary is its path in a tree of left and right."""
    paths = [["left" if digit == "0" else "right" for digit in f"{j:0{depth}b}"] for j in range(features.shape[1])]
    return [_tree(paths, row) for row in features.tolist()]


def _tree(paths: list[list[str]], values: list[float]) -> dict:
    root: dict = {}
    for (*way, last), value in zip(paths, values):
        node = root
        for key in way:
            node = node.setdefault(key, {})
        node[last] = value
    return root


class GaussianFamily:
    """Plain MBAT's matrices, entries N(0, 1/D): on average they keep norms."""

    def __init__(self, D: int, seed: int):
        self.D, self.seed = D, seed
        self._kept: dict[str, DenseRotation] = {}

    def __getitem__(self, key: str) -> DenseRotation:
        if key not in self._kept:
            self._kept[key] = DenseRotation(keyed_generator(key, self.seed).standard_normal((self.D, self.D)) / np.sqrt(self.D))
        return self._kept[key]


def _norms(run: Run) -> None:
    D, most, rows = 256, run.pick(smoke=20, default=178), []
    for name, load in TABLES.items():
        features = load().data[:most]
        shallow = int(np.ceil(np.log2(features.shape[1])))
        for seed in run.seeds(5):
            flat, deep = (_variation(D, nested(features, depth), seed) for depth in (shallow, 8))
            gaussian = _variation(D, nested(features, 8), seed, GaussianFamily)
            rows.append(
                {
                    "table": name,
                    "seed": seed,
                    "depth of a flat tree": shallow,
                    "orthogonal, flat": flat,
                    "orthogonal, depth 8": deep,
                    "Gaussian, depth 8": gaussian,
                }
            )
            rows[-1] |= {"deep / flat": deep / flat, "Gaussian / orthogonal": gaussian / deep}
    run.table(f"coefficient of variation of the norms of {most} records, D = {D}", rows)
    for name in TABLES:
        ratio = float(np.mean([row["Gaussian / orthogonal"] for row in rows if row["table"] == name]))
        run.claim(
            f"{name}, nested 8 deep: norms vary at least 2 times as much with Gaussian matrices (mean over seeds)", measured=ratio, holds=ratio >= 2
        )
    change = max(abs(row["deep / flat"] - 1) for row in rows)
    run.claim("orthogonal matrices: depth changes the variation by at most 1 % (the greatest change)", measured=change, holds=change <= 0.01)


def _variation(D: int, records: list[dict], seed: int, family: type = OrthogonalFamily) -> float:
    vectorizer = JSONVectorizer(D, seed=seed, **PLAIN).fit(records)
    vectors = RecordEncoder(vectorizer, family(D, seed=seed))(levels(records, name=str))
    norms = np.linalg.norm(vectors, axis=1)
    return float(norms.std() / norms.mean())


def _tables(run: Run) -> None:
    D, rows = 256, []
    for name, load in TABLES.items():
        data = load()
        for seed in run.progress(run.seeds(3), name):
            scores = [
                _accuracies(data.data, data.target, *split, D, seed)
                for split in StratifiedKFold(5, shuffle=True, random_state=seed).split(data.data, data.target)
            ]
            means = {method: float(np.mean([score[method] for score in scores])) for method in scores[0]}
            rows.append({"table": name, "seed": seed} | means)
    run.table(f"accuracy of 5 nearest neighbors, 5 folds, D = {D}", rows)
    for name in TABLES:
        ours = np.mean([row["JSON vectors, cosine"] for row in rows if row["table"] == name])
        raw = max(np.mean([row[f"standardized, {metric}"] for row in rows if row["table"] == name]) for metric in ("cosine", "euclidean"))
        run.claim(
            f"{name}: accuracy within 0.02 of standardized features (difference, ours less theirs)",
            baseline="the better of cosine and Euclidean distance",
            measured=float(ours - raw),
            holds=ours >= raw - 0.02,
        )


def _accuracies(features, labels, train, test, D: int, seed: int) -> dict[str, float]:
    depth = int(np.ceil(np.log2(features.shape[1])))
    records = nested(features, depth)
    vectorizer = JSONVectorizer(D, seed=seed).fit([records[i] for i in train])
    vectors, standard = vectorizer.transform(records), StandardScaler().fit(features[train]).transform(features)
    settings = {
        "JSON vectors, cosine": (vectors, "cosine"),
        "standardized, cosine": (standard, "cosine"),
        "standardized, euclidean": (standard, "euclidean"),
    }
    return {
        name: float(KNeighborsClassifier(5, metric=metric).fit(x[train], labels[train]).score(x[test], labels[test]))
        for name, (x, metric) in settings.items()
    }


def _duplicates(run: Run) -> None:
    n, queries, D, rows = run.pick(smoke=100, default=4000, full=1_000_000), run.pick(smoke=25, default=1000), 1024, []
    for seed in run.progress(run.seeds(3), "duplicates"):
        records = customers(n, rng=seed)
        chosen = random_generator(seed + 1000).choice(n, queries, replace=False)
        spoiled = with_mistakes([records[i] for i in chosen], rng=seed + 2000)
        for name, encode in _ENCODERS.items():
            base, asked = encode(records, spoiled, D, seed)
            rows.append({"method": name, "seed": seed, "recall@1": _recall_at_1(base, asked, chosen)})
    run.table(f"{queries} customers of {n} with typos, missing and reordered fields, D = {D}", rows)
    best = {name: float(np.mean([row["recall@1"] for row in rows if row["method"] == name])) for name in _ENCODERS}
    run.note("mean recall@1 of records with mistakes: " + ", ".join(f"{name} {value:.3f}" for name, value in best.items()))


def _recall_at_1(base, asked, chosen: np.ndarray) -> float:
    found = []
    for first in range(0, asked.shape[0], 250):
        products = asked[first : first + 250] @ base.T
        found.append((products.toarray() if hasattr(products, "toarray") else products).argmax(axis=1))
    return float(np.mean(np.concatenate(found) == chosen))


def _json_vectors(records, spoiled, D: int, seed: int, **options):
    vectorizer = JSONVectorizer(D, seed=seed, normalize="unit", **options).fit(records)
    return vectorizer.transform(records), vectorizer.transform(spoiled)


def _tfidf(records, spoiled, D: int, seed: int, **options):
    vectorizer = TfidfVectorizer(**options).fit(_text(record) for record in records)
    return tuple(vectorizer.transform(_text(record) for record in group) for group in (records, spoiled))


def _text(record: object, path: str = "") -> str:
    """A record as one text, each value after its path: places in arrays left out, as their order is not what TF-IDF should see."""
    if isinstance(record, dict):
        return "\n".join(_text(value, f"{path}_{key}") for key, value in record.items())
    if isinstance(record, list):
        return "\n".join(_text(value, path) for value in record)
    return "\n".join(f"{path}:{word}" for word in str(record).lower().split())


_ENCODERS = {
    "JSON vectors, words": _json_vectors,
    "JSON vectors, trigrams": partial(_json_vectors, strings="trigrams"),
    "JSON vectors, trigrams, bags": partial(_json_vectors, strings="trigrams", arrays="bag"),
    "TF-IDF of path and word": partial(_tfidf, token_pattern=r"\S+"),
    "TF-IDF of trigrams": partial(_tfidf, analyzer="char_wb", ngram_range=(3, 3)),
    "TF-IDF of 2 to 4-grams": partial(_tfidf, analyzer="char_wb", ngram_range=(2, 4)),
}


def _draw_recall(rows: list[dict], axes) -> None:
    for kind in dict.fromkeys(row["matrices"] for row in rows):
        own = [row for row in rows if row["matrices"] == kind]
        axes.plot([row["length"] for row in own], [row["recall"] for row in own], marker="o", label=kind)
    axes.set(xlabel="words in the sequence", ylabel="recall", ylim=(0, 1.05))
    axes.legend()
