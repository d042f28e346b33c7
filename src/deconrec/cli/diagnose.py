"""`deconrec diagnose DATA`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Json, Pictures, Quiet, Report, Root, Seed, check_pictures, threads


def diagnose(
    data: Annotated[str, typer.Argument(help="A catalogue name or a TOML data file.")],
    root: Root = None,
    report: Report = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Say whether to debias, with what, and what the data cannot tell: a test for hidden confounding, and more.

    DATA are ratings of pairs, or impressions with clicks and conversions. The exit code is 0 whatever is found. A
    simulator's world is drawn by --seed.
    """
    check_pictures(pictures, report)
    from deconrec.catalogue import open_data
    from deconrec.diagnostics import diagnose as run

    threads()
    opened, _ = open_data(data, root).draw(seed)
    found = run(opened, seed=seed, name=data)
    if json:
        output.write_json(found.to_json(), json)
    if report is not None:
        from deconrec.report.diagnose import write_diagnosis

        write_diagnosis(found.to_dict(), report, pictures)
        output.say(f"report: {report}")
    if json != "-":
        output.show(found)
