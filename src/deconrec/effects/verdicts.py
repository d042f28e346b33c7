"""What effects rest on, measured: each function gives one `Verdict`. Codes are anchors of the guide on effects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deconrec.effects.result import SweepPoint, Verdict
from deconrec.exposure.check import SATISFACTORY, PredictiveCheck

LINEAR = 0.999  # R2(z | a) from which z counts as a linear function of a
NEARLY = 0.9  # from which a regression on all exposures rests on the curvature of z alone
CHANCE = 0.02  # least share of an exposure's variance that must be left given z
CHANCE_OF_MASK = 0.001  # of unexposed outcomes that are all alike though they are like the exposed ones
FILLED = 0.99  # share of unexposed outcomes with one value from which it counts as filled in


def linear_confounder(share: float, all_exposures: bool) -> Verdict:
    """Whether z is a linear function of a: nothing then tells effects of all exposures from confounding."""
    if math.isnan(share):
        return Verdict(
            "LINEAR_CONFOUNDER",
            "refuses",
            None,
            None,
            LINEAR,
            "z is constant: nothing is adjusted for.",
            "",
        )
    if all_exposures and share >= LINEAR:
        status, says = (
            "refuses",
            (
                "z is a linear function of the exposures: in a regression on all of them it is redundant, and nothing "
                "is identified."
            ),
        )
    elif all_exposures and share >= NEARLY:
        status, says = (
            "warns",
            (
                "z is nearly a linear function of the exposures: only its curvature tells effects from confounding, "
                "and that is the exposure model's shape. treatments='one' does not need it."
            ),
        )
    elif share >= LINEAR:
        status, says = (
            "warns",
            (
                "z is a linear function of the exposures: effects rest on the other exposures having none of their own "
                "that z does not carry."
            ),
        )
    elif share >= NEARLY:
        status, says = (
            "holds",
            "z is nearly a linear function of the exposures; a regression on one exposure at a time does not rest on "
            "its curvature.",
        )
    else:
        status, says = "holds", "z is no linear function of the exposures."
    return Verdict(
        "LINEAR_CONFOUNDER",
        status,  # type: ignore[arg-type]  # one of the four
        share,
        None,
        LINEAR if share >= LINEAR or not all_exposures else NEARLY,
        says,
        "whether z is the right function of the exposures: see the sweep.",
    )


def check_passed(check: PredictiveCheck | None) -> Verdict:
    """Whether the exposure model predicts exposures that it was not given."""
    unseen = "whether a confounder is left that exposures do not show; power is that of the held-out users."
    if check is None or not len(check.p):
        return Verdict(
            "PREDICTIVE_CHECK",
            "refuses",
            None,
            None,
            SATISFACTORY,
            "the exposure model was not checked.",
            unseen,
        )
    if check.satisfactory and not check.new_users:
        status, says = (
            "warns",
            "the exposure model passes the predictive check on held-out exposures of users that it was fitted to; pass "
            "validation users to check it on others.",
        )
    elif check.satisfactory:
        status, says = "holds", "the exposure model passes the held-out predictive check on new users."
    else:
        status, says = (
            "refuses",
            ("the exposure model fails the held-out predictive check: its z is no substitute confounder."),
        )
    se = check.standard_error
    return Verdict(
        "PREDICTIVE_CHECK",
        status,  # type: ignore[arg-type]  # one of the four
        check.overall,
        None if math.isnan(se) else se,
        SATISFACTORY,
        says,
        unseen,
    )


def given_dimension(dim: int | None) -> Verdict:
    """A dimension of z that was not chosen."""
    return Verdict(
        "DIMENSION",
        "warns",
        dim,
        None,
        None,
        "the dimension of z was given, not chosen by the predictive check: try several (dims).",
        "whether it is too small, which leaves confounding, or too large, which takes effects for confounding.",
    )


def dimension(sweep: Sequence[SweepPoint]) -> Verdict:
    """Whether the chosen dimension of z lies inside the range that was tried."""
    if len(sweep) < 2:
        return given_dimension(sweep[0].dim if sweep else None)
    chosen = next(p.dim for p in sweep if p.chosen)
    top = max(p.dim for p in sweep)
    if chosen < top:
        return Verdict(
            "DIMENSION",
            "holds",
            chosen,
            None,
            top,
            "a larger dimension of z does not predict held-out exposures better.",
            "confounders that are too weak to help prediction.",
        )
    return Verdict(
        "DIMENSION",
        "warns",
        chosen,
        None,
        top,
        "the largest dimension that was tried predicts held-out exposures best: try larger ones.",
        "confounders that are too weak to help prediction.",
    )


def masked(a: np.ndarray, r: np.ndarray, seen: np.ndarray | None) -> Verdict:
    """Whether outcomes are missing, or filled with a constant, wherever an item was not exposed."""
    unexposed = a == 0
    if seen is not None:
        unexposed = unexposed & seen
    n = int(unexposed.sum())
    share = n / max(int((a == 0).sum()), 1)
    if n == 0:
        return Verdict(
            "MASKED_OUTCOMES",
            "warns",
            0.0,
            None,
            None,
            "outcomes were seen only where the item was exposed: effects of an item on its own outcome are not given, "
            "and the others are those among users who were exposed to the item.",
            "whether users exposed to an item differ from the others in how they respond.",
        )
    value, count = np.unique(r[unexposed], return_counts=True)
    common, filled = float(value[count.argmax()]), float(count.max() / n)
    exposed = (a > 0) if seen is None else (a > 0) & seen
    among = float((r[exposed] == common).mean()) if exposed.any() else 0.0
    # Constant where unexposed: refused unless chance could give it to outcomes like the exposed ones (rare clicks too).
    constant = count.max() == n and among < 1 and n * math.log(max(among, 1e-300)) < math.log(CHANCE_OF_MASK)
    if constant or (filled >= FILLED and among < 0.5):
        return Verdict(
            "MASKED_OUTCOMES",
            "refuses",
            filled,
            None,
            FILLED,
            f"{filled:.1%} of the outcomes of unexposed pairs are {common:g}, of exposed ones {among:.1%}: they "
            "are masked by exposure, and a regression would take the mask for an effect. Leave these rows out.",
            "",
        )
    return Verdict(
        "MASKED_OUTCOMES",
        "holds",
        share,
        None,
        None,
        "outcomes were seen with and without exposure.",
        "whether outcomes that are missing are missing at random.",
    )


def overlap(left: np.ndarray) -> Verdict:
    """Whether chance is left in every exposure given z and x."""
    known = left[np.isfinite(left)]
    least = float(known.min()) if len(known) else float("nan")
    enough = least >= CHANCE
    return Verdict(
        "OVERLAP",
        "holds" if enough else "warns",
        None if math.isnan(least) else least,
        None,
        CHANCE,
        "every exposure varies given z."
        if enough
        else "z all but decides an exposure: there is nothing to compare.",
        "users for whom an exposure never happens.",
    )


def logit_constant(output: str) -> Verdict:
    """A softmax does not change with a user's constant: logits say nothing of the level."""
    if output == "probability":
        return Verdict(
            "LOGIT_CONSTANT",
            "warns",
            None,
            None,
            None,
            "probabilities of a softmax sum to one: an item gains what others lose, and the unit is no rating.",
            "effects on how much is consumed in all.",
        )
    return Verdict(
        "LOGIT_CONSTANT",
        "warns",
        None,
        None,
        None,
        "logits of a softmax are identified up to a constant of the user: effects are centred over items, and the "
        "unit is no rating.",
        "effects that are common to all items.",
    )


