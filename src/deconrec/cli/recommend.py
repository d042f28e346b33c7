"""`deconrec recommend DIR --out FILE`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Quiet, Seed, threads


def recommend(
    model: Annotated[str, typer.Argument(metavar="DIR", help="A saved model.")],
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Parquet or CSV to write.")] = None,
    users: Annotated[
        str | None,
        typer.Option("--users", metavar="FILE", help="CSV or Parquet with user_id (default: every user)."),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Items a user.")] = 20,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Recommend pairs of the training data too.")
    ] = False,
    history: Annotated[
        str | None,
        typer.Option("--history", metavar="FILE", help="Rows user_id, item_id, rating of users to fold in."),
    ] = None,
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
    quiet: Quiet = False,
) -> None:
    """Recommend items: user_id, item_id, rank (from 1), score (expected outcome).

    With --explore also propensity: the probability that the item is in the user's list under the policy.
    """
    from deconrec.cli.tables import check_table_name, write_table
    from deconrec.data.tables import read_table
    from deconrec.errors import DataError
    from deconrec.saving import load_model

    if out is not None:
        check_table_name(out)
    fitted = load_model(model)
    wanted = None
    if users is not None:
        table = read_table(users, "the users")
        if "user_id" not in table.columns:
            raise DataError(f"the users need the column user_id; got {table.columns}. Rename yours to this.")
        wanted = table["user_id"]
    threads()
    frame = fitted.recommend(
        wanted,
        k,
        exclude_seen=not include_seen,
        history=history,
        unknown="fallback",
        explore=explore,
        epsilon=epsilon,
        temperature=temperature,
        seed=seed,
    )
    if out is None:
        show_recommendations(frame)
        return
    write_table(frame, out)
    output.say(f"{len(frame):,} recommendations for {frame['user_id'].n_unique():,} users in {out}")


def show_recommendations(frame: object, n_users: int = 5) -> None:
    """The first users' items as a table on the screen."""
    import polars as pl
    from rich.table import Table

    assert isinstance(frame, pl.DataFrame)
    table = Table("user", "items, best first (expected outcome)", box=None, pad_edge=False)
    for user in frame["user_id"].unique(maintain_order=True).head(n_users):
        rows = frame.filter(pl.col("user_id") == user).head(8)
        table.add_row(
            str(user), "  ".join(f"{i} ({s:.2f})" for i, s in rows.select("item_id", "score").iter_rows())
        )
    output.show(table)
