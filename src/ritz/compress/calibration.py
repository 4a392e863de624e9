"""What enters a model's linear layers: exact statistics of their inputs, from a few batches, in one pass.

Mean and centered scatter are kept, never the raw second moment: subtracting ``n mean mean^T`` from a Gram matrix loses all digits where the mean is
large against the spread. Batches merge by the rule of Chan, Golub and LeVeque (1979), so chunking changes nothing but rounding. Modules fed by the
same tensor (query, key and value; gate and up) share one statistics object, which saves three of seven Gram matrices in a Llama block.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ritz.compress.layers import dense_weight
from ritz.compress.structure import Selection, linear_modules, widths
from ritz.core import array, integer, progress

CHUNK = 8192  # tokens per product: bounds the copies, and the rounding of a float32 product before it is added in float64


@dataclass(eq=False)
class InputStatistics:
    """Statistics of the tokens x that enter a layer: count, mean, centered scatter, mean and largest absolute value.

    Parameters
    ----------
    count : int
        Number of tokens.
    mean : Tensor (d,)
        Mean of x.
    scatter : Tensor (d, d)
        Sum of ``(x - mean) (x - mean)^T``.
    absolute_mean, absolute_maximum : Tensor (d,)
        Mean and maximum of ``|x|`` per feature.

    Examples
    --------
    >>> whole, parts = torch.randn(100, 3, dtype=torch.float64), InputStatistics.empty(3)
    >>> for part in whole.split(40):
    ...     parts.update(part)
    >>> torch.allclose(parts.gram(), whole.T @ whole / 100)
    True
    """

    count: int
    mean: torch.Tensor
    scatter: torch.Tensor
    absolute_mean: torch.Tensor
    absolute_maximum: torch.Tensor

    def __post_init__(self) -> None:
        self.count = integer(self.count, "count", at_least=0)
        self.mean = torch.as_tensor(array(self.mean, "mean", ndim=1))
        for name, ndim in (("scatter", 2), ("absolute_mean", 1), ("absolute_maximum", 1)):
            setattr(self, name, _of_width(getattr(self, name), name, ndim, len(self.mean)))

    @classmethod
    def empty(cls, width: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> InputStatistics:
        """Statistics of no tokens yet."""
        zeros = torch.zeros(integer(width, "width", at_least=1), dtype=dtype, device=device)
        return cls(0, zeros, torch.zeros(width, width, dtype=dtype, device=device), zeros.clone(), zeros.clone())

    @classmethod
    def of(cls, inputs: torch.Tensor, *, dtype: torch.dtype = torch.float64) -> InputStatistics:
        """Statistics of the tokens in ``inputs (..., d)``."""
        inputs = torch.as_tensor(array(inputs, "inputs"))
        if inputs.ndim == 0:
            raise ValueError("inputs must have features in their last dimension, got a scalar")
        statistics = cls.empty(inputs.shape[-1], dtype=dtype, device=inputs.device)
        statistics.update(inputs)
        return statistics

    def update(self, inputs: torch.Tensor) -> None:
        """Add the tokens in ``inputs (..., d)``, finite.

        Products are formed in the dtype of `inputs`, at least float32, and added in the dtype of the statistics.
        """
        tokens = inputs.detach().reshape(-1, inputs.shape[-1])
        for chunk in tokens.split(CHUNK) if len(tokens) else ():
            self.merge(_of_chunk(chunk, self.mean.dtype, self.mean.device))

    def merge(self, other: InputStatistics) -> None:
        """Add the tokens of other statistics of the same width."""
        if other.mean.shape != self.mean.shape:
            raise ValueError(f"other must be statistics of width {len(self.mean)}, got {len(other.mean)}")
        if other.count == 0:
            return
        count = self.count + other.count
        share = other.count / count
        difference = other.mean - self.mean
        self.scatter += other.scatter
        self.scatter.addr_(difference, difference, alpha=self.count * share)
        self.mean = self.mean + share * difference
        self.absolute_mean = self.absolute_mean + share * (other.absolute_mean - self.absolute_mean)
        self.absolute_maximum = torch.maximum(self.absolute_maximum, other.absolute_maximum)
        self.count = count

    def gram(self) -> torch.Tensor:
        """Mean of ``x x^T`` (d, d); times `count` it is ``X^T X``."""
        return self.covariance() + torch.outer(self.mean, self.mean)

    def covariance(self) -> torch.Tensor:
        """Mean of ``(x - mean) (x - mean)^T`` (d, d)."""
        return self.scatter / self._tokens()

    def second_moment_diagonal(self) -> torch.Tensor:
        """Mean of ``x_j^2`` (d,)."""
        return self.scatter.diagonal() / self._tokens() + self.mean**2

    def _tokens(self) -> int:
        if self.count == 0:
            raise ValueError("count must be positive for a mean, got statistics of no tokens")
        return self.count


def collect_statistics(
    model: nn.Module,
    batches: Iterable,
    *,
    modules: Selection = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    batch_fn: Callable[[nn.Module, object], object] | None = None,
) -> dict[str, InputStatistics]:
    """Run a model over batches and return the statistics of what enters its linear layers, by name.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode without gradients; its training mode is restored.
    batches : iterable
        A mapping is passed as keyword arguments, a tuple or list as positional ones, anything else as the one argument. Where a mapping has an
        ``attention_mask`` (batch, length), masked tokens do not count in layers whose input has one token per mask entry.
    modules : optional
        Which layers, see `ritz.compress.linear_modules`.
    dtype : torch.dtype
        What is accumulated in.
    device : optional
        Where it is accumulated; by default where the inputs are.
    batch_fn : callable (model, batch), optional
        Runs the model on a batch, in place of the rule above.

    Returns
    -------
    dict from str to InputStatistics
        Layers that were always fed by the same tensors share one object: treat it as read-only.

    Raises
    ------
    ValueError
        If there is no batch, a layer never ran, saw no token or a value that is not finite; the layer is named.

    Warns
    -----
    UserWarning
        If a layer saw fewer tokens than it has inputs: its Gram matrix is singular.

    Notes
    -----
    One forward pass plus ``2 d^2`` operations per token and distinct input; memory ``d^2`` per distinct input.

    Examples
    --------
    >>> statistics = collect_statistics(nn.Sequential(nn.Linear(3, 2)), [torch.randn(8, 5, 3)])
    >>> statistics["0"].count
    40
    """
    collector = Collector(linear_modules(model, modules), dtype, device)
    with calibrating(model), collector.attached():
        for batch in progress(batches, "calibration", total=len(batches) if hasattr(batches, "__len__") else None):
            with collector.forward(mask_of(batch)):
                run_batch(model, batch, batch_fn)
    return collector.result()


def output_errors(model: nn.Module, original: nn.Module, statistics: Mapping[str, InputStatistics]) -> dict[str, float]:
    """Return the mean squared change of every layer's output, ``E ||(W - W') x||^2``, over the tokens the statistics were taken from.

    Parameters
    ----------
    model, original : nn.Module
        The changed and the original model; layers are found by the names in `statistics`.
    statistics : mapping from str to InputStatistics
        From `collect_statistics`, on calibration or on held-out tokens.

    Examples
    --------
    >>> original, changed = (nn.Sequential(nn.Linear(2, 2)) for _ in range(2))
    >>> statistics = collect_statistics(original, [torch.randn(5, 2)])
    >>> output_errors(original, original, statistics)
    {'0': 0.0}
    """
    errors = {}
    for name, seen in statistics.items():
        gram = seen.gram()
        change = dense_weight(original.get_submodule(name)).to(gram) - dense_weight(model.get_submodule(name)).to(gram)
        errors[name] = float(torch.sum((change @ gram) * change).clamp(min=0))
    return errors


@contextmanager
def calibrating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, no key-value cache, and no fused attention that would bypass the layers; all restored at the end."""
    training = [(module, module.training) for module in model.modules()]
    config = getattr(model, "config", None)
    use_cache = getattr(config, "use_cache", None)
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    if use_cache is not None:
        config.use_cache = False
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        if use_cache is not None:
            config.use_cache = use_cache
        for module, mode in training:
            module.training = mode


