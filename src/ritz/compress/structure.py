"""Where a model keeps its blocks and its linear layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ritz.compress.layers import dense_shape, is_linear, submodule

Selection = Sequence[str] | Callable[[str, nn.Module], bool] | None


def find_blocks(model: nn.Module, blocks: Selection = None) -> list[str]:
    """Return the names of a model's blocks: the modules in a row that its hidden states run through.

    Parameters
    ----------
    model : nn.Module
        The model.
    blocks : sequence of str, or predicate (name, module) -> bool, optional
        The blocks, if the default does not find them: the children of the `nn.ModuleList` with the most parameters (of lists of whole blocks, not of
        bare linear layers); failing that, of the largest `nn.Sequential`; failing that, the model as one block, named ``""``.

    Raises
    ------
    ValueError
        If a name is unknown, or nothing is selected.

    Examples
    --------
    >>> find_blocks(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    ['0', '1']
    """
    if blocks is not None:
        return list(_selected(model, blocks, "blocks", among=lambda module: True))
    for kind in (nn.ModuleList, nn.Sequential):
        candidates = [(name, module) for name, module in model.named_modules() if isinstance(module, kind) and _holds_blocks(module)]
        if candidates:
            prefix, largest = max(candidates, key=lambda candidate: sum(p.numel() for p in candidate[1].parameters()))
            return [f"{prefix}.{child}".strip(".") for child in largest._modules]  # with repetitions, which named_children() leaves out
    return [""]


def linear_modules(model: nn.Module, modules: Selection = None, *, blocks: Selection = None) -> dict[str, nn.Module]:
    """Return the linear layers that a method works on, by name.

    Parameters
    ----------
    model : nn.Module
        The model.
    modules : sequence of str, or predicate (name, module) -> bool, optional
        Which; by default every linear layer (`nn.Linear`, ``Conv1D``, or one with ``to_dense``) inside the blocks, so neither embeddings nor the
        output layer of a language model. A predicate is asked about every linear layer of the model.
    blocks : optional
        The blocks, as in `find_blocks`.

    Raises
    ------
    ValueError
        If a name is unknown, or nothing is selected.
    TypeError
        If a module named is no linear layer.

    Examples
    --------
    >>> list(linear_modules(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))))
    ['0', '2']
    """
    if modules is not None:
        chosen = _selected(model, modules, "modules", among=is_linear)
        for name, module in chosen.items():
            if not is_linear(module) and not hasattr(module, "in_features"):
                raise TypeError(f"modules: '{name}' is no linear layer but a {type(module).__name__}")
        return chosen
    first_names: dict[nn.Module, str] = {}
    for block in find_blocks(model, blocks):
        for name, module in _linears(model.get_submodule(block)):
            first_names.setdefault(module, f"{block}.{name}".strip("."))
    if not first_names:
        raise ValueError(f"modules: there is no linear layer in the blocks of the {type(model).__name__}")
    return {name: module for module, name in first_names.items()}


def widths(modules: dict[str, nn.Module]) -> dict[str, int]:
    """Return the number of inputs of each linear layer."""
    return {name: dense_shape(module)[1] for name, module in modules.items()}


def _selected(model: nn.Module, selection: Selection, argument: str, among: Callable[[nn.Module], bool]) -> dict[str, nn.Module]:
    if callable(selection):
        chosen = {name: module for name, module in model.named_modules() if among(module) and selection(name, module)}
    elif isinstance(selection, str) or not all(isinstance(name, str) for name in selection):
        raise TypeError(f"{argument} must be a sequence of names or a predicate, got {selection!r}")
    else:
        chosen = {name: submodule(model, name, argument) for name in selection}
    if not chosen:
        raise ValueError(f"{argument}: nothing in the {type(model).__name__} is selected")
    return chosen


def _holds_blocks(container: nn.Module) -> bool:
    """Whether some child holds linear layers of its own, or the container is a chain of layers that runs by itself."""
    runs = isinstance(container, nn.Sequential)
    return any(_linears(child) and (runs or not is_linear(child)) for child in container.children())


def _linears(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The outermost linear layers: a compensated or factorized layer counts as one, its parts do not count."""
    if is_linear(module):
        return [(prefix, module)]
    return [found for name, child in module.named_children() for found in _linears(child, f"{prefix}.{name}".strip("."))]
