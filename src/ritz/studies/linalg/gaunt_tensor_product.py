"""Gaunt tensor products: what they cost, what they learn, and what they cannot."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.spatial.transform
import torch
from torch import nn

from ritz.core import random_generator
from ritz.linalg import GauntTensorProduct, gaunt_coefficients, real_spherical_harmonics, wigner_d_real
from ritz.studies import Run, study
from ritz.studies.training import fit, warmup_cosine

L_CLOUD, RADIAL, WIDTH = 2, 4, 16


@study("gaunt-tensor-product", minutes=3)
def study_gaunt_products(run: Run) -> None:
    """The full product of two equivariant features costs O(L^3) as a product of functions on the sphere, and learns what has only even paths."""
    _complexity(run)
    _invariants(run)
    _cross_product(run)


def _complexity(run: Run) -> None:
    levels = run.pick(smoke=[2, 4, 6, 8], default=[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], full=[2, 4, 6, 8, 10, 12, 14])
    batch = run.pick(smoke=64, default=2048, full=100_000)
    rows = []
    for L in run.progress(levels, "timing"):
        seconds, difference = _timed(L, batch, run.device, rounds=run.pick(smoke=1, default=5))
        row = {"L": L} | {f"{name} (ms)": None if s is None else 1e3 * s for name, s in seconds.items()}
        row |= {"dense / grid": None if seconds["dense"] is None else seconds["dense"] / seconds["grid"], "largest difference": difference}
        rows.append(row)
    run.table(f"time of a product of two features of degree L, float32, {batch} rows", rows, note="dense: an outer product and one GEMM")
    slopes = {name: _slope(rows, f"{name} (ms)") for name in ("grid", "fourier", "dense")}
    run.table("slopes of log time in log L", [slopes])
    run.figure("time", lambda axes: _draw(axes, rows), caption=f"milliseconds for {batch} products, float32")
    ratios = [row["dense / grid"] for row in rows if row["L"] in (6, 8)]
    run.claim(
        "the grid is at least 5 times as fast as the dense GEMM at L = 6 and at L = 8 (smaller ratio)",
        baseline="dense",
        measured=min(ratios),
        holds=min(ratios) >= 5,
        paper="O(L^3) against O(L^6)",
    )
    gap = slopes["dense"] - slopes["grid"]
    run.claim("its slope is smaller by at least 1.5", baseline="dense", measured=gap, holds=gap >= 1.5, paper="3 against 6")


def _timed(L: int, batch: int, device: str, rounds: int) -> tuple[dict[str, float | None], float]:
    """Median seconds per backend, taken in turn, and the largest difference between results relative to the largest entry."""
    generator = torch.Generator(device).manual_seed(0)
    x, y = (torch.randn(batch, (L + 1) ** 2, generator=generator, device=device) for _ in range(2))
    products = {"grid": GauntTensorProduct(L, L), "fourier": GauntTensorProduct(L, L, backend="fourier")}
    calls: dict[str, Callable] = {name: (lambda product=product: product(x, y)) for name, product in products.items()}
    if 4 * batch * (L + 1) ** 4 < 16e9:  # bytes of the outer product
        G = torch.from_numpy(gaunt_coefficients(L, L, 2 * L)).to(x).flatten(0, 1)
        calls["dense"] = lambda: (x[:, :, None] * y[:, None, :]).flatten(1) @ G
    results = {name: call() for name, call in calls.items()}
    exact = results.get("dense", results["fourier"])
    difference = max(float((found - exact).abs().max() / exact.abs().max()) for found in results.values())
    seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(_seconds(call, device))
    return {name: statistics.median(seconds[name]) if name in seconds else None for name in ("grid", "fourier", "dense")}, difference


def _seconds(call: Callable, device: str, shortest: float = 0.03) -> float:
    """Seconds per call, over as many calls as take `shortest`."""
    started, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < shortest:
        call()
        if device != "cpu":
            torch.cuda.synchronize(device)
        calls += 1
    return passed / calls


def _slope(rows: list[dict], column: str) -> float:
    points = [(row["L"], row[column]) for row in rows if row[column] is not None]
    return float(np.polyfit(*np.log(np.array(points)).T, 1)[0])


def _invariants(run: Run) -> None:
    """Regress a cubic invariant of point clouds, the integral of three functions' product, by one Gaunt and one Clebsch-Gordan layer."""
    count, steps = run.pick(smoke=(128, 20), default=(2048, 600))
    rows = []
    for seed in run.seeds(3):
        rng = random_generator(seed)
        points = {part: rng.standard_normal((count, 8, 3)) for part in ("train", "validation", "test")}
        clouds = {part: _cloud_features(p) for part, p in points.items()}
        scale = np.sqrt((clouds["train"] ** 2).mean(axis=(0, 2), keepdims=True))
        clouds = {part: torch.from_numpy(x / scale).float() for part, x in clouds.items()}
        target = _CubicInvariant(seed)
        values = {part: target(x) for part, x in clouds.items()}
        mean, deviation = values["train"].mean(), values["train"].std()
        values = {part: (value - mean) / deviation for part, value in values.items()}
        turned = _cloud_features(points["test"] @ scipy.spatial.transform.Rotation.random(random_state=seed).as_matrix().T)
        turned = torch.from_numpy(turned / scale).float()
        for name, layer in (("Gaunt", _gaunt_layer), ("Clebsch-Gordan", _ClebschGordanProduct)):
            model, rate = _best_model(run, layer, clouds, values, steps, seed, name)
            with torch.no_grad():
                found = model(clouds["test"])
                rows.append(
                    {
                        "layer": name,
                        "seed": seed,
                        "learning rate": rate,
                        "parameters": sum(p.numel() for p in model.parameters()),
                        "test error (RMS, target 1)": float((found - values["test"]).square().mean().sqrt()),
                        "largest change under a rotation": float((model(turned) - found).abs().max()),
                    }
                )
    run.table(f"a cubic invariant of 8 points, {count} clouds, degrees up to {L_CLOUD}, width {WIDTH}", rows)
    change = max(row["largest change under a rotation"] for row in rows if row["layer"] == "Gaunt")
    run.claim("rotated test clouds give the same output to 1e-5 of the target's deviation", measured=change, holds=change <= 1e-5)
    errors = {name: np.array([r["test error (RMS, target 1)"] for r in rows if r["layer"] == name]) for name in ("Gaunt", "Clebsch-Gordan")}
    ratio = float(np.median(errors["Gaunt"] / errors["Clebsch-Gordan"]))
    run.note(f"test error of the Gaunt layer over that of the Clebsch-Gordan layer, which has a weight per path: median {ratio:.2f} over the seeds")
    run.note("the target is a sum of Gaunt products: all its paths are even, with the constants that the Gaunt layer has")