class Collector:
    """Forward pre-hooks that feed one `InputStatistics` per distinct input.

    In one forward pass an input is known by its tensor's identity and version (weakly referenced: the identity of a dead tensor may come again).
    A module that on its first call is fed what another, equally new module was fed shares that one's statistics from then on.
    """

    def __init__(self, modules: dict[str, nn.Module], dtype: torch.dtype, device: torch.device | str | None):
        self._modules = modules
        self._widths = widths(modules)
        self._dtype, self._device = dtype, device
        self._statistics: dict[str, InputStatistics] = {}
        self._leaders: dict[str, str] = {}
        self._forwards = 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        hooks = [module.register_forward_pre_hook(self._hook(name), with_kwargs=True) for name, module in self._modules.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def forward(self, mask: torch.Tensor | None) -> Iterator[None]:
        """One forward pass: what is remembered of tensors ends with it."""
        self._forwards += 1
        self._mask = mask
        self._new: set[str] = set()
        self._inputs: dict[tuple[int, int], tuple[weakref.ref, int, str]] = {}
        self._calls: dict[str, list[int]] = {}
        self._serial = 0
        yield
        for name, leader in self._leaders.items():
            if self._calls.get(name) != self._calls.get(leader):
                raise ValueError(
                    f"modules: '{name}' and '{leader}' were fed by one tensor at first and by different ones in batch {self._forwards}; "
                    "collect them in separate passes"
                )

    def result(self) -> dict[str, InputStatistics]:
        require_batches(self._forwards)
        found = {}
        for name in self._modules:
            if name not in self._leaders:
                raise ValueError(f"modules: '{name}' never ran")
            found[name] = self._statistics[self._leaders[name]]
            if found[name].count == 0:
                raise ValueError(f"modules: '{name}' saw no tokens")
        self._warn_of_few_tokens(found)
        return found

    def _hook(self, name: str) -> Callable:
        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            self._see(name, args[0] if args else next(iter(kwargs.values())))

        return before

    def _see(self, name: str, x: torch.Tensor) -> None:
        serial, owner = self._identify(name, x)
        if name not in self._leaders:
            shares = owner in self._new and self._calls.get(owner) == [serial] and self._leaders[owner] == owner
            self._leaders[name] = owner if shares else name
            self._new.add(name)
            if not shares:
                self._statistics[name] = InputStatistics.empty(self._widths[name], dtype=self._dtype, device=self._device or x.device)
        self._calls.setdefault(name, []).append(serial)
        if self._leaders[name] == name:
            tokens = _unmasked(x, self._mask)
            if not torch.isfinite(tokens).all():
                raise ValueError(f"modules: the input of '{name}' is not finite in batch {self._forwards}")
            self._statistics[name].update(tokens)

    def _identify(self, name: str, x: torch.Tensor) -> tuple[int, str]:
        """The serial number of this input in the forward pass, and the module that saw it first."""
        key = (id(x), x._version)
        reference, serial, owner = self._inputs.get(key, (None, 0, name))
        if reference is None or reference() is not x:
            self._serial += 1
            serial, owner = self._serial, name
            self._inputs[key] = (weakref.ref(x), serial, owner)
        return serial, owner

    def _warn_of_few_tokens(self, found: dict[str, InputStatistics]) -> None:
        few = [name for name, statistics in found.items() if statistics.count < self._widths[name]]
        if few:
            name = few[0]
            warnings.warn(
                f"{len(few)} of {len(found)} layers saw fewer tokens than they have inputs, so their Gram matrices are singular: "
                f"'{name}' has {self._widths[name]} inputs and saw {found[name].count} tokens",
                stacklevel=4,
            )


def run_batch(model: nn.Module, batch: object, batch_fn: Callable | None) -> object:
    if batch_fn is not None:
        return batch_fn(model, batch)
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def mask_of(batch: object) -> torch.Tensor | None:
    return batch.get("attention_mask") if isinstance(batch, Mapping) else None


def _unmasked(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    tokens = x.detach().reshape(-1, x.shape[-1])
    return tokens if mask is None or mask.numel() != len(tokens) else tokens[mask.reshape(-1).bool()]


def _of_chunk(chunk: torch.Tensor, dtype: torch.dtype, device: torch.device) -> InputStatistics:
    """Statistics of a few tokens: centered by a rounded mean before the product, and by the rest of the mean after it."""
    x = chunk if chunk.dtype in (torch.float32, torch.float64) else chunk.float()
    shift = x.mean(0)
    centered = x - shift
    rest = centered.mean(0, dtype=dtype)
    scatter = (centered.T @ centered).to(dtype) - len(x) * torch.outer(rest, rest)
    absolute = x.abs()
    parts = (shift.to(dtype) + rest, scatter, absolute.mean(0, dtype=dtype), absolute.amax(0).to(dtype))
    return InputStatistics(len(x), *(part.to(device) for part in parts))


def _of_width(value, name: str, ndim: int, width: int) -> torch.Tensor:
    found = torch.as_tensor(array(value, name, ndim=ndim))
    if set(found.shape) != {width}:
        raise ValueError(f"{name} must be as wide as mean, {width}, got shape {tuple(found.shape)}")
    return found


def require_batches(count: int) -> None:
    if count == 0:
        raise ValueError("batches must hold at least one batch, got none")
