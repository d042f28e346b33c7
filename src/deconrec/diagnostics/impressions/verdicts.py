"""Verdicts of the doctor of impression logs: each looks at one thing, and says what it cannot see whatever it says.

Codes are anchors of docs/diagnostics.md. What `diagnostics.verdicts` says of pairs is said here of impressions: a log
of clicks alone does not reveal hidden confounding of click and conversion, however well pCTR is calibrated
[Jeunen2023].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deconrec.diagnostics import verdicts as of_pairs
from deconrec.diagnostics.balance import Covariate
from deconrec.diagnostics.confounding import Confounding
from deconrec.diagnostics.evidence import Evidence
from deconrec.diagnostics.impressions.labels import FEWEST, WITHIN, Clicks
from deconrec.diagnostics.impressions.rates import Rate
from deconrec.diagnostics.propensities import Propensities
from deconrec.diagnostics.randomised import Randomised
from deconrec.diagnostics.result import Verdict
from deconrec.diagnostics.verdicts import FAR, WEAK, p_in_words

STRONG = 0.9  # NOTE AUC of one column that deserves a look though it is below that of a leak


def rates(c: Clicks) -> Verdict:
    """How often impressions are clicked and clicks convert, and what nobody saw."""
    r = c.rates
    said = (
        f"{_rate(r.click)} of {r.click.rows:,} impressions are clicked, and {_rate(r.conversion)} of the "
        f"{r.conversion.rows:,} clicks convert. Of the other {1 - r.click.value:.1%} of the impressions nobody knows "
        "whether they would have: with nothing assumed of them, the mean pCVR over all impressions may be anything "
        f"from {r.least:.3f} to {r.most:.3f}."
    )
    if max(r.silent_users, r.silent_items) >= 0.005:
        said += (
            f" {r.silent_users:.0%} of the users and {r.silent_items:.0%} of the items have no click: of these "
            "the context alone says something."
        )
    return Verdict(
        "RATES",
        "unknown",
        said,
        "Impressions that were never shown; conversions that are yet to come when the log is cut; conversions without "
        "a click.",
    )


def conversions(c: Clicks) -> Verdict:
    """Whether there are enough conversions for an answer at all."""
    unseen = (
        "Whether they are enough for your context: with many columns or rare categories, it takes more. Whether one "
        "day made most of them."
    )
    n, (events, others) = c.rates.conversion.events, c.judged
    where = "the forced clicks that judge" if c.forced else "the clicks that are held out to judge"
    if c.needed is None:
        return Verdict(
            "CONVERSIONS",
            "found",
            f"{n:,} clicks converted, and among {where} there are {events:,} conversions and {others:,} other rows: no "
            "method can be judged on them.",
            unseen,
        )
    said = (
        f"{n:,} clicks converted. On {where} ({events:,} conversions, {others:,} other rows), an AUC of .7 is known to "
        f"± {c.reach:.3f}"
    )
    if c.enough:
        return Verdict(
            "CONVERSIONS",
            "not found",
            f"Enough to learn from, and to judge large differences by: {said}.",
            unseen,
        )
    few = (
        f"Too few for an answer: fewer than {FEWEST} conversions teach a model next to nothing; "
        if n < FEWEST
        else "Too few to tell methods apart: "
    )
    more = f"; for ± {WITHIN:g} it takes some {c.needed:,} conversions there" if c.reach > WITHIN else ""
    return Verdict("CONVERSIONS", "found", f"{few}{said}{more}.", unseen)


def label_leak(c: Clicks) -> Verdict:
    """Whether one column gives a label away."""
    unseen = (
        "Leaks that take two columns, a leak that half of the rows have, and one through user or item ids."
    )
    if not c.alone:
        return Verdict(
            "LABEL_LEAK", "unknown", "There is no context column, or hardly any label, to look at.", unseen
        )
    if c.leaks:
        return Verdict("LABEL_LEAK", "found", " ".join(_sentence(str(leak)) for leak in c.leaks), unseen)
    most = [max((f for f in c.alone if f.label == label), key=lambda f: f.auc) for label in _labels(c)]
    said = "; ".join(f"of the {f.label} '{f.column}', with AUC {f.auc:.3f}" for f in most)
    doubt = (
        " That is much for one column: make sure that it is known before the click."
        if any(f.auc >= STRONG for f in most)
        else ""
    )
    return Verdict(
        "LABEL_LEAK",
        "not found",
        f"No column alone gives a label away; the best predictor is, {said}.{doubt}",
        unseen,
    )


def hidden_confounding(c: Confounding) -> Verdict:
    """Whether clicked impressions convert as forced clicks do, once what is measured is accounted for."""
    if c.p is None or c.gap is None or c.low is None or c.high is None:
        return Verdict(
            "HIDDEN_CONFOUNDING",
            "unknown",
            f"Whether something hidden moves both click and conversion cannot be tested from this log: {c.why}. It "
            "takes impressions whose click was forced or drawn at random (a landing page opened for a random share of "
            "the impressions, say), with their conversions, as [unbiased]. Calibrated pCTR and balance cannot stand in "
            "for them.",
            "All of it: no log of chosen clicks tells its own hidden confounding.",
        )
    unseen = (
        "Confounders that raise some conversions as much as they lower others: their gaps cancel in the mean. "
        "Impressions that nobody would click. Whether the gap is a cause that nobody measured, or a measured one that "
        "acts in a way which columns, their products and the levels of users and items do not follow. Whether a forced "
        "click converts as a chosen one would."
    )
    said = (
        f"with {', '.join(c.measured)} accounted for, clicked impressions convert {c.gap:+.3f} more often than forced "
        f"clicks (95 % interval {c.low:+.3f} to {c.high:+.3f}, {p_in_words(c.p)})"
    )
    if c.weak:
        return Verdict(
            "HIDDEN_CONFOUNDING",
            "found",
            f"Clicks and forced clicks seem to disagree: {said}. {WEAK}, and more forced clicks would tell.",
            unseen,
        )
    if c.found:
        return Verdict(
            "HIDDEN_CONFOUNDING",
            "found",
            f"Clicks and forced clicks disagree: {said}. Who clicks knows more of the conversion than the log does.",
            unseen,
        )
    return Verdict(
        "HIDDEN_CONFOUNDING",
        "not found",
        f"No disagreement of clicks and forced clicks is shown: {said}.",
        unseen,
    )


def power(c: Confounding, e: Evidence) -> Verdict:
    """What the test could have found, beside the conversion rate."""
    unseen = "Whether smaller gaps are there, and whether a gap of this size would matter to you."
    if c.smallest is None:
        return Verdict("POWER", "unknown", "There was no test, hence no power.", unseen)
    at = ", ".join(f"{g * e.matters:.3f} with {c.power(g * e.matters):.0%}" for g in (0.5, 1, 2))
    return Verdict(
        "POWER",
        "not found" if e.enough else "found",
        f"With {c.rows:,} forced clicks the test finds a gap of {c.smallest:.3f} 4 times in 5 (gaps of {at}); "
        f"{e.matters:.3f}, a quarter of the conversion rate, is taken to matter.",
        unseen,
    )


def unbiased_log(e: Evidence) -> Verdict:
    """How many forced clicks there are."""
    unseen = "Whether the forced clicks are of the users, items and days that you will serve."
    if not e.rows:
        return Verdict(
            "UNBIASED_LOG",
            "found",
            "There are no forced or random clicks: nothing can be said of hidden confounding, and pCVR can be judged "
            f"on clicked impressions alone. Some {e.needed:,} would find a gap of {e.matters:.3f}, a quarter of the "
            "conversion rate, 4 times in 5.",
            "How biased the clicks are: nothing but forced clicks can tell.",
        )
    said = f"{e.rows:,} forced clicks of {e.users:,} users"
    goal = f"to find a gap of {e.matters:.3f} (a quarter of the conversion rate) 4 times in 5"
    if e.enough is None:
        return Verdict(
            "UNBIASED_LOG",
            "found",
            f"{said}: not enough for a test. Some {e.needed:,} would be {goal}.",
            unseen,
        )
    if e.enough:
        return Verdict("UNBIASED_LOG", "not found", f"{said}: enough {goal}.", unseen)
    return Verdict("UNBIASED_LOG", "found", f"{said}: too few {goal}; that takes some {e.needed:,}.", unseen)


def randomised_log(r: Randomised | None, e: Evidence) -> Verdict:
    """Whether forced clicks are of impressions like the log's."""
    unseen = "Clicks that were chosen for what they lead to, and not for what pCTR reads."
    if r is None:
        return Verdict(
            "RANDOMISED_LOG",
            "unknown",
            "There are no forced clicks to look at."
            if not e.rows
            else "pCTR does not differ enough between impressions to tell a forced click from a chosen one.",
            unseen,
        )
    said = (
        f"their pCTR, users' own levels left out, is {r.lean:+.2f} ± {r.error:.2f} standard deviations from that of "
        "all impressions"
    )
    if r.doubtful:
        return Verdict(
            "RANDOMISED_LOG",
            "found",
            f"The forced clicks do not look forced: {said}. Either users had their hand in them, or they are of other "
            "impressions than the log's; whatever rests on them, the test above first, is doubtful.",
            unseen,
        )
    return Verdict(
        "RANDOMISED_LOG", "not found", f"Nothing shows that the forced clicks were chosen: {said}.", unseen
    )