def _best_model(run: Run, layer: Callable, clouds: dict, values: dict, steps: int, seed: int, name: str) -> tuple[nn.Module, float]:
    """Train at each learning rate, the same ones for every layer, and keep what is best on the validation clouds."""
    found = []
    for rate in run.progress((3e-3, 1e-2, 3e-2), f"{name}, seed {seed}"):
        model = _trained(layer, clouds["train"], values["train"], rate, steps, seed)
        with torch.no_grad():
            found.append((float((model(clouds["validation"]) - values["validation"]).square().mean()), rate, model))
    _, rate, model = min(found, key=lambda entry: entry[0])
    return model, rate


def _trained(layer: Callable, x: torch.Tensor, values: torch.Tensor, rate: float, steps: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = _InvariantModel(layer)
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=rate), torch.Generator().manual_seed(seed)

    def loss(step: int) -> torch.Tensor:
        picked = torch.randint(len(x), (128,), generator=generator)
        return (model(x[picked]) - values[picked]).square().mean()

    fit(optimizer, loss, range(steps), scheduler=warmup_cosine(optimizer, steps))
    return model


def _cloud_features(points: np.ndarray) -> np.ndarray:
    """Sums over points of radial bumps times harmonics: (clouds, points, 3) to (clouds, RADIAL, (L_CLOUD + 1)^2)."""
    radii = np.linalg.norm(points, axis=-1)
    bumps = np.exp(-2 * (radii[..., None] - np.linspace(0.5, 2.5, RADIAL)) ** 2)
    return np.einsum("bpr,bpk->brk", bumps, real_spherical_harmonics(L_CLOUD, points))


