"""Odd integers against symmetric signed ones: errors of rounding, accuracy of a rounded network, speed of the products."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from torch import nn

from ritz.core import random_generator
from ritz.linalg import BipolarLinear, BipolarTensor, bipolar_matmul, quantize_bipolar
from ritz.studies import Comparison, Run, compare, study
from ritz.studies.data.digits import digits
from ritz.studies.timing import fixed_threads
from ritz.studies.training import fit, minibatches, warmup_cosine

RATIOS = np.linspace(0.1, 1.0, 91)  # the few levels of signed integers want smaller scales than the 60 of `quantize_bipolar`
WIDTHS = (1, 2, 3, 4)


@study("bipolar-int-matmul", minutes=3)
def study_bipolar(run: Run) -> None:
    """Odd integers use every code, so that few bits lose less than symmetric signed integers do, and products of few bits are fast on plain logic."""
    seeds = run.seeds(5)
    networks = {seed: _trained(seed, run.pick(smoke=40, default=1500)) for seed in run.progress(seeds, "training")}
    _rounding_errors(run, networks)
    _accuracies(run, networks)
    with fixed_threads(1):
        _speed(run)
    if run.device != "cpu":
        _speed_on_gpu(run)


def _rounding_errors(run: Run, networks: dict[int, nn.Sequential]) -> None:
    """Mean squared errors at the best scale, relative to the mean square of what is rounded."""
    gaussian = torch.from_numpy(random_generator(run.seed).standard_normal((1, run.pick(smoke=20_000, default=1_000_000))))
    trained = next(iter(networks.values()))[2].weight.detach().double()
    rows = []
    for name, values in (("Gaussian", gaussian), ("trained weights, by row", trained)):
        for bits in WIDTHS:
            bipolar = quantize_bipolar(values, bits)[0].dequantize()
            signed = round_signed(values, bits)
            errors = [float((values - rounded).square().mean() / values.square().mean()) for rounded in (bipolar, signed)]
            rows.append({"values": name, "bits": bits, "bipolar": errors[0], "signed symmetric": errors[1], "ratio": errors[0] / errors[1]})
    run.table("relative squared error of rounding at the best scale", rows)
    ratio = {row["bits"]: row["ratio"] for row in rows if row["values"] == "Gaussian"}
    for bits, most in ((2, 0.65), (3, 0.85), (4, 0.92)):
        text = f"Gaussian, {bits} bits: at most {most} of the squared error of signed symmetric integers"
        run.claim(text, baseline="signed symmetric integers", measured=ratio[bits], holds=ratio[bits] <= most)
    alone = next(row["signed symmetric"] for row in rows if row["bits"] == 1)
    run.claim("one bit, signed symmetric: nothing but zero, a relative error of 1", measured=alone, holds=alone == 1)


def _accuracies(run: Run, networks: dict[int, nn.Sequential]) -> None:
    rows = []
    for seed, network in run.progress(list(networks.items()), "rounding networks"):
        data = [torch.from_numpy(part)[: run.pick(smoke=60, default=450)] for part in digits(seed)[2:]]
        rows.append({"seed": seed, "weights": "float", "activations": "float", "format": "float", "accuracy": _accuracy(network, data)})
        for (weights, activations), (name, convert) in itertools.product(itertools.product(WIDTHS, WIDTHS), FORMATS.items()):
            rounded = nn.Sequential(*(convert(layer, weights, activations) if isinstance(layer, nn.Linear) else layer for layer in network))
            accuracy = _accuracy(rounded, data)
            rows.append({"seed": seed, "weights": weights, "activations": activations, "format": name, "accuracy": accuracy})
    run.table("accuracy on digits, 64-256-256-10, rounded after training", rows)

    def mean(weights, activations, name: str) -> float:
        return float(np.mean([r["accuracy"] for r in rows if (r["weights"], r["activations"], r["format"]) == (weights, activations, name)]))

    summary = [{"weights": w, "activations": a} | {name: mean(w, a, name) for name in FORMATS} for w, a in itertools.product(WIDTHS, WIDTHS)]
    exact = mean("float", "float", "float")
    run.table("mean accuracy", summary, note=f"float: {exact:.3f}")
    run.figure("accuracy", lambda axes: _draw(axes, summary, exact), caption="Mean accuracy on digits by bits of the weights")
    lost = exact - mean(4, 4, "bipolar")
    run.claim("four bits for weights and activations lose at most 1 point", baseline="float", measured=100 * lost, holds=lost <= 0.01)
    gained = mean(2, 2, "bipolar") - mean(2, 2, "signed symmetric")
    run.claim(
        "two bits for both: at least 1 point above signed symmetric integers",
        baseline="signed symmetric integers, the same scales and offsets",
        measured=100 * gained,
        holds=gained >= 0.01,
    )
    one = mean(1, 4, "bipolar")
    run.claim("one bit for weights, four for activations: accuracy at least 0.87", measured=one, holds=one >= 0.87)


def _speed(run: Run) -> None:
    M, K = run.pick(smoke=(64, 512), default=(1024, 4096))
    pairs, rows = run.pick(smoke=1, default=7), []
    for N, (w, x) in itertools.product((1, 16), ((1, 1), (1, 2), (1, 4), (2, 2), (3, 4), (4, 4))):
        timings = compare_products(M, N, K, w, x, pairs)
        fp32, int8 = timings["torch fp32"], timings["torch int8"]
        rows.append(
            {"N": N, "weights": w, "activations": x, "ms": 1e3 * fp32.seconds, "fp32 / ours": fp32.ratio, "int8 / ours": int8.ratio}
            | {"GB/s of W": w * M * K / 8 / fp32.seconds / 1e9}
        )
    run.table(f"time of {M} x {K} by K x N, activations rounded and packed in it, one thread", rows)
    for N, least in ((1, 4), (16, 3)):
        worst = min(row["fp32 / ours"] for row in rows if row["N"] == N and row["weights"] * row["activations"] <= 4)
        run.claim(
            f"N = {N}: at least {least} times torch fp32 where the widths' product is at most 4 (least)",
            baseline="torch fp32",
            measured=worst,
            holds=worst >= least,
            paper="up to 2.4 times CUTLASS on GPU",
        )
    against = next(row["int8 / ours"] for row in rows if row["N"] == 1 and row["weights"] == row["activations"] == 1)
    run.claim("N = 1, one bit each: at least 1.5 times torch int8", baseline="torch._int_mm", measured=against, holds=against >= 1.5)
    run.note(
        "Processors with 8-bit multiplication (VNNI, AMX) do 1024^3 of int8 several times faster than this does W2A2; "
        "there, few bits win for few rows and in memory only. This processor's int8 figure says which kind it is."
    )


def compare_products(M: int, N: int, K: int, weight_bits: int, activation_bits: int, pairs: int) -> dict[str, Comparison]:
    """Rounding, packing and multiplying N activations against torch's products in float32 and in int8."""
    rng = random_generator(0)
    weights, activations = (rng.standard_normal((rows, K)).astype(np.float32) for rows in (M, N))
    W = quantize_bipolar(weights, weight_bits, scale="absmax")[0]
    dense, rows = torch.from_numpy(weights), torch.from_numpy(activations)
    small = [torch.from_numpy(rng.integers(-7, 8, (rows, K)).astype(np.int8)) for rows in (M, N)]

    def ours():
        return bipolar_matmul(W, quantize_bipolar(activations, activation_bits, scale="absmax")[0], out_dtype="float32", threads=1)

    name = f"W{weight_bits}A{activation_bits}, N = {N}"
    peers: dict[str, Callable] = {
        "torch fp32": lambda: nn.functional.linear(rows, dense),
        "torch int8": lambda: torch._int_mm(small[1], small[0].T),
    }
    return {peer: compare(name, ours, function, peer_name=peer, pairs=pairs) for peer, function in peers.items()}


