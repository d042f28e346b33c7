"""A result made ready for questions: look-ups, order, outcomes of tests, and numbers as a reader sees them.

A method counts as better or worse than another only where the Holm-corrected p-value of their test is below
5 %; everything else is "no difference shown".
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from deconrec.experiments.results import Lift, Result, Run, Setting, Summary, Test, higher_is_better

ALPHA = 0.05
NONE = "–"
NAIVE = ("mf", "mf:population=biased")
COMBINED = ("mf-combined", "mf:population=combined")
SEARCHED = "What the searches found"
LIFTED = "How many times the lists of chance and of popularity"
TWINS = ("leaked", "truth")  # suffixes with a table of their own

Outcome = Literal["better", "worse", "open", "untested"]


class Reading:
    """A result made ready for questions: look-ups, order, baseline and headline metric.

    Attributes
    ----------
    methods, metrics: in the order of the call.
    settings: distinct settings in the order of the runs; [{}] where nothing is swept.
    headline: the first metric that has a mean; None where no metric could be computed.
    baseline: plain MF where it was run, else the first method; None without methods.
    """

    def __init__(self, result: Result) -> None:
        self.result = result
        self.methods = list(dict.fromkeys([*result.methods, *(s.method for s in result.summary)]))
        self.metrics = list(dict.fromkeys([*result.metrics, *(s.metric for s in result.summary)]))
        records: list[Run | Summary] = [*result.runs, *result.summary]
        self.settings = list({_key(r.setting): r.setting for r in records}.values()) or [{}]
        self._summary = {(s.method, s.metric, _key(s.setting)): s for s in result.summary}
        self._tests: dict[tuple[str, str, str, str], Test] = {}
        for test in result.tests:
            key = _key(test.setting)
            self._tests[test.a, test.b, test.metric, key] = test
            self._tests.setdefault((test.b, test.a, test.metric, key), _reversed(test))
        self._runs: dict[tuple[str, str], list[Run]] = {}
        for run in result.runs:
            self._runs.setdefault((run.method, _key(run.setting)), []).append(run)
        rows: dict[str, list[Summary]] = {}
        for row in result.summary:
            rows.setdefault(row.metric, []).append(row)
        self._digits = {metric: _mean_digits(each) for metric, each in rows.items()}
        tests: dict[str, list[Test]] = {}
        for test in result.tests:
            tests.setdefault(test.metric, []).append(test)
        self._difference_digits = {metric: _difference_digits(each) for metric, each in tests.items()}
        self._tested = {test.metric for test in result.tests if test.p_holm is not None}
        valued = {s.metric for s in result.summary if s.mean is not None}
        self.headline = next((m for m in self.metrics if m in valued), None)
        naive = (m for m in self.methods if m in NAIVE)
        self.baseline = next(naive, self.methods[0] if self.methods else None)

    @property
    def combined(self) -> str | None:
        """MF on both logs, where it was run and is not the baseline already."""
        return next((m for m in self.methods if m in COMBINED and m != self.baseline), None)

    @cached_property
    def dials(self) -> list[str]:
        """Names of the settings that vary."""
        names = dict.fromkeys(name for setting in self.settings for name in setting)
        return [n for n in names if len({_key({n: s.get(n)}) for s in self.settings}) > 1]

    @property
    def still(self) -> Setting:
        """Dials that are the same in all settings."""
        return {n: v for n, v in self.settings[0].items() if n not in self.dials}

    def place(self, setting: Setting) -> str:
        """A setting in words, without the dials that are the same in all of them."""
        return described({n: v for n, v in setting.items() if n in self.dials})

    def summary(self, method: str, metric: str, setting: Setting) -> Summary | None:
        """Mean and interval, or None where there is no such record."""
        return self._summary.get((method, metric, _key(setting)))

    def mean(self, method: str, metric: str, setting: Setting) -> float | None:
        """The mean, or None."""
        row = self.summary(method, metric, setting)
        return None if row is None else row.mean

    def test(self, a: str, b: str, metric: str, setting: Setting) -> Test | None:
        """The test of a against b, turned round where it was made as b against a."""
        return self._tests.get((a, b, metric, _key(setting)))

    def outcome(self, a: str, b: str, metric: str, setting: Setting) -> Outcome:
        """What the test says of a against b."""
        return outcome(self.test(a, b, metric, setting))

    def runs(self, method: str, setting: Setting | None = None) -> list[Run]:
        """Runs of a method, of one setting where one is given."""
        keys = [_key(s) for s in (self.settings if setting is None else [setting])]
        return [run for key in keys for run in self._runs.get((method, key), [])]

    @property
    def seeds(self) -> int:
        """Number of distinct seeds."""
        return len({run.seed for run in self.result.runs})

    def order(self, metric: str | None, setting: Setting) -> list[str]:
        """Methods best first by a metric; those without a value last, in the order of the call."""
        if metric is None:
            return self.methods
        sign = -1 if higher_is_better(metric) else 1
        means = {m: self.mean(m, metric, setting) for m in self.methods}
        return sorted(self.methods, key=lambda m: math.inf if means[m] is None else sign * (means[m] or 0.0))

    def best(self, metric: str, setting: Setting) -> float | None:
        """The best mean of a metric over methods."""
        means = [v for m in self.methods if (v := self.mean(m, metric, setting)) is not None]
        return (max if higher_is_better(metric) else min)(means, default=None)

    def letters(self, method: str, metric: str) -> str:
        """Letters of significance; none where nothing was tested, or several settings share one record."""
        if len(self.settings) > 1 or metric not in self._tested:
            return ""
        return self.result.letters.get(metric, {}).get(method, "")

    def digits(self, metric: str) -> int:
        """Decimals that show the metric's intervals with two significant digits, or else its spread."""
        return self._digits.get(metric, 4)

    def difference_digits(self, metric: str) -> int:
        """Decimals for the differences of a metric."""
        return self._difference_digits.get(metric, 4)

    def group(self, kind: str | None) -> list[str]:
        """Metrics with a suffix ("leaked", "truth"), or those with neither."""
        return [m for m in self.metrics if (suffix(m) if suffix(m) in TWINS else None) == kind]


