"""`deconrec simulate NAME --out DIR`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Quiet, Root, Seed, Settings, pairs_of


def simulate(
    name: Annotated[str, typer.Argument(help="A simulator, as `data list` names it.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    settings: Settings = None,
    seed: Seed = 0,
    root: Root = None,
    quiet: Quiet = False,
) -> None:
    """Draw a world with known truth: log, randomised log, features, data.toml, and truth/ apart."""
    from deconrec.catalogue import write_world

    folder = write_world(name, pairs_of(settings), seed, out, root)
    output.say(f"wrote {folder}: use it as {folder}/data.toml; truth/ is for evaluation only")
