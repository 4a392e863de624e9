"""Shared bases for many matrices: how tight the bounds are, and what clusters within an error save, on digits, network weights and advection."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ritz.core import random_generator
from ritz.linalg import ConcatenatedSVDClustering, concatenation_error_bound
from ritz.studies import Run, study

EPS = 0.05
RANK = 20
ESTIMATORS = ("incremental", "residual", "weyl")
BASELINES = ("k-means on norms", "k-means on entries", "random partition")


@study("concatenated-svd", minutes=0.5)
def study_concatenated_svd(run: Run) -> None:
    """An incremental bound is nearly the truth, and clusters made by it keep their promised error and compress more than looser bounds allow."""
    seeds = run.seeds(3)
    collections = {(name, seed): build(run, seed) for seed in run.progress(seeds, "collections") for name, build in COLLECTIONS.items()}
    _bounds(run, collections)
    _clusters(run, collections)


def _bounds(run: Run, collections: dict) -> None:
    sizes = run.pick(smoke=(2, 5), default=(2, 5, 10, 20, 50))
    rows = []
    for (name, seed), blocks in run.progress(list(collections.items()), "bounds"):
        order = random_generator(seed + 100).permutation(len(blocks))
        for size in (size for size in sizes if size <= len(blocks)):
            chosen = [blocks[i] for i in order[:size]]
            found = {estimator: concatenation_error_bound(chosen, RANK, estimator=estimator) for estimator in ESTIMATORS}
            more = {"incremental, 20 more": concatenation_error_bound(chosen, RANK, oversampling=20)}
            rows.append({"collection": name, "seed": seed, "blocks": size, "true error": true_error(chosen)} | found | more)
    run.table(f"relative error of the best {RANK} directions, and bounds on it", rows)
    run.figure(
        "bounds", lambda axes: _draw(axes, [row for row in rows if row["seed"] == run.seed]), caption="True error and bounds by number of blocks"
    )
    gap = max(row["incremental"] - row["true error"] for row in rows)
    run.claim(
        "incremental bound with 5 directions more within 0.01 of the true error everywhere (largest gap)",
        baseline="true error",
        measured=gap,
        holds=gap <= 0.01,
    )
    run.note(f"with 20 directions more the largest gap is {max(row['incremental, 20 more'] - row['true error'] for row in rows):.2g}")
    below = min(row[estimator] - row["true error"] for row in rows for estimator in ESTIMATORS)
    run.claim("no bound is below the true error (smallest gap, 1e-10 for rounding)", measured=below, holds=below >= -1e-10)
    ordered = float(np.mean([row["incremental"] <= row["residual"] + 1e-12 <= row["weyl"] + 2e-12 for row in rows]))
    run.claim("incremental <= residual <= Weyl in every case (share of cases)", measured=ordered, holds=ordered == 1.0)


def _clusters(run: Run, collections: dict) -> None:
    rows = []
    for (name, seed), blocks in run.progress(list(collections.items()), "clustering"):
        for estimator in ESTIMATORS:
            found = ConcatenatedSVDClustering(RANK, EPS, estimator=estimator).fit(blocks)
            rows.append(_row(name, seed, f"ritz, {estimator}", blocks, found.labels_) | {"compression": found.compression_ratio_})
        count = next(len(set(row["labels"])) for row in rows[-3:] if row["method"] == "ritz, incremental")
        rows += [_row(name, seed, method, blocks, labels) for method, labels in _baseline_labels(blocks, count, seed).items()]
    shown = [{column: value for column, value in row.items() if column != "labels"} for row in rows]
    run.table(
        f"clusters at rank {RANK}, eps = {EPS}; the baselines know no eps", shown, note="compression of the baselines: whatever error they make"
    )
    ours = [row for row in rows if row["method"].startswith("ritz")]
    run.claim(
        "clusters beyond eps, all three estimators", measured=sum(row["beyond eps"] for row in ours), holds=not any(row["beyond eps"] for row in ours)
    )
    ratio = {(row["collection"], row["seed"], row["method"].removeprefix("ritz, ")): row["compression"] for row in ours}
    least = min(ratio[(*key, "incremental")] / ratio[(*key, other)] for key in collections for other in ("residual", "weyl"))
    run.claim(
        "incremental compresses no less than residual and Weyl (smallest quotient)", baseline="residual, Weyl", measured=least, holds=least >= 1
    )
    for name in ("advection", "digits"):
        gains = [ratio[name, seed, "incremental"] / ratio[name, seed, "weyl"] for of, seed in collections if of == name]
        run.claim(
            f"{name}: incremental compresses at least 1.2 times as much as Weyl (smallest of the seeds)",
            baseline="Weyl",
            measured=min(gains),
            holds=min(gains) >= 1.2,
        )
    violated = {name: all(row["beyond eps"] > 0 for row in rows if row["collection"] == name and row["method"] in BASELINES) for name in COLLECTIONS}
    run.claim(
        "collections, of three, on which every baseline with as many clusters breaks eps in some cluster, at every seed: at least two",
        baseline="k-means, random partition",
        measured=sum(violated.values()),
        holds=sum(violated.values()) >= 2,
    )


def _row(collection: str, seed: int, method: str, blocks: list, labels) -> dict:
    """What a partition costs and how far off it is; a single block beyond eps counts for the baselines, which compress it."""
    labels = np.asarray(labels)
    groups = [[blocks[i] for i in np.flatnonzero(labels == label)] for label in np.unique(labels)]
    errors = [true_error(group) for group in groups]
    single_is_kept = method.startswith("ritz")
    judged = [error for error, group in zip(errors, groups) if len(group) > 1 or not single_is_kept]
    m, total = len(blocks[0]), sum(block.shape[1] for block in blocks)
    stored = sum(min(RANK * (m + columns), m * columns) for columns in (sum(block.shape[1] for block in group) for group in groups))
    return {
        "collection": collection,
        "seed": seed,
        "method": method,
        "clusters": len(groups),
        "compression": m * total / stored,
        "largest error": max(judged, default=0.0),
        "beyond eps": sum(error > EPS + 1e-10 for error in judged),
        "labels": tuple(labels.tolist()),
    }


def _baseline_labels(blocks: list, count: int, seed: int) -> dict[str, np.ndarray]:
    from sklearn.cluster import KMeans

    def k_means(features):
        return KMeans(count, n_init=10, random_state=seed).fit_predict(features)

    width = min(block.shape[1] for block in blocks)
    return {
        "k-means on norms": k_means([[np.linalg.norm(block)] for block in blocks]),
        "k-means on entries": k_means([block[:, :width].ravel() for block in blocks]),
        "random partition": np.concatenate([np.arange(count), random_generator(seed).integers(count, size=len(blocks) - count)]),
        "all in one": np.zeros(len(blocks), int),
        "one by one": np.arange(len(blocks)),
    }


def true_error(blocks: list) -> float:
    """Relative Frobenius error of the best approximation of the blocks side by side."""
    s = np.linalg.svd(np.hstack(blocks), compute_uv=False)
    return float(np.linalg.norm(s[RANK:]) / np.linalg.norm(s))


def _digits(run: Run, seed: int) -> list[np.ndarray]:
    """Twelve images of one class a block, 64 x 12, in random order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = random_generator(seed).permutation(len(labels))
    images, labels = images[order] / 16, labels[order]
    blocks = [images[labels == c].T[:, first : first + 12] for c in range(10) for first in range(0, 168, 12)]
    return blocks[:: run.pick(smoke=8, default=1)]


