"""Which methods can and cannot help with an impression log, why, and what the log cannot tell.

What is said of families rests on what they assume and on the simulated worlds of docs/guides/impressions.md.
"""

from __future__ import annotations

from deconrec.diagnostics.advice import BOUNDED, ENTIRE, HUNDREDS, LEARNED, PART, RESIDUAL, WEIGHTED, shown
from deconrec.diagnostics.confounding import Confounding
from deconrec.diagnostics.evidence import Evidence
from deconrec.diagnostics.impressions.labels import Clicks
from deconrec.diagnostics.propensities import Propensities
from deconrec.diagnostics.result import Advice, Help
from deconrec.diagnostics.verdicts import FEW


def advice(c: Confounding, e: Evidence, p: Propensities | None) -> tuple[Advice, ...]:
    """One piece of advice a family of those that take impressions, the most promising first among equals."""
    given = [
        _floor(c),
        _combined(e),
        _residual(c, e),
        _entire(c),
        _weights(c, p),
        _imputed(),
        _learned(e),
        _bounds(c),
    ]
    order = {"can": 0, "may": 1, "cannot": 2}
    return tuple(sorted(given, key=lambda a: order[a.help]))


def answer(c: Confounding, e: Evidence, labels: Clicks, given: tuple[Advice, ...]) -> tuple[str, ...]:
    """Should I debias, with what, and what can this not tell me."""
    able = [m for a in given if a.help == "can" for m in a.methods]
    rate = labels.rates.conversion.value
    if c.p is None or c.gap is None:
        said = [
            f"Whether to debias cannot be said: {c.why}.",
            f"What would tell: some {e.needed:,} impressions whose click is forced or drawn at random, and their "
            "conversions.",
            "Until then, methods can correct for what the context and the ids say of clicks at best, and nothing can "
            "show that they did.",
        ]
    elif c.found:
        part = 0.0 if c.naive is None else c.naive - c.gap
        said = [
            f"{shown(c, 'hidden confounding of click and conversion')}: what is measured does not explain "
            f"{c.gap:+.3f} of "
            f"a conversion rate of {rate:.3f} (95 % interval {c.low:+.3f} to {c.high:+.3f}).",
            f"Weights by pCTR account for {part:+.3f} of the difference and cannot touch the rest.",
            f"Made for the rest: {', '.join(able)}."
            if able
            else "No method here has what it would need to mend the rest.",
        ]
    else:
        assert c.smallest is not None
        said = [
            f"No need to correct for hidden confounding is shown; a gap of {c.smallest:.3f} in a conversion rate of "
            f"{rate:.3f} would have been found 4 times in 5."
            if e.enough
            else f"Not shown, and the forced clicks are too few to tell: a hidden gap of {c.smallest:.3f}, in a "
            f"conversion rate of {rate:.3f}, is the smallest that would be found 4 times in 5.",
        ]
    if labels.leaks:
        names = ", ".join(dict.fromkeys(leak.column for leak in labels.leaks))
        said.insert(
            1,
            f"Before anything else, leave out what gives a label away: {names}. With it, nothing below holds.",
        )
    if not labels.enough:
        said.append("There are too few conversions to tell methods apart: see CONVERSIONS.")
    said.append(
        "It cannot tell what a method will gain: compare does, on forced clicks."
        if e.rows
        else "Nor can compare tell what a method gains without bias: without forced clicks it judges pCVR on clicked "
        "impressions."
    )
    return tuple(said)


def _floor(c: Confounding) -> Advice:
    word = {
        True: "which the test rejects",
        False: "against which the test finds nothing",
        None: "which nothing here can test",
    }
    return Advice(
        ("mf",),
        "may",
        "The floor: learns from clicked rows, corrects nothing. Right if clicks do not depend on the conversion given "
        f"user, item and context, {word[c.found]}.",
    )


def _combined(e: Evidence) -> Advice:
    if not e.rows:
        return Advice(("mf-combined",), "cannot", "Needs forced clicks, and there are none.")
    return Advice(
        ("mf-combined",),
        "may",
        "Reads the forced clicks without a correction: the fair opponent of every method that reads them. What does "
        "not beat it has shown that rows help, not that its correction does.",
    )


def _residual(c: Confounding, e: Evidence) -> Advice:
    if not e.rows:
        return Advice(
            RESIDUAL, "cannot", "They make clicks and forced clicks agree, and there are no forced ones."
        )
    if c.found is None:
        return Advice(RESIDUAL, "cannot", f"Too little can be compared: {c.why}.")
    if not c.found:
        return Advice(
            RESIDUAL,
            "may",
            "They make clicks and forced clicks agree on how often conversions occur; these agree as far as can be "
            "told, so there is little to gain.",
        )
    if e.rows < HUNDREDS:
        return Advice(
            RESIDUAL,
            "may",
            f"Made for this gap, but {e.rows:,} forced clicks tell its size poorly: they shrink to no correction.",
        )
    return Advice(
        RESIDUAL,
        "can",
        "Made for this gap: they make clicks and forced clicks agree on how often conversions occur. Right if hidden "
        "causes move clicks through the conversion.",
    )


def _entire(c: Confounding) -> Advice:
    why = (
        "They learn click and conversion together over all impressions, so that the many without a click teach the "
        "embeddings of both; their correction is by pCTR"
    )
    if c.found:
        return Advice(ENTIRE, "may", f"{why}, and the hidden part stays.")
    return Advice(ENTIRE, "may", f"{why}.")


def _weights(c: Confounding, p: Propensities | None) -> Advice:
    if p is None:
        return Advice(WEIGHTED, "cannot", "pCTR is the same for every click: weights change nothing.")
    few = (
        f" Weights rest on {p.overlap.ess_share:.0%} of the clicks: expect noise."
        if p.overlap.ess_share < FEW
        else ""
    )
    if c.found is None or c.naive is None or c.gap is None:
        why = "They correct for what pCTR reads, and no more; nothing here can tell how much that is."
        return Advice(WEIGHTED, "may", why + few)
    part = c.naive - c.gap
    if c.found:
        help_: Help = "may" if abs(part) >= PART * abs(c.naive) else "cannot"
        why = (
            f"They correct for what is measured ({part:+.3f} of {c.naive:+.3f}); the hidden part, {c.gap:+.3f}, stays, "
            "doubly robust or not."
        )
        return Advice(WEIGHTED, help_, why + few)
    why = f"They correct for what is measured, which accounts for {part:+.3f} here, at the price of variance."
    return Advice(WEIGHTED, "may", why + few)


def _imputed() -> Advice:
    return Advice(
        ("eib",),
        "may",
        "Imputes the errors of impressions without a click, from those with one: as good as that guess, which nothing "
        "here checks.",
    )


def _learned(e: Evidence) -> Advice:
    if not e.rows:
        return Advice(LEARNED, "cannot", "Their weights are learned from forced clicks, and there are none.")
    if e.rows < HUNDREDS:
        return Advice(LEARNED, "cannot", f"Weights learned from {e.rows:,} forced clicks fit their noise.")
    return Advice(LEARNED, "may", "They weigh the clicks so that they predict the forced ones.")


def _bounds(c: Confounding) -> Advice:
    why = "They guard against hidden confounding within a bound on the odds of a click that you guess"
    if c.found is False:
        return Advice(BOUNDED, "may", f"{why}; none is shown here.")
    return Advice(
        BOUNDED, "may", f"{why}; they do not remove it, and cannot tell whether the bound is right."
    )
