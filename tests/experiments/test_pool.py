"""Jobs in order, and the jobs that results ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from deconrec.errors import Error, UnknownName
from deconrec.experiments.pool import Job, run_jobs
from deconrec.methods import make


def halved(n: int) -> int:
    return n // 2


def test_results_ask_for_more() -> None:
    seen: list[tuple[str, int]] = []

    def then(job: Job, result: int) -> list[Job]:
        seen.append((job.label, result))
        return [Job(job.label + "'", halved, (result,))] if result > 1 else []

    run_jobs([Job("a", halved, (9,)), Job("b", halved, (3,))], then)
    assert seen == [("a", 4), ("b", 1), ("a'", 2), ("a''", 1)]


def test_a_job_that_raises_stops_the_rest() -> None:
    done: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        run_jobs(
            [Job(1, halved, (4,)), Job(2, divmod, (1, 0)), Job(3, halved, (4,))],
            lambda j, r: done.append(r) or [],
        )
    assert done == [2]


def test_a_process_that_ends_is_told() -> None:
    with pytest.raises(Error, match="ended abruptly"):
        run_jobs([Job(0, os._exit, (3,))], lambda job, result: [], workers=2)


def test_an_error_comes_out_of_another_process_as_itself() -> None:
    with pytest.raises(UnknownName, match="there is no method 'nonsense'"):
        run_jobs([Job(0, make, ("nonsense",))], lambda job, result: [], workers=2)


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Job]:
        for n in range(5):
            taken.append(n)
            yield Job(n, halved, (n,))

    before: list[int] = []
    run_jobs(jobs(), lambda job, result: before.append(len(taken)) or [])
    assert before == [1, 2, 3, 4, 5]