def weights(p: Propensities | None) -> Verdict:
    """What weights 1 / pCTR rest on."""
    unseen = "Impressions that nobody would click, which no weight brings back; whether pCTR is the true one."
    return replace(of_pairs.weights(p), cannot_see=unseen)


def calibration(p: Propensities | None) -> Verdict:
    """Whether pCTR means what it says out of fold."""
    unseen = (
        "Whether impressions of the same pCTR differ in their true chance: pCTR can be calibrated and blind to what "
        "moves click and conversion."
    )
    if p is None:
        return Verdict("CALIBRATION", "unknown", "There is no pCTR that differs.", unseen)
    d = p.calibration_dict()
    said = (
        f"calibration error {d['ece']:.4f}, {d['relative']:.0%} of the click rate, over {d['pairs']:,} impressions in "
        f"{d['folds']} folds"
    )
    if d["relative"] > FAR:
        return Verdict("CALIBRATION", "found", f"pCTR is off out of fold: {said}.", unseen)
    return Verdict(
        "CALIBRATION", "not found", f"pCTR is near observed click rates out of fold: {said}.", unseen
    )


def balanced(covariates: Sequence[Covariate]) -> Verdict:
    """Whether weights make clicked impressions look like all impressions in what is measured."""
    return of_pairs.balanced(covariates, "clicked and all impressions")


def _rate(r: Rate) -> str:
    return f"{r.value:.2%} ({r.low:.2%} to {r.high:.2%})"


def _labels(c: Clicks) -> list[str]:
    return list(dict.fromkeys(f.label for f in c.alone))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
