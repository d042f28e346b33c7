"""docs/report.png, the picture of a report in README.md: the top of the page that `make demo` writes, in a browser.

    make demo && python docs/picture.py demo/compare.json

Needs a Chromium on PATH. The report is drawn anew from the record, so that the picture has the present style.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).resolve().parent / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1280, 1560)
MOST = 200_000  # bytes
# The protocol's terms and the navigation are left out, so that the leaderboard and its pictures are near the top.
SHORT = (
    "<style>nav, section[aria-labelledby=how], section[aria-labelledby=differences] { display: none }</style>"
)


def main() -> int:
    """The command line above."""
    from PIL import Image

    from deconrec.experiments.results import Result
    from deconrec.report.html import render

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", help="compare.json of a demonstration")
    record = parser.parse_args().record
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print(f"none of {', '.join(BROWSERS)} is on PATH", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        page.write_text(render(Result.read(record)).replace("</head>", SHORT + "</head>"), encoding="utf-8")
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--hide-scrollbars",
        ]
        flags += [
            f"--user-data-dir={folder}/profile",
            f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--screenshot={shot}",
        ]
        subprocess.run([browser, *flags, page.as_uri()], check=True, capture_output=True)
        buffer = io.BytesIO()
        Image.open(shot).convert("RGB").quantize(128).save(buffer, format="png", optimize=True)
    if len(buffer.getvalue()) > MOST:
        print(f"the picture has {len(buffer.getvalue()):,} bytes, more than {MOST:,}", file=sys.stderr)
        return 1
    OUT.write_bytes(buffer.getvalue())
    print(OUT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
