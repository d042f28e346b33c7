"""Jobs one after another, in processes or on Ray, where the result of a job may ask for further jobs."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from typing import Any, Literal, Protocol, get_args

from deconrec.errors import ParameterError, WorkerLost

Engine = Literal["pool", "ray"]
ENGINES: tuple[str, ...] = get_args(Engine)


@dataclass(frozen=True)
class Job:
    """A call of a module's function in whatever process is free; `label` says to the caller what it is.

    With several processes the function and its arguments are sent to another one, so both must be importable there.
    """

    label: Any
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Workers(Protocol):
    """Processes that do jobs; a ticket stands for a job that was handed over.

    Attributes
    ----------
    ahead: how many jobs may be handed over beyond one a worker.
    """

    ahead: int

    def submit(self, job: Job) -> Any:
        """Hand a job over and give its ticket."""

    def done(self, tickets: Collection[Any]) -> Collection[Any]:
        """Those of the tickets whose jobs are done; waits for the first."""

    def result(self, ticket: Any) -> Any:
        """What a job that is done gave; what it raised is raised."""


def run_jobs(
    jobs: Iterable[Job],
    then: Callable[[Job, Any], Iterable[Job]],
    workers: int = 1,
    engine: Engine = "pool",
) -> None:
    """Do the jobs in order, and those that `then` returns on their results after them, until none is left.

    `then` is called in this process only, as results come. Interrupting leaves jobs that were not started undone. Jobs
    are taken from the iterable as processes become free, so that it may hold more than memory does.

    Parameters
    ----------
    workers: processes.
    engine: "pool" = processes of this machine, or this process itself where `workers` is 1; "ray" = see `engine_ray`.

    Raises
    ------
    WorkerLost: a worker process ended abruptly.  MissingExtra: ray is not installed.  Whatever a job raises.
    """
    first, further = iter(jobs), deque[Job]()

    def following() -> Job | None:
        job = next(first, None)
        return job if job is not None or not further else further.popleft()

    if engine == "pool" and workers == 1:
        while (job := following()) is not None:
            further.extend(then(job, job.function(*job.arguments)))
        return
    with _workers(engine, workers) as hands:
        running: dict[Any, Job] = {}
        while True:
            # Few are handed over ahead, so that what is asked for later can still be put in its place.
            while len(running) < workers + hands.ahead and (job := following()) is not None:
                running[hands.submit(job)] = job
            if not running:
                return
            for ticket in hands.done(list(running)):
                job = running.pop(ticket)
                further.extend(then(job, hands.result(ticket)))


def check_engine(engine: str, workers: int, who: str) -> None:
    """Refuse an engine that there is not, before any work is done.

    Raises
    ------
    ParameterError: no such engine, or no worker.  MissingExtra: ray is not installed.
    """
    if engine not in ENGINES:
        raise ParameterError(f"'engine' of {who} must be one of {', '.join(ENGINES)}; got {engine!r}.")
    if workers < 1:
        raise ParameterError(f"'workers' of {who} must be at least 1; got {workers}.")
    if engine == "ray":
        from deconrec.experiments.engine_ray import import_ray

        import_ray()


def _workers(engine: Engine, workers: int) -> AbstractContextManager[Workers]:
    if engine == "ray":
        from deconrec.experiments.engine_ray import ray_workers

        return ray_workers(workers)
    return processes(workers)


# ---------------------------------------------------------------------- processes of this machine
_LOST = (
    "a worker process ended abruptly: out of memory, killed, or started from a script whose body is not under "
    "`if __name__ == '__main__':`. Mend that, or use workers=1."
)


class _Processes:
    """A pool of processes; a ticket is a future."""

    ahead = 1  # a process that is done need not wait for this one

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, job: Job) -> Future[Any]:
        return self._pool.submit(job.function, *job.arguments)

    def done(self, tickets: Collection[Future[Any]]) -> Collection[Future[Any]]:
        return wait(tickets, return_when=FIRST_COMPLETED).done

    def result(self, ticket: Future[Any]) -> Any:
        try:
            return ticket.result()
        except BrokenProcessPool as error:
            raise WorkerLost(_LOST) from error


@contextmanager
def processes(workers: int) -> Iterator[Workers]:
    """A pool of so many processes of this machine, which end with this one.

    Raises
    ------
    WorkerLost: one of them ended abruptly.
    """
    with ProcessPoolExecutor(workers, get_context("spawn"), _end_with_the_parent) as pool:
        try:
            yield _Processes(pool)
        except BrokenProcessPool as error:
            raise WorkerLost(_LOST) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_the_parent() -> None:
    """Start a thread that ends this process when the one that started it is gone, killed without a word perhaps."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def progress_bar(total: int | None) -> Iterator[Callable[[str], None]]:
    """A bar on standard error where that is a terminal; None = no bar. Gives what is called with each job's name."""
    if total is None or not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fitting", total=total)
        yield lambda name: bar.update(task, advance=1, description=name)
