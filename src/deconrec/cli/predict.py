"""`deconrec predict DIR PAIRS --out FILE`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import (
    Delimiter,
    Engine,
    Features,
    History,
    Item,
    Quiet,
    Rating,
    User,
    Workers,
    columns_of,
    threads,
)


def predict(
    model: Annotated[str, typer.Argument(metavar="DIR", help="A saved model.")],
    pairs: Annotated[
        str, typer.Argument(metavar="PAIRS", help="CSV or Parquet with ids of users and items.")
    ],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Parquet or CSV to write.")],
    history: History = None,
    features: Features = None,
    user: User = None,
    item: Item = None,
    rating: Rating = None,
    delimiter: Delimiter = None,
    workers: Workers = 1,
    engine: Engine = "pool",
    quiet: Quiet = False,
) -> None:
    """Predict the expected outcome of pairs: user_id, item_id, score, source (model, fold-in or fallback).

    PAIRS may be larger than memory. Killed, the same command goes on where it was.
    """
    from deconrec.batch import check_output, predict_to
    from deconrec.cli.output import parts_bar

    check_output(out)
    threads()
    with parts_bar("predicting") as advance:
        done = predict_to(
            model,
            pairs,
            out,
            history=history,
            features=features,
            columns=columns_of(user, item, rating, delimiter),
            workers=workers,
            engine=engine,  # type: ignore[arg-type]  # predict_to refuses other words
            advance=advance,
        )
    parts = ", ".join(f"{count:,} {source}" for source, count in done.counts.items())
    again = f"; {done.resumed} of {done.parts} parts were there already" if done.resumed else ""
    output.say(f"{done.rows:,} predictions ({parts or 'none'}) in {out}{again}")
