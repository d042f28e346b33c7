"""A result in words and numbers: the verdict, the leaderboard of the terminal, and what each metric means.

Everything is read from the records of a comparison. A method counts as better or worse than another only where
the Holm-corrected p-value of their test is below 5 %; everything else is "no difference shown".
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from deconrec.experiments.results import Result, Run, Setting, Summary, Test, higher_is_better

if TYPE_CHECKING:
    from rich.table import Table

ALPHA = 0.05
WIDTH = 100  # columns of a terminal that the leaderboard fits
NONE = "–"
NAIVE = ("mf", "mf:population=biased")
COMBINED = ("mf-combined", "mf:population=combined")
TWINS = ("leaked", "truth")  # suffixes with a table of their own

Outcome = Literal["better", "worse", "open", "untested"]

UNITS = {  # unit of a test: (what was counted, what the test speaks about)
    "user": ("users, pooled over seeds", "other users of these fitted models"),
    "split": ("random splits of one data set", "other splits of this data set, not about other data"),
    "seed": ("seeds", "other seeds on this data set, not about other data"),
    "world": ("freshly simulated worlds", "other worlds of this simulator, not about real data"),
}


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
        valued = {s.metric for s in result.summary if s.mean is not None}
        self.headline = next((m for m in self.metrics if m in valued), None)
        named = [m for m in self.methods if m in NAIVE]
        self.baseline = (named or self.methods or [None])[0]

    @property
    def combined(self) -> str | None:
        """MF on both logs, where it was run and is not the baseline already."""
        return next((m for m in self.methods if m in COMBINED and m != self.baseline), None)

    @property
    def dials(self) -> list[str]:
        """Names of the settings that vary."""
        names = dict.fromkeys(name for setting in self.settings for name in setting)
        return [n for n in names if len({_key({n: s.get(n)}) for s in self.settings}) > 1]

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
        key = None if setting is None else _key(setting)
        return [r for r in self.result.runs if r.method == method and key in (None, _key(r.setting))]

    def seeds(self, setting: Setting | None = None) -> int:
        """Number of distinct seeds."""
        key = None if setting is None else _key(setting)
        return len({r.seed for r in self.result.runs if key in (None, _key(r.setting))})

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
        """Letters of significance; none where settings are swept, for the record has them once only."""
        if len(self.settings) > 1:
            return ""
        return self.result.letters.get(metric, {}).get(method, "")

    def digits(self, metric: str) -> int:
        """Decimals that show the metric's intervals with two significant digits, or else its spread."""
        rows = [s for s in self.result.summary if s.metric == metric]
        means = [s.mean for s in rows if s.mean is not None]
        return digits([half(s) for s in rows], max(means, default=0.0) - min(means, default=0.0))

    def group(self, suffix: str | None) -> list[str]:
        """Metrics of a suffix ("leaked", "truth"), or those with neither."""
        return [m for m in self.metrics if (_suffix(m) if _suffix(m) in TWINS else None) == suffix]


# ------------------------------------------------------------------------------------------- numbers
def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """A number for a table, "–" for none; more than six decimals become a power of ten."""
    if value is None or not math.isfinite(value):
        return NONE
    shown = f"{value:.3g}" if decimals > 6 else f"{value:,.{decimals}f}"
    if shown.lstrip("-0.,") == "":
        shown = shown.lstrip("-")
    if sign and value > 0 and not shown.startswith("-") and shown.strip("0.,"):
        shown = "+" + shown
    return shown.replace("-", "−")


def interval(row: Summary | Test | None, decimals: int, sign: bool = False) -> str:
    """"[low, high]", or "–"."""
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
    """Decimals at which a typical half-width has two significant digits; without one, the spread has three."""
    widths = [h for h in halves if h is not None and h > 0]
    scale, extra = (statistics.median(widths), 1) if widths else (abs(spread), 2)
    if not scale > 0:
        return 4
    return max(0, extra - math.floor(math.log10(scale)))