def _speed_on_gpu(run: Run) -> None:
    """Llama's shapes on a GPU: planes in Triton against torch in bfloat16 and in int8."""
    M = K = 4096
    rows = []
    for N, (w, x) in itertools.product((1, 16, 1024), ((1, 1), (2, 2), (3, 4), (4, 4))):
        rng = random_generator(0)
        W, X = (_random_planes(rng, size, K, bits, run.device) for size, bits in ((M, w), (N, x)))
        a, b = (torch.randn(size, K, device=run.device, dtype=torch.bfloat16) for size in (N, M))
        small = [torch.randint(-7, 8, (max(size, 32), K), device=run.device, dtype=torch.int8) for size in (N, M)]
        ours = _synchronized(lambda W=W, X=X: bipolar_matmul(W, X))
        bf16 = compare("planes", ours, _synchronized(lambda a=a, b=b: a @ b.T), peer_name="torch bf16")
        int8 = compare("planes", ours, _synchronized(lambda s=small: torch._int_mm(s[0], s[1].T)), peer_name="torch int8")
        rows.append({"N": N, "weights": w, "activations": x, "ms": 1e3 * bf16.seconds, "bf16 / ours": bf16.ratio, "int8 / ours": int8.ratio})
    run.table("4096 x 4096 by 4096 x N on the GPU, activations packed", rows)


