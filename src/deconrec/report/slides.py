"""The figures of a page as files that stand alone: .svg and .png on white, with a title and their own key."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconrec.data.writing import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURED = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")  # of an artist


@dataclass
class _Folder:
    """Where figures go, and what was drawn so far."""

    stem: str
    files: dict[str, bytes] = field(default_factory=dict)


_OPEN: ContextVar[_Folder | None] = ContextVar("slides", default=None)


@contextmanager
def slides(folder: str | Path | None, stem: str) -> Iterator[None]:
    """What `plots.inline` draws inside is also written to a folder, at the end, as STEM-N-WHAT.svg and .png.

    folder: None = nowhere.

    Raises
    ------
    FileError: a file cannot be written.
    """
    if folder is None:
        yield
        return
    here = _Folder(stem)
    token = _OPEN.set(here)
    try:
        yield
    finally:
        _OPEN.reset(token)
    for name, content in here.files.items():
        write_file(Path(folder) / name, content)


def keep(figure: Figure, title: str, key: Sequence[tuple[str, str, str]], colours: Mapping[str, str]) -> None:
    """Add a figure to the open folder, if there is one; it is recoloured for good.

    Parameters
    ----------
    title: what it shows.
    key: (name, colour, marker) of each line; empty = none is needed.
    colours: stand-in colour -> name of the page's variable.
    """
    here = _OPEN.get()
    if here is None:
        return
    if key:
        from matplotlib.lines import Line2D

        lines = [Line2D([], [], color=colour, marker=marker, lw=1.8) for _, colour, marker in key]
        where: dict[str, Any] = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, 0.0),
            "ncols": 1 + (len(key) > 4),
        }
        figure.legend(lines, [name for name, _, _ in key], frameon=False, **where)
    title = re.split(r"[:.] ", title)[0]  # what follows says the numbers in words
    figure.suptitle(textwrap.fill(title, 56), y=1.0, va="bottom", fontsize=12)
    _saved(figure, "svg")  # drawn once, it has all of its artists
    _recolour(figure, {colour: palette()[name] for colour, name in colours.items()})
    slug = "-".join(re.findall(r"[a-z0-9]+", title.lower())[:6])
    number = len(here.files) // 2 + 1
    for suffix in ("svg", "png"):
        here.files[f"{here.stem}-{number:02d}-{slug}.{suffix}"] = _saved(figure, suffix)


@cache
def palette() -> dict[str, str]:
    """The light colours of the pages' style sheet, by the name of their variable."""
    style = (resources.files("deconrec.report") / "templates" / "style.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", style.partition("@media")[0]))


def _saved(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    figure.savefig(buffer, format=suffix, dpi=200, bbox_inches="tight", facecolor="white", metadata=metadata)
    return buffer.getvalue()


def _recolour(figure: Figure, colours: Mapping[str, str]) -> None:
    """Replace stand-in colours wherever an artist holds one; opacity stays."""
    from matplotlib.colors import to_hex, to_rgba

    def replaced(value: Any) -> Any:
        alpha = to_rgba(value)[3]
        found = colours.get(to_hex(value))
        return value if found is None else to_rgba(found, alpha)

    for artist in figure.findobj():
        for name in COLOURED:
            get, put = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if get is None or put is None:
                continue
            value = get()
            if isinstance(value, str) and value in ("none", "auto"):
                continue
            several = getattr(value, "ndim", 1) == 2
            put([replaced(v) for v in value] if several else replaced(value))
