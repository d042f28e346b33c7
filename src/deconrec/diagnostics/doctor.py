"""`dc.diagnose(data)`: should I debias, with what, and what can this not tell me?"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.special import expit

from deconrec.data.dataset import Dataset
from deconrec.diagnostics import verdicts as say
from deconrec.diagnostics.advice import advice, answer, command
from deconrec.diagnostics.balance import balance
from deconrec.diagnostics.confounding import confounding, exposure_model
from deconrec.diagnostics.distribution import distribution
from deconrec.diagnostics.evidence import evidence
from deconrec.diagnostics.impressions.doctor import diagnose_impressions
from deconrec.diagnostics.predictive import exposure_check
from deconrec.diagnostics.propensities import propensities
from deconrec.diagnostics.randomised import randomised
from deconrec.diagnostics.result import Diagnosis
from deconrec.errors import DataError, ParameterError

SMALLEST = 2, 2, 10  # users, items, biased rows below which there is nothing to look at


def diagnose(data: Dataset, *, seed: int = 0, name: str | None = None) -> Diagnosis:
    """Look at a data set: its randomised log against its biased one, and all that methods would rest on.

    Parameters
    ----------
    data: pairs, or impressions; a fixed test log is not looked at.
    seed: draws folds, initial values and samples; any whole number >= 0.
    name: how the command that is suggested calls the data; None = their own name.

    Raises
    ------
    DataError: no data set, or one with hardly any row.  ParameterError: `seed`.
    MissingExtra: torch is not installed.
    """
    started = time.perf_counter()
    if not isinstance(data, Dataset):
        raise DataError(
            f"diagnose needs a deconrec.Dataset; got {type(data).__name__}. dc.load(...) gives one."
        )
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ParameterError(f"'seed' of diagnose must be a whole number >= 0; got {seed!r}.")
    if data.impressions is not None:
        return diagnose_impressions(data, int(seed), name)
    n_users, n_items, rows = *data.shape, len(data.biased)
    if n_users < SMALLEST[0] or n_items < SMALLEST[1] or rows < SMALLEST[2]:
        raise DataError(
            f"diagnose needs at least {SMALLEST[0]} users, {SMALLEST[1]} items and {SMALLEST[2]} biased rows; got "
            f"{n_users}, {n_items} and {rows}."
        )
    data, seed = data.without_test(), int(seed)
    exposure = exposure_model(data, seed)
    found = confounding(data, exposure, seed)
    drawn = randomised(data, exposure, seed)
    worth = evidence(data, found)
    shares = distribution(data)
    p = propensities(data, seed)
    own = expit(exposure.at(data.biased.user, data.biased.item))
    weights = {} if p is None else {"logistic-mf": p.weight}
    weights["the test's model, no floor"] = 1 / np.maximum(own, 1e-6)
    columns = balance(data, weights)
    check = exposure_check(data, seed)
    given = advice(data, found, worth, p, check)
    return Diagnosis(
        data=_facts(data),
        distribution=shares,
        evidence=worth,
        randomised=drawn,
        confounding=found,
        propensities=p,
        balance=columns,
        exposure=check,
        verdicts=(
            say.hidden_confounding(found),
            say.power(found, worth.matters),
            say.unbiased_log(worth),
            say.randomised_log(drawn, worth),
            say.outcomes(shares, found),
            say.weights(p),
            say.calibration(p),
            say.balanced(columns),
            say.predictive(check),
        ),
        methods=given,
        answer=answer(found, worth, given),
        command=command(data.name if name is None else name, given, worth),
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def _facts(data: Dataset) -> dict[str, Any]:
    scale = data.outcome_scale
    return {
        "name": data.name,
        "users": data.n_users,
        "items": data.n_items,
        "biased_rows": len(data.biased),
        "unbiased_rows": 0 if data.unbiased is None else len(data.unbiased),
        "in_both": int(data.in_biased.sum()),
        "density": data.density,
        "outcome": f"rating >= {scale.threshold:g}"
        if scale.threshold is not None
        else f"the rating, from {scale.low:g} to {scale.high:g}",
        "binary": scale.binary,
        "user_features": 0 if data.user_features is None else len(data.user_features.names),
        "item_features": 0 if data.item_features is None else len(data.item_features.names),
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
    }
