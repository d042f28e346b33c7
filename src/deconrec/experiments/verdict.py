"""The paper's figures beside ours: which words a cell gets, which claims hold, and what may be said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from deconrec.data.dataset import Dataset
from deconrec.evaluation import statistics
from deconrec.experiments.judge import Outcome, Unit, contrast
from deconrec.experiments.results import (
    Claimed,
    Compared,
    Contrast,
    Published,
    Summary,
    finite,
    higher_is_better,
)
from deconrec.experiments.spec import Claim, PaperPart, Setting, Spec

ALPHA = 0.05
WORDS = ("reproduced", "below", "above", "not comparable", "missing")
Found = Mapping[tuple[str, int], Outcome]


class Experiment(Protocol):
    """What a verdict reads of an experiment, be it on methods or on worlds."""

    @property
    def metrics(self) -> Sequence[str]:
        """What is measured."""

    @property
    def paper(self) -> PaperPart:
        """The paper's figures."""

    @property
    def claims(self) -> Sequence[Claim]:
        """The paper's claims."""

    @property
    def seed_numbers(self) -> Sequence[int]:
        """The seeds."""

    def methods_at(self, setting: Setting) -> Sequence[str]:
        """What is compared at a setting."""

    def tolerance_of(self, metric: str) -> float:
        """The tolerance that was declared for a metric."""


def published(spec: Experiment) -> list[Published]:
    """The paper's figures, under the plain metric's name and its twins'."""
    return [
        Published(method=method, metric=metric, setting=dict(table.setting), value=value)
        for table in spec.paper.tables
        for method, values in table.values.items()
        for plain, value in zip(table.metrics, values, strict=True)
        for metric in _twins(spec, plain)
    ]


def compared(
    spec: Experiment, setting: Setting, summary: Sequence[Summary], *, comparable: bool
) -> list[Compared]:
    """The paper's figures that speak of a setting, beside ours."""
    ours = {(s.method, s.metric): s for s in summary if s.setting == setting}
    out = []
    for figure in published(spec):
        if not within(figure.setting, setting) or figure.method not in spec.methods_at(setting):
            continue
        row, tolerance = ours.get((figure.method, figure.metric)), spec.tolerance_of(figure.metric)
        mean, low, high = (row.mean, row.low, row.high) if row else (None, None, None)
        out.append(
            Compared(
                method=figure.method,
                metric=figure.metric,
                setting=dict(setting),
                paper=figure.value,
                mean=mean,
                low=low,
                high=high,
                tolerance=tolerance,
                verdict="not comparable"
                if not comparable and mean is not None
                else cell_verdict(figure.value, mean, low, high, tolerance),
            )
        )
    return out


def cell_verdict(
    paper: float, mean: float | None, low: float | None, high: float | None, tolerance: float
) -> str:
    """The word for a figure: reproduced if in our interval widened by the tolerance, else where ours lies."""
    if mean is None:
        return "missing"
    bottom, top = (mean if low is None else low) - tolerance, (mean if high is None else high) + tolerance
    return "above" if paper < bottom else "below" if paper > top else "reproduced"


def _twins(spec: Experiment, metric: str) -> list[str]:
    return [metric, *(m for t in spec.paper.twins if (m := f"{metric}/{t}") in spec.metrics)]


def other_data(spec: Spec, data: Dataset) -> str:
    """Why the paper's figures cannot be compared; "" where they can."""
    if not spec.paper.comparable:
        return spec.paper.why or "the data are not the paper's"
    sizes = {
        "users": data.n_users,
        "items": data.n_items,
        "rows": len(data.biased),
        "unbiased_rows": 0 if data.unbiased is None else len(data.unbiased),
    }
    for what, count in sizes.items():
        wanted = getattr(spec.expect, what)
        if wanted is not None and wanted != count:
            return f"the data are not the paper's: {count:,} {what.replace('_', ' ')} instead of {wanted:,}"
    return ""


def tested_claims(
    spec: Experiment, settings: Sequence[Setting], found: Sequence[Found], units: Sequence[Unit]
) -> list[Claimed]:
    """Every claim tested, Holm-corrected over all contrasts of the experiment."""
    made: list[list[Contrast]] = []
    complete: list[bool] = []
    for claim in spec.claims:
        asked = _contrasts(claim, settings)
        done = [_tested(claim, *each, spec.seed_numbers, settings, found, units) for each in asked]
        made.append([c for c in done if c is not None])
        complete.append(bool(done) and None not in done)
    every = [
        c for claim, contrasts in zip(spec.claims, made, strict=True) if not claim.same for c in contrasts
    ]
    corrected = statistics.holm([float("nan") if c.p is None else c.p for c in every])
    for c, p in zip(every, corrected, strict=True):
        c.p_holm = finite(float(p))
    return [
        Claimed(
            says=claim.says,
            metric=claim.metric,
            verdict=(_same if claim.same else _held)(contrasts, claim.metric, whole),
            contrasts=contrasts,
        )
        for claim, contrasts, whole in zip(spec.claims, made, complete, strict=True)
    ]


def _contrasts(claim: Claim, settings: Sequence[Setting]) -> list[tuple[str, Setting, Setting]]:
    """(b, setting of a, setting of b) of a claim."""
    asked = [setting for setting in settings if within(claim.at or {}, setting)]
    return [
        (b, setting, other)
        for setting in asked
        for b in claim.against
        for other in (
            _next_below(claim.rising, setting, asked)
            if claim.rising
            else [setting | b_at for b_at in claim.b_at or [{}]]
        )
    ]


