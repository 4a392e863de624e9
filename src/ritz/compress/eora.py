"""EoRA: a low-rank path that makes up for what compression lost, where the activations have energy. No gradients, no training.

Liu et al., "EoRA: Training-free Compensation for Compressed LLM with Eigenspace Low-Rank Approximation", NVIDIA 2024,
arXiv:2410.21271, section 3 and algorithm 1.

A layer W was compressed to W'. With X (N, i) the tokens that enter it, EoRA minimizes ``||(W - W' - B A) X^T||_F`` over B (o, r), A (r, i). The paper
projects ``Delta = W - W'`` into the eigenspace of ``G = X^T X = Q L Q^T``, truncates the SVD of ``Delta Q L^(1/2)`` and projects back with the
inverse. The inverse cancels: ``B A = U_r U_r^T Delta`` with U_r the leading eigenvectors of ``Delta G Delta^T``. That is what is computed here: the
same product in exact arithmetic, and defined for a singular G, where the inverse needs a floor on the eigenvalues.

Two choices where the paper or its code leave room. The Gram matrix is the true mean over tokens (the official running average weighs late samples up
to e times early ones). The activation-scaled baseline scales input channel j by the mean of ``|x_j|``; the paper does not spell out its scaling.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import nn

from ritz.compress.blockwise import blockwise
from ritz.compress.calibration import InputStatistics, collect_statistics
from ritz.compress.layers import LinearWithLowRankCompensation, dense_weight, is_transposed, linear_around, replace_modules
from ritz.compress.structure import Selection, linear_modules
from ritz.core import choice, flag, matrix, progress
from ritz.linalg import LowRankFactors, RankRule, krylov_weighted_low_rank, weighted_low_rank, weighted_singular_values

SOLVERS = ("exact", "krylov")
Rank = RankRule | int | float | str
Weighing = Callable[[InputStatistics], torch.Tensor]


def eora(
    compressed: nn.Module,
    original: nn.Module | Mapping[str, torch.Tensor],
    batches: Iterable,
    *,
    rank: Rank = 64,
    modules: Selection = None,
    blocks: Selection = None,
    sequential: bool = True,
    solver: str = "exact",
) -> nn.Module:
    """Return a copy of a compressed model with a low-rank path beside each linear layer that compensates its compression error on these batches.

    Parameters
    ----------
    compressed : nn.Module
        The compressed model, of any format: its layers stay as they are and need only be linear.
    original : nn.Module or mapping from str to Tensor
        The model before compression, or its weights (``"<layer>.weight"``, and ``"<layer>.bias"`` where it differs).
    batches : iterable
        Batches of the task, see `collect_statistics`; the paper takes 64 sequences.
    rank : int, float, str or RankRule
        Rank of every path (32 to 512 at 7 to 8 billion parameters), a fraction of the shorter side, or a rule. ``"budget:<numbers>"`` hands out
        numbers over all layers where they lower the summed output error most, by a first pass of the original model; that allocation is ours, not the
        paper's.
    modules : sequence of str, or predicate (name, module) -> bool, optional
        Which layers; by default all linear ones inside the blocks, not the output layer.
    blocks : sequence of str, or predicate, optional
        The model's blocks, where `find_blocks` does not find them.
    sequential : bool
        True (the paper): block by block; a block's layers use what its *original* weights see behind the compensated blocks before it.
        False: one pass of the original model, all layers on their own.
    solver : {"exact", "krylov"}
        ``krylov`` takes the leading directions by block Krylov iteration with a fixed seed: several times faster for ranks far below the width,
        and within about a percent of the smallest error.

    Returns
    -------
    nn.Module
        With `LinearWithLowRankCompensation` layers ``(base, A, B)``: ready to use, or to fine-tune (the parameters of `base` are frozen).

    Raises
    ------
    ValueError
        If a layer is missing in `original` or has another shape there, a rank is out of range, or calibration fails, see `collect_statistics`.

    Notes
    -----
    Cost per layer ``O(i^3 + o i^2)``, memory ``O(i^2)``; calibration is three runs of each block (one of the model if not sequential).

    Examples
    --------
    >>> original = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> compressed = copy.deepcopy(original)
    >>> with torch.no_grad():
    ...     _ = compressed[0].weight.mul_(torch.rand(16, 16) > 0.5)
    >>> batches = [torch.randn(32, 16)]
    >>> better = eora(compressed, original, batches, rank=4)
    >>> from ritz.compress import output_errors
    >>> statistics = collect_statistics(original, batches)
    >>> output_errors(better, original, statistics)["0"] < output_errors(compressed, original, statistics)["0"]
    True
    """
    choice(solver, "solver", SOLVERS)
    return _calibrated(compressed, original, batches, rank, modules, blocks, sequential, solver, weigh=InputStatistics.gram)


def activation_scaled_compensation(
    compressed: nn.Module,
    original: nn.Module | Mapping[str, torch.Tensor],
    batches: Iterable,
    *,
    rank: Rank = 64,
    modules: Selection = None,
    blocks: Selection = None,
    sequential: bool = True,
) -> nn.Module:
    """Compensate by the SVD of the error with input channel j scaled by the mean of ``|x_j|``: the baseline that knows sizes but no correlations.

    Parameters and result as of `eora`.

    Examples
    --------
    >>> original = nn.Sequential(nn.Linear(4, 4))
    >>> compressed = nn.Sequential(nn.Linear(4, 4))
    >>> activation_scaled_compensation(compressed, original, [torch.randn(8, 4)], rank=2)[0].rank
    2
    """

    def weigh(statistics: InputStatistics) -> torch.Tensor:
        return torch.diag(statistics.absolute_mean**2)

    return _calibrated(compressed, original, batches, rank, modules, blocks, sequential, "exact", weigh)


def svd_compensation(
    compressed: nn.Module,
    original: nn.Module | Mapping[str, torch.Tensor],
    *,
    rank: Rank = 64,
    modules: Selection = None,
    blocks: Selection = None,
) -> nn.Module:
    """Compensate by the truncated SVD of the weight error: the baseline that looks at no data.

    Parameters and result as of `eora`.

    Examples
    --------
    >>> original, compressed = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4))
    >>> better = svd_compensation(compressed, original, rank=4)
    >>> torch.allclose(better[0].to_dense(), original[0].weight, atol=1e-6)
    True
    """
    rule = RankRule.of(rank)
    work = _Work(compressed, original, modules, blocks)

    def layer(name: str) -> tuple[str, torch.Tensor, torch.Tensor]:
        error = work.error(name, torch.float64)
        return name, error, torch.eye(error.shape[1], dtype=error.dtype, device=error.device)

    ranks = _allocated(rule, map(layer, work.bases)) if rule.kind == "budget" else dict.fromkeys(work.bases, rule)
    for name, error, identity in map(layer, progress(list(work.bases), "compensation")):
        work.compensate(name, eora_factors(error, identity, ranks[name]))
    return work.finished()


def eora_factors(error: torch.Tensor, gram: torch.Tensor, rank: Rank, *, solver: str = "exact") -> LowRankFactors:
    """Return the factors that best compensate the error of one layer on its inputs.

    Parameters
    ----------
    error : Tensor (o, i)
        Original minus compressed weight.
    gram : Tensor (i, i)
        ``X^T X`` of the layer's inputs, sum or mean; symmetric to 1e-6, possibly singular.
    rank : int, float, str or RankRule
        See `RankRule`; more than ``min(o, i)`` means all.
    solver : {"exact", "krylov"}
        See `eora`; ``krylov`` takes a count or a fraction only.

    Returns
    -------
    LowRankFactors
        ``B (o, r)``, ``A (r, i)`` in the dtype of `error`, column j of B and row j of A of equal norm; `error`, the squared output error
        ``tr(Delta G Delta^T)`` before, and `tail`, the squared output error after.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, entries are not finite, `gram` is not symmetric, or `rank` is negative.

    Examples
    --------
    >>> X, error = torch.randn(50, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    >>> factors = eora_factors(error, X.T @ X, 2)
    >>> left = (error - factors.product()) @ X.T
    >>> bool(abs(left.square().sum() - factors.tail) < 1e-9 * factors.error)
    True
    """
    choice(solver, "solver", SOLVERS)
    error = torch.as_tensor(matrix(error, "error")).detach()
    gram = torch.as_tensor(matrix(gram, "gram")).detach()
    if solver == "krylov":
        return krylov_weighted_low_rank(error, gram, rank, rng=0).balanced()
    return weighted_low_rank(error, gram, rank).balanced()


def export_lora(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the factors of a compensated model under the names of PEFT's LoRA adapters, for vLLM and PEFT to load.

    ``base_model.model.<layer>.lora_A.weight`` (r, i) and ``...lora_B.weight`` (o, r). Their scaling is 1: the adapter's configuration needs
    ``lora_alpha`` equal to ``r`` (with ``rank_pattern`` and ``alpha_pattern`` where ranks differ).

    Raises
    ------
    ValueError
        If the model has no compensated layer.

    Examples
    --------
    >>> model = nn.Sequential(LinearWithLowRankCompensation(nn.Linear(3, 2), torch.ones(1, 3), torch.ones(2, 1)))
    >>> list(export_lora(model))
    ['base_model.model.0.lora_A.weight', 'base_model.model.0.lora_B.weight']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LinearWithLowRankCompensation)}
    if not layers:
        raise ValueError("model must have layers with low-rank compensation, got none")
    return {key: factor for name, layer in layers.items() for key, factor in lora_entries(name, layer.A.weight, layer.B.weight).items()}


def lora_entries(layer: str, A: torch.Tensor, B: torch.Tensor) -> dict[str, torch.Tensor]:
    """The two entries of a PEFT adapter for one layer."""
    return {f"base_model.model.{layer}.lora_{which}.weight": factor.detach().contiguous() for which, factor in (("A", A), ("B", B))}


class _Work:
    """A copy of the compressed model in the making: its compressed layers set aside, the original ones beside them."""

    def __init__(self, compressed: nn.Module, original: nn.Module | Mapping, modules: Selection, blocks: Selection):
        if not isinstance(compressed, nn.Module):
            raise TypeError(f"compressed must be an nn.Module, got {type(compressed).__name__}")
        if not isinstance(original, nn.Module | Mapping):
            raise TypeError(f"original must be an nn.Module or a mapping from names to tensors, got {type(original).__name__}")
        self.model = copy.deepcopy(compressed)
        self.bases = linear_modules(self.model, modules, blocks=blocks)
        self._training = {name: base.training for name, base in self.bases.items()}
        self._originals = {name: _original_linear(original, name, base) for name, base in self.bases.items()}

    def restore_original(self) -> None:
        replace_modules(self.model, self._originals, break_ties=True)

    def error(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        return self._originals[name].weight.detach().to(dtype) - dense_weight(self.bases[name]).to(dtype)

    def compensate(self, name: str, factors: LowRankFactors) -> None:
        layer = LinearWithLowRankCompensation.from_linear(self.bases[name], factors)
        layer.base.requires_grad_(False)
        replace_modules(self.model, {name: layer}, break_ties=True)

    def finished(self) -> nn.Module:
        for name, training in self._training.items():
            self.model.get_submodule(name).train(training)
        return self.model


def _calibrated(compressed, original, batches, rank: Rank, modules, blocks, sequential: bool, solver: str, weigh: Weighing) -> nn.Module:
    """Compensate every layer in the norm that `weigh` makes of the statistics of its inputs."""
    rule = RankRule.of(rank)
    flag(sequential, "sequential")
    work = _Work(compressed, original, modules, blocks)
    names = list(work.bases)
    work.restore_original()
    ranks: Mapping[str, RankRule | int] = dict.fromkeys(names, rule)

    def compensate(statistics: Mapping[str, InputStatistics]) -> None:
        for name, gram in _weights(statistics, weigh):
            work.compensate(name, eora_factors(work.error(name, gram.dtype), gram, ranks[name], solver=solver))

    if rule.kind == "budget" or not sequential:
        batches = list(batches)
        statistics = collect_statistics(work.model, batches, modules=names)
    if rule.kind == "budget":
        ranks = _allocated(rule, ((name, work.error(name, gram.dtype), gram) for name, gram in _weights(statistics, weigh)))
    if sequential:
        blockwise(work.model, blocks, batches, lambda _, seen: compensate(seen), modules=names)
    else:
        compensate(statistics)
    return work.finished()


def _weights(statistics: Mapping[str, InputStatistics], weigh: Weighing) -> Iterator[tuple[str, torch.Tensor]]:
    """Each layer's weight matrix, computed once for neighbors that share their statistics, and not kept."""
    shared, gram = None, None
    for name, seen in progress(statistics.items(), "compensation", total=len(statistics)):
        if seen is not shared:
            shared, gram = seen, weigh(seen)
        yield name, gram


def _allocated(rule: RankRule, layers: Iterable[tuple[str, torch.Tensor, torch.Tensor]]) -> dict[str, int]:
    return rule.allocate({name: (weighted_singular_values(error, gram), tuple(error.shape)) for name, error, gram in layers})


def _original_linear(original: nn.Module | Mapping, name: str, base: nn.Module) -> nn.Linear:
    """The layer before compression, around the original's own tensors."""
    if isinstance(original, nn.Module):
        try:
            layer = original.get_submodule(name)
        except AttributeError:
            raise ValueError(f"original: there is no layer '{name}'") from None
        weight, bias = dense_weight(layer), getattr(layer, "bias", None)
    else:
        if f"{name}.weight" not in original:
            raise ValueError(f"original: there is no '{name}.weight'")
        weight = torch.as_tensor(matrix(original[f"{name}.weight"], f"original['{name}.weight']")).detach()
        weight = weight.T if is_transposed(base) else weight
        bias = original.get(f"{name}.bias", getattr(base, "bias", None))
    expected = tuple(dense_weight(base).shape)
    if tuple(weight.shape) != expected:
        raise ValueError(f"original: '{name}' must have the shape of the compressed layer, {expected}, got {tuple(weight.shape)}")
    return linear_around(weight, None if bias is None else bias.detach())
