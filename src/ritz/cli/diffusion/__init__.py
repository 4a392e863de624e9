"""`ritz diffusion ...`: jobs on files of samples and models, one file per job."""

from __future__ import annotations

import typer

from ritz.cli.diffusion import bridge
from ritz.cli.diffusion.invert import invert

app = typer.Typer(no_args_is_help=True, help="Jobs on files of samples and diffusion models.")


@app.callback()
def diffusion() -> None:
    """Jobs on files of samples and diffusion models."""


app.add_typer(bridge.app, name="bridge")
app.command()(invert)
