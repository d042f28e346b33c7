"""Runs judged: means with 95 % intervals, paired tests, Holm's correction, letters; one setting at a time.

Which test. A per-user metric on users that are the same for every seed: bootstrap over users, pooled over seeds.
Anything else on splits of one data set: the corrected resampled t-test, because their training parts overlap. On
fresh worlds, and on fresh exposures of the same real outcomes: the paired t-test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np

from deconrec.evaluation import statistics
from deconrec.experiments.names import Metric
from deconrec.experiments.results import Lift, Run, Setting, Summary, Test, higher_is_better
from deconrec.records import finite

CELLS_AT_ONCE = 2**21  # resampled users held at a time
BOOTSTRAP_WORK = 2e8  # NOTE users x resamples of one test; more users get fewer resamples, never below 1,000


@dataclass
class Outcome:
    """One run's record, and the per-user values that tests need: (user codes, values) by metric."""

    run: Run
    per_user: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


Outcomes = Mapping[tuple[str, int], Outcome]
"""By method and seed, of one setting."""


@dataclass(frozen=True)
class Unit:
    """What is shared between seeds.

    Attributes
    ----------
    kind: "split" (of one data set), "draw" (fresh exposures, the same users and outcomes) or "world" (nothing).
    ratio: n_test / n_train of a split.
    """

    kind: Literal["split", "draw", "world"]
    ratio: float

    @property
    def correction(self) -> float:
        """What Nadeau and Bengio add to 1/n."""
        return self.ratio if self.kind == "split" else 0.0


def judge(
    outcomes: Outcomes,
    names: Sequence[str],
    seeds: Sequence[int],
    metrics: Sequence[str],
    unit: Unit,
    setting: Setting | None = None,
) -> tuple[list[Summary], list[Test]]:
    """Means and all paired tests of the methods that `outcomes` has on every seed; by metric."""
    place: dict[str, Any] = {"setting": dict(setting or {})}
    summary: list[Summary] = []
    tests: list[Test] = []
    for metric in metrics:
        runs = {name: [outcomes[name, s] for s in seeds] for name in names}
        drawn = Resamples.of(runs, metric) if names and _is_per_user(metric, unit) else None
        summary += [_summarise(name, runs[name], metric, unit, drawn, place) for name in names]
        tests += _test_metric(runs, metric, unit, drawn, place)
    return summary, tests


def lifts(
    outcomes: Outcomes,
    names: Sequence[str],
    yardsticks: Sequence[str],
    seeds: Sequence[int],
    metrics: Sequence[str],
    unit: Unit,
    setting: Setting | None = None,
) -> list[Lift]:
    """Every method's ranking metrics over those of each yardstick, seed by seed; `names` have runs on every seed.

    The interval is Student's on logarithms, with the correction of splits of one data set.
    """
    out = []
    for metric in (m for m in metrics if Metric.parse(m).ranked):
        value = {n: _values([outcomes[n, s] for s in seeds], metric) for n in names}
        for over in (y for y in yardsticks if y in value):
            for name in (n for n in names if n not in yardsticks):
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = np.log(value[name] / value[over])
                ratio = np.where(np.isfinite(ratio), ratio, np.nan)
                found = statistics.t_interval(ratio, unit.correction)
                ends = {"lift": found.mean, "low": found.low, "high": found.high}
                out.append(
                    Lift(
                        method=name,
                        over=over,
                        metric=metric,
                        setting=dict(setting or {}),
                        n=len(seeds),
                        **finite({k: float(np.exp(v)) for k, v in ends.items()}),
                    )
                )
    return out


