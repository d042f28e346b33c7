"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deconrec.cli.output import STATE

if TYPE_CHECKING:
    from deconrec.batch import Columns


def _quiet(value: bool) -> bool:
    STATE["quiet"] = value
    return value


Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_quiet, help="Print errors only.")]
Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write JSON to a file, or - for stdout.")
]
Root = Annotated[
    str | None,
    typer.Option("--root", metavar="DIR", help="Folder of the public data sets (default: DECONREC_DATA)."),
]
Report = Annotated[str | None, typer.Option("--report", metavar="FILE.html", help="Write an HTML report.")]
Pictures = Annotated[
    str | None,
    typer.Option(
        "--pictures", metavar="DIR", help="Write the report's pictures there too, each as .svg and .png."
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes.")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Whose processes: pool (of this machine), or ray (of this machine or of the cluster at RAY_ADDRESS).",
    ),
]
FitWorkers = Annotated[
    int,
    typer.Option("--workers", min=1, help="Processes that train together, each on a part of every batch."),
]
FitEngine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Whose processes: torch (of this machine), or ray (of this machine or of RAY_ADDRESS's).",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter; nested by a dot. May be repeated."),
]
Track = Annotated[
    str | None,
    typer.Option("--track", metavar="mlflow:URI", help="Note the run in an MLflow store (default: nowhere)."),
]
CheckpointEvery = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-every",
        min=0,
        metavar="SECONDS",
        help="How often a checkpoint is written (default: 30); 0 = never.",
    ),
]
History = Annotated[
    str | None,
    typer.Option("--history", metavar="FILE", help="Ratings (user, item, rating) of users to fold in."),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="Features of users to fold in, the id first, columns as in training.",
    ),
]
# How a log by itself is read; a data file says all this itself.
User = Annotated[str | None, typer.Option("--user", metavar="COLUMN", help="Column of user ids [user_id].")]
Item = Annotated[str | None, typer.Option("--item", metavar="COLUMN", help="Column of item ids [item_id].")]
Rating = Annotated[str | None, typer.Option("--rating", metavar="COLUMN", help="Column of ratings [rating].")]
Timestamp = Annotated[
    str | None, typer.Option("--timestamp", metavar="COLUMN", help="Column of timestamps [timestamp].")
]
Delimiter = Annotated[
    str | None, typer.Option("--delimiter", metavar="C", help="Between the fields of a CSV file [,].")
]
Repeated = Annotated[
    str | None,
    typer.Option("--duplicates", help="A repeated (user, item) pair: error, last or mean [error]."),
]
Unrated = Annotated[
    str | None,
    typer.Option("--unrated", help="A row without a rating: error, or drop (left out, counted) [error]."),
]


def pairs_of(settings: list[str] | None) -> dict[str, str]:
    """NAME=VALUE texts as a mapping.

    Raises
    ------
    ParameterError: a text without '='.
    """
    from deconrec.errors import ParameterError

    out = {}
    for text in settings or []:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ParameterError(f"--set must be written NAME=VALUE; got '{text}'.")
        out[name.strip()] = value.strip()
    return out


def check_pictures(pictures: str | None, report: str | None) -> None:
    """Refuse pictures of a report that is not written, before anything is computed.

    Raises
    ------
    ParameterError.
    """
    from deconrec.errors import ParameterError

    if pictures is not None and report is None:
        raise ParameterError("--pictures are those of the report; add --report FILE.html.")


def columns_of(user: str | None, item: str | None, rating: str | None, delimiter: str | None) -> Columns:
    """How the tables that a model answers for are read; what is not said is as in a log of our own."""
    from deconrec.batch import Columns

    said = {"user": user, "item": item, "rating": rating, "delimiter": delimiter}
    return Columns(**{name: text for name, text in said.items() if text is not None})


@contextmanager
def resumable(json: str | None, report: str | None) -> Iterator[Path | None]:
    """The file that keeps runs, .NAME.runs.jsonl beside the first output asked for; it goes once all is there."""
    target = next((Path(f) for f in (json, report) if f not in (None, "-")), None)
    if target is None:
        yield None
        return
    path = target.with_name(f".{target.name}.runs.jsonl")
    yield path
    path.unlink(missing_ok=True)


def split_names(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def split_numbers(text: str, option: str) -> list[float]:
    """Numbers separated by commas.

    Raises
    ------
    ParameterError.
    """
    from deconrec.errors import ParameterError

    try:
        return [float(part) for part in split_names(text)]
    except ValueError as error:
        raise ParameterError(f"{option} must be numbers separated by commas; got '{text}'.") from error


def threads() -> None:
    """One torch thread per process, unless OMP_NUM_THREADS says otherwise."""
    import os

    import torch

    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1") or 1)))
