"""What was measured of 95 % intervals that take learned propensities as known; see docs/guides/off-policy.md.

Simulated worlds without hidden confounding: the intervals are wide enough for how estimates spread, learning the
propensities included, and fall short because learned propensities leave a bias. Refitting them in a bootstrap would
move the interval's width and not its centre, and so would not mend that.
"""

from __future__ import annotations

# (propensity, estimator): the least and the largest share of worlds over metrics, of docs/records/off-policy.json
MEASURED = {
    ("logistic-mf", "ips"): (0.87, 1.00),
    ("logistic-mf", "snips"): (0.87, 0.97),
    ("logistic-mf", "dr"): (0.80, 0.93),
    ("popularity", "ips"): (0.68, 0.98),
    ("popularity", "snips"): (0.42, 0.98),
    ("popularity", "dr"): (0.43, 0.92),
    ("naive-bayes", "ips"): (0.13, 0.88),
    ("naive-bayes", "snips"): (0.18, 0.68),
    ("naive-bayes", "dr"): (0.33, 0.75),
}


def learned_note(propensity: str, estimator: str) -> str:
    """What the reader of such intervals must know."""
    said = (
        f"Propensities are estimated ({propensity}) and intervals take them as known: they leave out how far these are "
        "from the true ones. "
    )
    if (propensity, estimator) in MEASURED:
        least, most = MEASURED[propensity, estimator]
        said += (
            "In simulated worlds without hidden confounding, intervals that say 95 % held the truth in "
            f"{least:.0%} to {most:.0%} ({estimator}, by metric). "
        )
    return said + (
        "Where a hidden confounder moves exposure and outcome, estimates are biased and intervals miss outright; "
        "`deconrec sensitivity` says by how much."
    )
