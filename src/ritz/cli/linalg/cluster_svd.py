"""`ritz linalg cluster-svd`: shared bases for the matrices of a checkpoint."""

from __future__ import annotations

import json as json_format
import time
from pathlib import Path

import typer

from ritz.cli.output import print_json, print_table


def cluster_svd(
    weights: Path = typer.Argument(help="A .safetensors file; its matrices are grouped by their numbers of rows, all else is passed on."),
    rank: int = typer.Option(64, help="Columns of each shared basis."),
    eps: float = typer.Option(0.05, help="Largest relative Frobenius error of a cluster."),
    out: Path = typer.Option(..., "--out", "-o", help="The .safetensors file: bases, and under each tensor's name its coefficients or itself."),
    estimator: str = typer.Option("incremental", help="incremental, residual or weyl: the bound that decides."),
    order: str = typer.Option("residual", help="residual or norm: in which order candidates are tried."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Cluster the matrices of a file so that each cluster has rank r within eps, and store bases and coefficients.

    A tensor W is given back by `basis @ coefficients`; the file's metadata names the basis of each compressed tensor under "bases".
    """
    from safetensors.torch import save_file

    from ritz.cli.matrix_files import check_ending
    from ritz.core import atomic_path

    check_ending(out, ".safetensors")
    start = time.perf_counter()
    tensors = _read(weights)
    groups = _groups(tensors)
    if not groups:
        raise ValueError(f"weights: '{weights}' holds no floating-point matrix")
    stored, basis_of, rows = dict(tensors), {}, []
    for m, names in groups.items():
        found = _cluster([tensors[name] for name in names], rank=rank, eps=eps, estimator=estimator, order=order)
        compressed = found.compress()
        for label, basis in compressed.bases.items():
            stored[f"basis.{m}.{label}"] = basis.contiguous()
        for name, label, part in zip(names, found.labels_.tolist(), compressed.coefficients):
            if label in compressed.bases:
                stored[name], basis_of[name] = part.contiguous(), f"basis.{m}.{label}"
        rows.append([m, len(names), len(found.clusters_), len(compressed.bases), _largest(found, compressed), found.compression_ratio_])
    with atomic_path(out) as path:
        save_file(stored, path, metadata={"format": "pt", "method": "concatenated-svd", "bases": json_format.dumps(basis_of)})
    _show(rows, tensors, stored, time.perf_counter() - start, out, json)


def _read(path: Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ritz.core import existing_file

    try:
        return load_file(existing_file(path, "weights"))
    except SafetensorError as error:
        raise ValueError(f"weights: '{path}' is not a safetensors file ({error})") from error


def _groups(tensors: dict) -> dict[int, list[str]]:
    """Names of the matrices by number of rows."""
    groups: dict[int, list[str]] = {}
    for name, tensor in sorted(tensors.items()):
        if tensor.ndim == 2 and tensor.is_floating_point() and tensor.numel():
            groups.setdefault(tensor.shape[0], []).append(name)
    return groups


def _cluster(matrices: list, **options):
    """Half precision is computed in single precision."""
    import torch

    from ritz.linalg import ConcatenatedSVDClustering

    return ConcatenatedSVDClustering(**options).fit([W if W.dtype == torch.float64 else W.float() for W in matrices])


def _largest(found, compressed) -> float:
    return max((float(found.errors_[label]) for label in compressed.bases), default=0.0)


def _show(rows: list[list], tensors: dict, stored: dict, seconds: float, out: Path, json: bool) -> None:
    columns = ["rows", "matrices", "clusters", "compressed", "largest error", "compression"]
    before, after = (sum(tensor.numel() for tensor in group.values()) for group in (tensors, stored))
    if json:
        groups = [dict(zip(columns, row)) for row in rows]
        print_json({"groups": groups, "numbers_before": before, "numbers_after": after, "seconds": round(seconds, 3), "out": str(out)})
        return
    print_table("clusters by number of rows", columns, rows, note=f"{before:,} numbers before, {after:,} after; {seconds:.3g} s; {out}")
