"""What randomised ratings are worth: methods over growing parts of the randomised log, on the same test rows.

For each seed, the randomised log is cut into a test part, which no size touches, and a pool; a size takes the first
rows of the pool, so that a smaller U is part of a larger one. Every method is fitted to the biased log and U, selected
by its own rules on the biased hold-out, and evaluated once. A gain is the paired difference of one method at two sizes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from deconrec.catalogue import Opened
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError, MissingUnbiasedLog, ParameterError
from deconrec.evaluation import statistics
from deconrec.experiments.compare import environment, protocol_of, unit_of
from deconrec.experiments.impressions import chosen_metrics
from deconrec.experiments.judge import Outcome, Unit, contrast, judge
from deconrec.experiments.memory import Memory
from deconrec.experiments.pool import Engine, Job, check_engine, progress_bar
from deconrec.experiments.results import Gain, Point, Value, higher_is_better
from deconrec.experiments.runs import DESK, Plan, check_methods, run_one
from deconrec.methods import make
from deconrec.records import finite

METHODS = ("grounded-gp", "res-dr", "autodebias", "mf-combined")
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
WITHOUT = {"mf-combined": "mf"}  # what a method that needs a randomised log is in the limit without one
LEVEL = 0.05  # at which a gain is called shown, after Holm's correction


def value(
    data: Dataset | str | Path,
    methods: Sequence[str] = METHODS,
    *,
    shares: Sequence[float] = SHARES,
    seeds: int | Sequence[int] = 10,
    metric: str | None = None,
    workers: int = 1,
    engine: Engine = "pool",
    root: str | Path | None = None,
    progress: bool = False,
    resume: str | Path | None = None,
) -> Value:
    """Methods over the share of the randomised log that they are given.

    Parameters
    ----------
    data: a `Dataset` with a randomised log, a catalogue name or a TOML data file; pairs protocol.
    methods: names, each with its parameters. One that needs a randomised log is left out at share 0 ("mf-combined" is
        "mf" there).
    shares: of the randomised log, in [0, 0.9], rising; what the largest leaves is the test, unless the data have a
        fixed test log.
    seeds: a number (0, 1, ...) or the seeds.
    metric: one name; None = the protocol's headline.
    workers, engine, root, progress, resume: as of `compare`.

    Raises
    ------
    ParameterError, UnknownName, DataError: before anything is fitted.
    """
    names, sizes = list(methods), [float(s) for s in shares]
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(s) for s in seeds]
    _check(names, sizes, numbers, workers)
    check_engine(engine, workers, "value")
    plan = Plan(
        data if isinstance(data, Dataset) else str(data),
        None if root is None else str(root),
        "pairs",
        "biased",
        (),
    )
    opened = plan.open()
    first, truth = opened.draw(numbers[0])
    if first.unbiased is None or not len(first.unbiased):
        raise DataError(
            "the value of randomised ratings is read off data that have some, and these have no randomised log; add "
            "[unbiased] to the data file, or simulate one ('sim-pairs')."
        )
    usual = list(opened.metrics)[:1] or None
    chosen = chosen_metrics(usual if metric is None else [metric], first, "pairs", truth)[0]
    plan = replace(plan, metrics=(chosen,))
    plans = {s: _at(plan, first, s, sizes) for s in sizes}
    jobs, missing = _jobs(plans, opened, names, numbers)
    started = time.perf_counter()
    memory = Memory(resume, {"data": first.fingerprint, "versions": environment()["versions"]})
    outcomes: dict[tuple[float, str, int], Outcome] = {}
    DESK.clear()
    try:
        with progress_bar(len(jobs) if progress else None) as advance:

            def then(job: Job, result: Outcome) -> list[Job]:
                outcomes[job.label] = result
                advance(job.label[1])
                return []

            memory.run(jobs, then, workers, engine)
    finally:
        DESK.clear()
    about = environment() | {
        "seconds": time.perf_counter() - started,
        "workers": workers,
        "engine": engine,
        "resumed": memory.known,
    }
    return _record(plans, opened, names, numbers, chosen, outcomes, missing, about)


def _check(names: list[str], sizes: list[float], numbers: list[int], workers: int) -> None:
    if not names or len(set(names)) < len(names):
        raise ParameterError(f"'methods' of value must name at least one method, each once; got {names}.")
    if len(sizes) < 2 or sorted(set(sizes)) != sizes or sizes[0] < 0 or sizes[-1] > 0.9:
        raise ParameterError(
            f"'shares' of value must be at least two numbers in [0, 0.9], rising; got {sizes}. What is left of the "
            "randomised log is the test."
        )
    if not numbers or len(set(numbers)) < len(numbers) or workers < 1:
        raise ParameterError(
            f"value needs at least one seed, each once, and one worker; got {numbers} and {workers}."
        )


def _at(plan: Plan, data: Dataset, share: float, sizes: Sequence[float]) -> Plan:
    """The plan of one size. With a fixed test log, the whole randomised log is the pool."""
    if data.test is not None:
        return replace(plan, shares=(share, 1.0 - share, 0.0))
    return replace(plan, shares=(share, 0.0, 1.0 - sizes[-1]), largest_train=sizes[-1])


def _jobs(
    plans: dict[float, Plan], opened: Opened, names: Sequence[str], seeds: Sequence[int]
) -> tuple[list[Job], list[str]]:
    """Every run that can be made, and what cannot."""
    jobs, missing = [], []
    data, truth = opened.draw(seeds[0])
    for share, plan in plans.items():
        parts = plan.split(data, truth, seeds[0])
        for name in names:
            ran = name if parts.counts["U"] else _without(name)
            try:
                check_methods({ran: make(ran)}, data, truth, parts, plan)
            except MissingUnbiasedLog:
                missing.append(f"{name} with no randomised rows: it needs some.")
                continue
            jobs += [Job((share, name, s), run_one, (plan, ran, s)) for s in seeds]
    if not jobs:
        raise DataError("none of the methods can be run on these shares of the randomised log; raise them.")
    return jobs, missing


def _without(name: str) -> str:
    """What a method is in the limit without randomised rows, its parameters kept."""
    key, colon, rest = name.partition(":")
    return WITHOUT.get(key, key) + colon + rest


# ---------------------------------------------------------------------- the record
def _record(
    plans: dict[float, Plan],
    opened: Opened,
    names: Sequence[str],
    seeds: Sequence[int],
    metric: str,
    outcomes: dict[tuple[float, str, int], Outcome],
    missing: list[str],
    about: dict[str, Any],
) -> Value:
    data, truth = opened.draw(seeds[0])
    points: list[Point] = []
    rows_of, unit_at = {}, {}
    for share, plan in plans.items():
        parts = plan.split(data, truth, seeds[0])
        rows_of[share], unit_at[share] = int(parts.counts["U"]), unit_of(opened, parts)
        there = [n for n in names if (share, n, seeds[0]) in outcomes]
        own = {(n, s): outcomes[share, n, s] for n in there for s in seeds}
        summary, _ = judge(own, there, seeds, [metric], unit_at[share])
        for s in summary:
            point = {k: getattr(s, k) for k in ("method", "mean", "low", "high", "n")}
            ran = own[s.method, seeds[0]].run.method
            points.append(Point(share=share, rows=rows_of[share], ran=ran, **point))
    points.sort(key=lambda p: list(names).index(p.method))  # by method, sizes rising
    gains = _gains(outcomes, names, seeds, metric, rows_of, unit_at)
    last = list(plans.values())[-1]
    return Value(
        dataset=opened.name,
        metric=metric,
        protocol=protocol_of(
            last, opened, data, truth, last.split(data, truth, seeds[0]), seeds, list(names)
        ),
        points=points,
        gains=gains,
        answer=answer(points, gains, metric),
        missing=missing,
        environment=about,
    )


def _gains(
    outcomes: dict[tuple[float, str, int], Outcome],
    names: Sequence[str],
    seeds: Sequence[int],
    metric: str,
    rows: dict[float, int],
    units: dict[float, Unit],
) -> list[Gain]:
    """A method's steps from size to size, and from its smallest to its largest; corrected together."""
    found = []
    for name in names:
        there = [s for s in rows if (s, name, seeds[0]) in outcomes]
        steps = list(pairwise(there))
        if len(there) > 2:
            steps.append((there[0], there[-1]))
        for over, share in steps:
            a, b = ([outcomes[s, name, seed] for seed in seeds] for s in (share, over))
            found.append((name, over, share, contrast(a, b, metric, units[share])))
    holm = statistics.holm([c.p for *_, c in found])
    return [
        Gain(
            method=name,
            over=rows[over],
            rows=rows[share],
            test=c.test,
            n=c.n,
            **finite(
                {"difference": c.difference, "low": c.low, "high": c.high, "p": c.p, "p_holm": float(p)}
            ),
        )
        for (name, over, share, c), p in zip(found, holm, strict=True)
    ]


