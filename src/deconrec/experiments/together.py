"""One call by several processes that train together, here or on Ray; a process that is lost costs an attempt.

The caller keeps the store where the processes find one another. When one of them is lost the others end, all are
started again, and whatever keeps a checkpoint goes on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Literal, cast, get_args

from deconrec.errors import Error, ParameterError, WorkerLost
from deconrec.experiments.pool import Job, Workers, processes

RETRIES = 3  # NOTE attempts beside the first: a process that is lost so often is likely what ends it
Engine = Literal["torch", "ray"]


def check_together(engine: str, workers: int) -> Engine:
    """The engine, unless there is no such one.

    Raises
    ------
    ParameterError.  MissingExtra: ray is not installed.
    """
    if engine not in get_args(Engine):
        raise ParameterError(
            f"'engine' of a fit must be one of {', '.join(get_args(Engine))}; got {engine!r}."
        )
    if workers > 1 and engine == "ray":
        from deconrec.experiments.engine_ray import import_ray

        import_ray()
    return cast(Engine, engine)


def run_together(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    workers: int,
    engine: Engine,
    device: str = "cpu",
) -> Any:
    """What `function(*arguments, rank, join)` gives in the process of rank 0.

    Parameters
    ----------
    function: of a module; it is called in `workers` processes, each with a `rank` of its own, and trains inside
        `with join():`, see `training.distributed.joined`.
    engine: "torch" = processes of this machine, "ray" = workers of Ray.
    device: "cuda" asks Ray for a GPU a worker.

    Raises
    ------
    WorkerLost: some process was lost, in each attempt.  MissingExtra.  Whatever `function` raises.
    """
    from torch.distributed import TCPStore

    for attempt in range(RETRIES + 1):
        try:
            with _gang(engine, workers, device) as (hands, host):
                store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
                given = workers, host, store.port, device
                jobs = [Job(rank, _work, (function, arguments, rank, *given)) for rank in range(workers)]
                return _of_all(hands, [hands.submit(job) for job in jobs])
        except WorkerLost:
            if attempt == RETRIES:
                raise
    raise AssertionError("unreachable")


def _of_all(hands: Workers, ranks: list[Any]) -> Any:
    """What rank 0 gave, once all are done; an error of some rank comes before the loss that it is for the others."""
    results: dict[Any, Any] = {}
    errors: list[Error] = []
    running = set(ranks)
    while running:
        for ticket in list(hands.done(running)):
            running.discard(ticket)
            try:
                results[ticket] = hands.result(ticket)
            except WorkerLost as lost:
                errors.append(lost)
            except Error as error:
                errors.insert(0, error)
    if errors:
        raise errors[0]
    return results[ranks[0]]


def _work(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    rank: int,
    size: int,
    host: str,
    port: int,
    device: str,
) -> Any:
    """The call of one rank, in its process."""
    from torch.distributed import TCPStore

    from deconrec.training.distributed import joined

    try:
        store = TCPStore(host, port, is_master=False)
    except RuntimeError as error:
        raise WorkerLost(f"the process that started this training is gone: {error}") from error
    return function(*arguments, rank, partial(joined, rank, size, store, device))


@contextmanager
def _here(workers: int) -> Iterator[tuple[Workers, str]]:
    with processes(workers) as hands:
        yield hands, "127.0.0.1"


def _gang(engine: Engine, workers: int, device: str) -> AbstractContextManager[tuple[Workers, str]]:
    if engine == "ray":
        from deconrec.experiments.engine_ray import ray_gang

        return ray_gang(workers, gpu=device.startswith("cuda"))
    return _here(workers)
