"""`deconrec sensitivity [DIR ...] DATA`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import (
    Json,
    Pictures,
    Quiet,
    Report,
    Root,
    Seed,
    check_pictures,
    split_names,
    split_numbers,
    threads,
)


def sensitivity(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="[DIR]... DATA",
            help="Saved models, if any, and last a catalogue name or a TOML data file, whose biased log is read.",
        ),
    ],
    gammas: Annotated[
        str | None,
        typer.Option("--gammas", metavar="G,...", help="Odds ratios >= 1 (default: 1,1.1,1.25,1.5,2,3,5)."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="M,...",
            help="Of mse, dcg@K, recall@K, precision@K; the first decides who leads.",
        ),
    ] = None,
    propensity: Annotated[
        str | None,
        typer.Option(
            "--propensity",
            metavar="NAME",
            help="As of evaluate: logistic-mf, popularity, naive-bayes or known, as name:param=value+param=value.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Length of lists.")] = 10,
    root: Root = None,
    seed: Seed = 0,
    report: Report = None,
    pictures: Pictures = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Ask how strong a hidden confounder must be to change what a biased log says.

    Bounds on every metric, on items' mean outcomes and on lists, for odds ratios of hidden confounding from 1 up; the
    tipping point at which the leading of several models may lose; and measured features as a scale.
    """
    check_pictures(pictures, report)
    from deconrec.experiments.sensitivity import GAMMAS
    from deconrec.experiments.sensitivity import sensitivity as run
    from deconrec.report.sensitivity import table, write_sensitivity

    threads()
    *models, data = places
    found = run(
        models,
        data,
        gammas=GAMMAS if gammas is None else split_numbers(gammas, "--gammas"),
        metrics=None if metrics is None else split_names(metrics),
        propensity=propensity,
        k=k,
        seed=seed,
        root=root,
    )
    if json:
        output.write_json(found.to_json(), json)
    if json != "-":
        output.show(table(found))
        for sentence in (*found.answer, *found.notes):
            output.say(sentence)
    if report is not None:
        output.say(f"report: {write_sensitivity(found, report, pictures)}")