def outcome(test: Test | None) -> Outcome:
    """Whether a test shows its method a to be better or worse than b at the 5 % level after Holm."""
    if test is None or test.difference is None or test.p_holm is None:
        return "untested"
    if test.p_holm >= ALPHA or test.difference == 0:
        return "open"
    return "better" if (test.difference > 0) == higher_is_better(test.metric) else "worse"


def search_rows(result: Result) -> list[dict[str, str]]:
    """One row a search: the parameters found, and the hold-out score with them and with the method's own."""
    rows = []
    found = result.protocol.get("searched") or []
    if isinstance(found, Mapping):  # of a comparison: by method
        found = [{"method": method, "setting": {}} | record for method, record in found.items()]
    for s in found:
        params = ", ".join(f"{n}={short(v)}" for n, v in s.get("taken", s["params"]).items())
        if "passed_over" in s:
            params += f" (in place of the {s['passed_over']} best, which some split could not be fitted with)"
        row: dict[str, str] = {"method": s["method"]}
        if s["setting"]:
            row["setting"] = described(s["setting"])
        rows.append(
            row
            | {
                "parameters": params or "the method's own",
                "hold-out score": number(s["score"], 4),
                "with its own": number(s["default"], 4),
                "trials": str(s["trials"]),
            }
        )
    return rows


def lift_rows(result: Result, reading: Reading) -> list[dict[str, str]]:
    """One row a method and setting: its ranking metrics over those of the yardsticks, with intervals."""
    found = {(x.method, x.over, x.metric, described(x.setting)): x for x in result.lifts}
    metrics, overs = (list(dict.fromkeys(getattr(x, n) for x in result.lifts)) for n in ("metric", "over"))
    rows = []
    for setting in reading.settings:
        for method in reading.order(reading.headline, setting):
            row: dict[str, str] = {"setting": reading.place(setting)} if len(reading.settings) > 1 else {}
            row["method"] = method
            cells = {}
            for metric in metrics:
                for over in overs:
                    lift = found.get((method, over, metric, described(setting)))
                    if lift is not None:
                        cells[f"{metric} / {over}"] = f"{number(lift.lift, 2)} {interval(lift, 2)}"
            if cells:
                rows.append(row | cells)
    return rows


