"""Flaws of public code that belong to no single method's file: each is named, and is not repeated here.

The others stand beside their methods: `grep -r test_flaw tests`.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.evaluation.ranking import shown
from deconrec.methods.dr_jl import DRJL
from deconrec.methods.escm2_dr import ESCM2DR
from deconrec.methods.mf import MF
from deconrec.propensity import Known, NaiveBayes
from manual import risks
from manual.batches import SHAPE, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.1, 0.9, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)


def fitted_dr_jl():
    data = tiny()
    model = DRJL(dim=3, epochs=0, propensity=Known(values=P)).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    return (
        model,
        nets,
        whole,
        *dense(data)[:2],
        *(probabilities(nets[n], whole) for n in ("prediction", "imputation")),
    )


def test_flaw_the_arguments_of_the_imputed_cross_entropy_are_swapped():
    model, nets, whole, o, r, r_hat, label = fitted_dr_jl()
    p = P.astype(float)
    right = risks.imputation(
        "cross-entropy", o, r, r_hat, p, risks.errors_against("cross-entropy", label, r_hat)
    )
    swapped = risks.imputation(
        "cross-entropy", o, r, r_hat, p, risks.errors_against("cross-entropy", r_hat, label)
    )
    assert value(model.imputation_risk(nets, whole)) == pytest.approx(right, rel=1e-6)
    assert abs(right - swapped) > 1e-3


def test_flaw_the_imputed_error_of_dr_jl_without_1_over_p():
    model, nets, whole, o, r, r_hat, label = fitted_dr_jl()
    e_hat = risks.errors_against("cross-entropy", label, r_hat)
    right = risks.dr("cross-entropy", o, r, r_hat, P.astype(float), e_hat)
    missing = right + sum(
        o[u][i] * e_hat[u][i] * (1 / float(P[u, i]) - 1) for u in range(SHAPE[0]) for i in range(SHAPE[1])
    ) / (SHAPE[0] * SHAPE[1])
    assert value(model.dr_risk(nets, whole)) == pytest.approx(right, rel=1e-6)
    assert abs(right - missing) > 1e-3


def test_flaw_probabilities_are_given_to_a_loss_of_logits():
    data = tiny()
    model = ESCM2DR(dim=3, epochs=0).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    o, _, _ = dense(data)
    p = probabilities(nets.propensity, whole)
    twice = 1 / (1 + np.exp(-np.array(p)))  # what a loss of logits makes of a probability
    got = value(model.exposure(nets, whole))
    assert got == pytest.approx(risks.ctr(o, p), rel=1e-6)
    assert abs(got - risks.ctr(o, twice)) > 1e-3


def frames(ids):
    log = pl.DataFrame({"user_id": [ids[0], ids[0], ids[1]], "item_id": [1, 2, 1], "rating": [1, 0, 1]})
    random = pl.DataFrame({"user_id": [ids[0], ids[1], ids[1]], "item_id": [3, 2, 3], "rating": [0, 0, 1]})
    return log, random


def test_flaw_the_density_of_naive_bayes_counts_ids_up_to_the_largest():
    near, far = (dc.Dataset.from_frames(log, unbiased=u) for log, u in (frames([0, 1]), frames([5, 10**9])))
    assert NaiveBayes().fit(far).density_ == NaiveBayes().fit(near).density_ == 3 / 6


def test_flaw_naive_bayes_reads_labels_of_the_test():
    data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.2, unbiased_share=0.3, seed=0)
    from deconrec.data.split import PairsSplit

    parts = PairsSplit(seed=0).apply(data)
    propensity = NaiveBayes().fit(parts.train)
    u = parts.train.outcome(parts.train.unbiased)
    share = (u.sum() + 1) / (len(u) + 2)
    seen = parts.train.outcome(parts.train.biased)
    expected = (seen.sum() + 1) / (len(seen) + 2) * parts.train.density / share
    assert propensity.p_[1] == pytest.approx(min(expected, 1.0), rel=1e-6)


def test_flaw_both_logs_are_combined_by_adding_matrices():
    # A pair in both logs would get the sum of its ratings, here 2 of 1.
    data = tiny()
    o, r, rows = dense(data)
    model = MF(dim=3, epochs=0, population="combined").fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    assert any(o[u][i] for u, i, _ in rows), "a pair must stand in both logs"
    r_hat = probabilities(nets.prediction, whole)
    (step,) = model.program()[0].steps
    twin = risks.combined("cross-entropy", o, r, rows, r_hat, 1.0)
    assert value(step.loss(nets, whole)) == pytest.approx(twin, rel=1e-6)
    assert float(whole.observed.r.max()) <= 1
    assert float(whole.unbiased.r.max()) <= 1


def test_flaw_users_without_a_positive_count_as_ranked_perfectly():
    user, score, relevant = [0, 0, 1, 1], [0.9, 0.1, 0.5, 0.4], [0, 1, 0, 0]
    values = shown(user, score, relevant, 1, "ndcg")
    assert (values.mean, values.skipped) == (0.0, 1)
