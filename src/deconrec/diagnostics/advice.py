"""Which methods can and cannot help with these data, why, and what to run next.

What is said of families rests on what they assume (docs/guides/choosing-a-method.md) and on the kept experiments
(docs/guides/when-debiasing-helps.md); it is never more than a reason to try. `compare` answers.
"""

from __future__ import annotations

import shlex

from deconrec.data.dataset import Dataset
from deconrec.diagnostics.confounding import Confounding
from deconrec.diagnostics.evidence import Evidence
from deconrec.diagnostics.predictive import ExposureCheck
from deconrec.diagnostics.propensities import Propensities
from deconrec.diagnostics.result import Advice
from deconrec.diagnostics.verdicts import FEW

PART = 0.25  # of the logs' difference: what weights account for, to be worth a trial
HUNDREDS = 200  # NOTE randomised rows from which residual methods were seen to gain in the kept experiments
WEIGHTED = ("ips", "snips", "dr-jl", "mrdr", "multi-ips", "multi-dr")
RESIDUAL = ("res-ips", "res-dr")
TAUGHT = ("cause", "kd-label", "kd-feature")
LEARNED = ("autodebias", "ltd")
BOUNDED = ("rd-ips", "rd-dr", "brd-ips", "brd-dr")
ENTIRE = ("esmm", "escm2-ips", "escm2-dr")
DECONFOUNDED = ("deep-deconf", "deconf-mf")


def advice(
    data: Dataset, c: Confounding, e: Evidence, p: Propensities | None, check: ExposureCheck
) -> tuple[Advice, ...]:
    """One piece of advice a family, the most promising first among equals."""
    given = [_floor(c), _combined(e), _residual(c, e), _grounded(data, c, e), _weights(c, p), _bounds(c)]
    given += [_learned(c, e), _taught(e), _entire(c), _deconfounded(check)]
    order = {"can": 0, "may": 1, "cannot": 2}
    return tuple(sorted(given, key=lambda a: order[a.help]))


def answer(c: Confounding, e: Evidence, given: tuple[Advice, ...]) -> tuple[str, ...]:
    """Should I debias, with what, and what can this not tell me."""
    able = [m for a in given if a.help == "can" for m in a.methods]
    if c.p is None or c.gap is None:
        said = [
            f"Whether to debias cannot be said: {c.why}.",
            f"What would tell: some {e.needed:,} ratings of pairs drawn at random.",
            "Until then, methods can correct for what is measured at best, and nothing can show that they did.",
        ]
    elif c.found:
        part = 0.0 if not c.naive else c.naive - c.gap
        said = [
            f"{shown(c)}: what is measured does not explain {c.gap:+.3f} of the outcome (95 % interval {c.low:+.3f} "
            f"to {c.high:+.3f}).",
            f"Weights on what is measured account for {part:+.3f} of the difference and cannot touch the rest.",
            f"Made for the rest: {', '.join(able)}."
            if able
            else "No method here has what it would need to mend the rest.",
        ]
    else:
        assert c.smallest is not None
        few = c.smallest > e.matters
        measured = c.naive is not None and c.naive_low is not None and c.naive_low * (c.naive_high or 0.0) > 0
        said = [
            (
                f"Not shown, and the data are too few to tell: a hidden gap of {c.smallest:.3f} is the smallest "
                "that would be found 4 times in 5."
                if few
                else f"No need to correct for hidden confounding is shown; a gap of {c.smallest:.3f} would have been "
                "found 4 times in 5."
            ),
            (
                f"The logs do differ, by {c.naive:+.3f}, and what is measured accounts for it: features, and "
                "weights on them, are what can help."
                if measured
                else "Nor do the logs differ much before anything is accounted for: expect little of weights."
            ),
        ]
    said.append(
        "It cannot tell what a method will gain: compare does, on randomised rows."
        if e.rows
        else "Nor can compare tell what a method gains without bias: its test is of the biased log."
    )
    return tuple(said)


def shown(c: Confounding, what: str = "hidden confounding") -> str:
    """How a finding of the test is begun: no louder than its p allows."""
    if c.weak:
        return f"Perhaps, on weak evidence (p = {c.p:.3f}; without hidden confounding 5 data sets in 100 look so)"
    return f"Yes, {what} shows"


def command(name: str, given: tuple[Advice, ...], e: Evidence) -> str:
    """The comparison to run: the floors, and what can or may help most."""
    names = ["mf", *(["mf-combined"] if e.rows else [])]
    for a in given:
        if a.help != "cannot":
            names += [m for m in a.methods[:2] if m not in names]
    return f"deconrec compare {shlex.quote(name)} --methods {','.join(names[:8])} --seeds 10 --report report.html"


def _floor(c: Confounding) -> Advice:
    word = {
        True: "which the test rejects",
        False: "against which the test finds nothing",
        None: "which nothing here can test",
    }
    return Advice(
        ("mf",),
        "may",
        "The floor: corrects nothing. Right if exposure does not depend on the outcome given user and item, "
        f"{word[c.found]}.",
    )


def _combined(e: Evidence) -> Advice:
    if not e.rows:
        return Advice(("mf-combined",), "cannot", "Needs randomised rows, and there are none.")
    return Advice(
        ("mf-combined",),
        "may",
        "Reads the randomised rows without a correction: the fair opponent of every method that reads them. What "
        "does not beat it has shown that rows help, not that its correction does.",
    )