# ------------------------------------------------------------------------------------------- numbers
def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """A number for a table, "–" for none; more than six decimals become a power of ten."""
    if value is None or not math.isfinite(value):
        return NONE
    shown = f"{value:.3g}" if decimals > 6 else f"{value:,.{decimals}f}"
    if not shown.strip("-0.,"):
        return shown.lstrip("-")
    return ("+" if sign and value > 0 else "") + shown.replace("-", "−")


def interval(row: Summary | Test | Lift | None, decimals: int, sign: bool = False) -> str:
    """The interval as "[low, high]", or "–"."""
    if row is None or row.low is None or row.high is None:
        return NONE
    return f"[{number(row.low, decimals, sign)}, {number(row.high, decimals, sign)}]"


def p_value(p: float | None) -> str:
    """A p-value with two significant digits, never 0."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.0495 or p >= 0.0505 else f"{p:.4f}"


def half(row: Summary | Test) -> float | None:
    """Half the width of the interval."""
    return None if row.low is None or row.high is None else (row.high - row.low) / 2


def digits(halves: Iterable[float | None], spread: float) -> int:
    """Decimals that give a typical half-width two significant digits or, without one, the spread three."""
    widths = [h for h in halves if h is not None and h > 0]
    scale, extra = (statistics.median(widths), 1) if widths else (abs(spread), 2)
    if not scale > 0:
        return 4
    return max(0, extra - math.floor(math.log10(scale)))


def names(items: Sequence[str], most: int = 4) -> str:
    """The items as "a, b and c"; beyond `most` of them "a, b and 7 more"; "" for none."""
    shown = list(items) if len(items) <= most else [*items[: most - 1], f"{len(items) - most + 1} more"]
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def count(n: int, noun: str) -> str:
    """A count with its noun: "1 seed", "2 seeds"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def described(setting: Setting) -> str:
    """A setting as "confounding=1, share=0.01"."""
    return ", ".join(f"{k}={short(v)}" for k, v in setting.items()) or "as given"


def short(value: Any) -> str:
    """A setting's value as it would be typed; "–" for none."""
    if value is None:
        return NONE
    return f"{value:g}" if isinstance(value, float) else str(value)


def span(values: Sequence[int]) -> str:
    """One number where all are equal, else "least–most"; "–" for none."""
    if not values:
        return NONE
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def seconds(runs: Sequence[Run]) -> str:
    """Mean seconds of a fit, with two significant digits below 10."""
    if not runs:
        return NONE
    mean = statistics.fmean(r.seconds for r in runs)
    return f"{mean:,.0f}" if mean >= 10 else f"{mean:.1f}" if mean >= 1 else f"{mean:.2f}"


def suffix(metric: str) -> str:
    """What stands after the last slash of a metric's name: "leaked" of "auc/leaked", "" of "auc"."""
    return metric.rpartition("/")[2] if "/" in metric else ""


def _mean_digits(rows: Sequence[Summary]) -> int:
    means = [row.mean for row in rows if row.mean is not None]
    return digits([half(row) for row in rows], max(means, default=0.0) - min(means, default=0.0))


def _difference_digits(tests: Sequence[Test]) -> int:
    return digits([half(t) for t in tests], max(abs(t.difference or 0.0) for t in tests))


def _key(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True, default=str)


def _reversed(test: Test) -> Test:
    """The same test as b against a."""

    def minus(x: float | None) -> float | None:
        return None if x is None else -x

    return test.model_copy(
        update={
            "a": test.b,
            "b": test.a,
            "difference": minus(test.difference),
            "low": minus(test.high),
            "high": minus(test.low),
            "effect_size": minus(test.effect_size),
        }
    )