def _next_below(dial: str, setting: Setting, settings: Sequence[Setting]) -> list[Setting]:
    """The setting with the next lower value of a dial and all others the same; [] where there is none."""
    lower = [
        other
        for other in settings
        if dial in other
        and dial in setting
        and other | {dial: setting[dial]} == setting
        and float(other[dial]) < float(setting[dial])
    ]
    return [max(lower, key=lambda other: float(other[dial]))] if lower else []


def _tested(
    claim: Claim,
    b: str,
    setting_a: Setting,
    setting_b: Setting,
    seeds: Sequence[int],
    settings: Sequence[Setting],
    found: Sequence[Found],
    units: Sequence[Unit],
) -> Contrast | None:
    """One contrast, or None where runs are missing."""
    lists = []
    for method, setting in ((claim.a, setting_a), (b, setting_b)):
        if setting not in settings:
            return None
        outcomes = found[list(settings).index(setting)]
        if not all((method, s) in outcomes for s in seeds):
            return None
        lists.append([outcomes[method, s] for s in seeds])
    c = contrast(
        lists[0], lists[1], claim.metric, units[list(settings).index(setting_a)], metric_b=claim.b_metric
    )
    values = {n: getattr(c, n) for n in ("difference", "low", "high", "p", "test", "unit")}
    return Contrast(
        a=claim.a,
        b=b,
        setting_a=setting_a,
        setting_b=setting_b,
        p_holm=None,
        metric_b=claim.b_metric,
        **finite(values),
    )


def _held(contrasts: Sequence[Contrast], metric: str, complete: bool) -> str:
    if not complete:
        return "missing"
    sign = 1 if higher_is_better(metric) else -1
    told = [
        "open"
        if c.p_holm is None or c.difference is None or c.p_holm >= ALPHA
        else "for"
        if sign * c.difference > 0
        else "against"
        for c in contrasts
    ]
    if "against" in told:
        return "contradicted"
    return "shown" if all(t == "for" for t in told) else "not shown"


def _same(contrasts: Sequence[Contrast], metric: str, complete: bool) -> str:
    bounds = [(c.low, c.high) for c in contrasts if c.low is not None and c.high is not None]
    if not complete or len(bounds) < len(contrasts):
        return "missing"
    return "level" if all(low <= 0 <= high for low, high in bounds) else "contradicted"


def counts_of(cells: Sequence[Compared]) -> dict[str, int]:
    """Cells by verdict, leaked twins apart."""
    counted = Counter(c.verdict for c in cells if not c.metric.endswith("/leaked"))
    return {word: counted[word] for word in WORDS if counted[word]}


def sentences(
    spec: Experiment,
    cells: Sequence[Compared],
    claims: Sequence[Claimed],
    why: str,
    missing: Sequence[str],
    quick: bool,
) -> list[str]:
    """What became of it, the finding first."""
    counts = counts_of(cells)
    n = sum(counts.values())
    said = (
        ["This is a quick run with few seeds and epochs: nothing can be concluded from it."] if quick else []
    )
    if why and n:
        said.append(f"The {n} figures of {spec.paper.where} stand beside ours but are not judged: {why}.")
    elif n:
        parts = [f"{k} {word}" for word, k in counts.items()]
        leaked = Counter(c.verdict for c in cells if c.metric.endswith("/leaked"))
        which = " (leak-free metrics)" if leaked else ""
        said.append(
            f"Of {n} figures of {spec.paper.where}{which}: {', '.join(parts)}. 'Reproduced' means that "
            "the paper's figure lies in our 95 % interval widened by the tolerance declared beforehand; 'below' and "
            "'above' say where ours lie."
        )
        if leaked:
            each = ", ".join(f"{leaked[w]} {w}" for w in WORDS if leaked[w])
            said.append(f"With the leaked pairs kept, as in the public benchmark: {each}.")
    elif not spec.paper.where:
        said.append(
            "No paper has this: it is a study of our own" + (", whose claims were tested." if claims else ".")
        )
    elif not claims:
        said.append(f"{spec.paper.where} gives no figures that could be compared.")
    else:
        said.append(f"{spec.paper.where} gives no figures in numbers: its claims were tested.")
    said += [f"The claim '{c.says}' is {_CLAIM[c.verdict]}." for c in claims]
    if missing:
        entries = "1 entry is" if len(missing) == 1 else f"{len(missing)} entries are"
        said.append(f"Not complete: {entries} missing (listed apart).")
    return said


_CLAIM = {
    "shown": "shown: every difference is significant in its favour",
    "contradicted": "contradicted: a difference is significant against it",
    "not shown": "not shown: not every difference is significant",
    "level": "kept: every 95 % interval of the difference contains 0",
    "missing": "not tested: runs are missing",
}


def within(part: Setting, whole: Setting) -> bool:
    """Whether a setting says nothing but what the whole one says too."""
    return all(n in whole and whole[n] == v for n, v in part.items())


def words(setting: Setting) -> str:
    """A setting as "confounding=1"."""
    return ", ".join(f"{n}={shown(v)}" for n, v in setting.items())


def shown(value: object) -> str:
    """A value as it would be typed."""
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
