"""Monarch layers against dense and low-rank ones, in training, in fine-tuning after projection, and as a fit of known transforms."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
import scipy.linalg
import torch
from torch import nn

from ritz.linalg import MonarchLinear, ReverseSparsification, monarch_project, monarchize
from ritz.studies import Run, compare, study
from ritz.studies.data.digits import digits
from ritz.studies.training import fit, minibatches, warmup_cosine

BLOCKS = 8
LEARNING_RATE = 3e-3
BATCH = 64


@study("monarch", minutes=1)
def study_monarch(run: Run) -> None:
    """Monarch layers train to a dense network's accuracy with a fifth of its numbers, and a trained network is projected on them in closed form."""
    _train_and_project(run)
    _fit_transforms(run)
    if run.scale == "full":
        _throughput(run)


def _train_and_project(run: Run) -> None:
    epochs = run.pick(smoke=2, default=30)
    rows = []
    for seed in run.progress(run.seeds(4), "training on digits"):
        data = [torch.from_numpy(part).to(run.device) for part in digits(seed)]
        nets = {"dense": _network(seed, run.device), "Monarch": _monarch_network(seed, run.device), "low rank": _low_rank_network(seed, run.device)}
        for name, net in nets.items():
            _fit_digits(net, data, epochs, seed)
            rows.append({"network": name, "seed": seed, "accuracy": _accuracy(net, data), "numbers": _numbers(net)})
        projected = monarchize(nets["dense"], blocks=BLOCKS, match=_is_hidden)
        rows.append({"network": "dense, projected", "seed": seed, "accuracy": _accuracy(projected, data), "numbers": _numbers(projected)})
        for name, net in {"dense, projected, 2 epochs": projected, "Monarch from scratch, 2 epochs": _monarch_network(seed, run.device)}.items():
            _fit_digits(net, data, 2, seed)
            rows.append({"network": name, "seed": seed, "accuracy": _accuracy(net, data), "numbers": _numbers(net)})
        reverse = _monarch_network(seed, run.device)
        sparse_numbers = _numbers(reverse)
        _fit_digits(reverse, data, epochs, seed, reverse_at=0.8)
        rows.append({"network": "Monarch, dense after 80 %", "seed": seed, "accuracy": _accuracy(reverse, data), "numbers": _numbers(reverse)})
    run.table("digits: test accuracy and stored numbers", rows)
    mean = {name: float(np.mean([row["accuracy"] for row in rows if row["network"] == name])) for name in dict.fromkeys(r["network"] for r in rows)}
    run.figure("accuracy", lambda axes: _draw(axes, mean, rows), caption="digits: test accuracy, mean and every seed")
    gap = mean["dense"] - mean["Monarch"]
    run.claim(
        "Monarch is within 0.02 of the dense accuracy",
        baseline="dense layers, 4.9 times the numbers",
        measured=gap,
        holds=gap <= 0.02,
        paper="comparable quality, ViT and GPT-2 trained 2x faster",
    )
    gain = mean["dense, projected, 2 epochs"] - mean["Monarch from scratch, 2 epochs"]
    run.claim(
        "projected and trained for 2 epochs beats 2 epochs from scratch by at least 0.10",
        baseline="Monarch from scratch",
        measured=gain,
        holds=gain >= 0.10,
    )
    work = 0.8 * sparse_numbers / _numbers(_network(0, "cpu")) + 0.2
    change = abs(mean["Monarch, dense after 80 %"] - mean["dense"])
    run.claim(
        f"reverse sparsification ends within 0.01 of dense training, at {work:.2f} (at most 0.75) of its multiply-adds",
        baseline="dense training",
        measured=change,
        holds=change <= 0.01 and work <= 0.75,
        paper="23 % faster BERT pretraining",
    )
    run.note(f"a low-rank layer of as many numbers is {100 * (mean['Monarch'] - mean['low rank']):.1f} points below Monarch")


