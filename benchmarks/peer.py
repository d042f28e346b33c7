"""Peers in environments of their own, and work that is timed in a process of its own.

What a peer pins never meets what the library pins: `benchmarks/peers/<name>.txt` lists its packages, and
`benchmarks/.peers/<name>` is the environment that is made from it when it is first needed.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True)
class Elsewhere:
    """What a process of its own reported: seconds of the work alone, its whole peak in MiB, and what it found.

    seconds are of the processor, with one thread: what else runs on the machine matters less. They leave out the start
    of the interpreter, imports and the reading of the data.
    """

    seconds: float
    peak_mib: float
    found: dict[str, Any] = field(default_factory=dict)


def peak_mib() -> float:
    """The peak of this process in MiB, whatever the process that started it held."""
    with suppress(OSError):
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def requirements(name: str) -> Path:
    """The list of a peer's packages."""
    return HERE / "peers" / f"{name}.txt"


def _stamp(name: str) -> Path:
    return HERE / ".peers" / name / "made-from.txt"


def ready(name: str) -> bool:
    """Whether the environment of a peer stands, made from its present list."""
    stamp = _stamp(name)
    return stamp.is_file() and stamp.read_text() == requirements(name).read_text()


def python(name: str) -> str:
    """The interpreter of a peer's environment, which is made where it is missing or out of date."""
    folder = _stamp(name).parent
    executable = folder / "bin" / "python"
    if not ready(name):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([str(executable), *install, "-r", str(requirements(name))], check=True)
        _stamp(name).write_text(requirements(name).read_text())
    return str(executable)


def ask(executable: str, script: Path, *arguments: str) -> Elsewhere:
    """Run a script with one thread; its last line of output is JSON with `seconds`, `peak_mib` and what else it found.

    Raises
    ------
    RuntimeError: the script failed; with the end of what it said.
    """
    environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [executable, str(script), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return Elsewhere(said.pop("seconds"), said.pop("peak_mib"), said)
