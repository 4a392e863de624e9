"""`ritz linalg ...`: jobs on matrix files, one file per job."""

from __future__ import annotations

import typer

from ritz.cli.linalg import cluster_svd, complete, decompositions, solve, spgemm

app = typer.Typer(no_args_is_help=True, help="Jobs on matrix files: .mtx, .npz, .npy, .csv, .json.")


@app.callback()
def linalg() -> None:
    """Jobs on matrix files: .mtx, .npz, .npy, .csv, .json."""


app.command("cluster-svd")(cluster_svd.cluster_svd)
app.command("complete")(complete.complete)
app.command("eig")(decompositions.eig)
app.command("svd")(decompositions.svd)
app.command("solve")(solve.solve)
app.command("spgemm")(spgemm.spgemm)
