"""Sphinx's settings: `make docs` builds the site into build/site. Pages are Markdown (MyST), the theme is furo.

The source folder is the repository, so that a link from a page to CHANGELOG.md or to a table under experiments leads to
a page of the site as it leads to a file on a code host. The page that is shown first is docs/index.md.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import docstrings  # noqa: E402  # found by the path above

import deconrec  # noqa: E402  # found by the path above

project = "deconrec"
author = "The deconrec authors"
copyright = author
version = release = deconrec.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "experiments/LOG.md",
    "experiments/results/**.md",
]
exclude_patterns = [".*", "build", "dist", "src", "tests", "benchmarks", "demo", "**.quick.md"]

# ---------------------------------------------------------------------- Markdown
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # pages of methods go from a heading to one two levels below it
highlight_language = "text"

# ---------------------------------------------------------------------- API
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

# ---------------------------------------------------------------------- HTML
html_theme = "furo"
html_title = f"deconrec {version}"
html_static_path = ["theme"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options: dict[str, Any] = {
    "light_css_variables": {"color-brand-primary": "#0c5c74", "color-brand-content": "#0c5c74"},
    "dark_css_variables": {"color-brand-primary": "#6dbdd8", "color-brand-content": "#6dbdd8"},
}
html_additional_pages = {"index": "first.html"}  # the site's address leads to docs/index.html
templates_path = ["theme"]

ANCHOR = re.compile(r'<a id="([^"]+)">')


class Anchors(SphinxTransform):
    """`<a id="x"></a>` on a page becomes a target of links; a heading that has this anchor anyway needs none."""

    default_priority = 800  # once headings have their anchors, before links look for theirs

    def apply(self, **kwargs: Any) -> None:
        """Change the document in place."""
        slugs = getattr(self.document, "myst_slugs", {})
        for raw in list(self.document.findall(nodes.raw)):
            found = ANCHOR.match(raw.astext())
            if found is None:
                continue
            closing = raw.next_node(siblings=True, descend=False)
            if closing is not None and closing.astext() == "</a>":
                closing.parent.remove(closing)
            if found[1] not in slugs:
                slugs[found[1]] = (raw.line or 0, found[1], found[1])
                raw.replace_self(nodes.target("", "", ids=[found[1]]))
            elif len(raw.parent.children) == 1:
                raw.parent.parent.remove(raw.parent)
            else:
                raw.parent.remove(raw)


def name_tables(app: Any, doctree: nodes.document, docname: str) -> None:
    """Tables get a class by the number of their columns: the style sheet gives many columns smaller text."""
    for table in doctree.findall(nodes.table):
        columns = len(list(table.findall(nodes.colspec)))
        table["classes"].append("wide" if columns > 4 else "narrow")


def spell_factories(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> Any:
    """A default that is made anew each time is shown as `...`: `<factory>` is no Python."""
    return (
        (signature.replace("<factory>", "..."), returns) if signature and "<factory>" in signature else None
    )


def setup(app: Any) -> dict[str, bool]:
    """What this site adds to Sphinx."""
    app.add_transform(Anchors)
    app.connect("doctree-resolved", name_tables)
    app.connect("autodoc-process-signature", spell_factories)
    app.connect("autodoc-process-docstring", docstrings.process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
