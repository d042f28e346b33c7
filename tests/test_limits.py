"""The Limits lines of the methods' docstrings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks.fixtures import confounded, rows_world
from deconrec.exposure import VAEExposure
from deconrec.methods.concat_vae import ConcatVAE
from deconrec.methods.deep_deconf import DeepDeconf
from deconrec.methods.dr_jl import DRJL
from deconrec.methods.ips import IPS
from deconrec.methods.mf import MF
from deconrec.methods.res_dr import ResDR
from deconrec.methods.res_ips import ResIPS
from deconrec.propensity import Known
from deconrec.training.samplers import Blocks
from manual import risks
from manual.batches import SHAPE, Table, batches, dense, scramble, tiny, value

LOGITS = np.random.default_rng(3).normal(0, 1.5, SHAPE)
PROPENSITIES = np.random.default_rng(4).uniform(0.05, 1, SHAPE).astype(np.float32)
R_HAT = 1 / (1 + np.exp(-LOGITS))


# ---------------------------------------------------------------------- MF
def test_mf_without_randomised_rows_combined_is_biased():
    data = tiny()
    model = MF(population="combined", epochs=0).fit(data, validation=data)
    model.n_unbiased_ = 0
    nets = scramble(model.nets_)
    (batch,) = batches(data)
    assert value(model.combined(nets, batch)) == value(model.biased(nets, batch))


# ---------------------------------------------------------------------- IPS
def test_ips_with_p_1_and_full_observation_is_mf():
    data = tiny(full=True)
    settings = {"dim": 3, "epochs": 5, "patience": 0, "seed": 3}
    ones = Known(values=np.ones(SHAPE))
    ips = IPS(propensity=ones, **settings).fit(data, validation=data)
    mf = MF(**settings).fit(data, validation=data)
    o, r, _ = dense(data)
    assert o.all()
    risk = risks.ips("cross-entropy", o, r, R_HAT, np.ones(SHAPE))
    assert risk == pytest.approx(risks.naive("cross-entropy", o, r, R_HAT))
    for a, b in zip(ips.history_, mf.history_, strict=True):
        assert a["ips"] == pytest.approx(b["biased"], rel=1e-6)
    np.testing.assert_allclose(ips.score(), mf.score(), atol=1e-6)


def test_ips_with_the_true_p_is_unbiased_over_all_exposures():
    # Exactly: the mean over all 2^4 exposure patterns of four cells, each weighted by its probability.
    r, r_hat, p = [[1, 0], [0, 1]], [[0.7, 0.4], [0.2, 0.9]], [[0.3, 0.8], [0.5, 0.1]]
    mean = {"ips": 0.0, "naive": 0.0, "dr": 0.0}
    e_hat = [[0.4, 2.0], [0.0, 0.7]]
    for pattern in range(1, 16):  # without the empty one, where the naive risk is not defined
        o = [[pattern & 1, pattern >> 1 & 1], [pattern >> 2 & 1, pattern >> 3 & 1]]
        chance = np.prod([p[u][i] if o[u][i] else 1 - p[u][i] for u, i in risks.cells(o)])
        mean["ips"] += chance * risks.ips("cross-entropy", o, r, r_hat, p)
        mean["dr"] += chance * risks.dr("cross-entropy", o, r, r_hat, p, e_hat)
        mean["naive"] += chance * risks.naive("cross-entropy", o, r, r_hat)
    empty = np.prod([1 - p[u][i] for u, i in risks.cells(r)])
    mean["dr"] += empty * np.mean(e_hat)
    truth = risks.ideal("cross-entropy", r, r_hat)
    assert mean["ips"] == pytest.approx(truth, rel=1e-9)
    assert mean["dr"] == pytest.approx(truth, rel=1e-9)
    assert abs(mean["naive"] / (1 - empty) - truth) > 0.05


# ---------------------------------------------------------------------- DR-JL
def dr_world(imputation, error="auto", p=PROPENSITIES):
    data = tiny()
    model = DRJL(dim=2, epochs=0, error=error, propensity=Known(values=p)).fit(data, validation=data)
    model.nets_["prediction"], model.nets_["imputation"] = Table(LOGITS), Table(imputation)
    (batch,) = batches(data)
    return model, batch, data


@pytest.mark.parametrize("p", [PROPENSITIES, PROPENSITIES[::-1].copy(), np.full(SHAPE, 0.05, np.float32)])
def test_dr_with_e_hat_e_is_the_ideal_risk_whatever_p(p):
    rng = np.random.default_rng(0)
    data = tiny()
    o, r, _ = dense(data)
    everywhere = np.where(o == 1, r, rng.integers(0, 2, SHAPE))  # the ratings of unseen cells too
    model, batch, _ = dr_world(40 * (2 * everywhere - 1), p=p)
    truth = risks.ideal("cross-entropy", everywhere, R_HAT)
    assert value(model.dr_risk(model.nets_, batch)) == pytest.approx(truth, rel=1e-6)


def test_dr_with_e_hat_0_is_ips():
    # The label that is imputed is the prediction itself, so that its squared error is 0.
    model, batch, data = dr_world(LOGITS, error="squared")
    o, r, _ = dense(data)
    twin = risks.ips("squared", o, r, R_HAT, PROPENSITIES.astype(float))
    assert value(model.dr_risk(model.nets_, batch)) == pytest.approx(twin, rel=1e-6)


# ---------------------------------------------------------------------- Res-IPS, Res-DR
SMALL = {"dim": 3, "epochs": 6, "patience": 0}
LOSS = {"agreement": "loss"}


def same(a, b):
    """Whether both give the same bits after their last epoch (validation without rows selects none)."""
    data, _ = confounded()
    nothing = data.with_logs(data.biased.take(np.zeros(0, np.int64)))
    return np.array_equal(a.fit(data, validation=nothing).score(), b.fit(data, validation=nothing).score())


@pytest.mark.parametrize("agreement", [LOSS, {"agreement": "outcomes", "slack": 0.0}], ids=str)
def test_res_ips_without_calibration_is_its_residual_free_twin_exactly(agreement):
    setting = SMALL | agreement
    assert same(ResIPS(consistency=0.0, **setting), ResIPS(residual_propensity=False, **setting))
    # The test can fail: with calibration they differ.
    assert not same(ResIPS(consistency=1.0, **setting), ResIPS(residual_propensity=False, **setting))


@pytest.mark.parametrize("cls", [ResIPS, ResDR])
def test_logs_that_agree_within_the_slack_calibrate_nothing(cls):
    off = {"residual_propensity": False} | ({"residual_imputation": False} if cls is ResDR else {})
    assert same(cls(slack=1e6, **SMALL), cls(**off, **SMALL))


@pytest.mark.parametrize(
    "imputation", [LOSS, LOSS | {"imputation": "error", "error": "squared"}, {"slack": 0.0}], ids=str
)
def test_res_dr_without_calibration_is_its_residual_free_twin_exactly(imputation):
    off = {"residual_propensity": False, "residual_imputation": False}
    assert same(ResDR(consistency=0.0, **SMALL, **imputation), ResDR(**off, **SMALL, **imputation))
    assert not same(ResDR(consistency=1.0, **SMALL, **imputation), ResDR(**off, **SMALL, **imputation))


@pytest.mark.parametrize("cls", [ResIPS, ResDR])
def test_without_u_in_the_loss_and_without_calibration_u_changes_nothing(cls):
    """ESCM2: what remains reads the biased log alone."""
    data, _ = confounded()
    bare = {"unbiased_weight": 0.0, "consistency": 0.0}
    with_u = cls(**bare, **SMALL).fit(data, validation=data)
    without = cls(**bare, **SMALL).fit(data.with_logs(data.biased), validation=data)
    assert np.array_equal(with_u.score(), without.score())
    names = {"propensity", "prediction"} | ({"imputation"} if cls is ResDR else set())
    moved = {net for phase in without.program() for step in phase.steps for net in step.updates}
    assert moved == names


def test_res_dr_with_e_tilde_e_is_the_ideal_risk_whatever_p_tilde():
    data = tiny()
    o, r, _ = dense(data)
    everywhere = np.where(o == 1, r, np.random.default_rng(1).integers(0, 2, SHAPE))
    model = ResDR(dim=2, epochs=0, **LOSS).fit(data, validation=data)
    nets = scramble(model.nets_)
    eta = np.random.default_rng(2).normal(size=SHAPE)
    nets["prediction"], nets["imputation_residual"] = Table(LOGITS), Table(eta)
    nets["imputation"] = Table(60 * (2 * everywhere - 1) - eta)  # m + eta is the label
    (batch,) = batches(data)
    truth = risks.ideal("cross-entropy", everywhere, R_HAT)
    assert value(model.dr(nets, batch)) == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("cls", [ResIPS, ResDR])
def test_policy_paper_consistency_moves_the_residual_nets_alone(cls):
    """After one step of everything, another weight has made a difference to the residual nets and to no other."""
    data, _ = confounded()
    one = {"dim": 3, "epochs": 1, "patience": 0, "batch": 10**9} | LOSS  # a single step of everything
    weak, strong = (cls(consistency=c, **one).fit(data).nets_.state_dict() for c in (1e-3, 0.0))
    moved = {name.split(".")[0] for name in weak if not torch.equal(weak[name], strong[name])}
    assert moved == {n for n in cls(**one).fit(data).nets_ if n.endswith("_residual")}


# ---------------------------------------------------------------------- Concat-VAE, Deep-Deconf
def test_concat_vae_without_kl_is_a_plain_autoencoder():
    data = rows_world()
    plain = ConcatVAE(epochs=2, hidden=(4,), variational=False).fit(data)
    assert {name for epoch in plain.history_ for name in epoch} == {"outcome", "score", "seconds"}
    model = ConcatVAE(epochs=0, hidden=(4,), kl=0.0).fit(data, validation=data)
    (batch,) = batches(data, Blocks(data.n_users), 50, tables=model.tables(data))
    nets = scramble(model.nets_, std=0.3).eval()
    terms = model.elbo(nets, batch)
    assert value(terms) == value({"outcome": terms["outcome"]})


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("variational", [False, True])
def test_deep_deconf_with_a_constant_z_is_concat_vae(late, variational):
    data = rows_world()
    settings = {"epochs": 0, "hidden": (4,), "variational": variational}
    concat = ConcatVAE(**settings).fit(data, validation=data)
    deconf = DeepDeconf(late=late, exposure=VAEExposure(dim=3, epochs=1), **settings).fit(
        data, validation=data
    )
    z = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)
    deconf.z = lambda rows: z.expand(len(rows), 3)
    (batch,) = batches(data, Blocks(data.n_users), 3, tables=concat.tables(data))
    a, b = scramble(concat.nets_, std=0.3).eval(), deconf.nets_.double().eval()
    with torch.no_grad():
        for name, theirs in a.outcome.named_parameters():
            mine = b.outcome.get_parameter(name)
            if mine.shape == theirs.shape:
                mine.copy_(theirs)
            elif late:  # the decoder's further inputs
                mine[:, : theirs.shape[1]] = theirs
            else:  # the first layer's further inputs
                mine[: theirs.shape[0]] = theirs
        # A constant input is a bias: taken out, nothing of z is left.
        if late:
            b.outcome.out.bias -= b.outcome.out.weight[:, -3:] @ z
        else:
            for layer in (b.outcome.first, b.outcome.log_std):
                if layer is not None:
                    layer.bias -= z @ layer.dense[-3:]
    torch.testing.assert_close(
        deconf.logits(b, batch.rows), concat.logits(a, batch.rows), rtol=1e-9, atol=1e-9
    )
    assert value(deconf.elbo(b, batch)) == pytest.approx(value(concat.elbo(a, batch)), rel=1e-9)
    # The test can fail: a z that is not constant is no bias.
    deconf.z = lambda rows: torch.randn(len(rows), 3, dtype=torch.float64)
    assert not torch.allclose(deconf.logits(b, batch.rows), concat.logits(a, batch.rows), atol=1e-3)
