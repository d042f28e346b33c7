"""`deconrec data describe | convert | split | list | fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconrec.cli import output
from deconrec.cli.options import (
    Delimiter,
    Item,
    Json,
    Quiet,
    Rating,
    Repeated,
    Root,
    Seed,
    Timestamp,
    Unrated,
    User,
)

if TYPE_CHECKING:
    from deconrec.data.dataset import Dataset

app = typer.Typer(
    help="Look at data, convert and split it, and bring public data here.", no_args_is_help=True
)

SOURCE = "A catalogue name, a TOML data file, a folder, or a log (CSV, Parquet, .inter)."
Source = Annotated[str, typer.Argument(metavar="DATA", help=SOURCE)]


def _columns(**roles: str | None) -> dict[str, str] | None:
    return {role: name for role, name in roles.items() if name is not None} or None


def _given(source: str, root: str | None, seed: int, **options: Any) -> Dataset:
    """Data by name or by path; options are for a log by itself."""
    from deconrec.catalogue import CATALOGUE, load
    from deconrec.data.given import read_data
    from deconrec.errors import ParameterError

    options = {name: value for name, value in options.items() if value is not None}
    if options and source.partition(":")[0] in CATALOGUE:
        raise ParameterError(
            f"'{source}' is a catalogue name, which says this itself: leave out {', '.join(options)}."
        )
    return read_data(source, **options) if options else load(source, root, seed=seed)


@app.command("describe")
def describe(
    data: Source,
    user: User = None,
    item: Item = None,
    rating: Rating = None,
    timestamp: Timestamp = None,
    delimiter: Delimiter = None,
    duplicates: Repeated = None,
    unrated: Unrated = None,
    root: Root = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Print what a data set holds and every rule that was applied to it."""
    from deconrec.data.describe import describe as describe_data

    columns = _columns(user=user, item=item, rating=rating, timestamp=timestamp)
    read = _given(data, root, 0, columns=columns, delimiter=delimiter, duplicates=duplicates, unrated=unrated)
    description = describe_data(read)
    if json:
        output.write_json(description.to_dict(), json)
    if json != "-":
        output.show(description)


@app.command("convert")
def convert(
    data: Source,
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="PATH", help="A folder, or a .parquet, .csv or .inter file for the log alone."
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", help="Of a folder: parquet, or inter (RecBole's files).")
    ] = "parquet",
    user: User = None,
    item: Item = None,
    rating: Rating = None,
    timestamp: Timestamp = None,
    delimiter: Delimiter = None,
    duplicates: Repeated = None,
    unrated: Unrated = None,
    unbiased: Annotated[
        str | None, typer.Option("--unbiased", metavar="FILE", help="The randomised log.")
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", metavar="FILE", help="A fixed unbiased test log.")
    ] = None,
    users: Annotated[
        str | None, typer.Option("--users", metavar="FILE", help="Features of users; first column: the id.")
    ] = None,
    items: Annotated[
        str | None, typer.Option("--items", metavar="FILE", help="Features of items; first column: the id.")
    ] = None,
    rating_range: Annotated[
        tuple[float, float] | None,
        typer.Option("--rating-range", metavar="LOW HIGH", help="Ratings outside are an error."),
    ] = None,
    binarize: Annotated[
        float | None, typer.Option("--binarize", help="Rating >= this is the outcome 1, else 0.")
    ] = None,
    relevant: Annotated[
        float | None, typer.Option("--relevant", help="Rating >= this is a positive; ratings stay.")
    ] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="pairs or users [pairs].")] = None,
    name: Annotated[str | None, typer.Option("--name", help="A name for reports.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists. (A folder of ours always is.)")
    ] = False,
    root: Root = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write data of any kind as a folder with data.toml, which every command reads, or its log as one file.

    A log by itself needs the names of its columns where they are not user_id, item_id, rating, timestamp, and becomes a
    data set with the options that a data file would hold.
    """
    from deconrec.catalogue import CATALOGUE
    from deconrec.data.convert import check_output, left_out
    from deconrec.data.convert import convert as write

    check_output(None if data.partition(":")[0] in CATALOGUE else data, out, to, overwrite=overwrite)
    read = _given(
        data,
        root,
        seed,
        columns=_columns(user=user, item=item, rating=rating, timestamp=timestamp),
        delimiter=delimiter,
        duplicates=duplicates,
        unrated=unrated,
        unbiased=unbiased,
        test=test,
        users=users,
        items=items,
        rating_range=rating_range,
        binarize=binarize,
        relevant=relevant,
        protocol=protocol,
        name=name,
    )
    path = write(read, out, to)  # type: ignore[arg-type]  # check_output refuses other words
    for note in read.notes:
        output.say(f"note: {note}")
    use = "" if path == Path(out) else f"; use it as {out}, as in: deconrec data describe {out}"
    output.say(f"{read}: wrote {path}{use}")
    if path == Path(out) and (rest := left_out(read)):
        output.say(
            f"a file holds the biased log alone, without {', '.join(rest)}; give a folder for all of it"
        )


@app.command("split")
def split(
    data: Annotated[str, typer.Argument(help=SOURCE)],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="pairs or users (default: the data's).")
    ] = None,
    by: Annotated[
        str, typer.Option("--split", help="record, or time: the past trains, the future tests.")
    ] = "record",
    seed: Seed = 0,
    root: Root = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Write the rows that `compare` trains, stops and tests on with this seed: train/, holdout/, validation/, test/."""
    from deconrec.catalogue import open_data
    from deconrec.data.split_files import write_split
    from deconrec.data.writing import MARKER, check_replaceable

    check_replaceable(out, MARKER)
    read, truth = open_data(data, root).draw(seed)
    record = write_split(
        read,
        out,
        truth=truth,
        protocol=protocol,  # type: ignore[arg-type]  # write_split refuses other words
        seed=seed,
        by=by,  # type: ignore[arg-type]  # write_split refuses other words
    )
    if json:
        output.write_json(record, json)
    rows = ", ".join(f"{part} {count:,}" for part, count in record["rows"].items())
    output.say(f"{read.name} by the {record['protocol']} protocol, seed {seed}: {rows}; wrote {out}")


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
