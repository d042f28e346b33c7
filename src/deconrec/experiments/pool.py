"""Jobs one after another or in processes, where the result of a job may ask for further jobs."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from typing import Any

from deconrec.errors import Error


@dataclass(frozen=True)
class Job:
    """A call of a module's function in whatever process is free; `label` says to the caller what it is.

    With several processes the function and its arguments are sent to another one, so both must be importable there.
    """

    label: Any
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def run_jobs(jobs: Iterable[Job], then: Callable[[Job, Any], Iterable[Job]], workers: int = 1) -> None:
    """Do the jobs in order, and those that `then` returns on their results after them, until none is left.

    `then` is called in this process only, as results come. Interrupting leaves jobs that were not started undone.

    Raises
    ------
    Error: a worker process ended abruptly.  Whatever a job raises.
    """
    waiting = deque(jobs)
    if workers == 1:
        while waiting:
            job = waiting.popleft()
            waiting.extend(then(job, job.function(*job.arguments)))
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _end_with_the_parent) as pool:
        running: dict[Future[Any], Job] = {}
        try:
            while waiting or running:
                # Few are handed over ahead, so that what is asked for later can still be put in its place.
                while waiting and len(running) < workers + 1:
                    job = waiting.popleft()
                    running[pool.submit(job.function, *job.arguments)] = job
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job = running.pop(future)
                    waiting.extend(then(job, future.result()))
        except BrokenProcessPool as error:
            raise Error(
                f"a worker process ended abruptly (workers={workers}): out of memory, killed, or started from a "
                "script whose body is not under `if __name__ == '__main__':`. Mend that, or use workers=1."
            ) from error
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
