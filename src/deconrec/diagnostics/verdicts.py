"""Verdicts of the doctor: each function looks at one thing, and says what it cannot see whatever it says.

Codes are anchors of docs/diagnostics.md. Diagnostics of a log alone do not reveal hidden confounding [Jeunen2023], and
no verdict says that all is well: what was not found may be there.
"""

from __future__ import annotations

from collections.abc import Sequence

from deconrec.diagnostics.balance import LARGE, Covariate
from deconrec.diagnostics.confounding import Confounding
from deconrec.diagnostics.distribution import Distribution
from deconrec.diagnostics.evidence import MATTERS, Evidence
from deconrec.diagnostics.predictive import ExposureCheck
from deconrec.diagnostics.propensities import Propensities
from deconrec.diagnostics.randomised import Randomised
from deconrec.diagnostics.result import Verdict
from deconrec.exposure.check import SATISFACTORY

FEW = 0.1  # effective share of rows below which weights add more than they take
NOTED = 0.5  # ... below which it is worth saying
FAR = 0.25  # calibration error over the mean exposure
TWICE = 2.0  # times what chance alone gives
WEAK = (
    "This is weak evidence: of 100 data sets without hidden confounding about 5 look like this or worse. The gap may "
    "be anything in the interval"
)


def hidden_confounding(c: Confounding) -> Verdict:
    """Whether the logs disagree once what is measured is accounted for."""
    unseen = (
        "Confounders that raise some outcomes as much as they lower others: their gaps cancel in the mean. "
        "Confounders of pairs that one log could never hold. Whether the gap is a cause that nobody measured, or "
        "a measured one that acts in a way which features, their products and the levels of users and items do "
        "not follow."
    )
    if c.p is None or c.gap is None or c.low is None or c.high is None:
        return Verdict(
            "HIDDEN_CONFOUNDING",
            "unknown",
            f"Hidden confounding cannot be looked for: {c.why}. Propensities, balance and checks of exposures "
            "cannot stand in for randomised ratings.",
            "All of it: no biased log tells its own hidden confounding.",
        )
    said = (
        f"with {', '.join(c.measured)} accounted for, outcomes of the biased log are {c.gap:+.3f} from those of the "
        f"randomised one (95 % interval {c.low:+.3f} to {c.high:+.3f}, {p_in_words(c.p)})"
    )
    if c.weak:
        return Verdict(
            "HIDDEN_CONFOUNDING",
            "found",
            f"The logs seem to disagree: {said}. {WEAK}, and more randomised rows would tell.",
            unseen,
        )
    if c.found:
        return Verdict(
            "HIDDEN_CONFOUNDING",
            "found",
            f"The logs disagree: {said}. Exposure depends on the outcome through something that is not measured.",
            unseen,
        )
    return Verdict(
        "HIDDEN_CONFOUNDING", "not found", f"No disagreement of the logs is shown: {said}.", unseen
    )


def power(c: Confounding, matters: float = MATTERS) -> Verdict:
    """What the test could have found."""
    unseen = "Whether smaller gaps are there, and whether a gap of this size would matter to you."
    if c.smallest is None:
        return Verdict("POWER", "unknown", "There was no test, hence no power.", unseen)
    at = ", ".join(f"{g:.2g} with {c.power(g):.0%}" for g in (0.4 * matters, matters, 2 * matters))
    return Verdict(
        "POWER",
        "found" if c.smallest > matters else "not found",
        f"With {c.rows:,} usable randomised rows the test finds a gap of {c.smallest:.3f} 4 times in 5 (gaps of "
        f"{at}).",
        unseen,
    )


def unbiased_log(e: Evidence) -> Verdict:
    """How much randomised data there is."""
    unseen = "Whether the randomised rows are of the users, items and days that you will serve."
    if not e.rows:
        return Verdict(
            "UNBIASED_LOG",
            "found",
            "There is no randomised log: nothing can be said of hidden confounding, and no method can be "
            f"evaluated without bias. Some {e.needed:,} ratings of pairs drawn at random would find a gap of "
            f"{e.matters:.2g} 4 times in 5.",
            "How biased the log is: nothing but randomised rows can tell.",
        )
    left = f"{e.rows:,} randomised rows of {e.users:,} users"
    left += "" if e.used == e.rows else f", {e.used:,} of them of pairs that are not in the biased log too"
    if e.enough is None:
        return Verdict(
            "UNBIASED_LOG", "found", f"{left}: not enough for an answer. Some {e.needed:,} would be.", unseen
        )
    if e.enough:
        return Verdict(
            "UNBIASED_LOG",
            "not found",
            f"{left}: enough to find a gap of {e.matters:.2g} 4 times in 5.",
            unseen,
        )
    return Verdict(
        "UNBIASED_LOG",
        "found",
        f"{left}: too few to find a gap of {e.matters:.2g} 4 times in 5, for which some {e.needed:,} are needed.",
        unseen,
    )


def randomised_log(r: Randomised | None, e: Evidence) -> Verdict:
    """Whether the randomised log looks drawn at random."""
    unseen = (
        "A draw that leans to what users like without leaning to what the biased log holds; who did not answer when "
        "asked."
    )
    if r is None:
        return Verdict(
            "RANDOMISED_LOG",
            "unknown",
            "There are no randomised rows to look at."
            if not e.rows
            else "Exposure does not differ enough between pairs to tell a random draw from another.",
            unseen,
        )
    said = f"within users, its items lean by {r.lean:+.2f} ± {r.error:.2f} standard deviations to what is exposed"
    if r.doubtful:
        return Verdict(
            "RANDOMISED_LOG",
            "found",
            f"The randomised log does not look random: {said}. Whatever rests on it, the test above first, is "
            "doubtful.",
            unseen,
        )
    return Verdict(
        "RANDOMISED_LOG", "not found", f"Nothing shows that the randomised log is not random: {said}.", unseen
    )


