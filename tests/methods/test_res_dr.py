"""Res-DR against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.errors import ParameterError
from deconrec.methods.escm2_dr import ESCM2DR
from deconrec.methods.res_dr import JL_WARMUP, ResDR
from deconrec.training.samplers import Blocks
from manual import risks
from manual.batches import batches, dense, everywhere, probabilities, scramble, tiny, value

FLOOR = 0.2
SETTINGS = {
    "dim": 3,
    "epochs": 0,
    "floor": FLOOR,
    "ctcvr_weight": 0.7,
    "unbiased_weight": 1.3,
    "agreement": "loss",
}


class World:
    """A scrambled model, and what the loops are given."""

    def __init__(self, kind="cross-entropy", sampler=None, **parameters):
        data = tiny() if kind == "cross-entropy" else tiny((1.0, 3.0, 5.0))
        self.model = model = ResDR(**SETTINGS | parameters).fit(data, validation=data)
        self.nets = nets = scramble(model.nets_)
        (self.whole,) = batches(data)
        self.parts = batches(data, sampler)
        self.o, self.r, self.rows = dense(data)
        p_hat, self.r_hat = (probabilities(n, self.whole) for n in (nets.propensity, nets.prediction))
        self.p_hat = self.p = p_hat
        if model.residual_propensity:
            self.p = np.array(risks.calibrated(p_hat, self.difference(nets.propensity_residual)))
        nominal = probabilities(nets.imputation, self.whole)
        corrected = nominal
        if model.residual_imputation:
            corrected = np.array(risks.calibrated(nominal, self.difference(nets.imputation_residual)))
        literal = model.imputation == "error"
        self.e_hat = nominal if literal else risks.errors_against(kind, nominal, self.r_hat)
        self.e_tilde = corrected if literal else risks.errors_against(kind, corrected, self.r_hat)
        self.kind = kind

    def difference(self, net):
        """Delta in (0, 1), of which the net gives the logit."""
        return 1 / (1 + np.exp(-everywhere(net, self.whole)))

    def dr(self):
        return risks.dr(self.kind, self.o, self.r, self.r_hat, risks.raised(self.p, FLOOR), self.e_tilde)

    def mean(self, loss):
        return np.mean([b.weight * value(loss(self.nets, b)) for b in self.parts])


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"kind": "squared"},
        {"kind": "squared", "imputation": "error", "error": "squared"},
        {"residual_propensity": False},
        {"residual_imputation": False},
        {"residual_propensity": False, "residual_imputation": False},
        {"shared": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(parameters, sampler):
    w = World(sampler=sampler, **parameters)
    kind = w.kind
    p_hat = risks.raised(w.p_hat, FLOOR)
    twins = {
        w.model.exposure: risks.ctr(w.o, w.p_hat),
        w.model.impute: risks.imputation(kind, w.o, w.r, w.r_hat, p_hat, w.e_hat),
        w.model.dr: w.dr(),
        w.model.ctcvr: 0.7 * risks.ctcvr(kind, w.o, w.r, w.p, w.r_hat),
        w.model.unbiased: risks.unbiased(kind, w.rows, w.r_hat),
    }
    for loss, twin in twins.items():
        assert w.mean(loss) == pytest.approx(twin, rel=1e-6), loss.__name__


def test_the_consistency_and_the_whole_objective_equal_the_twins():
    w = World(policy="joint", imputation_weight=0.3, outcome_weight=0.4, consistency=0.05)
    unbiased = risks.unbiased(w.kind, w.rows, w.r_hat)
    agreement = risks.agreement(w.dr(), unbiased)
    assert value(w.model.agree(w.nets, w.whole)) == pytest.approx(agreement, rel=1e-6)
    bundle = w.dr() + 0.7 * risks.ctcvr(w.kind, w.o, w.r, w.p, w.r_hat) + 1.3 * unbiased
    p_hat = risks.raised(w.p_hat, FLOOR)
    imputation = risks.imputation(w.kind, w.o, w.r, w.r_hat, p_hat, w.e_hat)
    twin = risks.ctr(w.o, w.p_hat) + 0.3 * imputation + 0.4 * bundle + 0.05 * agreement
    (phase,) = w.model.program()
    (step,) = phase.steps
    assert set(step.updates) == set(w.nets.keys())
    assert value(step.loss(w.nets, w.whole)) == pytest.approx(twin, rel=1e-6)


def test_policy_paper_gives_each_net_its_own_loss():
    w = World(policy="paper", consistency=0.05)
    (phase,) = w.model.program()
    moved = {step.updates: set(step.loss(w.nets, w.whole)) for step in phase.steps}
    assert moved == {
        ("propensity",): {"exposure"},
        ("imputation",): {"imputation"},
        ("prediction",): {"direct", "correction", "ctcvr", "unbiased"},
        ("propensity_residual", "imputation_residual"): {"consistency"},
    }


def test_the_imputation_loss_teaches_nothing_but_the_imputation():
    w = World()
    w.nets.zero_grad()
    w.model.impute(w.nets, w.whole)["imputation"].backward()
    reached = {
        name.split(".")[0] for name, p in w.nets.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert reached == {"imputation"}


def test_shared_towers_learn_in_one_step_each_loss_its_own():
    w = World(shared=True, consistency=0.05)
    (phase,) = w.model.program()
    moved = {step.updates: set(step.loss(w.nets, w.whole)) for step in phase.steps}
    assert moved == {
        ("prediction", "imputation", "propensity"): {
            *("exposure", "imputation", "direct", "correction", "ctcvr", "unbiased"),
        },
        ("propensity_residual", "imputation_residual"): {"consistency"},
    }
    for loss, tower in ((w.model.dr, "prediction"), (w.model.impute, "imputation")):
        w.nets.zero_grad()
        torch.stack(list(loss(w.nets, w.whole).values())).sum().backward()
        towers = {
            n.split(".")[0] for n, p in w.nets.named_parameters() if p.grad is not None and p.grad.any()
        }
        # L_DR moves the residuals too, where a step asks for them; L_IMP reaches the shared factors.
        assert towers - {"propensity_residual", "imputation_residual", "prediction"} == {tower} - {
            "prediction"
        }
    w.nets.zero_grad()
    w.model.agree(w.nets, w.whole)["consistency"].backward()
    assert w.nets.propensity_residual.item.grad.any()
    assert w.nets.imputation_residual.item.grad.any()


def test_shared_without_what_is_new_it_is_escm2_dr_exactly():
    data = tiny()
    same = {
        "dim": 3,
        "epochs": 4,
        "patience": 0,
        "floor": FLOOR,
        "imputation_weight": 0.3,
        "ctcvr_weight": 0.7,
    }
    bare = {
        "residual_propensity": False,
        "residual_imputation": False,
        "unbiased_weight": 0.0,
        "consistency": 0.0,
    }
    res = ResDR(shared=True, l2=1e-3, **same, **bare).fit(data, validation=data)
    escm2 = ESCM2DR(l2=1e-3, **same).fit(data, validation=data)
    np.testing.assert_allclose(res.score(), escm2.score(), rtol=1e-6)
    assert [e["exposure"] for e in res.history_] == [e["exposure"] for e in escm2.history_]


def test_in_turns_nothing_is_shared():
    data = tiny()
    nets = ResDR(scheme="jl", shared=True, dim=2, epochs=JL_WARMUP + 1).fit(data, validation=data).nets_
    assert type(nets.imputation) is type(nets.prediction)


@pytest.mark.parametrize("off", ["residual_propensity", "residual_imputation"])
def test_a_residual_that_is_off_has_no_net(off):
    w = World(**{off: False})
    assert off.removeprefix("residual_") + "_residual" not in w.nets


def test_without_residuals_there_is_nothing_to_calibrate():
    w = World(residual_propensity=False, residual_imputation=False, consistency=1.0)
    terms = {
        name for phase in w.model.program() for step in phase.steps for name in step.loss(w.nets, w.whole)
    }
    assert "consistency" not in terms


def test_a_literal_imputed_error_needs_squared_errors():
    with pytest.raises(ParameterError, match="'error' of ResDR must be 'squared'"):
        ResDR(imputation="error").fit(tiny())


def test_learning_in_turns():
    data = tiny()
    model = ResDR(scheme="jl", dim=2, epochs=JL_WARMUP + 2, patience=0, agreement="loss").fit(
        data, validation=data
    )
    names = [set(epoch) - {"score", "seconds"} for epoch in model.history_]
    assert all(n == {"exposure"} for n in names[:JL_WARMUP])
    assert {"imputation", "direct", "correction", "consistency"} <= names[-1]
    assert "exposure" not in names[-1]
    assert model.history_.best_epoch >= JL_WARMUP
    with pytest.raises(ParameterError, match=f"'epochs' of ResDR must be a whole number > {JL_WARMUP}"):
        ResDR(scheme="jl", epochs=JL_WARMUP).fit(data)


def test_patience_does_not_run_out_in_the_warm_up():
    # The prediction does not move in the warm-up: a patience counted from epoch 0 would end training there.
    data = tiny()
    model = ResDR(scheme="jl", dim=2, epochs=JL_WARMUP + 3, patience=1).fit(data, validation=data)
    assert len(model.history_) > JL_WARMUP


def test_double_learning_moves_the_imputation_towards_the_prediction():
    w = World(scheme="dl", sharing=0.25)
    before = [p.detach().clone() for p in w.nets.imputation.parameters()]
    with torch.no_grad():
        w.model.share(w.nets)
    after, other = w.nets.imputation.parameters(), w.nets.prediction.parameters()
    for old, new, target in zip(before, after, other, strict=True):
        torch.testing.assert_close(new.detach(), 0.75 * old + 0.25 * target.detach())
    shared = [step.project is not None for phase in w.model.program() for step in phase.steps]
    assert shared.count(True) == 1
    assert not any(step.project for phase in ResDR(scheme="jl").program() for step in phase.steps)