def _residual(c: Confounding, e: Evidence) -> Advice:
    if not e.rows:
        return Advice(RESIDUAL, "cannot", "They make two logs agree, and there is no randomised one.")
    if c.found is None:
        return Advice(RESIDUAL, "cannot", f"Too little can be compared between the logs: {c.why}.")
    if not c.found:
        return Advice(
            RESIDUAL,
            "may",
            "They make the logs agree on how often outcomes occur; the logs agree as far as can be told, so there "
            "is little to gain. In the kept experiments they cost nothing then.",
        )
    if e.used < HUNDREDS:
        return Advice(
            RESIDUAL,
            "may",
            f"Made for this gap, but {e.used:,} randomised rows tell its size poorly: they shrink to no correction.",
        )
    return Advice(
        RESIDUAL,
        "can",
        "Made for this gap: they make the logs agree on how often outcomes occur. Right if hidden causes move "
        "exposure through the outcome.",
    )


def _grounded(data: Dataset, c: Confounding, e: Evidence) -> Advice:
    reads = ["ids and exposures"]
    if data.user_features is not None or data.item_features is not None:
        reads.append("features")
    if len({*data.biased.rating.tolist()}) > 2:
        reads.append("graded ratings")
    if not e.rows:
        return Advice(
            ("grounded-gp",),
            "may",
            f"Shares what it learns among users and items that are alike ({', '.join(reads)}); without randomised "
            "rows it cannot tell the selection shift.",
        )
    return Advice(
        ("grounded-gp",),
        "can" if c.found else "may",
        f"Reads both logs, {', '.join(reads)}. Its fitted selection shift, which `deconrec fit grounded-gp` prints "
        "with an interval, is a second measure of hidden confounding, with latent factors accounted for as well: "
        "look whether the two agree.",
    )


def _weights(c: Confounding, p: Propensities | None) -> Advice:
    if p is None:
        return Advice(WEIGHTED, "cannot", "Propensities are the same for every row: weights change nothing.")
    few = (
        f" Weights rest on {p.overlap.ess_share:.0%} of the rows: expect noise."
        if p.overlap.ess_share < FEW
        else ""
    )
    if c.found is None:
        return Advice(
            WEIGHTED,
            "may",
            f"They correct for what the propensity reads, and no more; nothing here can tell how much that is.{few}",
        )
    part = (c.naive or 0.0) - (c.gap or 0.0)
    if c.found:
        some = abs(part) >= PART * abs(c.naive or 0.0)
        return Advice(
            WEIGHTED,
            "may" if some else "cannot",
            f"They correct for what is measured ({part:+.3f} of {c.naive or 0.0:+.3f}); the hidden part, "
            f"{c.gap or 0.0:+.3f}, stays, doubly robust or not.{few}",
        )
    return Advice(
        WEIGHTED,
        "may",
        f"They correct for what is measured, which accounts for {part:+.3f} here, at the price of variance.{few}",
    )


def _bounds(c: Confounding) -> Advice:
    if c.found is False:
        return Advice(
            BOUNDED,
            "may",
            "They guard against hidden confounding within a bound that you guess; none is shown here.",
        )
    return Advice(
        BOUNDED,
        "may",
        "They guard against hidden confounding within a bound on the odds of exposure that you guess; they do not "
        "remove it, and cannot tell whether the bound is right.",
    )


def _learned(c: Confounding, e: Evidence) -> Advice:
    if not e.rows:
        return Advice(
            LEARNED, "cannot", "Their weights are learned from randomised rows, and there are none."
        )
    if e.used < HUNDREDS:
        return Advice(LEARNED, "cannot", f"Weights learned from {e.used:,} randomised rows fit their noise.")
    return Advice(
        LEARNED,
        "may",
        "They weigh the biased log so that it predicts the randomised rows; no weighting is right under hidden "
        "confounding, and some is better than none."
        if c.found
        else "They weigh the biased log so that it predicts the randomised rows.",
    )


def _taught(e: Evidence) -> Advice:
    if not e.rows:
        return Advice(TAUGHT, "cannot", "A model of randomised rows teaches, and there are none.")
    return Advice(
        TAUGHT,
        "may",
        f"They carry over what {e.used:,} randomised rows say of items; with few rows of an item that is little.",
    )


def _entire(c: Confounding) -> Advice:
    why = "They learn exposure and outcome together, with propensities of their own from the same measured things"
    if c.found:
        return Advice(ENTIRE, "cannot", f"{why}: the hidden part stays.")
    return Advice(ENTIRE, "may", f"{why}; in the kept experiments they follow exposure more than outcomes.")


def _deconfounded(check: ExposureCheck) -> Advice:
    if check.p is not None and not check.to_dict()["satisfactory"]:
        return Advice(
            DECONFOUNDED, "cannot", f"Their exposure model fails its predictive check (p = {check.p:.3f})."
        )
    why = (
        "They correct for what the exposures of several items reveal, without randomised rows; a confounder of "
        "single pairs stays, and exposure that the confounder decides leaves nothing to compare."
    )
    return Advice(DECONFOUNDED, "may", why)
