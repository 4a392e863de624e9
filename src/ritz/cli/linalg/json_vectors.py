"""`ritz linalg json-vectors` and `ritz linalg json-search`: JSON records as vectors, and the records nearest to a query."""

from __future__ import annotations

import json as json_text
import time
from pathlib import Path

import typer

from ritz.cli.output import print_json, print_table

OPTIONS = ("n_features", "matrices", "strings", "numbers", "normalize", "arrays", "word_order", "identifiers", "seed")


def json_vectors(
    records: Path = typer.Argument(help="Records: .jsonl, one JSON value a line, or .json, an array of them."),
    out: Path = typer.Argument(help="Where the vectors go, with what is needed to search them: .npz."),
    n_features: int = typer.Option(1024, "--features", "-d", help="Length of the vectors; a power of two for Hadamard matrices."),
    matrices: str = typer.Option("hadamard", help="hadamard, haar or householder."),
    strings: str = typer.Option("words", help="words, token or trigrams (typos stay near)."),
    numbers: str = typer.Option("auto", help="auto, thermometer, sincos or quantile."),
    normalize: str = typer.Option("unit", help="none, unit or sqrt."),
    arrays: str = typer.Option("sequence", help="sequence, or bag where order does not count."),
    word_order: bool = typer.Option(False, "--word-order", help="The order of words counts."),
    identifiers: str = typer.Option("auto", help="auto: distinct integers under keys that end in id are compared as texts; or never."),
    seed: int = typer.Option(0, min=0, help="Seed of all matrices and vectors."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Turn JSON records into vectors of one length; similar records get similar vectors."""
    from ritz.cli.matrix_files import check_ending, write_arrays
    from ritz.linalg import JSONVectorizer

    check_ending(out, ".npz")
    X = _read_records(records)
    options = dict(zip(OPTIONS, (n_features, matrices, strings, numbers, normalize, arrays, word_order, identifiers, seed)))
    start = time.perf_counter()
    vectorizer = JSONVectorizer(**options).fit(X)
    vectors = vectorizer.transform(X)
    learned = {
        "options": options,
        "knots": {path: knots.tolist() for path, knots in vectorizer.number_knots_.items()},
        "identifiers": sorted(vectorizer.identifier_paths_),
    }
    write_arrays(out, {"vectors": vectors, "vectorizer": _as_bytes(json_text.dumps(learned)), "records": _as_bytes("\n".join(X))})
    summary = {"records": len(X), "features": n_features, "seconds": round(time.perf_counter() - start, 3), "out": str(out)}
    print_json(summary) if json else print("\n".join(f"{name}: {value}" for name, value in summary.items()))


def json_search(
    vectors: Path = typer.Argument(help="What `ritz linalg json-vectors` wrote: .npz."),
    query: Path = typer.Argument(help="A JSON value, whole or in part like the records: .json."),
    k: int = typer.Option(5, "-k", min=1, help="How many records."),
    json: bool = typer.Option(False, "--json", help="Print the records as JSON."),
) -> None:
    """Find the records most similar to a query, by the cosine of their vectors."""
    import numpy as np

    table, vectorizer, records = _read_vectors(vectors)
    (q,) = vectorizer.transform([_read_text(query, "query")])
    norms = np.linalg.norm(table, axis=1) * np.linalg.norm(q)
    cosines = table @ q / np.maximum(norms, np.finfo(np.float32).tiny)
    best = np.argsort(-cosines, kind="stable")[:k]
    if json:
        print_json([{"record": int(i), "cosine": float(cosines[i]), "value": json_text.loads(records[i])} for i in best])
    else:
        print_table(f"records nearest to {query}", ["record", "cosine", "value"], [[int(i), float(cosines[i]), records[i]] for i in best])


def _read_records(path: Path) -> list[str]:
    """The records of a file as JSON texts."""
    text = _read_text(path, "records")
    ending = path.suffix.lower()
    if ending not in (".jsonl", ".ndjson", ".json"):
        raise ValueError(f"records: '{path}' must end in .jsonl or .json")
    if ending == ".json":
        from ritz.linalg.json_text import parse_json

        values = parse_json(text)
        if not isinstance(values, list):
            raise ValueError(f"records: '{path}' must hold an array of records, got {type(values).__name__}")
        return [json_text.dumps(value) for value in values]
    return [line for line in text.split("\n") if line.strip()]


def _read_text(path: Path, name: str) -> str:
    from ritz.core import existing_file

    try:
        return existing_file(path, name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: '{path}' must be UTF-8 text: {error}") from error


def _as_bytes(text: str):
    """Text as an array: one of NumPy's own text type would give every record the length of the longest."""
    import numpy as np

    return np.frombuffer(text.encode(), np.uint8)


def _read_vectors(path: Path):
    """The vectors of a file, the vectorizer that made them, and the records' texts."""
    import zipfile

    import numpy as np

    from ritz.core import existing_file
    from ritz.linalg import JSONVectorizer

    try:
        with np.load(existing_file(path, "vectors"), allow_pickle=False) as file:
            table, learned, records = file["vectors"], json_text.loads(file["vectorizer"].tobytes()), file["records"].tobytes().decode().split("\n")
        vectorizer = JSONVectorizer(**learned["options"])
        vectorizer.number_knots_ = {name: np.array(knots) for name, knots in learned["knots"].items()}
        vectorizer.identifier_paths_ = frozenset(learned["identifiers"])
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"vectors: '{path}' is no file that `ritz linalg json-vectors` wrote: {error}") from error
    return table, vectorizer, records