def outcomes(d: Distribution, c: Confounding) -> Verdict:
    """Whether ratings are distributed alike in both logs."""
    unseen = "Why they differ: measured selection and hidden confounding give the same picture."
    if d.distance is None or d.noise is None or d.mean_unbiased is None:
        return Verdict(
            "DISTRIBUTION",
            "unknown",
            f"The mean rating of the biased log is {d.mean_biased:.3f}; there is none to compare.",
            unseen,
        )
    said = (
        f"mean rating {d.mean_biased:.3f} in the biased log and {d.mean_unbiased:.3f} in the randomised one; the "
        f"distributions are {d.distance:.3f} apart (total variation; chance alone gives {d.noise:.3f})"
    )
    if d.distance <= TWICE * d.noise:
        return Verdict("DISTRIBUTION", "not found", f"Ratings are distributed much alike: {said}.", unseen)
    part = ""
    if c.gap is not None and c.naive is not None:
        part = (
            f" Of the difference of outcomes, {c.naive:+.3f}, what is measured accounts for {c.naive - c.gap:+.3f} "
            f"and leaves {c.gap:+.3f}."
        )
    return Verdict("DISTRIBUTION", "found", f"Selection shows in the ratings: {said}.{part}", unseen)


def weights(p: Propensities | None) -> Verdict:
    """What inverse-propensity weights rest on."""
    unseen = "Pairs that are never exposed, which no weight brings back; whether the propensities are the true ones."
    if p is None:
        return Verdict(
            "WEIGHTS",
            "found",
            "The learned propensities are the same for every row: weighting would change nothing.",
            unseen,
        )
    o = p.overlap
    said = (
        f"effective sample size {o.ess:,.0f} of {o.n:,} rows ({o.ess_share:.0%}); {o.floored_share:.0%} of the "
        f"rows are at the floor {o.floor:.2g}; the heaviest hundredth holds {o.tail:.0%} of the weight"
    )
    if o.ess_share < FEW:
        return Verdict("WEIGHTS", "found", f"Weights would rest on few rows: {said}.", unseen)
    if o.floored_share > NOTED:
        return Verdict(
            "WEIGHTS",
            "found",
            f"The floor makes most weights alike, so that weighting does little: {said}.",
            unseen,
        )
    return Verdict("WEIGHTS", "not found", f"Weights do not rest on few rows: {said}.", unseen)


def calibration(p: Propensities | None) -> Verdict:
    """Whether propensities mean what they say out of fold."""
    unseen = (
        "Whether pairs of the same propensity differ in their true chance: propensities can be calibrated and "
        "blind to what confounds."
    )
    if p is None:
        return Verdict("CALIBRATION", "unknown", "There are no propensities that differ.", unseen)
    d = p.calibration_dict()
    said = (
        f"calibration error {d['ece']:.4f}, {d['relative']:.0%} of the mean exposure, over {d['pairs']:,} pairs in "
        f"{d['folds']} folds"
    )
    if d["relative"] > FAR:
        return Verdict("CALIBRATION", "found", f"Propensities are off out of fold: {said}.", unseen)
    return Verdict(
        "CALIBRATION", "not found", f"Propensities are near observed shares out of fold: {said}.", unseen
    )


def balanced(covariates: Sequence[Covariate], between: str = "exposed and all pairs") -> Verdict:
    """Whether weights balance what is measured; `between` names what is compared."""
    unseen = "Everything that is not a column: balance in what is measured says nothing of the rest."
    before = [c for c in covariates if abs(c.before) > LARGE]
    if not covariates:
        return Verdict("BALANCE", "unknown", "No measured column varies.", unseen)
    worst = max(covariates, key=lambda c: abs(c.before))
    said = (
        f"{len(before)} of {len(covariates)} measured columns differ by more than {LARGE:g} standard deviations "
        f"between {between} (most: {worst.name}, {worst.before:+.2f})"
    )
    for name in worst.after:
        sizes = [abs(c.after[name]) for c in covariates]
        left, end = sum(size > LARGE for size in sizes), covariates[sizes.index(max(sizes))]
        said += f"; weighted by {name}, {left} do (most: {end.name}, {end.after[name]:+.2f})"
    return Verdict("BALANCE", "found" if before else "not found", f"{said}.", unseen)


def predictive(e: ExposureCheck) -> Verdict:
    """Whether the deconfounder's exposure model predicts exposures that it was not given."""
    unseen = (
        "A confounder of single pairs or of single items, which leaves no trace in other exposures; whether what the "
        "exposures show has anything to do with outcomes."
    )
    if e.p is None:
        return Verdict("PREDICTIVE_CHECK", "unknown", f"The exposure model was not checked: {e.why}.", unseen)
    d = e.to_dict()
    said = (
        f"p = {e.p:.3f} on {d['users']} users that it was not fitted to (above {SATISFACTORY:g} is taken as "
        "satisfactory)"
    )
    if d["satisfactory"]:
        return Verdict(
            "PREDICTIVE_CHECK",
            "not found",
            f"The exposure model is not caught missing how exposures hang together: {said}.",
            unseen,
        )
    return Verdict(
        "PREDICTIVE_CHECK",
        "found",
        f"The exposure model misses how exposures hang together: {said}. Its z is no substitute confounder.",
        unseen,
    )


def p_in_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
