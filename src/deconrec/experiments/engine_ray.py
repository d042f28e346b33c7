"""Jobs on Ray: on this machine, or on the cluster that RAY_ADDRESS names or that this process has joined already.

A job is one task of one CPU. A worker that is lost costs the job that it was doing, which is done again elsewhere; an
error that a job raises is nobody's loss and arrives as itself. What holds data in memory is put into Ray's object store
once, and the store hands it to each worker.
"""

from __future__ import annotations

import copy
import logging
import os
import platform
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from deconrec import __version__
from deconrec.data.dataset import Dataset
from deconrec.errors import Error, MissingExtra
from deconrec.experiments.pool import Job, Workers
from deconrec.experiments.runs import Plan

RETRIES = 3  # NOTE a job whose worker was lost so often beside the first time is likely what ends it
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def import_ray() -> Any:
    """The module, told to report nothing about this process to anyone.

    Raises
    ------
    MissingExtra.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody was asked
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # Ray's default is without end
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", "ray", "engine='ray'") from error
    return ray


@contextmanager
def ray_workers(workers: int) -> Iterator[Workers]:
    """At most that many tasks of Ray at a time.

    Without a cluster to join, one of this machine is started, with as many CPUs, and stopped at the end, however that
    comes about. A cluster that was joined is left, and tasks that were still running on it are cancelled.

    Raises
    ------
    MissingExtra.  Error: the cluster cannot be joined, or a job's worker was lost again and again.
    """
    ray = import_ray()
    found = ray.is_initialized()
    if not found:
        _begin(ray, workers)
    tasks = _Tasks(ray)
    try:
        yield tasks
    finally:
        tasks.cancel()
        if not found:
            ray.shutdown()


def _begin(ray: Any, workers: int) -> None:
    address = os.environ.get("RAY_ADDRESS") or "local"
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        ray.init(address=address, num_cpus=workers, num_gpus=0, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise Error(
            f"the Ray cluster that RAY_ADDRESS names, '{address}', cannot be joined: {_said(error)}. "
            "Correct or unset RAY_ADDRESS; without it, Ray is started on this machine."
        ) from error


def _said(error: Exception) -> str:
    """The first line of what Ray says, which may be many."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(". ")


class _Tasks:
    """Tasks of Ray; a ticket is the reference of a result."""

    ahead = 0  # a cluster may have more CPUs than were asked for

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._running: set[Any] = set()
        self._stored: dict[int, tuple[Dataset, Any]] = {}
        # An environment of its own gives every run workers of its own: none remembers the files of an earlier one.
        variables = {name: value for name, value in os.environ.items() if name.startswith("DECONREC_")}
        variables |= dict.fromkeys(THREADS, "1") | {"DECONREC_RUN": uuid4().hex}
        self._task = ray.remote(_do).options(
            num_cpus=1, max_retries=RETRIES, retry_exceptions=False, runtime_env={"env_vars": variables}
        )

    def submit(self, job: Job) -> Any:
        given = [self._lightened(argument) for argument in job.arguments]
        ticket = self._task.remote(__version__, os.getcwd(), job.function, given)
        self._running.add(ticket)
        return ticket

    def done(self, tickets: Collection[Any]) -> Collection[Any]:
        return self._ray.wait(list(tickets), num_returns=1, fetch_local=False)[0]

    def result(self, ticket: Any) -> Any:
        errors = self._ray.exceptions
        try:
            # A copy: arrays that came from the store are views of memory that goes with Ray.
            return copy.deepcopy(self._ray.get(ticket))
        except errors.RayTaskError as error:
            if isinstance(error.cause, Exception) and not isinstance(error.cause, errors.RayError):
                raise error.cause from error
            raise Error(f"a job on Ray failed: {error}") from error
        except errors.RayError as error:
            raise Error(
                f"a job's worker on Ray was lost, also when it was tried again (up to {RETRIES} times): "
                f"{_said(error)}. Out of memory, killed, or a machine that went away; use fewer workers, "
                "or machines with more memory."
            ) from error
        finally:
            self._running.discard(ticket)

    def cancel(self) -> None:
        """End what is running."""
        for ticket in self._running:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(ticket, force=True)

    def _lightened(self, argument: Any) -> Any:
        """A plan with its data in the object store, put there when they are first met."""
        if not isinstance(argument, Plan) or not isinstance(argument.data, Dataset):
            return argument
        data = argument.data
        if id(data) not in self._stored:  # which holds the data too, so that the id stays theirs
            self._stored[id(data)] = data, self._ray.put(data)
        return _Light(replace(argument, data=data.name), self._stored[id(data)][1])


@dataclass(frozen=True)
class _Light:
    """A plan without its data, and where they are."""

    plan: Plan
    data: Any


def _do(version: str, folder: str, function: Callable[..., Any], given: list[Any]) -> Any:
    """A job, in the process of a worker."""
    import ray

    if version != __version__:
        raise Error(
            f"a worker on Ray ({platform.node()}) has deconrec {__version__} and the process that asked has "
            f"{version}; install the same on all machines."
        )
    with suppress(
        OSError
    ):  # where machines share no such folder, a relative path is not found, which says enough
        os.chdir(folder)
    whole = [replace(one.plan, data=ray.get(one.data)) if isinstance(one, _Light) else one for one in given]
    return function(*whole)
