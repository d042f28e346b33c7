"""`compare`: methods on one data set, under one protocol, with intervals and corrected paired tests."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deconrec.catalogue import Opened, open_data
from deconrec.data.dataset import Dataset, Truth
from deconrec.data.split import PairsSplit, Parts, UsersSplit
from deconrec.errors import DataError, Error, MissingUnbiasedLog, ParameterError
from deconrec.evaluation import statistics
from deconrec.experiments.metrics import (
    Metric,
    check_metrics,
    default_metrics,
    evaluate_pairs,
    evaluate_users,
)
from deconrec.experiments.results import (
    Distribution,
    Result,
    Run,
    Summary,
    Test,
    finite,
    higher_is_better,
)
from deconrec.methods import make

Select = Literal["biased", "unbiased"]
BOOTSTRAP_WORK = 2e8  # NOTE users x resamples of one test; more users get fewer resamples, never below 1,000


@dataclass(frozen=True)
class Plan:
    """What is the same for every run of a comparison.

    Attributes
    ----------
    data: a catalogue name with its root, or a data set in memory.
    protocol, select, metrics, trials: see `compare`.
    """

    data: str | Dataset
    root: str | None
    protocol: Literal["pairs", "users"]
    select: Select
    metrics: tuple[str, ...]
    trials: int = 0
    by: Literal["record", "time"] = "record"

    def open(self) -> Opened:
        """The data."""
        if isinstance(self.data, Dataset):
            data = self.data
            return Opened(data.name, False, lambda seed: (data, None))
        return open_data(self.data, self.root)

    def split(self, data: Dataset, truth: Truth | None, seed: int) -> Parts[Any]:
        """The parts of one seed."""
        if self.protocol == "users":
            return UsersSplit(seed).apply(data, truth)
        return PairsSplit(seed, by=self.by).apply(data)


@dataclass
class Outcome:
    """One run's record, and the per-user values that tests need."""

    run: Run
    per_user: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def compare(
    data: Dataset | str | Path,
    methods: Sequence[str],
    *,
    seeds: int | Sequence[int] = 10,
    metrics: Sequence[str] | None = None,
    protocol: Literal["pairs", "users"] | None = None,
    select: Select = "biased",
    split: Literal["record", "time"] = "record",
    trials: int = 0,
    workers: int = 1,
    root: str | Path | None = None,
    progress: bool = False,
) -> Result:
    """Fit and evaluate methods over seeds, and test their differences.

    Parameters
    ----------
    data: a `Dataset`, a catalogue name ("coat", "sim-pairs:confounding=2") or a TOML data file.
    methods: names, each with its parameters ("res-ips:policy=joint").
    seeds: a number (0, 1, ...) or the seeds. A seed draws the split, initial values and, for a simulator, the world.
    metrics: names (`deconrec.experiments.metrics`); None = the protocol's defaults. The first is the headline.
    protocol: "pairs" or "users"; None = the data's.
    select: stop and select on the biased hold-out, or on V of the randomised log.
    split: "record" (drawn by the seed) or "time" (the past trains, the future tests; pairs protocol only; seeds
        then differ in initial values alone).
    trials: 0 = the methods' defaults; more = tune each method on each seed with that many trials first.
    workers: processes.
    root: folder of the public data sets.
    progress: show a progress bar on a terminal.

    Draw the result with `deconrec.write_report(result, path)`; `print(result.to_json())` is its record.

    Raises
    ------
    UnknownName, ParameterError, DataError: before anything is fitted.
    """
    names = list(methods)
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(s) for s in seeds]
    if not names:
        raise ParameterError("'methods' of compare must name at least one method; got none.")
    for what, values in (("method", names), ("seed", numbers)):
        if len(set(values)) < len(values):
            raise ParameterError(f"compare must be given each {what} once; got {values}.")
    if not numbers:
        raise ParameterError(f"'seeds' of compare must be at least 1; got {seeds}.")
    if select not in ("biased", "unbiased"):
        raise ParameterError(f"'select' of compare must be 'biased' or 'unbiased'; got {select!r}.")
    if protocol not in (None, "pairs", "users"):
        raise ParameterError(f"'protocol' of compare must be 'pairs' or 'users'; got {protocol!r}.")
    if split not in ("record", "time"):
        raise ParameterError(f"'split' of compare must be 'record' or 'time'; got {split!r}.")
    if trials < 0 or workers < 1:
        raise ParameterError(f"compare needs trials >= 0 and workers >= 1; got {trials} and {workers}.")
    plan = Plan(
        data if isinstance(data, Dataset) else str(data),
        None if root is None else str(root),
        protocol or "pairs",
        select,
        (),
        trials,
        split,
    )
    opened = plan.open()
    first, truth = opened.draw(numbers[0])
    chosen = protocol or first.task.protocol
    if split == "time" and chosen == "users":
        raise ParameterError(
            "'split' of compare must be 'record' in the users protocol (it splits users); got 'time'."
        )
    plan = replace(plan, protocol=chosen)
    asked = default_metrics(first, chosen, truth) if metrics is None else list(metrics)
    plan = replace(plan, metrics=tuple(check_metrics(asked, first, chosen, truth)))
    parts = plan.split(first, truth, numbers[0])
    _check_methods(names, first, parts, plan)
    started = time.perf_counter()
    outcomes = _run_all(plan, names, numbers, workers, progress)
    runs = [outcomes[name, seed].run for name in names for seed in numbers]
    ratio = parts.counts["test"] / max(parts.counts["biased"] + parts.counts["U"], 1)
    unit = _Units(opened.fresh, ratio)
    summary = [_summarise(plan, outcomes, name, numbers, m, unit) for m in plan.metrics for name in names]
    tests = [t for m in plan.metrics for t in _test_metric(outcomes, names, numbers, m, unit)]
    result = Result(
        dataset=opened.name,
        protocol=_protocol(plan, opened, first, truth, parts, numbers, names, ratio),
        runs=runs,
        summary=summary,
        tests=tests,
        environment=environment() | {"seconds": time.perf_counter() - started, "workers": workers},
        distribution=_distribution(first, truth),
        letters={m: _letters(m, names, summary, tests) for m in plan.metrics},
    )
    return result


