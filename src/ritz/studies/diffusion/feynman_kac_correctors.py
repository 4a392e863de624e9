"""Study: Feynman-Kac correctors against the same samplers without weights, on targets that quadrature knows; Lennard-Jones clusters at full scale."""

from __future__ import annotations

import numpy as np
import torch

from ritz.diffusion import EDM, EDMDenoiser, GaussianMixtureDenoiser, VPLinear, anneal, fkc_sample
from ritz.studies.data import real_file
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.training import fit, minibatches, warmup_cosine

SCHEDULE = VPLinear()
LEVEL = SCHEDULE.rho(SCHEDULE.t_min)
NOT_ACTIVE = (2.0, 3.0)  # beyond the last time: the same drift, and no weight counts
BETA = 3.0
MODES = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]], dtype=torch.float64)
MIXTURE = GaussianMixtureDenoiser(torch.tensor([0.1, 0.2, 0.3, 0.4]), MODES, torch.tensor([0.05, 0.2, 0.4, 0.1]))
LINE = torch.linspace(-6, 6, 601, dtype=torch.float64)
GRID = torch.cartesian_prod(LINE, LINE)
CELLS = 30


@study("feynman-kac-correctors", minutes=3)
def feynman_kac_correctors(run: Run) -> None:
    """Weights and resampling make annealed, guided and multiplied diffusion models sample what they should, where the combined score alone does not.

    Exact scores, targets by quadrature: a mixture of four modes to the power 3, classifier-free guidance of scale 3 on a mixture with classes of
    unequal shape, a product of two mixtures (Skreta et al., ICML 2025). At full scale also clusters of 13 Lennard-Jones particles, annealed from
    temperature 2 to 1.
    """
    _annealing(run)
    _guidance_and_product(run)
    if run.scale == "full":
        _lennard_jones(run)


def _annealing(run: Run) -> None:
    n, steps = run.pick(smoke=300, default=4000), run.pick(smoke=60, default=500)
    exact = _masses(GRID, _normalized(BETA * MIXTURE.log_prob(GRID, LEVEL)))
    rows, errors = [], {}
    for seed in run.progress(run.seeds(5), "annealing"):
        langevin = _langevin(n, run.pick(smoke=50, default=2000), seed)
        for zeta in (1.0, 1 / BETA):
            options = {"shape": (2,), "steps": steps, "noise_scale": zeta}
            results = {
                "weights, resampled": anneal(MIXTURE, BETA, n, SCHEDULE, generator=seed, **options),
                "weights, births and deaths": anneal(MIXTURE, BETA, n, SCHEDULE, resampling="birth_death", generator=seed, **options),
                "weights, not resampled": anneal(MIXTURE, BETA, n, SCHEDULE, resampling=None, generator=seed, **options),
                "no weights": fkc_sample([MIXTURE], [BETA], n, SCHEDULE, active=NOT_ACTIVE, generator=seed, **options),
            }
            row = {"seed": seed, "zeta": zeta}
            for name, result in results.items():
                errors.setdefault((name, zeta), []).append(_distance(_masses(result.x.double(), result.weights), exact))
                row[name] = errors[name, zeta][-1]
            plain = results["weights, not resampled"]
            row |= {"Langevin": _distance(_masses(langevin, torch.full((n,), 1 / n).double()), exact), "effective size, not resampled": plain.ess()}
            rows.append(row)
    masses = ", ".join(f"{mass:.3f}" for mass in exact)
    run.table(
        f"total variation of the modes' masses, power {BETA:g}, {n} particles, {steps} steps",
        rows,
        note=f"masses by quadrature {masses}; Langevin takes four times the calls at the last noise level, from a wide normal",
    )
    for zeta, measured in ((1.0, ".042 against .214"), (1 / BETA, ".053 against .129")):
        ratio = float(np.mean(errors["weights, resampled", zeta]) / np.mean(errors["no weights", zeta]))
        run.claim(
            f"zeta = {zeta:.2g}: error of the masses at most half of that without weights (ratio of means over seeds)",
            baseline="the same drift and noise without weights",
            measured=ratio,
            holds=ratio <= 0.5,
            paper=f"annealed samples are right where scaled scores are not; a pilot measured {measured}",
        )
    final = anneal(MIXTURE, BETA, n, SCHEDULE, shape=(2,), steps=steps, generator=run.seed)
    run.figure("annealed", lambda axes: _draw(axes, final.x), caption="particles of the mixture to the power 3, over the mixture's own samples")


