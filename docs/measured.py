"""Guides that say what was measured: a record in docs/records, a table between `<!-- measured -->` and `<!-- end -->`,
and figures beside the page.

    python docs/effects.py --measure   run everything again, write the record, the figures and the table
    python docs/effects.py             write the figures and the table from the record
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parent
GUIDES = DOCS / "guides"
BLOCK = re.compile(r"(<!-- measured -->\n)(.*?)(<!-- end -->)", re.DOTALL)
STYLE = {
    "svg.hashsalt": "deconrec",
    "font.size": 9.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.w_pad": 0.1,  # inches: labels keep off the edge
    "figure.constrained_layout.h_pad": 0.08,
}


@dataclass(frozen=True)
class Measured:
    """A guide.

    Attributes
    ----------
    name: of docs/guides/NAME.md and docs/records/NAME.json.
    measure: gives the record, JSON-ready.
    table, figures: the record as Markdown, and as SVG by file name.
    """

    name: str
    measure: Callable[[], dict[str, Any]]
    table: Callable[[dict[str, Any]], str]
    figures: Callable[[dict[str, Any]], dict[str, bytes]]

    @property
    def page(self) -> Path:
        """The guide's file."""
        return GUIDES / f"{self.name}.md"

    @property
    def record(self) -> Path:
        """The record's file."""
        return DOCS / "records" / f"{self.name}.json"

    def main(self, about: str) -> int:
        """The command line above."""
        parser = argparse.ArgumentParser(
            description=about, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--measure", action="store_true", help="run everything again")
        if parser.parse_args().measure:
            import torch

            torch.set_num_threads(1)
            started = time.perf_counter()
            record = self.measure()
            self.record.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            print(f"measured in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        record = json.loads(self.record.read_text(encoding="utf-8"))
        for name, content in self.figures(record).items():
            (GUIDES / name).write_bytes(content)
        text = self.page.read_text(encoding="utf-8")
        self.page.write_text(
            BLOCK.sub(lambda m: f"{m[1]}\n{self.table(record)}\n{m[3]}", text), encoding="utf-8"
        )
        return 0


@contextmanager
def drawing() -> Iterator[None]:
    """The guides' style of figures."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def svg(figure: Figure) -> bytes:
    """A figure as a file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
