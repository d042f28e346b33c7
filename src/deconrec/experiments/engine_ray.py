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
from deconrec.errors import Error, MissingExtra, WorkerLost
from deconrec.experiments.pool import Job, Workers
from deconrec.experiments.runs import Plan

RETRIES = 3  # NOTE a job whose worker was lost so often beside the first time is likely what ends it
WAIT = 300  # NOTE seconds in which a cluster must find room for workers that train together
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
    MissingExtra.  Error: the cluster cannot be joined.  WorkerLost: a job's worker, again and again.
    """
    with _running(workers) as ray:
        tasks = _Tasks(ray, max_retries=RETRIES)
        try:
            yield tasks
        finally:
            tasks.cancel()


@contextmanager
def ray_gang(workers: int, *, gpu: bool) -> Iterator[tuple[Workers, str]]:
    """(that many tasks that run at the same time or not at all, an address of this machine that they reach).

    Each has a CPU and, with `gpu`, a GPU. The first that is submitted runs on this machine, where it can write outputs;
    none is tried again by itself, because one without the others is of no use.
    """
    with _running(workers, gpus=workers if gpu else 0) as ray:
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        host = ray.util.get_node_ip_address()
        bundles = [{"CPU": 1.0} | ({"GPU": 1.0} if gpu else {}) for _ in range(workers)]
        if f"node:{host}" in ray.cluster_resources():
            bundles[0][f"node:{host}"] = 0.001
        group = placement_group(bundles, strategy="PACK")
        tasks = _Tasks(
            ray,
            max_retries=0,
            num_gpus=int(gpu),
            placed=lambda k: PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=k),
        )
        try:
            if not group.wait(WAIT):
                raise Error(
                    f"the Ray cluster had no room for {workers} workers at once within {WAIT} seconds; use fewer."
                )
            yield tasks, host
        finally:
            tasks.cancel()
            remove_placement_group(group)


@contextmanager
def _running(workers: int, gpus: int = 0) -> Iterator[Any]:
    """Ray, joined or started here."""
    ray = import_ray()
    found = ray.is_initialized()
    if not found:
        _begin(ray, workers, gpus)
    try:
        yield ray
    finally:
        if not found:
            ray.shutdown()


def _begin(ray: Any, workers: int, gpus: int) -> None:
    address = os.environ.get("RAY_ADDRESS") or "local"
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        ray.init(address=address, num_cpus=workers, num_gpus=gpus, include_dashboard=False, **quiet)
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

    def __init__(
        self, ray: Any, placed: Callable[[int], Any] | None = None, num_gpus: int = 0, max_retries: int = 0
    ) -> None:
        self._ray, self._placed, self._retries, self._sent = ray, placed, max_retries, 0
        self._running: set[Any] = set()
        self._stored: dict[int, tuple[Dataset, Any]] = {}
        # An environment of its own gives every run workers of its own: none remembers the files of an earlier one.
        variables = {name: value for name, value in os.environ.items() if name.startswith("DECONREC_")}
        variables |= dict.fromkeys(THREADS, "1") | {"DECONREC_RUN": uuid4().hex}
        self._task = ray.remote(_do)
        self._options: dict[str, Any] = {"num_cpus": 1, "num_gpus": num_gpus, "max_retries": max_retries}
        self._options |= {"retry_exceptions": False, "runtime_env": {"env_vars": variables}}

    def submit(self, job: Job) -> Any:
        given = [self._lightened(argument) for argument in job.arguments]
        options = self._options
        if self._placed is not None:
            options = options | {"scheduling_strategy": self._placed(self._sent)}
        self._sent += 1
        ticket = self._task.options(**options).remote(__version__, os.getcwd(), job.function, given)
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
            again = f", also when it was tried again (up to {self._retries} times)" if self._retries else ""
            raise WorkerLost(
                f"a job's worker on Ray was lost{again}: "
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