def _random_planes(rng: np.random.Generator, rows: int, K: int, bits: int, device: str) -> BipolarTensor:
    return BipolarTensor.from_int(torch.from_numpy(2 * rng.integers(0, 2**bits, (rows, K)) - (2**bits - 1)).to(device), bits)


def _synchronized(function: Callable) -> Callable:
    def call() -> None:
        function()
        torch.cuda.synchronize()

    return call


def round_signed(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Round rows to the integers from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1 times the best of 91 scales: the usual symmetric format."""
    rounded = np.zeros(values.shape, values.numpy().dtype)
    if bits > 1:
        _round_rows(values.contiguous().numpy(), 2 ** (bits - 1) - 1, RATIOS, rounded)
    return torch.from_numpy(rounded)


@njit(cache=True, nogil=True)
def _round_rows(values, largest, ratios, rounded):
    for row in range(values.shape[0]):
        magnitude, least, best = np.abs(values[row]).max(), np.inf, 1.0
        for ratio in ratios:
            scale, error = ratio * magnitude / largest, 0.0
            if magnitude > 0:
                for value in values[row]:
                    error += (value - scale * min(max(np.floor(value / scale + 0.5), -largest), largest)) ** 2
                if error < least:
                    least, best = error, scale
        for k in range(values.shape[1]):
            rounded[row, k] = best * min(max(np.floor(values[row, k] / best + 0.5), -largest), largest)


class SignedLinear(nn.Module):
    """The baseline: weights and activations as symmetric signed integers, scales of least error and offsets as the method has."""

    def __init__(self, layer: nn.Linear, weight_bits: int, activation_bits: int):
        super().__init__()
        self.weight, self.bias, self.bits = round_signed(layer.weight.detach(), weight_bits), layer.bias.detach(), activation_bits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_features) to (n, out_features)."""
        offset = (x.amax(dim=1, keepdim=True) + x.amin(dim=1, keepdim=True)) / 2
        return nn.functional.linear(offset + round_signed(x - offset, self.bits), self.weight, self.bias)


FORMATS = {
    "bipolar": lambda layer, weights, activations: BipolarLinear.from_linear(layer, weight_bits=weights, activation_bits=activations),
    "signed symmetric": SignedLinear,
}


def _trained(seed: int, steps: int) -> nn.Sequential:
    data = digits(seed)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    batches = minibatches(len(x), 64, torch.Generator().manual_seed(seed))

    def loss(_: int) -> torch.Tensor:
        batch = next(batches)
        return nn.functional.cross_entropy(network(x[batch]), y[batch])

    fit(optimizer, loss, range(steps), scheduler=warmup_cosine(optimizer, steps))
    return network


@torch.no_grad()
def _accuracy(network: nn.Module, test: list[torch.Tensor]) -> float:
    images, labels = test
    return float((network(images).argmax(dim=1) == labels).float().mean())


def _draw(axes, summary: list[dict], exact: float) -> None:
    colors = {1: "#c2762d", 2: "#8a8f98", 3: "#5b8c5a", 4: "#1f4e8c"}
    for activations, (name, style) in itertools.product(WIDTHS, (("bipolar", "-"), ("signed symmetric", "--"))):
        values = [row[name] for row in summary if row["activations"] == activations]
        axes.plot(WIDTHS, values, style, color=colors[activations], marker="o", markersize=3, label=f"{name}, A{activations}")
    axes.axhline(exact, color="black", linewidth=0.6)
    axes.set(xlabel="bits of a weight", ylabel="accuracy", xticks=WIDTHS)
    axes.legend(fontsize="x-small", ncols=2)