class _DegreeMixing(nn.Module):
    """Channels mixed with one matrix per degree."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(L_CLOUD + 1, outputs, inputs) / math.sqrt(inputs))
        self._degree = [l for l in range(L_CLOUD + 1) for _ in range(2 * l + 1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("koi,bik->bok", self.weight[self._degree], x)


class _InvariantModel(nn.Module):
    """A linear form of <product(W1 x, W2 x), W3 x>, channel by channel."""

    def __init__(self, layer: Callable[[int, int], nn.Module]):
        super().__init__()
        self.first, self.second, self.third = (_DegreeMixing(RADIAL, WIDTH) for _ in range(3))
        self.product = layer(L_CLOUD, WIDTH)
        self.readout = nn.Linear(WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        products = self.product(self.first(x), self.second(x))
        return self.readout((products * self.third(x)).sum(dim=-1))[:, 0]


class _CubicInvariant:
    """The integrals over the sphere of four products of three functions, random mixtures of the features: only even paths."""

    def __init__(self, seed: int):
        generator = torch.Generator().manual_seed(seed + 1000)
        self._mixtures = torch.randn(3, 4, RADIAL, L_CLOUD + 1, generator=generator)
        self._degree = [l for l in range(L_CLOUD + 1) for _ in range(2 * l + 1)]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        f, g, h = (torch.einsum("brk,crk->bck", x, mixture[..., self._degree]) for mixture in self._mixtures)
        return (GauntTensorProduct(L_CLOUD, L_CLOUD, L_CLOUD)(f, g) * h).sum(dim=(1, 2))


def _gaunt_layer(l_max: int, channels: int) -> nn.Module:
    product = GauntTensorProduct(l_max, l_max, l_max, weights=True, channels=channels)
    for weight in product.parameters():
        nn.init.normal_(weight)
    return product


class _ClebschGordanProduct(nn.Module):
    """The full product: every path (l1, l2, l), odd ones too, has a weight per channel."""

    def __init__(self, l_max: int, channels: int):
        super().__init__()
        paths = [(a, b, c) for a in range(l_max + 1) for b in range(l_max + 1) for c in range(l_max + 1) if abs(a - b) <= c <= a + b]
        basis = np.zeros((len(paths), *((l_max + 1) ** 2,) * 3))
        for path, (a, b, c) in zip(basis, paths):
            path[a * a : (a + 1) ** 2, b * b : (b + 1) ** 2, c * c : (c + 1) ** 2] = _real_3j(a, b, c) * math.sqrt(2 * c + 1)
        self.register_buffer("basis", torch.from_numpy(basis).float())
        self.weight = nn.Parameter(torch.randn(channels, len(paths)))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        coupling = torch.einsum("cp,pijk->cijk", self.weight, self.basis)
        pairs = (x[..., :, None] * y[..., None, :]).flatten(-2).transpose(0, 1)  # (channels, batch, pairs)
        return (pairs @ coupling.flatten(1, 2)).transpose(0, 1)


def _real_3j(a: int, b: int, c: int) -> np.ndarray:
    """The one tensor of unit norm that all rotations leave alone: (2a + 1, 2b + 1, 2c + 1)."""
    equations = []
    for rotation in scipy.spatial.transform.Rotation.random(2, random_state=0).as_matrix():
        D = wigner_d_real(max(a, b, c), rotation)
        A, B, C = (D[l * l : (l + 1) ** 2, l * l : (l + 1) ** 2] for l in (a, b, c))
        equations.append(np.kron(A, np.kron(B, C)) - np.eye(len(A) * len(B) * len(C)))
    return np.linalg.svd(np.concatenate(equations))[2][-1].reshape(2 * a + 1, 2 * b + 1, 2 * c + 1)


def _cross_product(run: Run) -> None:
    """Fit a x b for random vectors, each with a constant scalar beside it."""
    steps, layers = run.pick(smoke=20, default=500), (("Gaunt", _gaunt_layer), ("Clebsch-Gordan", _ClebschGordanProduct))
    rows = [
        {"layer": name, "seed": seed, "R^2": _fitted_cross_product(layer, steps, seed)}
        for seed in run.progress(run.seeds(3), "cross product")
        for name, layer in layers
    ]
    run.table("fitting the cross product of two vectors", rows)
    lost = max(row["R^2"] for row in rows if row["layer"] == "Gaunt")
    kept = min(row["R^2"] for row in rows if row["layer"] == "Clebsch-Gordan")
    run.claim(
        "what is lost: the cross product is fitted with R^2 below 0.05 (largest), by the full product above 0.99",
        baseline=f"Clebsch-Gordan, R^2 {kept:.4f}",
        measured=lost,
        holds=lost < 0.05 and kept > 0.99,
    )


def _fitted_cross_product(layer: Callable, steps: int, seed: int) -> float:
    torch.manual_seed(seed)
    product, mixture = layer(1, 8), nn.Linear(8, 1, bias=False)
    generator = torch.Generator().manual_seed(seed)

    def draw(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = torch.randn(2, size, 3, generator=generator)
        x, y = (torch.cat([torch.ones(size, 1), v], dim=1)[:, None].expand(-1, 8, -1) for v in (a, b))
        return mixture(product(x, y)[..., 1:].transpose(1, 2))[..., 0], torch.linalg.cross(a, b)

    def loss(step: int) -> torch.Tensor:
        found, wanted = draw(128)
        return (found - wanted).square().mean()

    optimizer = torch.optim.Adam([*product.parameters(), *mixture.parameters()], lr=1e-2)
    fit(optimizer, loss, range(steps), scheduler=warmup_cosine(optimizer, steps))
    with torch.no_grad():
        found, wanted = draw(5000)
    return float(1 - (found - wanted).square().mean() / wanted.square().mean())


def _draw(axes, rows: list[dict]) -> None:
    for name, color in (("grid", "#1f4e8c"), ("fourier", "#5b8c5a"), ("dense", "#c2762d")):
        points = [(row["L"], row[f"{name} (ms)"]) for row in rows if row[f"{name} (ms)"] is not None]
        axes.plot(*zip(*points), "o-", color=color, label=name)
    axes.set(xscale="log", yscale="log", xlabel="L", ylabel="milliseconds")
    axes.legend()