def _weights(run: Run, seed: int) -> list[np.ndarray]:
    """The weights of a perceptron trained on digits, four layers of 128 units, in blocks of 128 x 8."""
    import torch
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    generator = torch.Generator().manual_seed(seed)
    sizes = (64, 128, 128, 128, 128, 10)
    weights = [torch.randn(o, i, generator=generator) * (2 / i) ** 0.5 for i, o in pairwise(sizes)]
    biases = [torch.zeros(o) for o in sizes[1:]]
    parameters = [part.requires_grad_() for part in weights + biases]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.1)
    for _ in range(run.pick(smoke=20, default=600)):
        batch = torch.randint(len(x), (128,), generator=generator)
        hidden = x[batch]
        for W, b in zip(weights[:-1], biases[:-1]):
            hidden = torch.relu(hidden @ W.T + b)
        loss = torch.nn.functional.cross_entropy(hidden @ weights[-1].T + biases[-1], y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wide = np.hstack([W.detach().double().numpy() for W in weights[:-1]])
    return [wide[:, first : first + 8] for first in range(0, wide.shape[1], 8)]


def _advection(run: Run, seed: int) -> list[np.ndarray]:
    """Snapshots of u(x - c t), periodic: bumps of six widths, ten speeds each, 16 times, on 256 points."""
    rng = random_generator(seed)
    x, times = np.arange(256) / 256, np.linspace(0, 1, 16)
    blocks = []
    for width in np.geomspace(0.01, 0.1, 6):
        for _ in range(run.pick(smoke=3, default=10)):
            speed, center, height = rng.uniform(0.1, 1), rng.random(), rng.uniform(0.5, 2)
            distance = (x[:, None] - speed * times - center + 0.5) % 1 - 0.5
            blocks.append(height * np.exp(-((distance / width) ** 2) / 2))
    return blocks


COLLECTIONS: dict[str, Callable[[Run, int], list[np.ndarray]]] = {"digits": _digits, "weights": _weights, "advection": _advection}


def _draw(axes, rows: list[dict]) -> None:
    for name, color in zip(COLLECTIONS, ("#1f4e8c", "#c2762d", "#5b8c5a")):
        mine = [row for row in rows if row["collection"] == name]
        for what, style in (("true error", "-"), ("incremental", "o"), ("residual", "--"), ("weyl", ":")):
            axes.plot([row["blocks"] for row in mine], [row[what] for row in mine], style, color=color, label=f"{name}, {what}")
    axes.set(xlabel="blocks", ylabel="relative error")
    axes.legend(fontsize="xx-small")
