"""Where the files of a public data set are, and whether they are the published ones."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from deconrec.errors import DataError, MissingData

ROOT_VARIABLE = "DECONREC_DATA"


@dataclass(frozen=True)
class Release:
    """The files of a published data set.

    Attributes
    ----------
    name: catalogue name.
    folder: folder in the root.
    files: the files needed; each a tuple of alternatives, the preferred one first.
    how: how to get them, as a sentence.
    """

    name: str
    folder: str
    files: tuple[tuple[str, ...], ...]
    how: str

    def wanted(self) -> str:
        """The files needed, in words."""
        return ", ".join(" or ".join(f"'{name}'" for name in names) for names in self.files)


def roots(root: str | Path | None = None) -> list[Path]:
    """The folders that may hold data sets: `root` alone, or else $DECONREC_DATA and the user's cache."""
    if root is not None:
        return [Path(root)]
    from platformdirs import user_cache_dir

    named = os.environ.get(ROOT_VARIABLE)
    return [*([Path(named)] if named else []), Path(user_cache_dir("deconrec"))]


def locate(release: Release, root: str | Path | None = None) -> list[Path]:
    """The paths of the release's files, one for each entry of `files`, all from one folder.

    Raises
    ------
    MissingData: no root has them all; names every folder looked at, what it holds and lacks, and what to do.
    """
    looked = []
    for folder in (place / release.folder for place in roots(root)):
        found = [_first(folder, names) for names in release.files]
        if None not in found:
            return [path for path in found if path is not None]
        looked.append(_report(folder, release, found))
    wanted = (
        f"the data set '{release.name}' needs {release.wanted()} in a folder '{release.folder}' of the data root "
        f"(`root`, --root or {ROOT_VARIABLE})"
    )
    raise MissingData(f"{wanted}; looked in {'; '.join(looked)}. {release.how}", f"{wanted}. {release.how}")


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _report(folder: Path, release: Release, found: list[Path | None]) -> str:
    if not folder.is_dir():
        return f"'{folder}' (no such folder)"
    lacks = ", ".join(names[0] for names, path in zip(release.files, found, strict=True) if path is None)
    holds = sorted(path.name for path in folder.iterdir() if path.is_file())
    shown = ", ".join(holds[:8]) + (" and more" if len(holds) > 8 else "")
    return f"'{folder}' (holds {shown or 'no files'}; lacks {lacks})"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns a parser's error into a `DataError` that names the file."""
    try:
        yield
    except (
        pl.exceptions.PolarsError,
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        KeyError,
        IndexError,
    ) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"'{path}' must be the published file; it cannot be read as that ({first}). Get it again."
        ) from error


def expect_counts(name: str, expected: Mapping[str, int], found: Mapping[str, int]) -> None:
    """Compares what was read with what was published.

    Raises
    ------
    DataError: a count differs.
    """
    for what, count in expected.items():
        if found[what] != count:
            raise DataError(
                f"the data set '{name}' must have {count:,} {what} as published; found {found[what]:,}. The "
                "files are not the published ones: get them again, or load with check_counts=False if that "
                "is meant."
            )
