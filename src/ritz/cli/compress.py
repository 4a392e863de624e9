"""The jobs of ritz.compress on files: checkpoints in, checkpoints out, tensor by tensor."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer

from ritz.cli.output import print_json, print_table


def compensate(
    original: Path = typer.Option(..., help="Weights before compression (.safetensors)."),
    compressed: Path = typer.Option(..., help="Weights after compression, dense (dequantized), under the same names."),
    gram: Path = typer.Option(..., help="X^T X of each layer's inputs (i, i), under the name of its weight; these are the layers compensated."),
    out: Path = typer.Option(..., help="The factors, as a LoRA adapter in PEFT's names with scaling 1 (.safetensors)."),
    rank: str = typer.Option("64", help="A count, a fraction of the shorter side (0.25), or a rule: energy:0.9, threshold:0.1, budget:1000000."),
    solver: str = typer.Option("exact", help="exact, or krylov: faster for ranks far below the width."),
    transposed: bool = typer.Option(False, "--transposed", help="Weights are stored (in, out), as GPT-2's are."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON and nothing else."),
) -> None:
    """Make up for the compression error of a model's layers by low-rank factors (EoRA), where their inputs have energy.

    The Gram matrices come from a few batches of the task:

        statistics = ritz.compress.collect_statistics(original_model, batches)

        save_file({f"{name}.weight": s.gram() for name, s in statistics.items()}, "gram.safetensors")
    """
    from safetensors.torch import save_file

    from ritz.core import atomic_path, progress

    factors, rows = {}, []
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(_opened(path, name)) for name, path in (("original", original), ("compressed", compressed), ("gram", gram))
        }
        layers = _Layers(files, transposed)
        ranks = layers.ranks(rank)
        for name in progress(layers.names, "compensation"):
            entries, row = layers.compensated(name, ranks[name], solver)
            factors |= entries
            rows.append(row)
        with atomic_path(out) as path:
            save_file(factors, path, metadata={"format": "pt", "method": "eora", "ranks": " ".join(str(row["rank"]) for row in rows)})
    _show({"out": str(out), "layers": rows, "stored_numbers": sum(factor.numel() for factor in factors.values())}, json)


class _Layers:
    """The layers of three checkpoints, read when they are asked for."""

    def __init__(self, files: dict, transposed: bool):
        self._files, self._transposed = files, transposed
        self.names = sorted(files["gram"].keys())
        if not self.names:
            raise ValueError("gram: the file holds no tensor")
        for which in ("original", "compressed"):
            missing = sorted(set(self.names) - set(files[which].keys()))
            if missing:
                raise ValueError(f"{which}: the file lacks {', '.join(missing[:5])}" + (f" and {len(missing) - 5} more" if len(missing) > 5 else ""))

    def ranks(self, rank: str) -> dict:
        """The rank of each layer; a budget needs a first pass over all of them."""
        from ritz.core import progress
        from ritz.linalg import RankRule, weighted_singular_values

        rule = RankRule.of(rank)
        if rule.kind != "budget":
            return dict.fromkeys(self.names, rule)
        layers = ((name, *self._error_and_gram(name)) for name in progress(self.names, "spectra"))
        return rule.allocate({name: (weighted_singular_values(error, gram), tuple(error.shape)) for name, error, gram in layers})

    def compensated(self, name: str, rank, solver: str):
        """The adapter entries of one layer in its own dtype, and its squared output errors: uncompensated, after plain SVD, after EoRA."""
        import torch

        from ritz.compress import eora_factors
        from ritz.compress.eora import lora_entries

        error, gram = self._error_and_gram(name)
        found = eora_factors(error, gram, rank, solver=solver)
        plain = eora_factors(error, torch.eye(len(gram), dtype=gram.dtype), found.rank, solver=solver)
        left = error - plain.product()
        row = {"layer": name, "rank": found.rank, "uncompensated": found.error, "svd": float(((left @ gram) * left).sum()), "eora": found.tail}
        dtype = self._tensor("original", name).dtype
        return lora_entries(name.removesuffix(".weight"), found.A.to(dtype), found.B.to(dtype)), row

    def _error_and_gram(self, name: str):
        import torch

        original, compressed, gram = (self._tensor(which, name).to(torch.float64) for which in ("original", "compressed", "gram"))
        if original.shape != compressed.shape:
            raise ValueError(f"compressed: '{name}' must have the shape it has in original, {tuple(original.shape)}, got {tuple(compressed.shape)}")
        error = (original - compressed).T if self._transposed else original - compressed
        if gram.shape != (error.shape[1], error.shape[1]):
            raise ValueError(f"gram: '{name}' must have shape ({error.shape[1]}, {error.shape[1]}), got {tuple(gram.shape)}")
        return error, gram

    def _tensor(self, which: str, name: str):
        from ritz.core import matrix

        tensor = self._files[which].get_tensor(name)
        if not tensor.is_floating_point():
            raise ValueError(f"{which}: '{name}' must be a floating-point matrix, got {tensor.dtype} (dequantize it first)")
        return matrix(tensor, f"{which}: '{name}'")


@contextmanager
def _opened(path: Path, name: str):
    from safetensors import SafetensorError, safe_open

    from ritz.core import existing_file

    try:
        opened = safe_open(existing_file(path, name), framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{name}: '{path}' is not a safetensors file ({error})") from error
    with opened as file:
        yield file


def _show(summary: dict, json: bool) -> None:
    if json:
        print_json(summary)
        return
    columns = ["layer", "rank", "uncompensated", "svd", "eora"]
    note = "squared output error on the tokens of the Gram matrices"
    print_table("compensation", columns, [[row[column] for column in columns] for row in summary["layers"]], note=note)
    print(f"{summary['stored_numbers']} numbers in {summary['out']}")