def _fit_transforms(run: Run) -> None:
    """The nearest Monarch matrix of known transforms, columns in bit-transposed order, against the best matrix of low rank with as many numbers."""
    n = 64
    random = np.random.default_rng(run.seed).standard_normal((n, n)) / math.sqrt(n)
    targets = {
        "Fourier": scipy.fft.fft(np.eye(n), axis=0, norm="ortho"),
        "Hadamard": scipy.linalg.hadamard(n) / math.sqrt(n),
        "cosine": scipy.fft.dct(np.eye(n), axis=0, norm="ortho"),
        "random": random,
    }
    rows = []
    for name, target in targets.items():
        errors = [_relative_error(monarch_project(columns, blocks=8).toarray(), columns) for columns in (target, _transposed_order(target, 8))]
        low_rank = _relative_error(_truncate(target, n // 8), target)
        rows.append({"transform": name, "Monarch": min(errors), "low rank": low_rank, "numbers": 2 * 8**3, "of": n * n})
    run.table("relative error of the nearest Monarch and low-rank matrices of 64 points", rows)
    worst = max(row["Monarch"] for row in rows[:2])
    run.claim("the Fourier and Hadamard transforms are Monarch matrices: relative error of at most 1e-12", measured=worst, holds=worst <= 1e-12)


def _throughput(run: Run) -> None:
    """Forward and backward of a GPT-2-small MLP, dense and Monarch with 4 blocks."""
    x = torch.randn(8192, 768, device=run.device, requires_grad=True)
    dense = nn.Sequential(nn.Linear(768, 3072), nn.GELU(), nn.Linear(3072, 768)).to(run.device)
    sparse = monarchize(dense, blocks=4)

    def step(net: nn.Module) -> None:
        net(x).sum().backward()
        if x.is_cuda:
            torch.cuda.synchronize()

    found = compare("Monarch MLP", lambda: step(sparse), lambda: step(dense), peer_name="dense MLP", warmup=3)
    run.table(
        "GPT-2-small MLP, 8,192 tokens, forward and backward", [{"seconds": found.seconds, "dense seconds": found.peer_seconds, "ratio": found.ratio}]
    )


def _network(seed: int, device: str) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)).to(device)


def _monarch_network(seed: int, device: str) -> nn.Module:
    torch.manual_seed(seed)
    hidden = MonarchLinear(64, 256, blocks=BLOCKS), nn.ReLU(), MonarchLinear(256, 256, blocks=BLOCKS), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(256, 10)).to(device)


def _low_rank_network(seed: int, device: str) -> nn.Module:
    """The same sizes with hidden layers of low rank that store at least as many numbers as Monarch's."""
    torch.manual_seed(seed)

    def low_rank(n: int, m: int) -> nn.Module:
        rank = math.ceil((MonarchLinear(n, m, blocks=BLOCKS, bias=False).R.numel() + m * BLOCKS) / (n + m))
        return nn.Sequential(nn.Linear(n, rank, bias=False), nn.Linear(rank, m))

    return nn.Sequential(low_rank(64, 256), nn.ReLU(), low_rank(256, 256), nn.ReLU(), nn.Linear(256, 10)).to(device)


def _is_hidden(name: str, layer: nn.Linear) -> bool:
    return layer.out_features != 10


def _fit_digits(net: nn.Module, data: list[torch.Tensor], epochs: int, seed: int, *, reverse_at: float | None = None) -> None:
    x, y, _, _ = data
    steps = epochs * (len(x) // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    hook = ReverseSparsification(net, reverse_at, optimizer=optimizer, warmup_steps=20) if reverse_at is not None else None
    batches = minibatches(len(x), BATCH, torch.Generator().manual_seed(seed))

    def loss(step: int) -> torch.Tensor:
        chosen = next(batches).to(x.device)
        return nn.functional.cross_entropy(net(x[chosen]), y[chosen])

    def densify_in_time(step: int) -> None:
        if hook is not None:
            hook.step((step + 1) / steps)

    fit(optimizer, loss, range(steps), scheduler=warmup_cosine(optimizer, steps, min(20, steps // 5)), after_step=densify_in_time)


@torch.no_grad()
def _accuracy(net: nn.Module, data: list[torch.Tensor]) -> float:
    return (net(data[2]).argmax(dim=1) == data[3]).double().mean().item()


def _numbers(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _transposed_order(matrix: np.ndarray, blocks: int) -> np.ndarray:
    n = len(matrix)
    return matrix.reshape(n, n // blocks, blocks).swapaxes(1, 2).reshape(n, n)


def _truncate(matrix: np.ndarray, rank: int) -> np.ndarray:
    U, s, V = np.linalg.svd(matrix)
    return (U[:, :rank] * s[:rank]) @ V[:rank]


def _relative_error(approximation: np.ndarray, matrix: np.ndarray) -> float:
    return float(np.linalg.norm(approximation - matrix) / np.linalg.norm(matrix))


def _draw(axes, mean: dict[str, float], rows: list[dict]) -> None:
    names = list(mean)
    axes.barh(names, list(mean.values()), color="#c9d7ea")
    axes.scatter([row["accuracy"] for row in rows], [names.index(row["network"]) for row in rows], s=12, color="#1f4e8c")
    axes.set(xlabel="test accuracy", xlim=(min(0.6, min(row["accuracy"] for row in rows)), 1.0))
    axes.invert_yaxis()