# ---------------------------------------------------------------------- running
def _check_methods(names: Sequence[str], data: Dataset, parts: Parts[Any], plan: Plan) -> None:
    """Refuse what cannot run before anything is fitted."""
    from deconrec.base import Propensity

    for name in names:
        model = make(name)
        propensities = [v for v in model.get_params(deep=False).values() if isinstance(v, Propensity)]
        needs = model.tags.needs_unbiased or any(p.needs_unbiased for p in propensities)
        if needs and (parts.train.unbiased is None or not len(parts.train.unbiased)):
            raise MissingUnbiasedLog(f"method '{name}'")
        if model.tags.outcome == "binary" and not data.outcome_scale.binary:
            raise DataError(f"method '{name}' needs a binary outcome; set `binarize` in the data's task.")
    if plan.select == "unbiased" and parts.validation is None:
        raise DataError(
            "select='unbiased' needs randomised validation rows (V), and the split gives none; use select='biased'."
        )


def _run_all(
    plan: Plan, names: Sequence[str], seeds: Sequence[int], workers: int, progress: bool
) -> dict[tuple[str, int], Outcome]:
    jobs = [(name, seed) for seed in seeds for name in names]
    out: dict[tuple[str, int], Outcome] = {}
    with _bar(len(jobs) if progress else None) as advance:
        if workers == 1:
            opened = plan.open()
            drawn: tuple[int, tuple[Dataset, Truth | None]] | None = None
            for name, seed in jobs:
                if drawn is None or (drawn[0] != seed and opened.fresh):
                    drawn = seed, opened.draw(seed)
                out[name, seed] = run_one(plan, name, seed, *drawn[1])
                advance(name)
            return out
        from multiprocessing import get_context

        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(_run_in_worker, plan, name, seed): (name, seed) for name, seed in jobs}
            try:
                for future in as_completed(futures):
                    out[futures[future]] = future.result()
                    advance(futures[future][0])
            except BrokenProcessPool as error:
                raise Error(
                    f"a worker process of compare ended abruptly (workers={workers}): out of memory, killed, or "
                    "started from a script whose body is not under `if __name__ == '__main__':`. Mend that, or "
                    "use workers=1."
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return out


_OPENED: dict[tuple[str, str | None], Opened] = {}


def _run_in_worker(plan: Plan, name: str, seed: int) -> Outcome:
    if isinstance(plan.data, Dataset):
        return run_one(plan, name, seed, *plan.open().draw(seed))
    key = plan.data, plan.root
    if key not in _OPENED:
        _OPENED[key] = plan.open()
    return run_one(plan, name, seed, *_OPENED[key].draw(seed))


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: runs are compared, and their machine may be shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_one(plan: Plan, name: str, seed: int, data: Dataset, truth: Truth | None) -> Outcome:
    """Split, fit (tune first where asked), evaluate once."""
    parts = plan.split(data, truth, seed)
    validation = parts.validation if plan.select == "unbiased" and parts.validation else parts.holdout
    model = make(name)
    if "seed" in model.get_params(deep=False):
        model.set_params(seed=seed)
    with one_thread():
        started = time.perf_counter()
        if plan.trials:
            from deconrec.experiments.tune import tune

            model = tune(model, parts.train, validation, plan.trials, seed=seed)
        else:
            model.fit(parts.train, validation=validation)
        seconds = time.perf_counter() - started
        if plan.protocol == "users":
            evaluated = evaluate_users(model, parts.test, data, plan.metrics)
        else:
            evaluated = evaluate_pairs(model, parts.test, data, plan.metrics, truth)
    history = getattr(model, "history_", None)
    curves: dict[str, list[float | None]] = {}
    if history is not None:
        curves = finite(
            {n: history.curve(n) for n in dict.fromkeys(k for e in history for k in e if k != "seconds")}
        )
    overlap = getattr(model, "overlap_", None)
    run = Run(
        overlap=None if overlap is None else overlap.to_dict(),
        method=name,
        seed=seed,
        metrics=finite({m: evaluated.metrics[m] for m in plan.metrics}),
        seconds=seconds,
        unbiased_rows=model.unbiased_rows_,
        params=finite(model.describe()),
        history=curves,
        best_epoch=None if history is None else history.best_epoch,
        skipped_users=evaluated.skipped,
    )
    return Outcome(run, evaluated.per_user)


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[str], None]]:
    if total is None or not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fitting", total=total)
        yield lambda name: bar.update(task, advance=1, description=name)


