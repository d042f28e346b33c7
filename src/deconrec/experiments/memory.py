"""What a comparison has done so far, in a file beside its output: killed, the same command goes on where it was.

A result counts again only for the same job: the same data, method, seed, parameters, protocol and versions. What is
read back is what was written, to the last bit.
"""

from __future__ import annotations

import base64
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from deconrec.errors import FileError
from deconrec.experiments.judge import Outcome
from deconrec.experiments.pool import Engine, Job, run_jobs
from deconrec.experiments.results import Run
from deconrec.experiments.runs import Plan
from deconrec.experiments.search import Tried
from deconrec.experiments.store import Store, key_of

Then = Callable[[Job, Any], Iterable[Job]]


class Memory:
    """Results of jobs, by what they depend on.

    Attributes
    ----------
    known: results that were there already and were used.

    Parameters
    ----------
    path: the file of lines; None = nothing is kept.
    identity: what a result depends on beside its job: the data's fingerprint, versions.

    Raises
    ------
    FileError: the file holds something else.
    """

    def __init__(self, path: str | Path | None, identity: Mapping[str, Any]) -> None:
        self.store = None if path is None else Store(path, beside=False)
        self.identity = dict(identity)
        self.known = 0

    def run(self, jobs: Iterable[Job], then: Then, workers: int = 1, engine: Engine = "pool") -> None:
        """`run_jobs`, without those whose results are there; `then` hears of these too, in this process."""

        def settled(asked: Iterable[Job]) -> list[Job]:
            out, waiting = [], deque(asked)
            while waiting:
                job = waiting.popleft()
                result = self.result(job)
                if result is None:
                    out.append(job)
                else:
                    self.known += 1
                    waiting.extend(then(job, result))
            return out

        def kept(job: Job, result: Any) -> list[Job]:
            self.keep(job, result)
            return settled(then(job, result))

        run_jobs(settled(jobs), kept, workers, engine)

    def key(self, job: Job) -> str:
        """What stands for a job: its function and all that it is given."""
        given = [
            asdict(replace(a, data=a.data if isinstance(a.data, str) else "")) if isinstance(a, Plan) else a
            for a in job.arguments
        ]
        return key_of(identity=self.identity, function=job.function.__name__, label=job.label, given=given)

    def result(self, job: Job) -> Outcome | Tried | None:
        """What was kept of a job, or None."""
        line = None if self.store is None else self.store.get(self.key(job))
        return None if line is None else _read(line)

    def keep(self, job: Job, result: Outcome | Tried) -> None:
        """Write a result down, whole and synced."""
        if self.store is not None:
            self.store.add(self.key(job), _written(result))


def _written(result: Outcome | Tried) -> dict[str, Any]:
    if isinstance(result, Tried):
        return {"kind": "tried"} | asdict(result)
    per_user = {
        metric: {"users": _text(np.asarray(users, np.int64)), "values": _text(np.asarray(values, np.float64))}
        for metric, (users, values) in result.per_user.items()
    }
    return {"kind": "outcome", "run": result.run.model_dump(), "per_user": per_user}


def _read(line: Mapping[str, Any]) -> Outcome | Tried:
    try:
        if line["kind"] == "tried":
            scores = tuple(float("nan") if s is None else float(s) for s in line["scores"])
            return Tried(scores, line["seconds"], line["failed"])
        per_user = {
            metric: (_array(found["users"], np.int64), _array(found["values"], np.float64))
            for metric, found in line["per_user"].items()
        }
        return Outcome(Run.model_validate(line["run"]), per_user)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise FileError(
            f"line '{line.get('key')}' of a comparison's file of runs is damaged ({error}); remove the file to begin "
            "anew."
        ) from error


def _text(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


def _array(text: str, kind: Any) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)