def names(items: Sequence[str], most: int = 4) -> str:
    """"a, b and c"; beyond `most` names "a, b and 7 more"."""
    shown = list(items) if len(items) <= most else [*items[: most - 1], f"{len(items) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def count(n: int, noun: str) -> str:
    """"1 seed", "2 seeds"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def described(setting: Setting) -> str:
    """"confounding=1, share=0.01"."""
    return ", ".join(f"{k}={_short(v)}" for k, v in setting.items()) or "as given"


def span(values: Sequence[int]) -> str:
    """One number where all are equal, else "least–most"; "–" for none."""
    if not values:
        return NONE
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


# ------------------------------------------------------------------------------------------- verdict
def outcome(test: Test | None) -> Outcome:
    """Whether a test shows its method a to be better or worse than b at the 5 % level after Holm."""
    if test is None or test.difference is None or test.p_holm is None:
        return "untested"
    if test.p_holm >= ALPHA or test.difference == 0:
        return "open"
    return "better" if (test.difference > 0) == higher_is_better(test.metric) else "worse"


def verdict(result: Result) -> str:
    """What the tests allow to be said, in plain sentences; the first one is the finding."""
    return " ".join(sentences(Reading(result)))


def sentences(reading: Reading) -> list[str]:
    """The verdict, sentence by sentence: the finding first, then what it rests on and what limits it."""
    metric, baseline = reading.headline, reading.baseline
    if metric is None or baseline is None:
        return ["No metric could be computed, so there is nothing to compare."]
    seeds = reading.seeds()
    if len(reading.methods) == 1:
        row = reading.summary(baseline, metric, reading.settings[0])
        d = reading.digits(metric)
        value = number(row.mean if row else None, d)
        between = f" (95 % interval {interval(row, d)})" if row and row.low is not None else ""
        told = f"Only {baseline} was run: its {metric} is {value}{between}, and nothing stands beside it."
        return [told, f"It rests on {count(seeds, 'seed')}.", *_caveats(reading, [])]

    against = [b for b in (baseline, reading.combined) if b is not None]
    found: list[str] = []
    outcomes: list[Outcome] = []
    for turn, other in enumerate(against):
        rest = [m for m in reading.order(metric, reading.settings[0]) if m != other]
        told = {m: [reading.outcome(m, other, metric, s) for s in reading.settings] for m in rest}
        outcomes += [o for each in told.values() for o in each]
        found.append(_finding(reading, metric, other, told, again=turn > 0))
    said = [*found, *_evidence(reading, metric, seeds)]
    if {"open", "untested"} & set(outcomes):
        said.append("Where no difference was shown, that is not evidence that the methods are equal.")
    winners = [
        m for m in reading.methods if any(reading.outcome(m, baseline, metric, s) == "better" for s in reading.settings)
    ]
    return said + _caveats(reading, winners)


def _finding(
    reading: Reading, metric: str, other: str, told: Mapping[str, Sequence[Outcome]], again: bool
) -> str:
    """One sentence on every method against one other."""
    who = _called(other)
    n = len(reading.settings)
    everywhere = {o for each in told.values() for o in each}
    if everywhere == {"untested"}:
        if again:
            return f"Nor could any difference from {who} be tested."
        best = reading.order(metric, reading.settings[0])[0]
        value = number(reading.mean(best, metric, reading.settings[0]), reading.digits(metric))
        lead = f"{best} has the best mean ({value}), but " if n == 1 else ""
        return f"On {metric}, {lead}no difference from {who} could be tested."
    if everywhere <= {"open", "untested"}:
        alone = next(iter(told)) if len(told) == 1 else None
        place = f" at any of the {n} settings of {names(reading.dials)}" if n > 1 else ""
        untested = [m for m, each in told.items() if set(each) == {"untested"}]
        tail = f"{place}; {names(untested)} could not be tested." if untested else f"{place}."
        if again:
            return f"Nor is {alone or 'any method'} distinguishable from {who}{tail}"
        return f"On {metric}, {alone + ' is not' if alone else 'no method is'} distinguishable from {who}{tail}"
    start = f"Against {who}," if again else f"On {metric},"
    than = "" if again else f" than {who}"
    if n > 1:
        return _swept(reading, start, than, told)
    by = {o: [m for m, each in told.items() if each[0] == o] for o in ("better", "worse", "open", "untested")}
    parts = []
    if by["better"]:
        verb = "is" if len(by["better"]) == 1 else "are"
        parts.append(f"{names(by['better'])} {verb} significantly better{than}")
    else:
        parts.append(f"no method is significantly better{than}")
    if by["worse"]:
        verb = "is" if len(by["worse"]) == 1 else "are"
        parts.append(f"{names(by['worse'])} {verb} significantly worse")
    if by["open"]:
        parts.append(f"no difference was shown for {names(by['open'])}")
    if by["untested"]:
        parts.append(f"{names(by['untested'])} could not be tested")
    return f"{start} {'; '.join(parts)}."


def _swept(reading: Reading, start: str, than: str, told: Mapping[str, Sequence[Outcome]]) -> str:
    """The finding over several settings: how often each method is better or worse."""
    n = len(reading.settings)
    parts = []
    for word in ("better", "worse"):
        often = {m: each.count(word) for m, each in told.items() if word in each}  # type: ignore[arg-type]
        ranked = sorted(often, key=lambda m: -often[m])
        if ranked:
            parts.append(f"significantly {word}{than}: {names([f'{m} at {often[m]} of {n}' for m in ranked])}")
    return f"{start} over {n} settings of {names(reading.dials)}, {'; '.join(parts)}."


def _called(method: str) -> str:
    if method in NAIVE:
        return f"plain MF ({method})"
    if method in COMBINED:
        return f"MF on both logs ({method})"
    return method


def _evidence(reading: Reading, metric: str, seeds: int) -> list[str]:
    """How many seeds, which test, over which unit."""
    tests = [t for t in reading.result.tests if t.metric == metric and t.p is not None]
    told = f"This rests on {count(seeds, 'seed')}"
    if not tests:
        why = "one seed gives no spread to judge by" if seeds == 1 else "the record holds no usable test"
        return [f"{told}; {why}."]
    kinds = dict.fromkeys((t.test, t.unit) for t in tests)
    used, about = [], []
    for name, unit in kinds:
        n = [t.n for t in tests if (t.test, t.unit) == (name, unit)]
        counted, claim = UNITS.get(unit, (f"units of the kind '{unit}'", ""))
        used.append(f"{name} test over {span(n)} {counted}")
        about += [f"It speaks about {claim}."] if claim else []
    return [f"{told}: {'; '.join(used)}, Holm-corrected at the 5 % level.", *about]


def _caveats(reading: Reading, winners: Sequence[str]) -> list[str]:
    """What a reader must know before repeating the finding."""
    said = []
    baseline = reading.baseline
    base_rows = max((r.unbiased_rows for r in reading.runs(baseline)), default=0) if baseline else 0
    richer = [m for m in winners if max((r.unbiased_rows for r in reading.runs(m)), default=0) > base_rows]
    if richer and baseline is not None:
        who, few = names(richer), "none" if base_rows == 0 else f"{base_rows:,}"
        rows = span([r.unbiased_rows for m in richer for r in reading.runs(m)])
        fair = f" The comparison on equal data is {reading.combined}." if reading.combined else ""
        said.append(f"{who} used {rows} unbiased rows and {baseline} {few}.{fair}")
    if reading.headline is not None and _suffix(reading.headline) == "biased":
        said.append(
            "There is no unbiased test: these numbers say how well the biased log is predicted, "
            "not how well users' tastes are."
        )
    return said


# --------------------------------------------------------------------------------------- leaderboard
def leaderboard(result: Result) -> Table:
    """The leaderboard as a rich table of at most 100 columns, best first by the headline metric.

    Cells are mean ± half the 95 % interval and the letters of significance. As many metrics as fit are shown, in
    their order; the caption counts the others.
    """
    from rich.console import Console
    from rich.measure import Measurement

    reading = Reading(result)
    metrics = [m for m in reading.group(None) if m in {s.metric for s in result.summary}]
    metrics += [m for m in reading.group("truth") if m in {s.metric for s in result.summary}]
    console = Console(width=10 * WIDTH)
    for n in range(len(metrics), -1, -1):
        table = _table(reading, metrics[:n], len(reading.metrics) - n)
        if n <= 1 or Measurement.get(console, console.options, table).maximum <= WIDTH:
            return table
    raise AssertionError("unreachable: a table without metrics is returned above")


def _table(reading: Reading, metrics: Sequence[str], left_out: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    several = len(reading.settings) > 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, caption_justify="left", caption_style="dim")
    table.title = Text(f"{reading.result.dataset}: {count(reading.seeds(), 'seed')}")
    notes = ["mean ± half the 95 % interval"]
    if any(reading.letters(m, x) for m in reading.methods for x in metrics):
        notes.append("methods that share a letter are not distinguishable")
    if left_out:
        notes.append(f"{count(left_out, 'further metric')} in the JSON and the report")
    table.caption = Text("; ".join(notes) + ".")
    if several:
        table.add_column("setting", overflow="fold", max_width=24)
    table.add_column("method", overflow="fold", max_width=32)
    for metric in metrics:
        head, slash, tail = metric.partition("/")
        arrow = "↑" if higher_is_better(metric) else "↓"
        table.add_column(Text(f"{head} {arrow}\n{slash}{tail}"), justify="right", overflow="fold", no_wrap=True)
    table.add_column("s / fit", justify="right", no_wrap=True)
    table.add_column(Text("unbiased\nrows"), justify="right", no_wrap=True)
    for setting in reading.settings:
        for turn, method in enumerate(reading.order(reading.headline, setting)):
            runs = reading.runs(method, setting)
            row = [Text(described(setting) if turn == 0 else "")] if several else []
            row.append(Text(method, style="bold" if turn == 0 else ""))
            for metric in metrics:
                row.append(_cell(reading, method, metric, setting))
            row.append(Text(seconds(runs)))
            row.append(Text(span([r.unbiased_rows for r in runs])))
            table.add_row(*row, end_section=several and turn == len(reading.methods) - 1)
    return table


def _cell(reading: Reading, method: str, metric: str, setting: Setting) -> Any:
    from rich.text import Text

    row, d = reading.summary(method, metric, setting), reading.digits(metric)
    if row is None or row.mean is None:
        return Text(NONE, style="dim")
    cell = Text(number(row.mean, d), style="bold" if row.mean == reading.best(metric, setting) else "")
    width = half(row)
    if width is not None:
        cell.append(f" ±{number(width, d)}", style="not bold dim")
    if letters := reading.letters(method, metric):
        cell.append(f" {letters}", style="not bold cyan")
    return cell


def seconds(runs: Sequence[Run]) -> str:
    """Mean seconds of a fit, with two significant digits below 10."""
    if not runs:
        return NONE
    mean = statistics.fmean(r.seconds for r in runs)
    return f"{mean:,.0f}" if mean >= 10 else f"{mean:.1f}" if mean >= 1 else f"{mean:.2f}"


# ------------------------------------------------------------------------------------------ glossary
_METRICS = {
    "auc": "Share of (positive, negative) test pairs that the method puts in the right order, over all pairs at "
    "once and not user by user; 0.5 is what chance gets.",
    "mse": "Mean squared distance between predicted and true outcome.",
    "logloss": "Mean cross-entropy of the predicted probability, in nats.",
    "ece": "Expected calibration error: mean distance between predicted probability and observed share, over bins.",
    "recall": "Of a user's positives, the share found among the first {k} of the list; mean over users.",
    "recall_capped": "Hits among the first {k} of the list over min({k}, positives), so that 1 can be reached by a "
    "user with more than {k} positives; mean over users.",
    "ndcg": "Hits among the first {k} of the list, each worth 1 / log2(rank + 1), over the best such sum that the "
    "user allows; mean over users.",
}
_SUFFIXES = {
    "shown": "“/shown”: the list ranks the user's own test items only.",
    "full": "“/full”: every item counts but those that the method was given for that user.",
    "leaked": "“/leaked”: the same fitted models on the test part with those pairs kept that stand in the biased "
    "training log too; plain names leave these pairs out.",
    "truth": "“/truth”: judged against the simulator's true expected outcome, over all pairs not in training.",
    "biased": "“/biased”: measured on held-out rows of the biased log, for want of an unbiased test.",
}


def meaning(metric: str) -> str:
    """What a metric's name says, in sentences."""
    head, *suffixes = metric.split("/")
    base, _, k = head.partition("@")
    told = _METRICS.get(base, "Not a metric of this library: its maker defines it.").format(k=k or "K")
    better = "Higher is better." if higher_is_better(metric) else "Lower is better."
    return " ".join([told, *(_SUFFIXES[s] for s in suffixes if s in _SUFFIXES), better])


RULES = {
    "Ties": "Candidates with equal scores are taken in random order and the value is the mean over these orders, "
    "computed exactly; in AUC a tie counts half. A constant score gets what chance gets.",
    "Users without a positive": "have no recall and no NDCG: they are left out of the mean and counted.",
    "Intervals": "are 95 % intervals. Two that overlap may still belong to methods that differ: the tests are "
    "paired, so read the differences.",
    "Letters": "Two methods share a letter exactly if no significant difference was shown between them on that "
    "metric, after Holm's correction at the 5 % level.",
    "p, p (Holm)": "the two-sided p-value of one comparison alone, and the same corrected for the number of "
    "comparisons made.",
    "Effect size": "Cohen's d_z: mean of the paired differences over their standard deviation.",
    "Unbiased rows": "distinct randomised ratings that a run used for anything: training, propensities, stopping "
    "or selection.",
}


def _suffix(metric: str) -> str:
    return metric.rpartition("/")[2] if "/" in metric else ""


def _key(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True, default=str)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


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
