"""`ritz linalg ...`: jobs on matrix files, one file per job."""

from __future__ import annotations

import typer

from ritz.cli.linalg import cluster_svd, complete, conjectures, decompositions, gemm, json_vectors, solve, spgemm, stream_pca

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
app.command("stream-pca")(stream_pca.stream_pca)
app.add_typer(gemm.app, name="gemm")
app.command("conjectures")(conjectures.conjectures)
app.command("json-vectors")(json_vectors.json_vectors)
app.command("json-search")(json_vectors.json_search)
