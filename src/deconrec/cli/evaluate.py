"""`deconrec evaluate DIR DATA --estimator ips|snips|dr`."""

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
    threads,
)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="DIR", help="A saved model.")],
    data: Annotated[
        str, typer.Argument(help="A catalogue name or a TOML data file: its biased log judges the model.")
    ],
    estimator: Annotated[
        str, typer.Option("--estimator", help="ips, snips (self-normalised) or dr (doubly robust).")
    ] = "snips",
    propensity: Annotated[
        str | None,
        typer.Option(
            "--propensity",
            metavar="NAME",
            help="logistic-mf, popularity, naive-bayes or known, as name:param=value+param=value (default: known where "
            "the log has a column of propensities, else cross-fitted logistic-mf).",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics", metavar="M,...", help="As ndcg@20, recall@20, precision@20, mse, auc, logloss."
        ),
    ] = None,
    imputation: Annotated[
        str, typer.Option("--imputation", metavar="METHOD", help="What dr fills gaps with.")
    ] = "mf",
    report: Report = None,
    pictures: Pictures = None,
    root: Root = None,
    seed: Seed = 0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Estimate what a model is worth over all pairs from a biased log, with intervals.

    Rows whose pair the model was given in training are left out.
    """
    check_pictures(pictures, report)
    from deconrec.experiments.evaluate import evaluate as run

    threads()
    found = run(
        model,
        data,
        estimator=estimator,  # type: ignore[arg-type]  # evaluate refuses other words
        propensity=propensity,
        metrics=None if metrics is None else split_names(metrics),
        imputation=imputation,
        seed=seed,
        root=root,
    )
    if json:
        output.write_json(found.to_json(), json)
    if json != "-":
        from deconrec.report.estimates import table

        output.show(table(found))
    for note in found.notes:
        output.say(note)
    for row in found.estimates:
        if row.says:
            output.say(f"{row.metric}: {row.says}")
    if report is not None:
        from deconrec.report.estimates import write_estimates

        output.say(f"report: {write_estimates(found, report, pictures)}")
