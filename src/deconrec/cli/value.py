"""`deconrec value DATA`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import (
    Engine,
    Json,
    Pictures,
    Quiet,
    Report,
    Root,
    Workers,
    check_pictures,
    resumable,
    split_names,
    split_numbers,
    threads,
)


def value(
    data: Annotated[str, typer.Argument(help="A catalogue name or a TOML data file, with a randomised log.")],
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="A,B,...",
            help="Methods, separated by commas (default: grounded-gp, res-dr, autodebias, mf-combined).",
        ),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            "--shares",
            metavar="S,...",
            help="Shares of the randomised log that train, rising (default: 0,0.01,0.02,0.05,0.1,0.2,0.3).",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Splits (or fresh worlds).")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first seed.")] = 0,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="M", help="One metric (default: the headline).")
    ] = None,
    workers: Workers = 1,
    engine: Engine = "pool",
    root: Root = None,
    report: Report = None,
    pictures: Pictures = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Draw what randomised ratings are worth: methods over the size of the randomised log that they are given.

    The test rows are the same for every size, and a smaller part is contained in a larger one.
    """
    check_pictures(pictures, report)
    from deconrec.experiments.value import METHODS, SHARES
    from deconrec.experiments.value import value as run
    from deconrec.report.value import table, write_value

    threads()
    with resumable(json, report) as kept:
        found = run(
            data,
            METHODS if methods is None else split_names(methods),
            shares=SHARES if shares is None else split_numbers(shares, "--shares"),
            seeds=range(seed, seed + seeds),
            metric=metric,
            workers=workers,
            engine=engine,  # type: ignore[arg-type]  # value refuses other words
            root=root,
            progress=not quiet,
            resume=kept,
        )
        if resumed := found.environment["resumed"]:
            output.say(f"{resumed} runs of an earlier, stopped run were there already")
        if json:
            output.write_json(found.to_json(), json)
        if json != "-":
            output.show(table(found))
            for sentence in (*found.answer, *(f"missing: {m}" for m in found.missing)):
                output.say(sentence)
        if report is not None:
            output.say(f"report: {write_value(found, report, pictures)}")