@dataclass(frozen=True)
class Resamples:
    """The users' bootstrap of `statistics.paired_bootstrap_users`, drawn once for all methods of a comparison.

    Attributes
    ----------
    mean: (n_methods,) mean over seeds of the mean over users.  samples: (n_methods, n_boot) the same in resamples.
    n: distinct users.  at: row of each method.  size: largest value, for the size of rounding errors.
    """

    mean: np.ndarray
    samples: np.ndarray
    n: int
    at: Mapping[str, int]
    size: float

    @classmethod
    def of(cls, runs: Mapping[str, Sequence[Outcome]], metric: str, seed: int = 0) -> Resamples | None:
        """None where methods have different users on a seed, so that only pairs of them can be resampled together."""
        lists = [[o.per_user[metric] for o in each] for each in runs.values()]
        sorted_ = [[(u[order := np.argsort(u)], v[order]) for u, v in each] for each in lists]
        for each in sorted_[1:]:
            if any(not np.array_equal(a[0], b[0]) for a, b in zip(sorted_[0], each, strict=True)):
                return None
        if not all(len(users) for users, _ in sorted_[0]):
            return None
        everyone = np.unique(np.concatenate([users for users, _ in sorted_[0]]))
        n, n_seeds, n_methods = len(everyone), len(sorted_[0]), len(sorted_)
        table = np.zeros((n, (n_methods + 1) * n_seeds))  # values by method and seed, then who is there
        for s, (users, _) in enumerate(sorted_[0]):
            rows = np.searchsorted(everyone, users)
            table[rows, n_methods * n_seeds + s] = 1.0
            for m, each in enumerate(sorted_):
                table[rows, m * n_seeds + s] = each[s][1]

        def means(sums: np.ndarray) -> np.ndarray:
            """(n_methods, draws)."""
            parts = sums.reshape(len(sums), n_methods + 1, n_seeds)
            total, count = parts[:, :-1], parts[:, -1:]
            ratio = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
            return np.asarray((ratio.sum(axis=2) / np.count_nonzero(count, axis=2)).T)

        rng, n_boot = np.random.default_rng(seed), _n_boot(lists[0])
        step = max(1, CELLS_AT_ONCE // n)
        samples = np.empty((n_methods, n_boot))
        for start in range(0, n_boot, step):
            size = min(step, n_boot - start)
            drawn = rng.integers(n, size=(size, n)) + (np.arange(size) * n)[:, None]
            times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
            samples[:, start : start + size] = means(times.astype(float) @ table)
        mean = means(table.sum(axis=0, keepdims=True))[:, 0]
        largest = float(np.abs(table[:, : n_methods * n_seeds]).max(initial=0.0))
        return cls(mean, samples, n, {name: m for m, name in enumerate(runs)}, largest)

    def interval(self, name: str) -> statistics.Interval:
        """As `statistics.bootstrap_users_interval`."""
        mean = float(self.mean[self.at[name]])
        if self.n < 2:
            return statistics.Interval(mean, float("nan"), float("nan"), self.n)
        return statistics.Interval(mean, *_ends(self.samples[self.at[name]]), self.n)

    def comparison(self, a: str, b: str) -> statistics.Comparison:
        """As `statistics.paired_bootstrap_users`."""
        i, j = self.at[a], self.at[b]
        difference, samples = float(self.mean[i] - self.mean[j]), self.samples[i] - self.samples[j]
        named: dict[str, Any] = {"test": "paired bootstrap", "unit": "user", "n": self.n}
        nan = float("nan")
        if self.n < 2:
            return statistics.Comparison(difference, nan, nan, nan, **named)
        zero = 64 * np.finfo(float).eps * self.size  # differences of sums: within rounding of 0
        samples = np.where(np.abs(samples) <= zero, 0.0, samples)
        tail = min(np.count_nonzero(samples <= 0), np.count_nonzero(samples >= 0))
        p = min(1.0, 2 * (tail + 1) / (len(samples) + 1))
        difference = 0.0 if abs(difference) <= zero else difference
        return statistics.Comparison(difference, *_ends(samples), p, **named)


def contrast(
    a: Sequence[Outcome], b: Sequence[Outcome], metric: str, unit: Unit, metric_b: str = ""
) -> statistics.Comparison:
    """The paired comparison of two lists of runs on the same seeds; `metric_b` is b's where it is another one."""
    metric_b = metric_b or metric
    everyone = all(_has_users(o, metric) for o in a) and all(_has_users(o, metric_b) for o in b)
    if _is_per_user(metric, unit) and _is_per_user(metric_b, unit) and everyone:
        runs_a, runs_b = [o.per_user[metric] for o in a], [o.per_user[metric_b] for o in b]
        return statistics.paired_bootstrap_users(runs_a, runs_b, n_boot=_n_boot(runs_a))
    if unit.kind == "split":
        return statistics.corrected_resampled_t(_values(a, metric), _values(b, metric_b), unit.ratio)
    return statistics.paired_t(_values(a, metric), _values(b, metric_b), unit=unit.kind)


def letters(
    metric: str, names: Sequence[str], summary: Sequence[Summary], tests: Sequence[Test]
) -> dict[str, str]:
    """Letters of significance of one metric in one setting; {} where there is nothing to tell apart."""
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
    found = statistics.significance_letters(means, p, higher_is_better=higher_is_better(metric))
    return dict(zip(names, found, strict=True))


def _values(runs: Sequence[Outcome], metric: str) -> np.ndarray:
    raw = [o.run.metrics[metric] for o in runs]
    return np.array([np.nan if v is None else v for v in raw], float)


def _effect(a: Sequence[Outcome], b: Sequence[Outcome], metric: str) -> float:
    return statistics.effect_size(_values(a, metric), _values(b, metric)) if len(a) > 1 else float("nan")


def _n_boot(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    users = max(max(len(u) for u, _ in runs), 1)
    return int(np.clip(BOOTSTRAP_WORK / users, 1_000, 10_000))


def _is_per_user(metric: str, unit: Unit) -> bool:
    return unit.kind != "world" and Metric.parse(metric).per_user


def _has_users(outcome: Outcome, metric: str) -> bool:
    """Whether there is a user to resample: a stratum may have none with a positive."""
    return metric in outcome.per_user and len(outcome.per_user[metric][0]) > 0


def _ends(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def _summarise(
    name: str,
    own: Sequence[Outcome],
    metric: str,
    unit: Unit,
    drawn: Resamples | None,
    place: Mapping[str, Any],
) -> Summary:
    values = _values(own, metric)
    if drawn is not None:
        interval = drawn.interval(name)
    elif _is_per_user(metric, unit) and all(_has_users(o, metric) for o in own):
        runs = [o.per_user[metric] for o in own]
        interval = statistics.bootstrap_users_interval(runs, n_boot=_n_boot(runs))
    else:
        interval = statistics.t_interval(values, unit.correction)
    return Summary(
        method=name,
        metric=metric,
        n=len(own),
        **place,
        **finite({"mean": float(values.mean()), "low": interval.low, "high": interval.high}),
    )


def _test_metric(
    runs: Mapping[str, Sequence[Outcome]],
    metric: str,
    unit: Unit,
    drawn: Resamples | None,
    place: Mapping[str, Any],
) -> list[Test]:
    """All pairs of methods on one metric, Holm-corrected together."""
    found = []
    for a, b in combinations(runs, 2):
        c = drawn.comparison(a, b) if drawn is not None else contrast(runs[a], runs[b], metric, unit)
        found.append((a, b, c, _effect(runs[a], runs[b], metric)))
    corrected: np.ndarray = statistics.holm([c.p for _, _, c, _ in found])
    return [
        Test(
            a=a,
            b=b,
            metric=metric,
            test=c.test,
            unit=c.unit,
            n=c.n,
            **place,
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
