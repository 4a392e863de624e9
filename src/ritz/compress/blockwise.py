"""Calibration block by block: each block of a model sees what the blocks before it make after they were changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from ritz.compress.calibration import Collector, InputStatistics, calibrating, mask_of, require_batches, run_batch
from ritz.compress.structure import Selection, find_blocks, linear_modules
from ritz.core import progress


def blockwise(
    model: nn.Module,
    blocks: Selection,
    batches: Iterable,
    visit: Callable[[str, dict[str, InputStatistics]], None],
    *,
    modules: Selection = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    batch_fn: Callable[[nn.Module, object], object] | None = None,
) -> None:
    """Go through a model block by block, each seeing what the blocks before it make *after* they were changed.

    The model runs once per batch up to its last block; the hidden states that enter the first block are kept, and each block's further arguments
    (masks, positions, rotary tables), since models may hand different ones to different blocks. Then, for every block: run it while statistics are
    collected, call ``visit(name of the block, statistics)``, which may replace layers of the block in `model`, and run it again for the inputs of the
    next.

    Parameters
    ----------
    model, batches, modules, dtype, device, batch_fn
        As in `collect_statistics`; key-value caches are switched off.
    blocks : optional
        The blocks in their order, see `ritz.compress.find_blocks`.
    visit : callable
        Called once per block, with the statistics of the block's selected layers by their full names.

    Raises
    ------
    ValueError
        As in `collect_statistics`; also if a selected layer lies in no block, a block does not run exactly once per forward pass, or is not fed
        directly by the one before it.

    Notes
    -----
    Three runs of each block per batch; memory: the hidden states of all tokens.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    >>> blockwise(model, None, [torch.randn(4, 3)], lambda name, statistics: print(name, list(statistics)))
    0 ['0']
    1 ['1']
    """
    names = find_blocks(model, blocks)
    layers = _layers_by_block(linear_modules(model, modules, blocks=blocks), names)
    with calibrating(model):
        calls = [_capture(model, names, batch, batch_fn) for batch in batches]
        require_batches(len(calls))
        for position, name in enumerate(progress(names, "blocks")):
            collector = Collector(layers[name], dtype, device)
            if layers[name]:
                with collector.attached():
                    for call in calls:
                        with collector.forward(call.mask):
                            call.run(model.get_submodule(name), position)
                visit(name, collector.result())
            for call in calls if position + 1 < len(names) else ():
                call.hidden = call.run(model.get_submodule(name), position)


@dataclass
class _Call:
    """One batch on its way through the blocks: the hidden states, and what else each block is called with.

    Blocks get copies of the hidden states: one that adds to its input in place must not change what its next run starts from.
    """

    mask: torch.Tensor | None
    hidden: torch.Tensor | None = None
    others: list[tuple[tuple, dict, str | None]] = field(default_factory=list)

    def run(self, block: nn.Module, position: int) -> torch.Tensor:
        args, kwargs, keyword = self.others[position]
        hidden = self.hidden.clone()
        output = block(hidden, *args, **kwargs) if keyword is None else block(*args, **kwargs, **{keyword: hidden})
        return _hidden_of(output)


class _LastBlockReached(Exception):
    pass


def _capture(model: nn.Module, names: list[str], batch: object, batch_fn: Callable | None) -> _Call:
    """Run a batch up to the last block; keep the first block's input and every block's further arguments."""
    call, made = _Call(mask_of(batch)), []

    def enter(position: int) -> Callable:
        def before(block: nn.Module, args: tuple, kwargs: dict) -> None:
            args, kwargs = _without_cache(block, args, kwargs)
            keyword = None if args else "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs), None)
            hidden = args[0] if args else kwargs.pop(keyword, None)
            _check_chain(names, position, len(call.others), hidden, made)
            if position == 0:
                call.hidden = hidden.clone()
            call.others.append((args[1:], kwargs, keyword))
            if position + 1 == len(names):
                raise _LastBlockReached

        return before

    def leave(block: nn.Module, args: tuple, output: object) -> None:
        made[:] = [_hidden_of(output)]

    blocks = [model.get_submodule(name) for name in names]
    hooks = [block.register_forward_pre_hook(enter(position), with_kwargs=True) for position, block in enumerate(blocks)]
    hooks += [block.register_forward_hook(leave) for block in blocks]
    try:
        run_batch(model, batch, batch_fn)
    except _LastBlockReached:
        return call
    finally:
        for hook in hooks:
            hook.remove()
    raise ValueError(f"blocks: only {len(call.others)} of {len(names)} ran; '{names[len(call.others)]}' did not")


def _check_chain(names: list[str], position: int, expected: int, hidden: object, made: list) -> None:
    if not isinstance(hidden, torch.Tensor):
        raise ValueError(f"blocks: '{names[position]}' is called with a {type(hidden).__name__} first, not with the hidden states")
    if position != expected:
        raise ValueError(f"blocks: '{names[position]}' ran where '{names[expected]}' was expected; each must run once, in the order given")
    if position > 0 and made[0] is not hidden:
        raise ValueError(
            f"blocks: '{names[position]}' is not fed directly by '{names[position - 1]}'; name blocks that are (blocks=), or calibrate in one pass"
        )


def _without_cache(block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Drop key-value caches from a block's arguments: each block runs several times, and must not see its own past."""
    caches = {"past_key_value": None, "past_key_values": None, "layer_past": None, "use_cache": False}
    parameters = list(inspect.signature(block.forward).parameters)
    args = tuple(caches.get(name, value) for name, value in zip(parameters, args)) + args[len(parameters) :]
    return args, {name: caches.get(name, value) for name, value in kwargs.items()}


def _layers_by_block(modules: dict[str, nn.Module], names: list[str]) -> dict[str, dict[str, nn.Module]]:
    inside: dict[str, dict[str, nn.Module]] = {name: {} for name in names}
    for name, module in modules.items():
        block = next((block for block in names if block == "" or name == block or name.startswith(block + ".")), None)
        if block is None:
            raise ValueError(f"modules: '{name}' lies in none of the blocks; calibrate it in one pass")
        inside[block][name] = module
    return inside


def _hidden_of(output: object) -> torch.Tensor:
    return output[0] if isinstance(output, tuple | list) else output
