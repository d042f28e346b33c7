"""What a data set holds, and which rules for doubtful rows are in force: printed by `data describe`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from deconrec.data.context import BUCKETS, RARE
from deconrec.data.dataset import Dataset, Features, Log, Task
from deconrec.data.impressions import leaks_of, raw_weight
from deconrec.data.leaks import LEAK

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

MAX_LEVELS = 20  # more distinct ratings than this are shown in bins
IMPRESSION_RULES = (
    "A pair may stand in any number of impressions.",
    "Clicks are 0 or 1; conversions are 0 or 1 where clicked, empty or 0 elsewhere; a conversion without a click, or a "
    "log where nothing or everything was clicked, is an error.",
    "Rows of the unbiased and test logs without a click: left out, and counted.",
    f"Context: an empty value has an embedding (or an indicator) of its own; categories with fewer than {RARE} rows, "
    f"and those that come later, share {BUCKETS} embeddings a column by a hash.",
    f"A context column that alone predicts a label with AUC {LEAK:g} or more: a warning.",
)
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class LogFacts:
    """Facts of one log.

    Attributes
    ----------
    rows: number of rows.
    positives: share of rows that count as a positive, or None where the task does not say.
    mean: mean rating, None for no rows.
    per_user, per_item: least, quartiles and most rows of those that have any; empty for no rows.
    silent_users, silent_items: users and items of the vocabulary without a row.
    timestamps: (first, last), or None.
    """

    rows: int
    positives: float | None
    mean: float | None
    per_user: tuple[float, ...]
    per_item: tuple[float, ...]
    silent_users: int
    silent_items: int
    timestamps: tuple[int, int] | None


@dataclass(frozen=True)
class Description:
    """What a data set holds. Prints as tables with rich; `to_dict` is JSON without NaN.

    Attributes
    ----------
    name, n_users, n_items, fingerprint: of the data set.
    density: rows of the biased log over all pairs.
    outcome: the rule that makes the outcome, as a sentence.
    protocol: "pairs" or "users".
    logs: facts by log, "biased" first.
    histogram: (rating or bin, share by log), from low to high.
    features: (side, number of columns, ids without features).
    shared_pairs: pairs that stand in two logs, by "biased and unbiased" and the like.
    impressions: of a log of impressions, its facts by name (`impression_facts`); empty for pairs.
    notes: what the rules did to this data.
    rules: every rule for doubtful rows that is in force.
    """

    name: str
    n_users: int
    n_items: int
    fingerprint: str
    density: float
    outcome: str
    protocol: str
    logs: Mapping[str, LogFacts]
    histogram: tuple[tuple[str, Mapping[str, float]], ...]
    features: tuple[tuple[str, int, int], ...]
    shared_pairs: Mapping[str, int]
    notes: tuple[str, ...]
    rules: tuple[str, ...]
    impressions: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The description as plain values, ready for JSON."""
        return {
            "name": self.name,
            "users": self.n_users,
            "items": self.n_items,
            "fingerprint": self.fingerprint,
            "density": self.density,
            "outcome": self.outcome,
            "protocol": self.protocol,
            "logs": {
                who: {
                    "rows": facts.rows,
                    "positives": facts.positives,
                    "mean": facts.mean,
                    "rows_per_user": _quantile_names(facts.per_user),
                    "rows_per_item": _quantile_names(facts.per_item),
                    "users_without_row": facts.silent_users,
                    "items_without_row": facts.silent_items,
                    "timestamps": None if facts.timestamps is None else list(facts.timestamps),
                }
                for who, facts in self.logs.items()
            },
            "ratings": [{"rating": label} | dict(shares) for label, shares in self.histogram],
            "features": [
                {"side": side, "columns": columns, "missing": missing}
                for side, columns, missing in self.features
            ],
            "shared_pairs": dict(self.shared_pairs),
            "notes": list(self.notes),
            "rules": list(self.rules),
        } | ({"impressions": dict(self.impressions)} if self.impressions else {})

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Tables for a terminal."""
        from rich.markup import escape
        from rich.table import Table

        yield f"[bold]{escape(self.name)}[/bold]: {self.n_users:,} users x {self.n_items:,} items"
        shown = self.impressions
        if shown:
            yield (
                f"{shown['rows']:,} impressions, {shown['clicks']:,} clicks ({shown['click_rate']:.2%}), "
                f"{shown['conversions']:,} conversions ({shown['conversion_rate']:.2%} of clicks)"
            )
            yield from _context_table(shown)
        else:
            yield f"density of the biased log {self.density:.4%}; {escape(self.outcome)}"
        table = Table("", *self.logs, title="Logs", title_justify="left")
        for label, cells in self._log_rows():
            table.add_row(label, *cells)
        yield table
        ratings = Table("rating", *self.logs, title="Ratings, share of rows", title_justify="left")
        for label, shares in self.histogram:
            ratings.add_row(label, *(f"{shares[who]:.1%}" for who in self.logs))
        yield ratings
        for side, columns, missing in self.features:
            yield f"{side} features: {columns} columns, {missing:,} {side}s without"
        for pair, count in self.shared_pairs.items():
            yield f"pairs in {pair}: {count:,}"
        for title, lines in (("Notes", self.notes), ("Rules in force", self.rules)):
            yield f"[bold]{title}[/bold]"
            for line in lines or ("none",):
                yield f"- {escape(line)}"
        yield f"fingerprint {self.fingerprint}"

    def _log_rows(self) -> Iterator[tuple[str, list[str]]]:
        facts = list(self.logs.values())
        yield "rows", [f"{f.rows:,}" for f in facts]
        yield "positives", ["-" if f.positives is None else f"{f.positives:.1%}" for f in facts]
        yield "mean rating", ["-" if f.mean is None else f"{f.mean:.3f}" for f in facts]
        yield "rows of a user (min, quartiles, max)", [_numbers(f.per_user) for f in facts]
        yield "rows of an item (min, quartiles, max)", [_numbers(f.per_item) for f in facts]
        yield "users without a row", [f"{f.silent_users:,}" for f in facts]
        yield "items without a row", [f"{f.silent_items:,}" for f in facts]
        if any(f.timestamps for f in facts):
            yield (
                "timestamps",
                ["-" if f.timestamps is None else "{} to {}".format(*f.timestamps) for f in facts],
            )


def describe(data: Dataset) -> Description:
    """The description of a data set."""
    logs = {"biased": data.biased, "unbiased": data.unbiased, "test": data.test}
    present = {who: log for who, log in logs.items() if log is not None}
    sides = (("user", data.user_features), ("item", data.item_features))
    return Description(
        name=data.name,
        n_users=data.n_users,
        n_items=data.n_items,
        fingerprint=data.fingerprint,
        density=data.density,
        outcome=_outcome(data),
        protocol=data.task.protocol,
        logs={who: _log_facts(log, data) for who, log in present.items()},
        histogram=_histogram(present),
        features=tuple((side, len(f.names), int(f.missing.sum())) for side, f in sides if f is not None),
        shared_pairs={} if data.impressions is not None else _shared_pairs(present, data.n_items),
        notes=data.notes,
        rules=rules(data),
        impressions={} if data.impressions is None else impression_facts(data),
    )


def impression_facts(data: Dataset) -> dict[str, Any]:
    """Facts of a log of impressions: rows, clicks, conversions, their rates (by weight), context columns, leaks."""
    shown = data.impressions
    assert shown is not None
    schema, context = shown.schema, shown.context
    columns: list[dict[str, Any]] = [
        {
            "name": c.name,
            "kind": "category",
            "values": len(c.values),
            "rare": int((~c.common).sum()),
            "missing": int((context.codes[:, k] < 0).sum()),
        }
        for k, c in enumerate(schema.categories)
    ]
    columns += [
        {
            "name": n.name,
            "kind": "number",
            "mean": n.mean,
            "std": n.std,
            "missing": int(np.isnan(context.numbers[:, k]).sum()),
        }
        for k, n in enumerate(schema.numbers)
    ]
    clicked = shown.clicked
    return {
        "rows": len(shown),
        "clicks": len(clicked),
        "conversions": int(clicked.rating.sum()),
        "click_rate": shown.click_rate,
        "conversion_rate": float(np.average(clicked.rating, weights=raw_weight(clicked))),
        "weighted": shown.log.weight is not None,
        "context": columns,
        "leaks": [{"column": x.column, "label": x.label, "auc": x.auc} for x in leaks_of(data)],
    }


def _context_table(shown: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.table import Table

    if not shown["context"]:
        yield "no context: user and item are the only features"
        return
    table = Table("context", "kind", "values", "missing", title="Context", title_justify="left")
    for c in shown["context"]:
        values = (
            f"mean {c['mean']:.4g}, deviation {c['std']:.4g}"
            if c["kind"] == "number"
            else f"{c['values']:,}" + (f", {c['rare']:,} of them rare" if c["rare"] else "")
        )
        table.add_row(c["name"], c["kind"], values, f"{c['missing']:,}")
    yield table
    for leak in shown["leaks"]:
        yield f"leak: '{leak['column']}' alone predicts the {leak['label']} (AUC {leak['auc']:.3f})"


def rules(data: Dataset) -> tuple[str, ...]:
    """Every rule for doubtful rows, as it is in force for this data set."""
    task = data.task
    if data.impressions is not None:
        return IMPRESSION_RULES
    repeated = {
        "error": "an error",
        "last": "the last one counts (by timestamp where there is one, else by row)",
        "mean": "the mean rating counts",
    }[data.duplicates]
    span = "no range was given: any finite rating is taken"
    if task.rating_range is not None:
        span = "a rating outside [{:g}, {:g}] is an error".format(*task.rating_range)
    return (
        f"Repeated (user, item) pairs of one log: {repeated}.",
        f"Ratings out of range: {span}.",
        "Null, NaN or infinite ratings, empty ids, empty timestamps: an error; an unrated pair has no row (unrated = "
        "'drop' leaves rows without a rating out, and counts them).",
        "Ids seen only in the unbiased log, the test log or a features table: kept, and counted.",
        f"Users or items without features: {_gap_rule(data.user_features, data.item_features)}.",
        "Pairs that stand in both logs: kept here; every split drops them from U, V and test, and metrics "
        "named '/leaked' keep them in the test.",
        "A zero rating is a rating: only a row in a log makes a pair observed.",
    )


def _gap_rule(*features: Features | None) -> str:
    if all(f is None for f in features):
        return "there are no features"
    return "the column means, counted; a gap in a category is a row of zeros"


def _outcome(data: Dataset) -> str:
    task: Task = data.task
    if task.binarize is not None:
        return f"outcome: rating >= {task.binarize:g} is 1, else 0"
    scale = data.outcome_scale
    kept = f"outcome: the rating, on [{scale.low:g}, {scale.high:g}]"
    return kept if task.relevant is None else f"{kept}; rating >= {task.relevant:g} is a positive"


def _log_facts(log: Log, data: Dataset) -> LogFacts:
    per_user = np.bincount(log.user, minlength=data.n_users)
    per_item = np.bincount(log.item, minlength=data.n_items)
    known = data.task.binarize is not None or data.task.relevant is not None or data.outcome_scale.binary
    stamps = log.timestamp if log.timestamp is not None and len(log) else None
    return LogFacts(
        rows=len(log),
        positives=float(data.positive(log.rating).mean()) if known and len(log) else None,
        mean=float(log.rating.mean(dtype=np.float64)) if len(log) else None,
        per_user=_spread(per_user),
        per_item=_spread(per_item),
        silent_users=int((per_user == 0).sum()),
        silent_items=int((per_item == 0).sum()),
        timestamps=None if stamps is None else (int(stamps.min()), int(stamps.max())),
    )


def _spread(counts: np.ndarray) -> tuple[float, ...]:
    some = counts[counts > 0]
    return tuple(float(q) for q in np.quantile(some, QUANTILES)) if len(some) else ()


def _histogram(logs: Mapping[str, Log]) -> tuple[tuple[str, Mapping[str, float]], ...]:
    """Shares of every rating, or of bins between the deciles of the biased log."""
    levels = np.unique(np.concatenate([log.rating for log in logs.values()]))
    if len(levels) <= MAX_LEVELS:
        labels = [f"{level:g}" for level in levels]
        place = {who: np.searchsorted(levels, log.rating) for who, log in logs.items()}
    else:
        edges = np.unique(np.quantile(logs["biased"].rating, np.linspace(0.1, 0.9, 9)))
        ends = [f"{edge:.4g}" for edge in edges]
        labels = [
            f"< {ends[0]}",
            *(f"{a} to {b}" for a, b in pairwise(ends)),
            f">= {ends[-1]}",
        ]
        place = {who: np.searchsorted(edges, log.rating, side="right") for who, log in logs.items()}
    shares = {
        who: np.bincount(place[who], minlength=len(labels)) / max(len(log), 1) for who, log in logs.items()
    }
    return tuple((label, {who: float(s[k]) for who, s in shares.items()}) for k, label in enumerate(labels))


def _shared_pairs(logs: Mapping[str, Log], n_items: int) -> dict[str, int]:
    names = list(logs)
    pairs = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
    keys = {who: log.key(n_items) for who, log in logs.items()} if pairs else {}
    return {f"{a} and {b}": int(np.isin(keys[b], keys[a]).sum()) for a, b in pairs}


def _quantile_names(values: tuple[float, ...]) -> dict[str, float] | None:
    return dict(zip(("min", "q25", "median", "q75", "max"), values, strict=True)) if values else None


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in values) if values else "-"
