"""Fits that are killed again and again: `python killed.py METHOD DATA FOLDER SEED`; a program of its own, no test.

Fits once undisturbed (FOLDER/whole), then with kills (FOLDER/killed), each attempt in a process of its own that goes on
from the checkpoint of the one before. A checkpoint is written every `EVERY` steps; a kill comes at a drawn step, or in
the middle of a write. Prints as JSON what each attempt did.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from deconrec.cli import main
from deconrec.training import checkpoints
from deconrec.training.program import Mover

EVERY = 7


def attempt(out: Path, arguments: list[str], kill: tuple[str, int] | None, count: Path) -> int:
    """The exit status of one attempt; the number of its steps is left in `count`."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    steps, writes = 0, 0
    move, sync = Mover.move, os.fsync

    def moved(mover: Mover, *given: object) -> object:
        nonlocal steps
        steps += 1
        count.write_text(str(steps))
        if kill == ("step", steps):
            os.kill(os.getpid(), signal.SIGKILL)
        return move(mover, *given)

    def synced(file: int) -> None:
        nonlocal writes
        writes += 1
        if kill == ("write", writes):
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    Mover.move, os.fsync = moved, synced
    checkpoints.Checkpoint.due = property(lambda self: steps % EVERY == 0)
    code = 1
    try:
        code = main([*arguments, "--out", str(out), "--checkpoint-every", "1e-9", "--json", f"{out}.json"])
    finally:
        sys.stderr.flush()
        os._exit(code)


def run(method: str, data: str, folder: Path, seed: int) -> list[dict[str, object]]:
    """What each attempt did: the kill that was meant for it, its status and its steps."""
    arguments, count = ["fit", method, data, "--quiet"], folder / "count"

    def go(name: str, kill: tuple[str, int] | None) -> dict[str, object]:
        count.write_text("0")
        status = attempt(folder / name, arguments, kill, count)
        return {"kill": kill, "status": status, "steps": int(count.read_text())}

    done = [go("whole", None)]
    total, rng = int(str(done[0]["steps"])), np.random.default_rng(seed)
    for what in rng.permutation(["step", "step", "write"]):
        least, most = (EVERY + 1, total // 2) if what == "step" else (2, total // (2 * EVERY))
        done.append(go("killed", (str(what), int(rng.integers(least, max(least, most) + 1)))))
    done.append(go("killed", None))
    return done


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
