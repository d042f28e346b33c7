"""`deconrec recommend DIR --out FILE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
    Seed,
    User,
    Workers,
    columns_of,
    threads,
)

if TYPE_CHECKING:
    import polars as pl

    from deconrec.batch import Columns

SHOWN = 5  # users on the screen


def recommend(
    model: Annotated[str, typer.Argument(metavar="DIR", help="A saved model.")],
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Parquet or CSV to write.")] = None,
    users: Annotated[
        str | None,
        typer.Option(
            "--users", metavar="FILE", help="CSV or Parquet with ids of users (default: every user)."
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Items a user.")] = 20,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Recommend pairs of the training data too.")
    ] = False,
    history: History = None,
    features: Features = None,
    user: User = None,
    item: Item = None,
    rating: Rating = None,
    delimiter: Delimiter = None,
    explore: Annotated[
        str | None,
        typer.Option(
            "--explore",
            metavar="POLICY",
            help="Draw lists at random: epsilon-greedy, plackett-luce, or posterior (grounded-gp); adds the column "
            "propensity.",
        ),
    ] = None,
    epsilon: Annotated[
        float, typer.Option("--epsilon", help="Share of places that epsilon-greedy fills at random.")
    ] = 0.1,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of plackett-luce, in the outcome's unit.")
    ] = 0.1,
    seed: Seed = 0,
    workers: Workers = 1,
    engine: Engine = "pool",
    quiet: Quiet = False,
) -> None:
    """Recommend items: user_id, item_id, rank (from 1), score (expected outcome).

    With --explore also propensity: the probability that the item is in the user's list under the policy. Killed, the
    same command goes on where it was. Without --out, the first users' items are shown.
    """
    options: dict[str, Any] = {
        "k": k,
        "exclude_seen": not include_seen,
        "explore": explore,
        "epsilon": epsilon,
        "temperature": temperature,
        "seed": seed,
    }
    from deconrec.errors import ParameterError

    columns = columns_of(user, item, rating, delimiter)
    if out is None:
        if (workers, engine) != (1, "pool"):
            raise ParameterError("--workers and --engine are for answers to a file; add --out FILE.")
        show_recommendations(_first(model, users, history, features, columns, options))
        return
    from deconrec.batch import check_output, recommend_to
    from deconrec.cli.output import parts_bar

    check_output(out)
    threads()
    with parts_bar("recommending") as advance:
        done = recommend_to(
            model,
            out,
            users=users,
            history=history,
            features=features,
            columns=columns,
            workers=workers,
            engine=engine,  # type: ignore[arg-type]  # recommend_to refuses other words
            advance=advance,
            **options,
        )
    again = f"; {done.resumed} of {done.parts} parts were there already" if done.resumed else ""
    output.say(f"{done.rows:,} recommendations for {done.counts['users']:,} users in {out}{again}")


def _first(
    model: str,
    users: str | None,
    history: str | None,
    features: str | None,
    columns: Columns,
    options: dict[str, Any],
) -> pl.DataFrame:
    """Recommendations for the first users only, which is what a screen shows."""
    from deconrec.batch import asked_users, given_tables
    from deconrec.saving import load_model

    fitted = load_model(model)
    given = given_tables(history, features, columns)
    raw = asked_users(fitted, users, given, columns)
    threads()
    return fitted.recommend(raw.head(SHOWN), unknown="fallback", **given, **options)


def show_recommendations(frame: pl.DataFrame, n_users: int = SHOWN) -> None:
    """The first users' items as a table on the screen."""
    import polars as pl
    from rich.table import Table

    table = Table("user", "items, best first (expected outcome)", box=None, pad_edge=False)
    for user in frame["user_id"].unique(maintain_order=True).head(n_users):
        rows = frame.filter(pl.col("user_id") == user).head(8)
        table.add_row(
            str(user), "  ".join(f"{i} ({s:.2f})" for i, s in rows.select("item_id", "score").iter_rows())
        )
    output.show(table)