def rank(width: int, n_items: int) -> Verdict:
    """A hidden layer of width K bounds the rank of the Jacobian by K."""
    bound = width < n_items
    return Verdict(
        "RANK",
        "warns" if bound else "holds",
        float(width),
        None,
        float(n_items),
        f"a hidden layer of width {width} bounds the rank of the Jacobian: effects of {n_items} items cannot be free "
        "of one another."
        if bound
        else "no hidden layer is narrower than the items.",
        "",
    )


def masked_network() -> Verdict:
    """A method of the library learns from exposed pairs alone."""
    return Verdict(
        "MASKED_OUTCOMES",
        "refuses",
        0.0,
        None,
        None,
        "the method was fitted to ratings of exposed pairs, unexposed ones counting as zero: its Jacobian mixes "
        "effects with exposure. Pass the outcomes of all pairs (outcomes=), or outcome='linear' for effects on other "
        "items among exposed users.",
        "",
    )


def single_cause() -> Verdict:
    """What no exposure model can see."""
    return Verdict(
        "SINGLE_CAUSE",
        "assumed",
        None,
        None,
        None,
        "no confounder of a single item: one that moves the exposure of one item alone leaves no trace in the others, "
        "and its bias stays.",
        "itself: no data of this kind can tell. Randomised exposures can.",
    )
