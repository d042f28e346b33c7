"""`simulate.kuairec_semi`: real outcomes of KuaiRec's fully observed matrix under simulated exposure.

    outcome      r_ui = 1 where user u watched video i more than twice its length       (real, all pairs)
    exposure     o_ui ~ Bernoulli(sigma(a + log popularity_i + confounding * z_ui))     (simulated)

popularity is how often the release's biased log shows the video. z is the rank-8 part (by singular values) of the
outcome matrix centred by video, standardised over all pairs: the taste itself, which no method is shown. `a` is
solved so that the mean propensity is `exposure_rate`. At `confounding` = 0 popularity, which a method can count,
explains all of the exposure; above, what users like is shown to them.

The randomised log holds `per_user` pairs of each user, drawn at random from those not exposed: no pair stands in
both logs. A seed draws the exposures and the randomised log; the outcomes are the same for every seed.

Source. Outcomes and counts: KuaiRec [Gao2022]; the exposure model is the library's own.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.special import expit

from deconrec.data.dataset import Dataset, Log, Task, Truth
from deconrec.data.ids import Vocabulary
from deconrec.data.sources import kuairec
from deconrec.data.sources.locate import locate
from deconrec.errors import DataError
from deconrec.random import numpy_generator
from deconrec.simulate.randomised import exposed_log
from deconrec.simulate.ranges import check_count, check_number

RANK = 8
NOTES = (
    "The outcome is watch_ratio > 2, as the packed labels have it; paper 2 writes >= 2. Of the released random "
    "pairs, fewer than 1 in 50,000 has a ratio of exactly 2.",
    "Outcomes are real, exposures are simulated: figures on the published log of KuaiRec cannot be compared.",
)


def kuairec_semi(
    root: str | Path | None = None,
    *,
    confounding: float = 1.0,
    exposure_rate: float = 0.05,
    per_user: int = 83,
    check_counts: bool = True,
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """Semi-real KuaiRec: every outcome is real and known, exposure is simulated with a dial for hidden confounding.

    Parameters
    ----------
    root: folder that holds kuairec/; default $DECONREC_DATA, then the user's cache.
    confounding: effect of one standard deviation of the hidden taste z on the logit of exposure, in [0, 10].
    exposure_rate: mean propensity over all pairs, in (0, 1).
    per_user: pairs of each user in the randomised log (fewer where fewer are left), >= 1.
    check_counts: compare with the published counts.
    seed: draws exposures and the randomised log; any whole number >= 0.

    Returns
    -------
    Dataset "kuairec-semi" (1,411 users x 3,327 videos, binary outcome, split 5/5/90) and Truth: outcome and rating
    are the real outcomes; propensity; nominal_propensity, its mean over users of each video; confounder: the users'
    part of z (n_users, 8); `extra` holds pair_confounder z (n_users, n_items).

    Raises
    ------
    ParameterError: a parameter out of range.  MissingData: the files are not there.
    DataError: they are not the published ones.
    """
    who = "simulate.kuairec_semi"
    check_number(who, "confounding", confounding, 0, 10, meaning="0 = no hidden confounding")
    check_number(who, "exposure_rate", exposure_rate, 0, 1, open_low=True, open_high=True)
    check_count(who, "per_user", per_user, 1)
    check_count(who, "seed", seed, 0)
    files = tuple(
        (str(path), path.stat().st_mtime_ns)
        for release in (kuairec.FULL_MATRIX, kuairec.EXPOSURE)
        for path in locate(release, root)
    )
    matrix, users, items, log_popularity, z, confounder = _real(
        None if root is None else str(root), bool(check_counts), files
    )
    logit = log_popularity + confounding * z
    level = brentq(lambda a: float(expit(a + logit).mean()) - exposure_rate, -60.0, 60.0, xtol=1e-9)
    propensity = expit(level + logit)
    draw = numpy_generator(seed, "simulate.kuairec_semi/exposure").random(matrix.shape)
    exposed = draw < propensity
    if not exposed.any():
        raise DataError(
            f"{who} exposed no pair at exposure_rate {exposure_rate:g}; raise it, or use another seed."
        )
    outcome = matrix.astype(np.float32)
    outcome.flags.writeable = False
    p = propensity.astype(np.float32)
    data = Dataset(
        users=users,
        items=items,
        biased=exposed_log(outcome, exposed),
        unbiased=_randomised(outcome, exposed, per_user, seed),
        task=Task(binarize=0.5, rating_range=(0, 1)),
        name="kuairec-semi",
        notes=NOTES,
    )
    nominal = np.broadcast_to(p.mean(axis=0, dtype=np.float64).astype(np.float32), p.shape)
    z_shown = z.astype(np.float32)
    return data, Truth(outcome, outcome, p, nominal, confounder, {"pair_confounder": z_shown})


@lru_cache(maxsize=1)
def _real(
    root: str | None, check_counts: bool, files: tuple[tuple[str, int], ...]
) -> tuple[np.ndarray, Vocabulary, Vocabulary, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, vocabularies, log popularity (1, n_items), z (n_users, n_items), the users' part of z (n_users, RANK).

    files: paths and times of change, so that other files are read anew.
    """
    full = kuairec.full_matrix(root, check_counts=check_counts)
    known, counts = kuairec.exposure_counts(root, check_counts=check_counts)
    order_u, order_i = np.argsort(full.user_ids), np.argsort(full.item_ids)
    labels, item_ids = full.labels[np.ix_(order_u, order_i)], full.item_ids[order_i]
    at = np.searchsorted(known, item_ids).clip(max=len(known) - 1)
    if not (known[at] == item_ids).all():
        raise DataError(
            f"simulate.kuairec_semi needs an exposure count for each of the {len(item_ids):,} videos; "
            f"{int((known[at] != item_ids).sum()):,} have none. Get item_cnt_train.json again."
        )
    centred = labels - labels.mean(axis=0)
    n = len(centred)
    # Left singular vectors by the smaller Gram matrix: the projection on them is what is needed.
    value, vector = eigh(centred @ centred.T, subset_by_index=(max(n - RANK, 0), n - 1))
    z = vector @ (vector.T @ centred)
    scale = z.std()
    if not scale > 0:
        raise DataError("simulate.kuairec_semi needs outcomes that differ between users; all are the same.")
    z = (z - z.mean()) / scale
    confounder = (vector * np.sqrt(np.maximum(value, 0)) / scale).astype(np.float32)
    users = Vocabulary(pl.Series(full.user_ids[order_u]), "user")
    items = Vocabulary(pl.Series(item_ids), "item")
    return labels, users, items, np.log(np.maximum(counts[at], 1.0))[None], z, confounder


def _randomised(outcome: np.ndarray, exposed: np.ndarray, per_user: int, seed: int) -> Log:
    """`per_user` pairs of each user, without replacement, from those not exposed."""
    order = numpy_generator(seed, "simulate.kuairec_semi/randomised log").random(outcome.shape)
    order[exposed] = np.inf
    size = min(per_user, outcome.shape[1])
    item = np.sort(np.argpartition(order, size - 1, axis=1)[:, :size], axis=1)
    user = np.repeat(np.arange(len(outcome)), size)
    item = item.reshape(-1)
    free = ~exposed[user, item]
    return Log(user[free], item[free], outcome[user[free], item[free]])
