"""What a start costs: `import deconrec` and `deconrec --help`, against a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

SAYS = "wall time of a fresh Python: `import deconrec`, `deconrec --help`, against doing nothing"
REFERENCE = "python -c pass"
FULL: dict[str, int] = {}
TINY: dict[str, int] = {}
REPETITIONS = 9
MEMORY = False


def sides() -> dict[str, Callable[[], None]]:
    """Each starts a Python of its own."""

    def start(program: str) -> Callable[[], None]:
        def work() -> None:
            subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

        return work

    return {
        "import deconrec": start("import deconrec"),
        "deconrec --help": start("from deconrec.cli import main; main(['--help'])"),
        "python -c pass": start("pass"),
    }
