"""`deconrec data describe | fetch`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Json, Quiet, Root

app = typer.Typer(help="Look at data, and bring public data here.", no_args_is_help=True)


@app.command("describe")
def describe(
    data: Annotated[str, typer.Argument(help="A catalogue name or a TOML data file.")],
    root: Root = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Print what a data set holds and every rule that was applied to it."""
    from deconrec.catalogue import load
    from deconrec.data.describe import describe as describe_data

    description = describe_data(load(data, root))
    if json:
        output.write_json(description.to_dict(), json)
    if json != "-":
        output.show(description)


@app.command("list")
def names(json: Json = None, quiet: Quiet = False) -> None:
    """List the catalogue: public data sets and simulators."""
    from deconrec.catalogue import CATALOGUE

    if json:
        output.write_json([{"name": n, "kind": e.kind, "says": e.says} for n, e in CATALOGUE.items()], json)
        return
    from rich.table import Table

    table = Table("name", "kind", "what it is", box=None, pad_edge=False)
    for name, entry in CATALOGUE.items():
        table.add_row(name, entry.kind, entry.says)
    output.show(table)


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A public data set.")],
    root: Root = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence and accept it.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Download a public data set whose licence allows it, and check it."""
    from deconrec.data.fetch import fetch as fetch_data

    folder = fetch_data(name, root, accept_licence=accept_licence, say=output.say)
    output.say(f"{name} is in {folder}")
