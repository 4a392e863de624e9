"""`ritz graphs ...`: jobs on graph files, one file per job."""

from __future__ import annotations

import typer

from ritz.cli.graphs import cluster, embed, ppr, proximity, sample, value

app = typer.Typer(no_args_is_help=True, help="Jobs on graph files: edge lists, .mtx, .mat, .npz, .gml.")


@app.callback()
def graphs() -> None:
    """Jobs on graph files: edge lists, .mtx, .mat, .npz, .gml, plain or gzipped."""


app.command("embed")(embed.embed)
app.add_typer(ppr.app, name="ppr")
app.command("proximity")(proximity.proximity)
app.command("value")(value.value)
app.command("cluster")(cluster.cluster)
app.command("sample")(sample.sample)
