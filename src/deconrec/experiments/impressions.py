"""Metrics of models of impressions, by the output that they are of.

    auc/pcvr, logloss/pcvr, mse/pcvr, ece/pcvr      P(conversion | click), on randomised rows; with /biased on held-out
                                                    clicks, where there are none
    auc/pctr, ...                                   P(click), on the held-out impressions
    auc/pctcvr, ...                                 P(click and conversion), on the held-out impressions
    mse/pcvr/truth, auc/pcvr/truth                  a simulator's pCVR over all held-out impressions, clicked or not

The labels of pctr and pctcvr are known of every impression, so that these two need no randomised rows. A method that
learns no click has neither. Sample weights count. A log loss is taken from logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from deconrec.data.dataset import Dataset, Log, Truth
from deconrec.data.impressions import unit_weight
from deconrec.data.split import PairsTest, Sealed
from deconrec.errors import DataError
from deconrec.evaluation import calibration, rating
from deconrec.evaluation.logits import joint_logit, logloss_of_logits, probability
from deconrec.experiments.metrics import Evaluated, check_metrics, default_metrics
from deconrec.experiments.names import POINTWISE, Metric

DEFAULT = ("auc/pcvr", "logloss/pcvr", "mse/pcvr", "auc/pctcvr", "logloss/pctcvr", "auc/pctr")
TRUTH = ("mse/pcvr/truth", "auc/pcvr/truth")


def chosen_metrics(
    names: Sequence[str] | None, data: Dataset, protocol: str, truth: Truth | None
) -> list[str]:
    """The names, complete and possible on the data, pairs or impressions; None = the data's defaults."""
    if data.impressions is not None:
        return (
            default_impression_metrics(data, truth)
            if names is None
            else check_impression_metrics(names, data, truth)
        )
    return check_metrics(
        default_metrics(data, protocol, truth) if names is None else names, data, protocol, truth
    )


def default_impression_metrics(data: Dataset, truth: Truth | None) -> list[str]:
    """The metrics that a log of impressions allows, in the order of reports."""
    return check_impression_metrics([*DEFAULT, *(TRUTH if truth is not None else ())], data, truth)


def check_impression_metrics(names: Sequence[str], data: Dataset, truth: Truth | None) -> list[str]:
    """The names, complete and possible on this log; "auc" is "auc/pcvr".

    Raises
    ------
    UnknownName, ParameterError: a name that is none.  DataError: one that the data cannot give.
    """
    biased = data.unbiased is None and data.test is None
    out = []
    for name in names:
        metric = Metric.parse(name)
        if metric.base not in POINTWISE or metric.candidates is not None or metric.variant == "leaked":
            raise DataError(
                f"metric '{name}' is not defined on impressions, which are judged one by one; use {', '.join(DEFAULT)}."
            )
        target = metric.target or "pcvr"
        if metric.variant == "truth" and (truth is None or target != "pcvr"):
            raise DataError(
                f"metric '{name}' needs a simulator's truth, which knows pCVR (mse/pcvr/truth, auc/pcvr/truth); "
                f"'{data.name}' does not give it."
            )
        variant = metric.variant
        if target == "pcvr" and variant is None and biased:
            variant = "biased"  # nothing unbiased to test on: the name says so, asked for or not
        if variant == "biased" and not (biased and target == "pcvr"):
            raise DataError(
                f"metric '{name}' is of pcvr on data without an unbiased test; '{data.name}' has one."
            )
        out.append(str(Metric(metric.base, variant=variant, target=target)))
    return list(dict.fromkeys(out))


class Answers(Protocol):
    """A fitted model, as far as its metrics read it."""

    def _logits(self, log: Log) -> tuple[np.ndarray, np.ndarray | None]:
        """Logits of pCVR, and of pCTR or None, of a log's rows."""
        ...


def evaluate_impressions(
    model: Answers, sealed: Sealed[PairsTest], data: Dataset, names: Sequence[str], truth: Truth | None
) -> Evaluated:
    """Open the test part and evaluate a model of impressions on it, once."""
    test = sealed.open()
    answers = _Answers(model, test, data)
    out = Evaluated()
    for name in names:
        metric = Metric.parse(name)
        if metric.variant == "truth":
            assert truth is not None  # check_impression_metrics refused otherwise
            assert test.shown is not None
            expected, p = truth.outcome[test.shown], probability(answers.shown[0])
            out.metrics[name] = (
                rating.mse(p, expected) if metric.base == "mse" else rating.soft_auc(p, expected)
            )
            continue
        logit, label, weight = answers.of(metric.target or "pcvr")
        out.metrics[name] = float("nan") if logit is None else _pointwise(metric.base, logit, label, weight)
    return out


class _Answers:
    """A model's logits of the test rows and of the held-out impressions, asked for once."""

    def __init__(self, model: Answers, test: PairsTest, data: Dataset) -> None:
        self._model, self._test, self._data = model, test, data

    @cached_property
    def _shown(self) -> tuple[Log, np.ndarray]:
        shown = self._data.impressions
        assert shown is not None
        assert self._test.shown is not None
        part = shown.take(self._test.shown)
        return part.log, part.click

    @cached_property
    def shown(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Logits of pCVR and pCTR of the held-out impressions."""
        return self._model._logits(self._shown[0])

    @cached_property
    def _conversions(self) -> np.ndarray:
        return self._model._logits(self._test.log)[0]

    def of(self, target: str) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """(logits, or None where the method has none; labels; weights) of an output."""
        if target == "pcvr":
            log = self._test.log
            return self._conversions, log.rating, unit_weight(log)
        log, click = self._shown
        b, a = self.shown
        if target == "pctr":
            return a, click.astype(np.float32), unit_weight(log)
        return None if a is None else joint_logit(a, b), log.rating, unit_weight(log)


def _pointwise(base: str, logit: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
    if base == "auc":
        return rating.auc(logit, label, weight)
    if base == "logloss":
        return logloss_of_logits(logit, label, weight)
    if base == "mse":
        return float(np.average((probability(logit) - label) ** 2, weights=weight))
    return calibration.ece(probability(logit), label)
