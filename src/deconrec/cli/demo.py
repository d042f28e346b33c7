"""`deconrec demo`: the main job on a built-in world, from data to report, model and recommendations."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Quiet, Seed, threads


def demo(
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder to write.")] = "demo",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Fresh worlds.")] = 10,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Simulate a confounded log, compare methods on it, save the best one and recommend with it."""
    from deconrec.experiments.demo import run_demo

    threads()
    made = run_demo(out, seeds=range(seed, seed + seeds), workers=workers, say=output.say, progress=not quiet)
    from pathlib import Path

    from deconrec.cli.compare import show_result
    from deconrec.cli.recommend import show_recommendations
    from deconrec.report.html import write_report

    report = write_report(made.result, Path(out) / "report.html")

    show_result(made.result)
    output.say("")
    show_recommendations(made.recommendations)
    output.say(f"\nmodel:   {made.model}   (chosen: {made.chosen})")
    output.say(f"more:    {program()} recommend {made.model} --k 10 --out recs.parquet")
    typer.echo(f"report:  {report}")


def program() -> str:
    """How this program is called here: its name where it is on PATH, its path otherwise."""
    import os
    import shutil
    import sys

    return "deconrec" if shutil.which("deconrec") else os.path.relpath(sys.argv[0])
