"""`deconrec tune METHOD DATA --trials N`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deconrec.cli import output
from deconrec.cli.options import (
    Engine,
    Json,
    Pictures,
    Quiet,
    Report,
    Root,
    Seed,
    Settings,
    Track,
    Workers,
    check_pictures,
    pairs_of,
    threads,
)


def tune(
    method: Annotated[str, typer.Argument(help="A method, as name or name:param=value+param=value.")],
    data: Annotated[str, typer.Argument(help="A catalogue name, a TOML data file, or a folder or log.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials, the method as it is first.")] = 30,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Keep trials in an Optuna storage (sqlite:///tune.db): the same search goes on there.",
        ),
    ] = None,
    settings: Settings = None,
    select: Annotated[
        str, typer.Option("--select", help="Judge on: biased (hold-out), within-exposure or unbiased (V).")
    ] = "biased",
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="pairs or users (default: the data's).")
    ] = None,
    splits: Annotated[int, typer.Option("--splits", min=1, help="Splits that judge every trial.")] = 5,
    confirm: Annotated[
        int, typer.Option("--confirm", min=0, help="Further splits that judge the five best trials.")
    ] = 5,
    seed: Seed = 0,
    workers: Workers = 1,
    engine: Engine = "pool",
    root: Root = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Fit the best and save the model here.")
    ] = None,
    report: Report = None,
    pictures: Pictures = None,
    track: Track = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Search a method's parameters on hold-outs over several splits; no test row is looked at.

    Prints the best parameters, the trials and the fit command. With --storage, a search that was stopped or killed goes
    on where it was, and more trials can be added later.
    """
    check_pictures(pictures, report)
    from deconrec.adapters.tracker import open_tracker, tracked
    from deconrec.catalogue import open_data
    from deconrec.cli.fit import fit_and_save
    from deconrec.data.writing import check_replaceable
    from deconrec.experiments.search import Trial
    from deconrec.experiments.tune import tune as run
    from deconrec.experiments.tune import tuned_model
    from deconrec.report.tune import table, write_tuned
    from deconrec.saving import MARKER

    if out is not None:
        check_replaceable(out, MARKER)
    own = pairs_of(settings)
    tracker = open_tracker(track)
    threads()
    about = {"method": method, "data": data, "trials": trials, "select": select, "seed": seed, "set": own}
    with tracked(tracker, f"tune {method}", about) as noted:

        def told(number: int, trial: Trial) -> None:
            noted.metrics({"score": trial.score, "seconds": trial.seconds}, number)

        found = run(
            data,
            method,
            trials=trials,
            storage=storage,
            select=select,  # type: ignore[arg-type]  # tune refuses other words
            protocol=protocol,  # type: ignore[arg-type]  # tune refuses other words
            splits=splits,
            confirm=confirm,
            settings=own,
            seed=seed,
            workers=workers,
            engine=engine,  # type: ignore[arg-type]  # tune refuses other words
            root=root,
            progress=not quiet,
            told=told,
        )
        noted.metrics({"best": found.score, "default": found.default})
        noted.note({"best": found.params, "study": found.study, "command": found.command})
    if json:
        output.write_json(found.to_json(), json)
    if json != "-":
        output.show(table(found))
        for sentence in found.answer:
            output.say(sentence)
    if found.resumed:
        output.say(f"{found.resumed} of {len(found.trials)} trials were made before; study {found.study}")
    if report is not None:
        output.say(f"report: {write_tuned(found, report, pictures)}")
    output.say(f"to fit it: {found.command}")
    if out is not None:
        model: Any = tuned_model(found, own)
        fit_and_save(model, open_data(data, root), out, seed=seed, quiet=quiet)
