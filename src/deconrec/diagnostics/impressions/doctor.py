"""The doctor of an impression log, behind `dc.diagnose(data)`."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from deconrec.data.dataset import Dataset
from deconrec.data.impressions import Impressions, raw_weight, unit_weight
from deconrec.diagnostics.advice import command
from deconrec.diagnostics.confounding import POWER, Confounding
from deconrec.diagnostics.distribution import distribution
from deconrec.diagnostics.evidence import Evidence
from deconrec.diagnostics.impressions import verdicts as say
from deconrec.diagnostics.impressions.advice import advice, answer
from deconrec.diagnostics.impressions.balance import balance
from deconrec.diagnostics.impressions.clicks import click_propensities
from deconrec.diagnostics.impressions.confounding import ClickModel, confounding
from deconrec.diagnostics.impressions.labels import labels
from deconrec.diagnostics.impressions.randomised import randomised
from deconrec.diagnostics.impressions.rates import rates
from deconrec.diagnostics.predictive import ExposureCheck
from deconrec.diagnostics.result import Diagnosis
from deconrec.errors import DataError
from deconrec.random import numpy_generator

SMALLEST = 100, 10  # impressions, clicks below which there is nothing to look at
LARGEST = 150_000  # NOTE impressions that models are fitted to; of more, so many are drawn
MATTERS = 0.25  # NOTE a gap of this share of the conversion rate is taken to matter


def diagnose_impressions(data: Dataset, seed: int, name: str | None) -> Diagnosis:
    """See `diagnostics.doctor.diagnose`.

    Raises
    ------
    DataError: hardly any impression or click.
    """
    started = time.perf_counter()
    data = data.without_test()
    assert data.impressions is not None
    n, clicks = len(data.impressions), int(data.impressions.click.sum())
    if n < SMALLEST[0] or min(clicks, n - clicks) < SMALLEST[1]:
        raise DataError(
            f"diagnose needs at least {SMALLEST[0]} impressions, {SMALLEST[1]} with a click and {SMALLEST[1]} without; "
            f"got {n:,}, {clicks:,} and {n - clicks:,}."
        )
    looked = drawn(data, seed)
    assert looked.impressions is not None
    model = ClickModel(looked)
    found = confounding(looked, model, seed)
    p = click_propensities(looked, seed)
    known = labels(data, replace(rates(data), weighted=rates(looked, p).weighted))
    own = expit(model.logit()[: len(looked.impressions)])[looked.impressions.click]
    weights = {} if p is None else {"logistic-mf": p.weight}
    weights["the test's model, no floor"] = unit_weight(looked.biased) / np.maximum(own, 1e-6)
    columns = balance(looked.impressions, weights)
    worth = evidence(data, found, known.rates.conversion.value)
    given = advice(found, worth, p)
    checked = randomised(model)
    return Diagnosis(
        data=_facts(data, looked),
        distribution=distribution(data),
        evidence=worth,
        randomised=checked,
        confounding=found,
        propensities=p,
        balance=columns,
        exposure=ExposureCheck(
            None, "it is of the items that a user was exposed to; here the space is impressions"
        ),
        verdicts=(
            say.hidden_confounding(found),
            say.power(found, worth),
            say.unbiased_log(worth),
            say.randomised_log(checked, worth),
            say.rates(known),
            say.conversions(known),
            say.label_leak(known),
            say.weights(p),
            say.calibration(p),
            say.balanced(columns),
        ),
        methods=given,
        answer=answer(found, worth, known, given),
        command=command(data.name if name is None else name, given, worth),
        seed=seed,
        seconds=time.perf_counter() - started,
        clicks=known,
    )


def drawn(data: Dataset, seed: int) -> Dataset:
    """The data set; of a long log, clicks up to half of `LARGEST` and a draw of the rest, weighted to stand for it."""
    shown = data.impressions
    assert shown is not None
    if len(shown) <= LARGEST:
        return data
    rng = numpy_generator(seed, "diagnose/impressions")
    clicked, other = np.flatnonzero(shown.click), np.flatnonzero(~shown.click)
    n_clicked = min(len(clicked), max(LARGEST // 2, LARGEST - len(other)))
    weight = raw_weight(shown.log).astype(np.float64)
    kept = []
    for place, n in ((clicked, n_clicked), (other, min(len(other), LARGEST - n_clicked))):
        chosen = np.sort(rng.permutation(place)[:n])
        weight[chosen] *= weight[place].sum() / weight[chosen].sum()
        kept.append(chosen)
    rows = np.sort(np.concatenate(kept))
    part = shown.take(rows)
    log = replace(part.log, weight=weight[rows].astype(np.float32))
    return data.with_impressions(Impressions(log, part.click), data.unbiased)


def evidence(data: Dataset, found: Confounding, rate: float) -> Evidence:
    """Forced clicks and what they can tell, beside the conversion rate."""
    log, matters = data.unbiased, MATTERS * max(rate, 1e-4)
    rows = 0 if log is None else len(log)
    users = 0 if log is None else len(np.unique(log.user))
    if found.smallest is not None:
        needed = math.ceil(found.rows * (found.smallest / matters) ** 2)
        return Evidence(
            rows, found.rows, users, found.smallest, found.smallest <= matters, max(needed, 1), matters
        )
    reach = float(norm.ppf(0.975) + norm.ppf(POWER))
    variance = max(rate * (1 - rate), 1e-4)
    return Evidence(rows, rows, users, None, None, math.ceil(reach**2 * variance / matters**2), matters)


def _facts(data: Dataset, looked: Dataset) -> dict[str, Any]:
    shown, part = data.impressions, looked.impressions
    assert shown is not None
    assert part is not None
    return {
        "name": data.name,
        "users": data.n_users,
        "items": data.n_items,
        "impressions": len(shown),
        "looked_at": len(part),
        "biased_rows": len(data.biased),
        "unbiased_rows": 0 if data.unbiased is None else len(data.unbiased),
        "in_both": 0,
        "density": data.density,
        "outcome": "conversion, were it clicked",
        "binary": True,
        "context": list(shown.schema.names),
        "weighted": shown.log.weight is not None,
        "user_features": 0,
        "item_features": 0,
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
    }
