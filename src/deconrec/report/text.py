"""A result in words: the verdict, the leaderboard of the terminal, and what each metric means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deconrec.experiments.results import Result, Setting, higher_is_better
from deconrec.report.reading import (
    COMBINED,
    NAIVE,
    NONE,
    Outcome,
    Reading,
    count,
    half,
    interval,
    names,
    number,
    seconds,
    span,
    suffix,
)

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100  # columns of a terminal that the leaderboard fits

NOT_ACCURACY = ("arp", "aplt", "coverage", "gini")  # no end of these is the better one in itself
UNITS = {  # unit of a test: (what was counted, what the test speaks about)
    "user": ("users, pooled over seeds", "other users of these fitted models, not about models fitted anew"),
    "split": ("random splits of one data set", "other splits of this data set, not about other data"),
    "seed": ("seeds", "other seeds on this data set, not about other data"),
    "world": ("freshly simulated worlds", "other worlds of this simulator, not about real data"),
}


# ------------------------------------------------------------------------------------------- verdict
def verdict(result: Result) -> str:
    """What the tests allow to be said, in plain sentences; the first one is the finding."""
    return " ".join(sentences(Reading(result)))


def sentences(reading: Reading) -> list[str]:
    """The verdict, sentence by sentence: the finding first, then what it rests on and what limits it."""
    metric, baseline = reading.headline, reading.baseline
    if metric is None or baseline is None:
        return ["No metric could be computed, so there is nothing to compare."]
    seeds = reading.seeds
    if len(reading.methods) == 1:
        row = reading.summary(baseline, metric, reading.settings[0])
        d = reading.digits(metric)
        value = number(row.mean if row else None, d)
        between = f" (95 % interval {interval(row, d)})" if row and row.low is not None else ""
        alone = f"Only {baseline} was run: its {metric} is {value}{between}, and nothing stands beside it."
        return [alone, f"It rests on {count(seeds, 'seed')}.", *_caveats(reading, [])]

    against = [b for b in (baseline, reading.combined) if b is not None]
    found: list[str] = []
    outcomes: list[Outcome] = []
    for turn, other in enumerate(against):
        rest = [m for m in reading.order(metric, reading.settings[0]) if m != other]
        told = {m: [reading.outcome(m, other, metric, s) for s in reading.settings] for m in rest}
        outcomes += [o for each in told.values() for o in each]
        found.append(_finding(reading, metric, other, told, again=turn > 0))
    lead = (
        ["There is no unbiased test, so that whether debiasing helps cannot be told."]
        if suffix(metric) == "biased"
        else []
    )
    said = [*lead, *found, *_elsewhere(reading, metric, baseline), *_evidence(reading, metric, seeds)]
    if {"open", "untested"} & set(outcomes):
        said.append("Where no difference was shown, that is not evidence that the methods are equal.")
    winners = [
        m
        for m in reading.methods
        if any(reading.outcome(m, baseline, metric, s) == "better" for s in reading.settings)
    ]
    return said + _caveats(reading, winners)


def _finding(
    reading: Reading, metric: str, other: str, told: Mapping[str, Sequence[Outcome]], again: bool
) -> str:
    """One sentence on every method against one other; `again` where it is not the first such sentence."""
    who, n = _called(other), len(reading.settings)
    everywhere = {o for each in told.values() for o in each}
    untested = [m for m, each in told.items() if set(each) == {"untested"}]
    if everywhere == {"untested"}:
        if again:
            return f"No difference from {who} could be tested."
        best = reading.order(metric, reading.settings[0])[0]
        value = number(reading.mean(best, metric, reading.settings[0]), reading.digits(metric))
        lead = f"{best} has the best mean {metric} ({value}), but no" if n == 1 else "No"
        return f"{lead} difference from {who} could be tested{'' if n == 1 else f' on {metric}'}."
    if everywhere <= {"open", "untested"}:
        alone = next(iter(told)) if len(told) == 1 else None
        place = f" at any of the {n} settings of {names(reading.dials)}" if n > 1 else ""
        tail = f"{place}; {names(untested)} could not be tested." if untested else f"{place}."
        subject = f"{alone} is not" if alone else "No method is"
        return f"{subject} distinguishable from {who}{'' if again else f' on {metric}'}{tail}"
    start, than = (f"Against {who}, ", "") if again else ("", f" than {who} on {metric}")
    nobody = "no method" if again else "No method"
    parts = [
        _group(reading, "better", told, than) or f"{nobody} is significantly better{than}",
        _group(reading, "worse", told, ""),
    ]
    if n == 1:
        still = [m for m, each in told.items() if each[0] == "open"]
        parts.append(f"no difference was shown for {names(still)}" if still else "")
    parts.append(f"{names(untested)} could not be tested" if untested else "")
    return f"{start}{'; '.join(part for part in parts if part)}."


def _elsewhere(reading: Reading, headline: str, baseline: str) -> list[str]:
    """A sentence on further metrics of accuracy where the tests say something else than on the headline."""
    if len(reading.settings) > 1:
        return []
    setting = reading.settings[0]
    others = [m for m in reading.group(None) if m != headline and m.partition("@")[0] not in NOT_ACCURACY]
    parts: list[str] = []
    for word in ("better", "worse"):
        told: dict[tuple[str, ...], list[str]] = {}
        for method in reading.order(headline, setting):
            if method == baseline or reading.outcome(method, baseline, headline, setting) == word:
                continue
            where = tuple(m for m in others if reading.outcome(method, baseline, m, setting) == word)
            if where:
                told.setdefault(where, []).append(method)
        parts += [
            f"{names(who)} {'is' if len(who) == 1 else 'are'} significantly {word} than {_called(baseline)} on "
            f"{names(where)}"
            for where, who in told.items()
        ]
    return [f"Other metrics say otherwise: {'; '.join(parts)}."] if parts else []


def _group(reading: Reading, word: Outcome, told: Mapping[str, Sequence[Outcome]], than: str) -> str:
    """A phrase like "a and b are significantly better than c"; over several settings with their number."""
    often = {m: n for m, each in told.items() if (n := each.count(word))}
    if not often:
        return ""
    n = len(reading.settings)
    ranked = sorted(often, key=lambda m: -often[m])
    of = f" settings of {names(reading.dials)}" if than else " settings"
    who = [
        f"{m} (at {often[m]} of {n}{of if at == 0 else ''})" if n > 1 else m for at, m in enumerate(ranked)
    ]
    return f"{names(who)} {'is' if len(who) == 1 else 'are'} significantly {word}{than}"


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
    richer = [
        m
        for m in winners
        if m != reading.combined and max((r.unbiased_rows for r in reading.runs(m)), default=0) > base_rows
    ]
    if richer and baseline is not None:
        who, few = names(richer), "none" if base_rows == 0 else f"{base_rows:,}"
        rows = span([r.unbiased_rows for m in richer for r in reading.runs(m)])
        fair = f"; {reading.combined} is MF that was given them too" if reading.combined else ""
        said.append(f"{who} used {rows} unbiased rows and {baseline} {few}{fair}.")
    if reading.headline is not None and suffix(reading.headline) == "biased":
        said.append(
            "These numbers say how well the biased log is predicted, not how well users' tastes are: a method that "
            "corrects the log's bias is expected to lose."
        )
    return said


# --------------------------------------------------------------------------------------- leaderboard
def leaderboard(result: Result) -> Table:
    """The leaderboard as a rich table of at most 100 columns, best first by the headline metric.

    Cells are mean ± half the 95 % interval and the letters of significance. As many metrics as fit are shown,
    in their order; the caption counts the others.
    """
    from rich.console import Console
    from rich.measure import Measurement

    reading = Reading(result)
    metrics = [*reading.group(None), *reading.group("truth")]
    console = Console(width=10 * WIDTH)
    table = _table(reading, metrics)
    while len(metrics) > 1 and Measurement.get(console, console.options, table).maximum > WIDTH:
        metrics.pop()
        table = _table(reading, metrics)
    return table


def _table(reading: Reading, metrics: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    several = len(reading.settings) > 1
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, caption_justify="left", caption_style="dim"
    )
    table.title = Text(f"{reading.result.dataset}: {count(reading.seeds, 'seed')}")
    notes = ["mean ± half the 95 % interval"]
    if any(reading.letters(m, x) for m in reading.methods for x in metrics):
        notes.append("methods that share a letter are not distinguishable")
    if left_out := len(reading.metrics) - len(metrics):
        notes.append(f"{count(left_out, 'further metric')} in the JSON and the report")
    table.caption = Text("; ".join(notes) + ".")
    if several:
        table.add_column("setting", overflow="fold", max_width=24)
    table.add_column("method", overflow="fold", max_width=32)
    for metric in metrics:
        head, slash, tail = metric.partition("/")
        arrow = "↑" if higher_is_better(metric) else "↓"
        table.add_column(
            Text(f"{head} {arrow}\n{slash}{tail}"), justify="right", overflow="fold", no_wrap=True
        )
    sized = _sized(reading)
    if sized:
        table.add_column(Text(f"effect size\nover {reading.baseline}", overflow="ellipsis"), justify="right")
    table.add_column("s / fit", justify="right", no_wrap=True)
    table.add_column(Text("unbiased\nrows"), justify="right", no_wrap=True)
    for setting in reading.settings:
        for turn, method in enumerate(reading.order(reading.headline, setting)):
            runs = reading.runs(method, setting)
            row = [Text(reading.place(setting) if turn == 0 else "")] if several else []
            row.append(Text(method, style="bold" if turn == 0 else ""))
            for metric in metrics:
                row.append(_cell(reading, method, metric, setting))
            if sized:
                row.append(_effect(reading, method, setting))
            row.append(Text(seconds(runs)))
            row.append(Text(span([r.unbiased_rows for r in runs])))
            table.add_row(*row, end_section=several and turn == len(reading.methods) - 1)
    return table


def _sized(reading: Reading) -> bool:
    """Whether there is an effect size of the headline metric against the baseline."""
    tests = (t for t in reading.result.tests if t.metric == reading.headline)
    return any(reading.baseline in (t.a, t.b) and t.effect_size is not None for t in tests)


def _effect(reading: Reading, method: str, setting: Setting) -> Any:
    """Cohen's d_z of the method over the baseline, on the headline metric."""
    from rich.text import Text

    if method == reading.baseline or reading.baseline is None or reading.headline is None:
        return Text("", style="dim")
    test = reading.test(method, reading.baseline, reading.headline, setting)
    if test is None or test.effect_size is None:
        return Text(NONE, style="dim")
    return Text(f"{test.effect_size:+.1f}")


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


