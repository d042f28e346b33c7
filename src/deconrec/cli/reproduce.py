"""`deconrec reproduce NAME`: a table or figure of a paper, made again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Engine, Json, Quiet, Root, Workers, threads

if TYPE_CHECKING:
    from deconrec.experiments.results import Reproduction


def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="An experiment (see --list), or a TOML file of that form.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the experiments and what is done.")] = False,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Seeds (default: the spec's).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="The first seed (default: 0).")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes: few seeds and epochs, to see that all runs.")
    ] = False,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Other data than the spec's.")
    ] = None,
    root: Root = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=0, help="Trials of a search; 0 = defaults.")
    ] = None,
    workers: Workers = 1,
    engine: Engine = "pool",
    force: Annotated[bool, typer.Option("--force", help="Do again what is done.")] = False,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Do nothing: report what is there, name what is missing.")
    ] = False,
    results: Annotated[
        str | None,
        typer.Option(
            "--results",
            metavar="DIR",
            help="Folder of results (default: experiments/results in a checkout, else deconrec-results).",
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option("--report", metavar="FILE.html", help="The HTML page (default: beside the results)."),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Make a table or figure of a paper again, beside the paper's figures; resumable at any moment."""
    from deconrec.errors import ParameterError

    if list_:
        list_experiments(json, results)
        return
    if name is None:
        raise ParameterError(
            "reproduce needs the name of an experiment; `deconrec reproduce --list` has them."
        )
    from deconrec.experiments.reproduce import reproduce as run
    from deconrec.experiments.reproduce import results_path

    threads()
    try:
        result = run(
            name,
            seeds=seeds,
            seed=seed,
            quick=quick,
            data=data,
            root=root,
            trials=trials,
            workers=workers,
            engine=engine,  # type: ignore[arg-type]  # reproduce refuses other words
            force=force,
            run=not no_run,
            results=results,
            progress=not quiet,
            say=output.say,
        )
    except KeyboardInterrupt:
        output.error_line("stopped; what was done is kept, and the same command goes on from there")
        raise typer.Exit(1) from None
    page = results_path(result.name, results, quick).with_suffix(".md")
    written = write_pages(result, page, report)
    if json:
        output.write_json(result.to_json(), json)
    if json != "-":
        show_reproduction(result)
    for path in written:
        output.say(f"wrote {path}")


def write_pages(result: Reproduction, page: Path, report: str | None) -> list[Path]:
    """The Markdown page, its pictures, a short record and the HTML page (or `report`), beside the results."""
    from deconrec.report.html import write_report
    from deconrec.report.paper import sections, write_digest, write_markdown
    from deconrec.report.pictures import write_pictures
    from deconrec.report.world_pictures import write_world_pictures

    draw = write_world_pictures if result.kind == "worlds" else write_pictures
    pictures = draw(result, page.parent, page.stem)
    written = [*pictures, write_markdown(result, page, [p.name for p in pictures])]
    written.append(write_digest(result, page.with_suffix(".json")))
    target = report or page.with_suffix(".html")
    written.append(write_report(result, target, title=result.title, extra=sections(result)))
    return written


def show_reproduction(result: Reproduction) -> None:
    """The Markdown page on the screen, as it is."""
    from deconrec.report.paper import markdown

    if not output.STATE["quiet"]:
        print(markdown(result), end="")


def list_experiments(json: str | None, results: str | None) -> None:
    """Names, titles, and how many results of each are there."""
    from rich.table import Table

    from deconrec.experiments.reproduce import results_path
    from deconrec.experiments.spec import load_spec, spec_names
    from deconrec.experiments.world_spec import WorldSpec

    rows = []
    for name in spec_names():
        spec = load_spec(name)[1]
        path = results_path(name, results)
        text = path.read_text() if path.is_file() else ""
        kept = sum(text.count(f'"kind":"{kind}"') for kind in ("run", "world"))
        runs = sum(len(spec.methods_at(s)) for s in spec.settings) * spec.seeds
        wanted = spec.draws if isinstance(spec, WorldSpec) else runs
        rows.append(
            {"name": name, "title": spec.title, "data": spec.dataset, "runs": wanted, "lines kept": kept}
        )
    if json:
        output.write_json(rows, json)
    if json == "-":
        return
    table = Table(box=None, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, justify="right" if column in ("runs", "lines kept") else "left")
    for row in rows:
        table.add_row(*(str(v) for v in row.values()))
    output.show(table)
