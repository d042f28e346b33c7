"""`compare`: methods on one data set, under one protocol, with intervals and corrected paired tests."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deconrec.base import Estimator
from deconrec.catalogue import Opened
from deconrec.data.dataset import Dataset, Truth
from deconrec.data.split import Parts
from deconrec.errors import ParameterError
from deconrec.experiments.impressions import chosen_metrics
from deconrec.experiments.judge import Outcome, Unit, judge, letters, lifts
from deconrec.experiments.memory import Memory
from deconrec.experiments.pool import Engine, Job, check_engine, progress_bar
from deconrec.experiments.readiness import check_comparable, crowded
from deconrec.experiments.results import Distribution, Result
from deconrec.experiments.runs import (
    DESK,
    SELECTS,
    Plan,
    Select,
    check_methods,
    run_one,
    try_one,
    yardsticks_of,
)
from deconrec.experiments.search import Searched, Searcher, Tried, named_settings, note_of_starts
from deconrec.methods import make, name_of
from deconrec.records import finite

SHARED_SPLITS = 5  # NOTE most splits that a shared search is judged on
FINALISTS = (
    5  # NOTE best trials that are then judged on the other splits too: a best of many is one by luck in part
)


def compare(
    data: Dataset | str | Path,
    methods: Sequence[str | type[Estimator]],
    *,
    seeds: int | Sequence[int] = 10,
    metrics: Sequence[str] | None = None,
    protocol: Literal["pairs", "users"] | None = None,
    select: Select = "biased",
    split: Literal["record", "time"] = "record",
    trials: int = 0,
    search: Literal["split", "shared"] = "shared",
    refit: bool = True,
    workers: int = 1,
    engine: Engine = "pool",
    root: str | Path | None = None,
    progress: bool = False,
    resume: str | Path | None = None,
) -> Result:
    """Fit and evaluate methods over seeds, and test their differences.

    Parameters
    ----------
    data: a `Dataset`, a catalogue name ("coat", "sim-pairs:confounding=2") or a TOML data file.
    methods: names, each with its parameters ("res-ips:policy=joint"). A method of one's own is its class, or the import
        path of it ("blended_ips.BlendedIPS:blend=0.3").
    seeds: a number (0, 1, ...) or the seeds. A seed draws the split, initial values and, for a simulator, the world.
    metrics: names (`deconrec.experiments.metrics`); None = the protocol's defaults. The first is the headline.
    protocol: "pairs" or "users"; None = the data's.
    select: stop and select on the biased hold-out by each method's validation score ("biased") or by how its scores
        follow ratings among the held-out rows of one user ("within-exposure"), or on V of the randomised log
        ("unbiased").
    split: "record" (drawn by the seed) or "time" (the past trains, the future tests; pairs protocol only; seeds
        then differ in initial values alone).
    trials: 0 = the methods' defaults; more = tune each method with that many trials first.
    search: "shared" = one search a method, judged by the mean hold-out score over the first seeds (5 at most), its five
        best trials over all seeds, whose parameters every run then uses; "split" = one search on each seed. What a
        method's text sets stays.
    refit: once stopped, train again on all biased training rows, hold-out included, for as many epochs as it chose
        (methods over pairs, not with `select="unbiased"`).
    workers: processes.
    engine: "pool" = processes of this machine; "ray" = workers of Ray, on this machine or on the cluster that
        RAY_ADDRESS names. The results are the same.
    root: folder of the public data sets.
    progress: show a progress bar on a terminal.
    resume: a file (.jsonl) that keeps each run and trial as it is made: stopped at any moment, the same call goes on
        from it, to the same result. It is yours to remove. None = nothing is kept.

    Draw the result with `deconrec.write_report(result, path)`; `print(result.to_json())` is its record.

    Raises
    ------
    UnknownName, ParameterError, DataError: before anything is fitted.
    """
    if isinstance(methods, str):
        raise ParameterError(f"'methods' of compare must be a list of names; got the text {methods!r}.")
    names = [name_of(method) for method in methods]
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(s) for s in seeds]
    if not names:
        raise ParameterError("'methods' of compare must name at least one method; got none.")
    for what, values in (("method", names), ("seed", numbers)):
        if len(set(values)) < len(values):
            raise ParameterError(f"compare must be given each {what} once; got {values}.")
    if not numbers:
        raise ParameterError(f"'seeds' of compare must be at least 1; got {seeds}.")
    if select not in SELECTS:
        raise ParameterError(f"'select' of compare must be one of {', '.join(SELECTS)}; got {select!r}.")
    if protocol not in (None, "pairs", "users"):
        raise ParameterError(f"'protocol' of compare must be 'pairs' or 'users'; got {protocol!r}.")
    if split not in ("record", "time"):
        raise ParameterError(f"'split' of compare must be 'record' or 'time'; got {split!r}.")
    if search not in ("split", "shared"):
        raise ParameterError(f"'search' of compare must be 'split' or 'shared'; got {search!r}.")
    if trials < 0 or workers < 1:
        raise ParameterError(f"compare needs trials >= 0 and workers >= 1; got {trials} and {workers}.")
    check_engine(engine, workers, "compare")
    plan = Plan(
        data if isinstance(data, Dataset) else str(data),
        None if root is None else str(root),
        protocol or "pairs",
        select,
        (),
        trials,
        split,
        search,
        refit=refit,
    )
    opened = plan.open()
    first, truth = opened.draw(numbers[0])
    chosen = protocol or first.task.protocol
    check_comparable(first, chosen, truth)
    if split == "time" and chosen == "users":
        raise ParameterError(
            "'split' of compare must be 'record' in the users protocol (it splits users); got 'time'."
        )
    if first.impressions is not None and (chosen == "users" or select == "within-exposure"):
        raise ParameterError(
            "compare judges impressions one by one: 'protocol' must be 'pairs', 'select' 'biased' or 'unbiased'; got "
            f"{chosen!r} and {select!r}."
        )
    plan = replace(plan, protocol=chosen)
    usual = list(opened.metrics) if opened.metrics and chosen == "pairs" else None
    asked = usual if metrics is None else list(metrics)
    plan = replace(plan, metrics=tuple(chosen_metrics(asked, first, chosen, truth)))
    parts = plan.split(first, truth, numbers[0])
    check_methods({name: make(name) for name in names}, first, truth, parts, plan)
    started = time.perf_counter()
    memory = Memory(resume, {"data": first.fingerprint, "versions": environment()["versions"]})
    outcomes, found = _run_all(plan, names, numbers, workers, engine, progress, memory)
    runs = [outcomes[name, seed].run for name in names for seed in numbers]
    unit = unit_of(opened, parts)
    summary, tests = judge(outcomes, names, numbers, plan.metrics, unit)
    protocol_ = protocol_of(plan, opened, first, truth, parts, numbers, names)
    if found:
        protocol_["searched"] = {name: search_record(s, numbers) for name, s in found.items()}
        protocol_["notes"] += [SHARED_NOTE, *note_of_starts({name: make(name) for name in found})]
    return Result(
        dataset=opened.name,
        protocol=protocol_,
        runs=runs,
        summary=summary,
        tests=tests,
        environment=environment()
        | {"seconds": time.perf_counter() - started, "workers": workers, "engine": engine}
        | {"resumed": memory.known},
        distribution=distribution_of(first, truth),
        letters={m: letters(m, names, summary, tests) for m in plan.metrics},
        lifts=lifts(outcomes, names, yardsticks_of(names), numbers, plan.metrics, unit),
    )


# ---------------------------------------------------------------------- running
def _run_all(
    plan: Plan,
    names: Sequence[str],
    seeds: Sequence[int],
    workers: int,
    engine: Engine,
    progress: bool,
    memory: Memory,
) -> tuple[dict[tuple[str, int], Outcome], dict[str, Searched]]:
    """Outcomes by method and seed, and the shared searches by method."""
    out: dict[tuple[str, int], Outcome] = {}
    found: dict[str, Searched] = {}
    searchers: dict[str, Searcher] = {}
    at, rest = list(seeds[:SHARED_SPLITS]), list(seeds[SHARED_SPLITS:])
    further: dict[str, dict[int, Tried]] = {}
    if plan.trials and plan.search == "shared":
        searchers = {n: Searcher(make(n), plan.trials, seeds[0], fixed=named_settings(n)) for n in names}

    def trial(name: str) -> Job:
        search = searchers[name]
        params = search.ask()
        return Job((name, None, params), try_one, (plan, name, at, params, search.stop_below()))

    def finals(name: str) -> list[Job]:
        tried = searchers[name].result()
        return [
            Job((name, None, n), try_one, (plan, name, rest, tried.trials[n].params))
            for n in tried.finalists(FINALISTS)
        ]

    def runs(name: str) -> list[Job]:
        return [Job((name, s, None), run_one, (plan, name, s, _chosen(found, name))) for s in seeds]

    def then(job: Job, result: Any) -> list[Job]:
        name, seed, params = job.label
        if not isinstance(params, int):
            advance(name)
        if seed is not None:
            out[name, seed] = result
            return []
        search = searchers[name]
        if isinstance(params, int):  # the number of a finalist
            further[name][params] = result
            if len(further[name]) < len(search.result().finalists(FINALISTS)):
                return []
        else:
            search.tell(params, result, len(at))
            if not search.finished:
                return [trial(name)]
            if rest:
                further[name] = {}
                return finals(name)
        found[name] = search.result().confirmed(further.get(name, {}))
        return runs(name)

    first = [trial(n) for n in names if n in searchers and not searchers[n].finished]
    if searchers:
        first += [job for n in names if searchers[n].finished for job in runs(n)]
    else:
        first = [Job((n, s, None), run_one, (plan, n, s)) for s in seeds for n in names]
    total = len(names) * len(seeds) + sum(s.trials for s in searchers.values() if not s.finished)
    DESK.clear()
    try:
        with progress_bar(total if progress else None) as advance:
            memory.run(first, then, workers, engine)
    finally:
        DESK.clear()
    return out, found


def _chosen(found: Mapping[str, Searched], name: str) -> dict[str, Any]:
    return found[name].params if name in found else {}


# ---------------------------------------------------------------------- the record
SHARED_NOTE = (
    "Hyper-parameters come from one search a method, judged by the mean hold-out score over several splits. A row of U "
    "in one of these splits may be a test row of another: only the choice of hyper-parameters could be touched by it, "
    "and that was made on the hold-out."
)
_WORLDS = {
    "split": "one data set",
    "draw": "fresh exposures per seed, the same real outcomes",
    "world": "a fresh world per seed",
}


def unit_of(opened: Opened, parts: Parts[Any]) -> Unit:
    """What seeds of this data share."""
    ratio = parts.counts["test"] / max(parts.counts["biased"] + parts.counts["U"], 1)
    return Unit("split" if not opened.fresh else "draw" if opened.same_users else "world", ratio)


def search_record(found: Searched, seeds: Sequence[int]) -> dict[str, Any]:
    """A shared search as it stands in the record."""
    return finite(
        {
            "params": found.params,
            "score": found.score,
            "default": found.default,
            "trials": len(found.trials),
            "splits": list(seeds),
            "seconds": found.seconds,
        }
    )


def protocol_of(
    plan: Plan,
    opened: Opened,
    data: Dataset,
    truth: Truth | None,
    parts: Parts[Any],
    seeds: Sequence[int],
    names: Sequence[str],
) -> dict[str, Any]:
    """How a comparison was made, for the record."""
    unit = unit_of(opened, parts)
    notes = list(data.notes)
    if plan.protocol == "pairs" and data.unbiased is None and data.test is None:
        notes.append(
            "There is no unbiased test: metrics named '/biased' are on held-out rows of the biased log, where a "
            "method that debiases is expected to lose."
        )
    if plan.protocol == "pairs" and data.impressions is None:
        notes += crowded(data, plan.metrics, parts.counts)
    if data.impressions is not None:
        notes.append(
            "Impressions: pcvr is judged on randomised rows (on held-out clicks where the name says '/biased'), pctr "
            "and pctcvr on the held-out impressions; a method that learns no click has neither."
        )
    for name in names:
        tags = make(name).tags
        if tags.uses_rating and data.task.binarize is not None:
            notes.append(f"'{name}' reads the rating behind the binarised outcome.")
        if plan.protocol == "users" and tags.shape == "pairs":
            notes.append(
                f"'{name}' is made for pairs: test users are folded in (factors fitted to their history)."
            )
        if plan.protocol == "pairs" and tags.shape == "rows":
            notes.append(
                f"'{name}' ranks whole rows; its scores are mapped to expected outcomes by a monotone map."
            )
    if plan.select == "unbiased":
        notes.append("Stopping and selection looked at V, randomised rows: they count as consumed.")
    return {
        "name": plan.protocol,
        "select": plan.select,
        "seeds": list(seeds),
        "trials": plan.trials,
        "search": plan.search if plan.trials else None,
        "refit": plan.refit and plan.protocol == "pairs" and plan.select != "unbiased",
        "split": "80/10/10 by user"
        if plan.protocol == "users"
        else f"U/V/test {data.task.unbiased_split} by {plan.by}",
        "binarize": data.task.binarize,
        "relevant": data.task.relevant,
        "world": _WORLDS[unit.kind],
        "counts": dict(parts.counts),
        "test_train_ratio": unit.ratio if unit.kind == "split" else None,
        "ties": "expected value over random orders of tied scores",
        "truth": truth is not None,
        "notes": notes,
        "data": {
            "name": data.name,
            "users": data.n_users,
            "items": data.n_items,
            "rows": len(data.biased),
            "unbiased_rows": 0 if data.unbiased is None else len(data.unbiased),
            "density": data.density,
            "fingerprint": data.fingerprint,
        }
        | ({} if data.impressions is None else {"impressions": len(data.impressions)}),
    }


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    packages = ("deconrec", "numpy", "scipy", "torch", "polars")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": 1,
        "versions": versions,
    }


def distribution_of(data: Dataset, truth: Truth | None) -> Distribution:
    """Shares of outcomes in each population (a rating with more than 20 values: by tenths of its range)."""
    scale = data.outcome_scale
    logs = {"biased": data.biased.rating}
    if data.unbiased is not None and len(data.unbiased):
        logs["unbiased"] = data.unbiased.rating
    if truth is not None:
        logs["truth"] = truth.rating.reshape(-1)
    values = np.unique(np.concatenate([np.unique(v) for v in logs.values()]))
    if len(values) > 20:
        low, high = (scale.low, scale.high) if scale.threshold is None else (values.min(), values.max())
        edges = np.linspace(low, high, 11)
        values = (edges[:-1] + edges[1:]) / 2
        shares = {k: np.histogram(np.clip(v, low, high), edges)[0] for k, v in logs.items()}
    else:
        shares = {k: np.bincount(np.searchsorted(values, v), minlength=len(values)) for k, v in logs.items()}
    return Distribution(
        values=[float(v) for v in values],
        **{k: [float(x) for x in count / max(count.sum(), 1)] for k, count in shares.items()},
    )