# ---------------------------------------------------------------------- statistics
@dataclass(frozen=True)
class _Units:
    """What is shared between seeds: nothing in fresh worlds; test and training rows in splits of one data set."""

    fresh: bool
    ratio: float


def _values(
    outcomes: dict[tuple[str, int], Outcome], name: str, seeds: Sequence[int], metric: str
) -> np.ndarray:
    raw = [outcomes[name, s].run.metrics[metric] for s in seeds]
    return np.array([np.nan if v is None else v for v in raw], float)


def _n_boot(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    users = max(max(len(u) for u, _ in runs), 1)
    return int(np.clip(BOOTSTRAP_WORK / users, 1_000, 10_000))


def _per_user(
    outcomes: dict[tuple[str, int], Outcome], name: str, seeds: Sequence[int], metric: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    return [outcomes[name, s].per_user[metric] for s in seeds]


def _is_per_user(metric: str, unit: _Units) -> bool:
    return Metric.parse(metric).k is not None and not unit.fresh


def _summarise(
    plan: Plan,
    outcomes: dict[tuple[str, int], Outcome],
    name: str,
    seeds: Sequence[int],
    metric: str,
    unit: _Units,
) -> Summary:
    values = _values(outcomes, name, seeds, metric)
    if _is_per_user(metric, unit):
        runs = _per_user(outcomes, name, seeds, metric)
        interval = statistics.bootstrap_users_interval(runs, n_boot=_n_boot(runs))
    else:
        interval = statistics.t_interval(values, 0.0 if unit.fresh else unit.ratio)
    return Summary(
        method=name,
        metric=metric,
        n=len(seeds),
        **finite({"mean": float(values.mean()), "low": interval.low, "high": interval.high}),
    )


def _test_metric(
    outcomes: dict[tuple[str, int], Outcome],
    names: Sequence[str],
    seeds: Sequence[int],
    metric: str,
    unit: _Units,
) -> list[Test]:
    """All pairs of methods on one metric, Holm-corrected together."""
    found = []
    for a, b in combinations(names, 2):
        x, y = (_values(outcomes, n, seeds, metric) for n in (a, b))
        if _is_per_user(metric, unit):
            runs_a, runs_b = (_per_user(outcomes, n, seeds, metric) for n in (a, b))
            comparison = statistics.paired_bootstrap_users(runs_a, runs_b, n_boot=_n_boot(runs_a))
        elif unit.fresh:
            comparison = statistics.paired_t(x, y, unit="world")
        else:
            comparison = statistics.corrected_resampled_t(x, y, unit.ratio)
        effect = statistics.effect_size(x, y) if len(seeds) > 1 else float("nan")
        found.append((a, b, comparison, effect))
    corrected: np.ndarray = statistics.holm([c.p for _, _, c, _ in found])
    return [
        Test(
            a=a,
            b=b,
            metric=metric,
            test=c.test,
            unit=c.unit,
            n=c.n,
            **finite(
                {
                    "difference": c.difference,
                    "low": c.low,
                    "high": c.high,
                    "p": c.p,
                    "p_holm": float(p),
                    "effect_size": effect,
                }
            ),
        )
        for (a, b, c, effect), p in zip(found, corrected, strict=True)
    ]


def _letters(
    metric: str, names: Sequence[str], summary: Sequence[Summary], tests: Sequence[Test]
) -> dict[str, str]:
    if len(names) < 2:
        return {}
    mean = {s.method: s.mean for s in summary if s.metric == metric}
    means = np.array([np.nan if mean[n] is None else mean[n] for n in names], float)
    p = np.full((len(names), len(names)), np.nan)
    for t in tests:
        if t.metric == metric and t.p_holm is not None:
            i, j = names.index(t.a), names.index(t.b)
            p[i, j] = p[j, i] = t.p_holm
    if np.isnan(means).any():
        return {}
    letters = statistics.significance_letters(means, p, higher_is_better=higher_is_better(metric))
    return dict(zip(names, letters, strict=True))


# ---------------------------------------------------------------------- the record
def _protocol(
    plan: Plan,
    opened: Opened,
    data: Dataset,
    truth: Truth | None,
    parts: Parts[Any],
    seeds: Sequence[int],
    names: Sequence[str],
    ratio: float,
) -> dict[str, Any]:
    notes = list(data.notes)
    if plan.protocol == "pairs" and data.unbiased is None and data.test is None:
        notes.append(
            "There is no unbiased test: metrics named '/biased' are on held-out rows of the biased log, where a "
            "method that debiases is expected to lose."
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
        "split": "80/10/10 by user"
        if plan.protocol == "users"
        else f"U/V/test {data.task.unbiased_split} by {plan.by}",
        "binarize": data.task.binarize,
        "relevant": data.task.relevant,
        "world": "a fresh world per seed" if opened.fresh else "one data set",
        "counts": dict(parts.counts),
        "test_train_ratio": None if opened.fresh else ratio,
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
        },
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


def _distribution(data: Dataset, truth: Truth | None) -> Distribution:
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