def _guidance_and_product(run: Run) -> None:
    n, steps = run.pick(smoke=300, default=4000), run.pick(smoke=60, default=500)
    means = torch.tensor([[-1.0, 0.0], [1.5, 0.5], [1.5, -1.0]], dtype=torch.float64)
    covariances = torch.tensor([[[1.0, 0.6], [0.6, 0.8]], [[0.2, 0.0], [0.0, 0.6]], [[0.5, -0.2], [-0.2, 0.2]]], dtype=torch.float64)
    everything = GaussianMixtureDenoiser([0.5, 0.3, 0.2], means, covariances)
    one_class = GaussianMixtureDenoiser([0.6, 0.4], means[1:], covariances[1:])
    other = GaussianMixtureDenoiser([0.4, 0.6], [[0.5, 1.0], [-0.5, -1.0]], [0.6, 0.9])
    targets = {
        "guidance of scale 3": ([everything, one_class], [-2.0, 3.0]),
        "product of two mixtures": ([everything, other], [1.0, 1.0]),
    }
    rows = []
    for name, (models, exponents) in targets.items():
        density = _normalized(sum(b * model.log_prob(GRID, LEVEL) for b, model in zip(exponents, models)))
        exact = _histogram(GRID, density)
        for seed in run.seeds(3):
            options = {"shape": (2,), "steps": steps, "generator": seed}
            chosen = torch.multinomial(density, n, replacement=True, generator=torch.Generator().manual_seed(seed))
            corrected = fkc_sample(models, exponents, n, SCHEDULE, **options)
            plain = fkc_sample(models, exponents, n, SCHEDULE, active=NOT_ACTIVE, **options)
            rows.append(
                {
                    "target": name,
                    "seed": seed,
                    "with weights": _distance(_histogram(corrected.x.double(), corrected.weights), exact),
                    "without": _distance(_histogram(plain.x.double(), plain.weights), exact),
                    "true samples": _distance(_histogram(GRID[chosen], torch.full((n,), 1 / n).double()), exact),
                }
            )
    run.table(f"total variation on {CELLS} x {CELLS} cells, {n} particles", rows, note="true samples: the noise floor of so many particles")


def _normalized(log_density: torch.Tensor) -> torch.Tensor:
    return torch.softmax(log_density, dim=0)


