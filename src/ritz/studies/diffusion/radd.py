"""Study: masked diffusion that is not told the time against a twin that is, and what its cache saves; digits as sequences of 64 grey tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from ritz.diffusion import RADD, TabularMaskedModel, expected_nfe, masked_diffusion_loss, perplexity_bound, sample_masked
from ritz.diffusion.masked_losses import draw_times
from ritz.diffusion.radd import Block, rotated
from ritz.studies.data.digits import digits
from ritz.studies.registry import study
from ritz.studies.run import Run
from ritz.studies.sample_distances import energy_distance, noise_floor
from ritz.studies.training import fit, minibatches, warmup_cosine

GREYS, LENGTH = 4, 64
SIZES = {"hidden_size": 64, "blocks": 3, "heads": 4, "max_length": LENGTH}


@study("radd", minutes=6)
def radd(run: Run) -> None:
    """Without a time input masked diffusion learns as well, and many small sampling steps need few network calls.

    The digits as 64 tokens of four grey levels: held-out bits per token of the same transformer with and without a time embedding and of an
    autoregressive twin; calls, seconds and quality of samples over the number of steps (Ou et al., ICLR 2025).
    """
    _table(run)
    trained = _likelihoods(run)
    _sampling(run, trained)


def _table(run: Run) -> None:
    """Few steps are biased: by exact conditionals of a joint law over 4^8 sequences."""
    model = TabularMaskedModel(np.random.default_rng(run.seed).gamma(0.3, size=(4,) * 8))
    entropy = float(-(model.joint * model.joint.clamp(min=1e-300).log()).sum())
    n = run.pick(smoke=500, default=20_000)
    rows = []
    for steps in (1, 2, 4, 8, 16, 64, 1024):
        drawn = sample_masked(model, 8, n, steps=steps, generator=run.seed)
        rows.append({"steps": steps, "calls": float(drawn.nfe.double().mean()), "mean log p of samples": float(model.log_prob(drawn.tokens).mean())})
    run.table("exact conditionals of a table, 4 tokens, length 8", rows, note=f"the law itself has {-entropy:.3f}")


def _likelihoods(run: Run) -> RADD:
    steps, rows, first = run.pick(smoke=2, default=250, full=20_000), [], None
    for seed in run.progress(run.seeds(3), "models"):
        train, test = _sequences(seed)
        test = test[: run.pick(smoke=20, default=len(test))]
        plain = _trained(lambda: RADD(GREYS, **SIZES), train, steps, seed, lambda model, x, g: masked_diffusion_loss(model, x, generator=g).mean())
        timed = _trained(TimedRADD, train, steps, seed, lambda model, x, g: _timed_loss(model, x, g).mean())
        first = first or plain
        samples = run.pick(smoke=1, default=8)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            with_time = sum(float(_timed_loss(timed, test, generator).mean()) for _ in range(samples)) / samples / LENGTH / math.log(2)
        rows.append(
            {
                "seed": seed,
                "without time": perplexity_bound(plain, test, samples=samples, generator=seed),
                "with time": with_time,
                "without time, any-order draws": perplexity_bound(plain, test, kind="k_dce", samples=samples, generator=seed),
            }
        )
        if seed == run.seed:
            causal = _trained(CausalTwin, train, steps, seed, lambda model, x, g: model.loss(x).mean())
            with torch.no_grad():
                rows[-1]["autoregressive twin"] = float(causal.loss(test).mean()) / LENGTH / math.log(2)
    run.table(
        f"bits per token on held-out digits after {steps} training steps", rows, note="the same masks for the first two; diffusion's are bounds"
    )
    ratio = float(np.mean([row["without time"] for row in rows]) / np.mean([row["with time"] for row in rows]))
    run.claim(
        "held-out bound of the time-free model at most 1.01 of the time-conditioned one's (ratio of means over seeds)",
        baseline="the same transformer with an added embedding of the masking probability",
        measured=ratio,
        holds=ratio <= 1.01,
        paper="best perplexities among diffusion models at GPT-2 scale",
    )
    return first


def _sampling(run: Run, model: RADD) -> None:
    _, test = _sequences(run.seed)
    n, reference = run.pick(smoke=2, default=64), test.double() / (GREYS - 1)
    floor, rows, results = noise_floor(energy_distance, reference), [], {}
    for steps in run.progress(run.pick(smoke=(16, 32), default=(16, 32, 64, 128, 256, 512, 1024)), "sampling"):
        row = {"steps": steps}
        for cache in (True, False) if steps == run.pick(smoke=32, default=8 * LENGTH) else (True,):
            started = time.perf_counter()
            results[steps, cache] = drawn = sample_masked(model, LENGTH, n, steps=steps, cache=cache, generator=run.seed)
            row["seconds, cached" if cache else "seconds, not cached"] = time.perf_counter() - started
        drawn = results[steps, True]
        rows.append(
            row
            | {
                "calls": float(drawn.nfe.double().mean()),
                "expected calls": expected_nfe(LENGTH, steps),
                "energy distance": energy_distance(drawn.tokens.double() / (GREYS - 1), reference),
            }
        )
    columns = ("steps", "calls", "expected calls", "seconds, cached", "seconds, not cached", "energy distance")
    run.table(
        f"{n} samples of {LENGTH} tokens",
        [{column: row.get(column) for column in columns} for row in rows],
        note=f"noise floor of the energy distance {floor:.3f}; a forward pass of all samples is one call of each",
    )
    _sampling_claims(run, {row["steps"]: row for row in rows}, results)
    run.figure("calls", lambda axes: _draw(axes, rows), caption="network calls per sequence over sampling steps")


def _sampling_claims(run: Run, rows: dict, results: dict) -> None:
    many, half = run.pick(smoke=(32, 16), default=(8 * LENGTH, LENGTH // 2))
    row, same = rows[many], torch.equal(results[many, True].tokens, results[many, False].tokens)
    paper = "up to 3.5 times faster at equal quality"
    calls, seconds = many / row["calls"], row["seconds, not cached"] / row["seconds, cached"]
    run.claim("steps = 8 length: at least 4 times fewer calls with the cache", baseline="no cache", measured=calls, holds=calls >= 4, paper=paper)
    run.claim(
        "steps = 8 length: at least 2.5 times faster with the cache, the same samples",
        baseline="no cache",
        measured=seconds,
        holds=seconds >= 2.5 and same,
        paper=paper,
    )
    error = abs(rows[half]["calls"] / rows[half]["expected calls"] - 1)
    run.claim("steps = length / 2: calls within 2 % of the formula", measured=error, holds=error <= 0.02)


def _sequences(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and held-out digits (n, 64) as grey levels 0 to 3."""
    split = digits(seed)
    return tuple(torch.from_numpy(np.minimum(GREYS * x, GREYS - 1).astype(np.int64)) for x in (split.x_train, split.x_test))


