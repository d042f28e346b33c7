"""`deconrec compare DATA --methods a,b --seeds N`."""

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
    Track,
    Workers,
    check_pictures,
    resumable,
    split_names,
    threads,
)


def compare(
    data: Annotated[str, typer.Argument(help="A catalogue name, a TOML data file, or a folder or log.")],
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B,...", help="Methods, separated by commas.  [required]"),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Splits (or fresh worlds of a simulator).")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first seed.")] = 0,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="M,...", help="Metrics, the headline first.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="pairs or users (default: the data's).")
    ] = None,
    select: Annotated[
        str,
        typer.Option(
            "--select",
            help="Stop and select on: biased (hold-out), within-exposure (its ratings, user by user) or unbiased (V).",
        ),
    ] = "biased",
    split: Annotated[
        str, typer.Option("--split", help="record, or time: the past trains, the future tests.")
    ] = "record",
    trials: Annotated[
        int, typer.Option("--trials", min=0, help="Tuning trials of a search; 0 = defaults.")
    ] = 0,
    search: Annotated[
        str, typer.Option("--search", help="shared: one search a method for all splits; or one a split.")
    ] = "shared",
    refit: Annotated[
        bool, typer.Option("--refit/--no-refit", help="Once stopped, train again on all biased rows.")
    ] = True,
    workers: Workers = 1,
    engine: Engine = "pool",
    root: Root = None,
    report: Report = None,
    pictures: Pictures = None,
    track: Track = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Compare methods under one protocol, with intervals and corrected paired tests."""
    check_pictures(pictures, report)
    from deconrec.adapters.tracker import open_tracker, tracked
    from deconrec.errors import ParameterError

    if methods is None:
        raise ParameterError(
            "compare needs --methods, for instance --methods mf,mf-combined,ips,res-dr with a randomised log, mf,ips "
            f"without. `deconrec diagnose {data}` ends with a list that fits these data; `deconrec methods` has all."
        )
    from deconrec.experiments.compare import compare as run  # after the check: it loads torch

    tracker = open_tracker(track)
    threads()
    about = {
        "data": data,
        "methods": methods,
        "seeds": seeds,
        "seed": seed,
        "trials": trials,
        "select": select,
    }
    with resumable(json, report) as kept, tracked(tracker, f"compare {data}", about) as noted:
        result = run(
            data,
            split_names(methods),
            seeds=range(seed, seed + seeds),
            metrics=None if metrics is None else split_names(metrics),
            protocol=protocol,  # type: ignore[arg-type]  # compare refuses other words
            select=select,  # type: ignore[arg-type]  # compare refuses other words
            split=split,  # type: ignore[arg-type]  # compare refuses other words
            trials=trials,
            search=search,  # type: ignore[arg-type]  # compare refuses other words
            refit=refit,
            workers=workers,
            engine=engine,  # type: ignore[arg-type]  # compare refuses other words
            root=root,
            progress=not quiet,
            resume=kept,
        )
        if resumed := result.environment["resumed"]:
            output.say(f"{resumed} runs and trials of an earlier, stopped run were there already")
        for row in result.runs:
            noted.metrics({f"{row.method}/{name}": value for name, value in row.metrics.items()}, row.seed)
        noted.metrics({f"mean/{s.method}/{s.metric}": s.mean for s in result.summary if not s.setting})
        if json:
            output.write_json(result.to_json(), json)
        if json != "-":
            show_result(result)
        if report:
            from deconrec.report.html import write_report

            output.say(f"report: {write_report(result, report, pictures=pictures)}")


def show_result(result: object) -> None:
    """Protocol line, leaderboard and verdict on the screen."""
    from deconrec.experiments.results import Result
    from deconrec.report.text import leaderboard, verdict

    assert isinstance(result, Result)
    p, d = result.protocol, result.protocol["data"]
    rows = (
        f"{d['rows']:,} biased"
        if "impressions" not in d
        else f"{d['impressions']:,} impressions, {d['rows']:,} clicked"
    )
    output.say(
        f"{d['name']}: {d['users']:,} users x {d['items']:,} items, {rows} and {d['unbiased_rows']:,} "
        f"unbiased rows; {p['name']} protocol, {len(p['seeds'])} seeds ({p['world']}), selection on the {p['select']} "
        f"hold-out"
    )
    for note in p["notes"]:
        output.say(f"note: {note}")
    output.show(leaderboard(result))
    output.show(verdict(result))
