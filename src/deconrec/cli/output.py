"""What commands print: tables on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STATE = {"quiet": False}


def say(text: str) -> None:
    """A line for a person, on standard error; silent with --quiet."""
    if not STATE["quiet"]:
        print(text, file=sys.stderr)


def error_line(text: str) -> None:
    """A user's mistake or a failure, in one line on standard error."""
    print(f"deconrec: {text}", file=sys.stderr)


def warning_line(text: str) -> None:
    """A warning, in one line on standard error."""
    if not STATE["quiet"]:
        print(f"deconrec: warning: {text}", file=sys.stderr)


def show(thing: Any) -> None:
    """Something that rich can print, on standard output; silent with --quiet."""
    if STATE["quiet"]:
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=110)
    console.print(thing)


@contextmanager
def parts_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error where that is a terminal; gives what is called with (parts done, parts in all)."""
    if STATE["quiet"] or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def write_json(content: Any, target: str) -> None:
    """JSON to a file, or to standard output for "-"; no NaN."""
    text = (
        content if isinstance(content, str) else json.dumps(content, indent=1, allow_nan=False, default=str)
    )
    if target == "-":
        print(text)
        return
    from deconrec.data.writing import write_file

    write_file(Path(target), text + "\n")
    say(f"wrote {target}")
