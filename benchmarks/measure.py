"""Timing in turn, peak memory in a child process, records and their history."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.peer import Elsewhere

CASES = (
    "steps",
    "pairs",
    "vae",
    "deconf",
    "multivae",
    "wmf",
    "topk",
    "ranking",
    "ingest",
    "grounded",
    "sparse",
    "import",
    "serve",
)
ROOT = Path(__file__).parent.parent
PACKAGES = ("deconrec", "numpy", "scipy", "polars", "torch", "scikit-learn", "typer", "fastapi", "uvicorn")

Record = dict[str, Any]


def case_module(case: str) -> ModuleType:
    """The module of a case."""
    return import_module(f"benchmarks.bench_{case}")


def one_thread() -> None:
    """One torch thread: a ratio should not depend on how many processors were free."""
    import torch

    torch.set_num_threads(1)


def in_turn(
    sides: Mapping[str, Callable[[], Any]], repetitions: int, *, warm: bool = True
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """(what each side returned, its seconds). Sides take turns, so that a busy moment hits all of them.

    warm: make a first turn that is not timed. Work in a process of its own tells its seconds itself; a side that works
    in another process has its clock as `clock`. Seconds are of the processor: with one thread, what else runs on the
    machine matters less.
    """
    results = {name: work() for name, work in sides.items()} if warm else {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repetitions):
        for name, work in sides.items():
            clock = getattr(work, "clock", time.process_time)
            started = clock()
            results[name] = work()
            passed = clock() - started
            seconds[name].append(results[name].seconds if isinstance(results[name], Elsewhere) else passed)
    return results, seconds


def run(case: str, *, tiny: bool = False, memory: bool | None = None) -> Record:
    """Measure a case; `memory` overrides the case's own choice."""
    module = case_module(case)
    setting = module.TINY if tiny else module.FULL
    repetitions = 1 if tiny else module.REPETITIONS
    warm = getattr(module, "WARM", True)
    results, seconds = in_turn(module.sides(**setting), repetitions, warm=warm)
    if hasattr(module, "agree"):
        module.agree(results)
    with_memory = module.MEMORY if memory is None else memory
    sides = {
        name: {"seconds": values, "peak_mib": peak(case, name, tiny=tiny) if with_memory else None}
        | told(results[name])
        for name, values in seconds.items()
    }
    said = {"case": case, "says": module.SAYS, "setting": setting, "repetitions": repetitions, "threads": 1}
    facts = {"date": datetime.now(UTC).date().isoformat(), "versions": versions(), "machine": machine()}
    return said | judged(sides, module.OURS, module.PEER_NAME, module.TARGETS) | facts


def judged(
    sides: Mapping[str, Record], ours: str, peer_name: str, targets: Mapping[str, float]
) -> dict[str, Any]:
    """What a record says of its sides: medians, and ratios, peer / side, so that more is better.

    targets: the least ratio that a side is to reach, by its name.
    """
    median = {name: statistics.median(side["seconds"]) for name, side in sides.items()}
    full = {
        name: side
        | {
            "median_seconds": median[name],
            "ratio": median[peer_name] / median[name],
            "target": targets.get(name),
        }
        for name, side in sides.items()
    }
    peak_mib = full[ours]["peak_mib"]
    return {
        "ours": median[ours],
        "peer": median[peer_name],
        "peer_name": peer_name,
        "ratio": full[ours]["ratio"],
        "unit": "s",
        "rss_mb": None if peak_mib is None else peak_mib * 2**20 / 1e6,
        "target": targets.get(ours),
        "sides": full,
    }


def told(result: Any) -> dict[str, Any]:
    """What work in a process of its own says of itself."""
    if not isinstance(result, Elsewhere):
        return {}
    return {"peak_mib": result.peak_mib, "found": result.found}


# ---------------------------------------------------------------------- memory
def peak(case: str, side: str, *, tiny: bool = False) -> float | None:
    """MiB that one repetition adds at its peak, in a fresh process; None where the system cannot tell."""
    command = [sys.executable, "-m", "benchmarks", "--peak", case, side, *(["--tiny"] if tiny else [])]
    # glibc otherwise keeps what the preparation freed, and its next use would not be seen.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    value = child.stdout.strip()
    return None if value == "None" else float(value)


def peak_here(case: str, side: str, *, tiny: bool = False) -> float | None:
    """The same, in this process, which has done nothing else."""
    module = case_module(case)
    module.sides(**module.TINY)[side]()  # loads the code that the work needs
    work = module.sides(**(module.TINY if tiny else module.FULL))[side]
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from the present
        before = _kib("VmRSS")
        work()
        return max(_kib("VmHWM") - before, 0) / 1024
    except OSError:
        return None


def _kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"no {field} in /proc/self/status")


# ---------------------------------------------------------------------- facts
def versions() -> dict[str, str]:
    """Python and the packages that were measured."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    """What the numbers depend on; no names of machines, users or folders."""
    name = platform.processor()
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        name = found[1] if found else name
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": name,
        "processors": os.cpu_count(),
    }


# ---------------------------------------------------------------------- results and their history
def last(case: str, results: Path) -> Record | None:
    """The newest kept record of a case."""
    path = results / f"{case}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def keep(record: Record, folder: Path) -> Path:
    """Write results/<case>.json in `folder`; the record that stood there becomes history/<case>-<n>.json."""
    path = folder / "results" / f"{record['case']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        past = folder / "history"
        past.mkdir(exist_ok=True)
        taken = [int(p.stem.rpartition("-")[2]) for p in past.glob(f"{record['case']}-*.json")]
        path.rename(past / f"{record['case']}-{max(taken, default=0) + 1}.json")
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    return path


def lines(record: Record, before: Record | None) -> list[str]:
    """A record as text: seconds, ratio to the peer and its target, change since the last record, memory."""
    out = [
        f"{record['case']}: {record['says']}",
        f"  setting {record['setting']}, median of {record['repetitions']}",
    ]
    same = ("setting", "peer_name")
    comparable = before is not None and all(before[key] == record[key] for key in same)
    width = max(map(len, record["sides"]))
    for name, side in record["sides"].items():
        line = f"  {name:<{width}}  {side['median_seconds']:>9.4f} {record['unit']}   x {side['ratio']:.2f}"
        if name == record["peer_name"]:
            line += "  (the peer)"
        if side["target"] is not None:
            line += f"  ({'reaches' if side['ratio'] >= side['target'] else 'BELOW'} {side['target']:g})"
        if name != record["peer_name"] and comparable and before is not None and name in before["sides"]:
            line += f"  ({side['ratio'] / before['sides'][name]['ratio'] - 1:+.0%} since {before['date']})"
        if side["peak_mib"] is not None:
            line += f"   peak +{side['peak_mib']:.1f} MiB"
        out.append(line)
    return out
