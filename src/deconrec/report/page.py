"""What pages of one record share: their templates, their style, and no network and no script."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from deconrec.errors import MissingExtra


def rendered(template: str, **values: Any) -> str:
    """A template of this folder, in the style of report.html.

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
    whole = (resources.files("deconrec.report") / "templates" / "report.html").read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", whole, re.S)
    assert style is not None
    # Figures come as SVG that plots.py drew.
    return environment.get_template(template).render(style=Markup(style[1]), svg=Markup, **values)