def _masses(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mass nearest to each mode."""
    return torch.zeros(4, dtype=torch.float64).index_add_(0, torch.cdist(x, MODES).argmin(1), weights)


def _histogram(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    cell = ((x.clamp(-5.999, 5.999) + 6) / 12 * CELLS).long()
    return torch.zeros(CELLS * CELLS, dtype=torch.float64).index_add_(0, cell[:, 0] * CELLS + cell[:, 1], weights)


def _distance(p: torch.Tensor, q: torch.Tensor) -> float:
    return float(0.5 * (p - q).abs().sum())


def _langevin(n: int, steps: int, seed: int, size: float = 0.01) -> torch.Tensor:
    """Unadjusted Langevin chains of the annealed density at the last noise level, one per particle."""
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    for _ in range(steps):
        x = x + 0.5 * size * BETA * MIXTURE.score(x, LEVEL) + size**0.5 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return x


def _draw(axes, x: torch.Tensor) -> None:
    axes.scatter(*MIXTURE.sample(len(x), 0).T, s=2, color="lightgray", label="mixture")
    axes.scatter(*x.T, s=2, color="black", label="power 3")
    axes.legend(fontsize="small")


PARTICLES = 13


def _lennard_jones(run: Run) -> None:
    """A network trained at temperature 2, annealed by 2, against data of temperature 1: energies and pair distances."""
    hot = _clusters("temp_2.0/train.npy", run)
    held_out = {temperature: _clusters(f"temp_{temperature}/test.npy", run) for temperature in ("1.0", "2.0")}
    denoiser = _cluster_denoiser(run, hot, run.pick(smoke=20, default=200, full=60_000))
    n = run.pick(smoke=64, default=64, full=5000)
    options = {"shape": (3 * (PARTICLES - 1),), "spacing": "logsnr", "generator": run.seed}
    schedule = EDM(0.02, 20.0)
    with torch.no_grad():
        samples = {
            "annealed, weights": fkc_sample([denoiser], [2.0], n, schedule, **options).x,
            "annealed, no weights": fkc_sample([denoiser], [2.0], n, schedule, active=(50.0, 60.0), **options).x,
            "not annealed": fkc_sample([denoiser], [1.0], n, schedule, **options).x,
        }
    rows = [
        {
            "samples": name,
            "median energy": float(_energies(z).median()),
            "median energy at 1.0": float(_energies(held_out["1.0"]).median()),
            "pair distances, total variation": _distance(_pair_histogram(z), _pair_histogram(held_out["1.0"])),
        }
        for name, z in {**samples, "data at 2.0": held_out["2.0"]}.items()
    ]
    run.table("13 Lennard-Jones particles: against data of temperature 1", rows)


def _contrasts() -> torch.Tensor:
    """An orthonormal basis (13, 12) of positions without their mean."""
    return torch.linalg.svd(torch.eye(PARTICLES) - 1 / PARTICLES).U[:, : PARTICLES - 1]


def _clusters(file: str, run: Run) -> torch.Tensor:
    """Clusters (n, 36) as coordinates without the center of mass."""
    x = torch.from_numpy(np.load(real_file(f"lj13/{file}"))).reshape(-1, PARTICLES, 3)
    return torch.einsum("npk,pq->nqk", x - x.mean(1, keepdim=True), _contrasts()).flatten(1).to(run.device)


def _positions(z: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nqk,pq->npk", z.reshape(len(z), PARTICLES - 1, 3), _contrasts().to(z))


def _energies(z: torch.Tensor) -> torch.Tensor:
    """Energy of the data's source: Lennard-Jones, each pair counted twice, and a harmonic trap; with it the virial of the data is 36 T."""
    inverse = _pairs(z) ** -6
    return 2 * (inverse**2 - 2 * inverse).sum(1) + 0.5 * z.square().sum(1)


def _pairs(z: torch.Tensor) -> torch.Tensor:
    x = _positions(z)
    first, second = torch.triu_indices(PARTICLES, PARTICLES, 1)
    return (x[:, first] - x[:, second]).norm(dim=2)


def _pair_histogram(z: torch.Tensor) -> torch.Tensor:
    counts = torch.histc(_pairs(z).float().cpu(), bins=100, min=0, max=6).double()
    return counts / counts.sum()


def _cluster_denoiser(run: Run, data: torch.Tensor, steps: int) -> EDMDenoiser:
    torch.manual_seed(run.seed)
    network = _ClusterNetwork().to(run.device)
    denoiser, generator = EDMDenoiser(network, float(data.std())), torch.Generator().manual_seed(run.seed)
    batches, basis = minibatches(len(data), 512, generator), _contrasts().to(data)

    def loss(_: int) -> torch.Tensor:
        z = data[next(batches)].reshape(-1, PARTICLES - 1, 3)
        rotation = torch.linalg.qr(torch.randn(len(z), 3, 3, generator=generator))[0].to(z)
        order = torch.rand(len(z), PARTICLES, generator=generator).argsort(1).to(z.device)
        x = torch.einsum("nqk,pq->npk", z @ rotation, basis)
        x = torch.gather(x, 1, order[..., None].expand(-1, -1, 3))
        return denoiser.loss(torch.einsum("npk,pq->nqk", x, basis).flatten(1))

    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    fit(optimizer, loss, run.progress(range(steps), "clusters"), scheduler=warmup_cosine(optimizer, steps, steps // 20), clip_norm=1.0)
    network.eval().requires_grad_(False)
    return denoiser


class _ClusterNetwork(torch.nn.Module):
    """A residual MLP that is told the noise level; symmetries come from augmentation."""

    def __init__(self, width: int = 512):
        super().__init__()
        self.into = torch.nn.Linear(3 * (PARTICLES - 1), width)
        self.level = torch.nn.Linear(16, width)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.LayerNorm(width), torch.nn.Linear(width, width), torch.nn.SiLU(), torch.nn.Linear(width, width))
            for _ in range(4)
        )
        self.out = torch.nn.Linear(width, 3 * (PARTICLES - 1))
        self.register_buffer("frequencies", 2.0 ** torch.arange(-1, 7))

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        angle = time[:, None] * self.frequencies
        hidden = self.into(x) + self.level(torch.cat([angle.sin(), angle.cos()], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.out(torch.nn.functional.silu(hidden))
