"""What pages of one record share: their templates, their style, and no network and no script."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from deconrec.data.writing import write_file
from deconrec.errors import MissingExtra
from deconrec.report.slides import slides


def rendered(template: str, **values: Any) -> str:
    """A template of this folder as a page: everything is escaped but figures, which plots.py drew and escaped.

    Templates that extend page.html pass `title`, `over` (what stands above it), `finding` (the first sentence) and
    `answer` (the others).

    Raises
    ------
    MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "report", "the HTML report") from error

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deconrec.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"svg": Markup, "soft": soft}
    environment.globals["svg"] = Markup
    environment.tests["rows"] = lambda section: hasattr(section, "rows")
    style = (resources.files("deconrec.report") / "templates" / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=Markup(style), **values)


def write_page(text: Callable[[], str], path: str | Path, pictures: str | Path | None = None) -> Path:
    """Write a page, whole at the end, with its figures as files beside it where a folder is named; gives its path.

    Parameters
    ----------
    text: draws the page.
    pictures: folder for the figures, each as .svg and .png; None = they stand in the page alone.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: a file cannot be written.
    """
    with slides(pictures, Path(path).stem):
        page = text()
    write_file(path, page)
    return Path(path)


def soft(name: str) -> Any:
    """A text, escaped, in which a method's name may be broken after its signs rather than inside a word."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=\w[:+])(?=[A-Za-z])", name))