def _trained(make: Callable, data: torch.Tensor, steps: int, seed: int, loss: Callable) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = make()
    generator = torch.Generator().manual_seed(seed)
    batches = minibatches(len(data), 32, generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.999))
    fit(
        optimizer,
        lambda _: loss(model, data[next(batches)], generator),
        range(steps),
        scheduler=warmup_cosine(optimizer, steps, steps // 10),
        clip_norm=1.0,
    )
    return model.eval().requires_grad_(False)


class TimedRADD(RADD):
    """The same transformer, told the probability with which tokens were masked, as an embedding added to all tokens."""

    def __init__(self):
        super().__init__(GREYS, **SIZES)
        width = SIZES["hidden_size"]
        self.level = torch.nn.Sequential(torch.nn.Linear(16, width), torch.nn.SiLU(), torch.nn.Linear(width, width))
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(8))

    def forward(self, tokens: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
        angle = probability[:, None].float() * self.frequencies
        context = self.level(torch.cat([angle.sin(), angle.cos()], dim=1))
        return self.head(self.normalization(self.hidden(self.embedding(tokens) + context[:, None])))


def _timed_loss(model: TimedRADD, tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """lambda-DCE for the model that is told lambda, with the draws of `masked_diffusion_loss`."""
    probability = draw_times(len(tokens), "decoupled", generator, tokens.device)
    masked = torch.rand(tokens.shape, generator=generator, dtype=torch.float64) < probability[:, None]
    logits = model(tokens.masked_fill(masked, model.mask_id), probability)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    return torch.where(masked, losses, 0.0).sum(1) / probability


class CausalTwin(torch.nn.Module):
    """The same blocks with causal attention, which predict each token from those before it."""

    def __init__(self):
        super().__init__()
        self.body = RADD(GREYS, **SIZES)
        self.body.blocks = torch.nn.ModuleList(CausalBlock(SIZES["hidden_size"], SIZES["heads"], 0.02) for _ in range(SIZES["blocks"]))

    def loss(self, tokens: torch.Tensor) -> torch.Tensor:
        """-log p (batch,)."""
        start = torch.full_like(tokens[:, :1], self.body.mask_id)
        logits = self.body(torch.cat([start, tokens[:, :-1]], dim=1))
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens, reduction="none").sum(1)


class CausalBlock(Block):
    def _attended(self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(rotated(q, *rotation), rotated(k, *rotation), v, is_causal=True)
        return mixed.transpose(1, 2).flatten(2)


def _draw(axes, rows: list[dict]) -> None:
    steps = [row["steps"] for row in rows]
    axes.plot(steps, steps, "--", label="without cache")
    axes.plot(steps, [row["calls"] for row in rows], "o", label="with cache")
    axes.plot(steps, [row["expected calls"] for row in rows], label="formula")
    axes.set(xlabel="steps", ylabel="network calls per sequence", xscale="log", yscale="log")
    axes.legend(fontsize="small")
