"""`ritz linalg ...`: jobs on matrix files, one file per job."""

from __future__ import annotations

import typer

from ritz.cli.linalg import conjectures, decompositions, json_vectors, solve, spgemm

app = typer.Typer(no_args_is_help=True, help="Jobs on matrix files: .mtx, .npz, .npy, .csv, .json.")


@app.callback()
def linalg() -> None:
    """Jobs on matrix files: .mtx, .npz, .npy, .csv, .json."""


app.command("eig")(decompositions.eig)
app.command("svd")(decompositions.svd)
app.command("solve")(solve.solve)
app.command("spgemm")(spgemm.spgemm)
app.command("conjectures")(conjectures.conjectures)
app.command("json-vectors")(json_vectors.json_vectors)
app.command("json-search")(json_vectors.json_search)
