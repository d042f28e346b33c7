"""`deconrec predict DIR PAIRS --out FILE`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Quiet, threads


def predict(
    model: Annotated[str, typer.Argument(metavar="DIR", help="A saved model.")],
    pairs: Annotated[str, typer.Argument(metavar="PAIRS", help="CSV or Parquet with user_id and item_id.")],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Parquet or CSV to write.")],
    history: Annotated[
        str | None,
        typer.Option("--history", metavar="FILE", help="Rows user_id, item_id, rating of users to fold in."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Predict the expected outcome of pairs: user_id, item_id, score, source (model, fold-in or fallback)."""
    from deconrec.cli.tables import check_table_name, write_table
    from deconrec.saving import load_model

    check_table_name(out)
    fitted = load_model(model)
    threads()
    frame = fitted.predict(pairs, history=history, unknown="fallback", details=True)
    write_table(frame, out)
    counts = dict(frame["source"].value_counts().iter_rows())
    parts = ", ".join(f"{counts[s]:,} {s}" for s in ("model", "fold-in", "fallback") if s in counts)
    output.say(f"{len(frame):,} predictions ({parts or 'none'}) in {out}")