# ------------------------------------------------------------------------------------------ glossary
_METRICS = {
    "auc": "Share of (positive, negative) test pairs that the method puts in the right order, over all "
    "pairs at once and not user by user; 0.5 is what chance gets.",
    "mse": "Mean squared distance between predicted and true outcome.",
    "r2": "Share of the variance of the true hidden confounder that the method's substitute explains: R^2 of a linear "
    "map found on training users, on users that were held out; only simulators know it.",
    "logloss": "Mean cross-entropy of the predicted probability, in nats.",
    "ece": "Expected calibration error: mean distance between predicted probability and observed share, over "
    "bins.",
    "recall": "Of a user's positives, the share found among the first {k} of the list; mean over users.",
    "recall_capped": "Hits among the first {k} of the list over min({k}, positives), so that a user with "
    "more than {k} positives can reach 1; mean over users.",
    "ndcg": "Hits among the first {k} of the list, each worth 1 / log2(rank + 1), over the best such sum "
    "that the user allows; mean over users.",
    "arp": "Average recommendation popularity: mean number of biased training ratings of the first {k} items of a "
    "list. Lower is less bound to what is popular already, and not better in itself.",
    "aplt": "Share of the first {k} items of a list that belong to the long tail: all but the fifth of the items with "
    "the most biased training ratings; mean over users.",
    "coverage": "Share of all items that stand among the first {k} of somebody's list.",
    "gini": "Gini index of how often each item is recommended: 0 where all are equally often, towards 1 where one item "
    "takes every place.",
}
_SUFFIXES = {
    "shown": "The list ranks the user's own test items only.",
    "full": "Every item counts but those that the method was given for that user.",
    "leaked": "The same fitted models on the test part with those pairs kept that stand in the biased "
    "training log too; plain names leave these pairs out.",
    "truth": "Judged against the simulator's true expected outcome, over all pairs not in training.",
    "cold-users": "Users with few biased training ratings: at most 5, or the fifth with the fewest.",
    "cold-items": "Items with few biased training ratings: at most 5, or the fifth with the fewest; of a ranking "
    "metric, positives among them are to be found, with every item as a rival.",
    "biased": "Measured on held-out rows of the biased log, for want of an unbiased test.",
}


