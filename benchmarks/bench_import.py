"""What a start costs: `import deconrec` and `deconrec --help`, against `import torch`, which neither needs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

SAYS = "wall time of a fresh Python: `import deconrec`, `deconrec --help`, against `import torch`"
OURS = "import deconrec"
PEER_NAME = "import torch"
TARGETS: dict[str, float] = {"import deconrec": 5.0, "deconrec --help": 4.0}
FULL: dict[str, int] = {}
TINY: dict[str, int] = {}
REPETITIONS = 9
MEMORY = False


def sides() -> dict[str, Callable[[], None]]:
    """Each starts a Python of its own."""

    def start(program: str) -> Callable[[], None]:
        def work() -> None:
            subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

        work.clock = time.perf_counter  # the work is another process's
        return work

    return {
        "import deconrec": start("import deconrec"),
        "deconrec --help": start("from deconrec.cli import main; main(['--help'])"),
        "nothing": start("pass"),
        "import torch": start("import torch"),
    }
