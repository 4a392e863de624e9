"""`ritz linalg gemm measure|fit|recommend`: time matrix products on this machine, fit a model to the table, ask it for tiles."""

from __future__ import annotations

from pathlib import Path

import typer

from ritz.cli.output import print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Measure matrix products, model their time, recommend tiles.")


@app.command()
def measure(
    out: Path = typer.Argument(help="Where the table goes: .csv."),
    shapes: int = typer.Option(60, min=1, help="How many random shapes."),
    smallest: int = typer.Option(64, min=1, help="Least size."),
    largest: int = typer.Option(1024, min=1, help="Largest size."),
    kernel: str = typer.Option("tiled", help="tiled (CPU), blas, or triton (GPU)."),
    dtype: str = typer.Option("float32", help="float32 or float64."),
    repeats: int = typer.Option(5, help="Timings of each configuration; the least counts."),
    seconds: float = typer.Option(60.0, help="Time to spend."),
    seed: int = typer.Option(0, min=0, help="Seed of the shapes and the order."),
) -> None:
    """Time random shapes with all tiles, in random order."""
    from ritz.cli.matrix_files import check_ending
    from ritz.core import random_generator
    from ritz.linalg import measure_gemms
    from ritz.linalg.gemm_measurements import random_shapes

    check_ending(out, ".csv")
    rng = random_generator(seed)
    drawn = random_shapes(shapes, smallest, max(smallest, largest), rng)
    found = measure_gemms(drawn, kernel=kernel, dtype=dtype, repeats=repeats, budget_seconds=seconds, rng=rng)
    found.to_csv(out)
    print(f"{len(found.table)} rows in {out}")


@app.command()
def fit(
    table: Path = typer.Argument(help="A table of `ritz linalg gemm measure`."),
    out: Path = typer.Argument(help="Where the model goes: .joblib."),
    target: str = typer.Option("log_time_per_flop", help="log_time_per_flop, or runtime (the paper's: runtime, power, energy, throughput)."),
    seed: int = typer.Option(0, min=0, help="Seed of the forests."),
) -> None:
    """Fit forests to a table; say how well they predict the fifth of it that is held out first."""
    import joblib
    from sklearn.model_selection import train_test_split

    from ritz.cli.matrix_files import check_ending
    from ritz.core import atomic_path
    from ritz.linalg import GemmMeasurements, GemmModel

    check_ending(out, ".joblib")
    measured = GemmMeasurements.from_csv(table)
    if len(measured.table) < 10:
        raise ValueError(f"table: '{table}' must have at least 10 rows, got {len(measured.table)}")
    train, test = train_test_split(measured.table, test_size=0.2, random_state=seed)
    model = GemmModel(target=target, rng=seed).fit(GemmMeasurements(train))
    held_out = GemmMeasurements(test)
    predicted = model.predict(held_out)
    seconds = predicted if predicted.ndim == 1 else predicted[:, 0]
    errors = abs(seconds / held_out.table["runtime_s"] - 1)
    model.fit(measured)
    with atomic_path(out) as path:
        joblib.dump(model, path)
    print(f"{len(measured.table)} rows, held-out median error of the runtime {sorted(errors)[len(errors) // 2]:.1%}; model in {out}")


@app.command()
def recommend(
    model: Path = typer.Argument(help="A model of `ritz linalg gemm fit`, made by you: joblib files can run code."),
    M: int = typer.Argument(help="Rows of A."),
    N: int = typer.Argument(help="Columns of B."),
    K: int = typer.Argument(help="Columns of A."),
    top: int = typer.Option(3, help="How many of the best predicted are measured."),
    verify: bool = typer.Option(True, help="Measure them."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Tiles for a product of (M, K) and (K, N)."""
    import joblib

    from ritz.core import existing_file
    from ritz.linalg import GemmModel, recommend_tiles

    try:
        loaded = joblib.load(existing_file(model, "model"))
    except OSError:
        raise
    except Exception as error:  # what a file that is no pickle makes of unpickling is anybody's guess
        raise ValueError(f"model: '{model}' is no joblib file: {error}") from error
    if not isinstance(loaded, GemmModel):
        raise ValueError(f"model: '{model}' holds no GemmModel but a {type(loaded).__name__}")
    found = recommend_tiles(loaded, M, N, K, top=top, verify=verify)
    summary = {
        "tiles": list(found.tiles),
        "predicted_s": found.predicted,
        "measured_s": found.measured if verify else None,
        "spread_s": found.spread,
        "extrapolating": found.extrapolating,
    }
    if json:
        print_json(summary)
    else:
        print_table(f"tiles for {M} x {N} x {K}", list(summary), [[str(summary["tiles"]), *list(summary.values())[1:]]])