def answer(points: Sequence[Point], gains: Sequence[Gain], metric: str) -> list[str]:
    """What the curve says, in sentences: for the best method, all rows, the last of them, and the other methods."""
    sign = 1.0 if higher_is_better(metric) else -1.0
    known = [p for p in points if p.mean is not None]
    most = max(p.rows for p in known)
    best = max((p for p in known if p.rows == most), key=lambda p: sign * float(p.mean or 0.0))
    own = [g for g in gains if g.method == best.method]
    if not own:
        return [f"{best.method} is best with {most:,} randomised rows ({metric} {best.mean:.3f})."]
    whole, last = own[-1], max((g for g in own if g.rows == most), key=lambda g: g.over)
    first = next(p for p in known if p.method == best.method and p.rows == whole.over)
    said = [
        f"{most:,} randomised ratings instead of {whole.over:,} are worth {_worth(whole)} of {metric} to "
        f"{best.method}, the best method with them ({first.mean:.3f} to {best.mean:.3f})."
    ]
    if last.over != whole.over:
        said.append(f"The last {most - last.over:,} of them brought {_worth(last)}.")
    for p in known:
        if p.rows != most or p.method == best.method:
            continue
        enough = [
            q
            for q in known
            if q.method == best.method and sign * float(q.mean or 0) >= sign * float(p.mean or 0)
        ]
        if enough:
            least = min(enough, key=lambda q: q.rows)
            said.append(
                f"{best.method} with {least.rows:,} ({least.mean:.3f}) is at or above {p.method} with {most:,} "
                f"({p.mean:.3f})."
            )
    return said


def _worth(gain: Gain) -> str:
    if gain.difference is None:
        return "an unknown amount"
    shown = gain.p_holm is not None and gain.p_holm < LEVEL
    ends = "" if gain.low is None else f", 95 % interval {gain.low:+.3f} to {gain.high:+.3f}"
    return f"{gain.difference:+.3f} ({'shown' if shown else 'not shown'}{ends})"