def glossary(metrics: Iterable[str]) -> list[tuple[str, str]]:
    """What the metrics' names say: each base name once, then each suffix once."""
    parts = [(metric.partition("/")[0], metric.split("/")[1:]) for metric in metrics]
    told = []
    for head in dict.fromkeys(head for head, _ in parts):
        base, _, k = head.partition("@")
        says = _METRICS.get(base, "Not a metric of this library: its maker defines it.").format(k=k or "K")
        told.append((head, f"{says} {'Higher' if higher_is_better(head) else 'Lower'} is better."))
    suffixes = dict.fromkeys(suffix for _, found in parts for suffix in found)
    return told + [(f"…/{suffix}", _SUFFIXES[suffix]) for suffix in suffixes if suffix in _SUFFIXES]


RULES = {
    "Ties": "Candidates with equal scores are taken in random order and the value is the mean over these "
    "orders, computed exactly; in AUC a tie counts half. A constant score gets what chance gets.",
    "Users without a positive": "They have no recall and no NDCG: they are left out of the mean and counted.",
    "Intervals": "They hold at 95 %, for one mean alone. Where two overlap, the methods may still differ: "
    "the tests are paired, so read the differences.",
    "Letters": "Two methods share a letter exactly if no significant difference was shown between them on "
    "that metric, after Holm's correction at the 5 % level.",
    "p, p (Holm)": "The two-sided p-value of one comparison alone, and the same corrected for the number of "
    "comparisons made.",
    "Effect size": "Cohen's d_z: mean of the paired differences over their standard deviation.",
    "Unbiased rows": "Distinct randomised ratings that a run used for anything: training, propensities, "
    "stopping or selection.",
}
