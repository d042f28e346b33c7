"""Res-IPS: inverse propensity scoring with propensities calibrated by a residual network.

Idea. Propensities learned from the biased log miss what hidden confounders do. A residual network corrects them so
that the weighted biased log agrees with a few randomised ratings.

Risk (paper 2, section 4).
    p~ = sigma( logit p^ + rho )                                 logit p^ `propensity`, rho `propensity_residual`
    L_CTR     = E_D[ d(o, p^) ]                                  moves `propensity`
    L_IPS     = (1/|D|) sum_O e / p~
    L_CTCVR   = E_D[ d(o r, p~ r_hat) ]
    L_U       = (1/|R|) sum_R e
    L_B&U     = (L_IPS - L_U)^2                                  moves `propensity_residual`
    L_Res     = L_CTR + beta (L_IPS + L_CTCVR + L_U) + gamma L_B&U
What must agree, and rho, by `agreement`:
    loss       rho = rho_ui, the error as above (the paper)
    outcomes   rho = rho_r, one number an outcome, and
               sum_O 1 / p~ = sum_O 1 / p^  and  E_D[ r_hat ] + sum_O (r - r_hat) / p~ / sum_O 1 / p~ = mean_R r

Needs.      a biased log and a randomised log.
Assumes.    representative randomised rows; every pair could have been exposed; "outcomes": hidden confounders move
            exposure through the outcome alone, on the scale of odds, given what p^ sees. "loss": some weighting of the
            biased log, by low-rank propensities, has the error of the randomised one; one number says that weights
            are wrong, not which: how the residual network spreads it is not identified.
Limits.     rho = 0 (gamma = 0): ESCM2-IPS with L_U added. U absent from the loss (`unbiased_weight` = 0) and gamma = 0:
            ESCM2-IPS, exactly with `shared` = True. Logs that agree within `slack` standard errors: rho = 0.
Deviations. 1. Who learns from what is ambiguous (L_B&U lists all parameters; the text trains the residuals by it).
            `policy="paper"`: each loss moves one network; "joint": one backward pass through everything. 2. d of two
            scalars is their squared difference (or `distance="absolute"`): a cross-entropy of losses is not defined
            above 1. 3. p~ is floored in value, not in gradient; with "outcomes" p^ is floored, and rho then added. 4.
            `unbiased_weight` inside the bundle is 1 in the paper. 5. With "loss" the residual network is an MF whose
            item side starts at 0, so that p~ = p^ at the start (sizes unpublished), or with `residual="head"` linear
            on the factors of the nominal network, held fixed. It has the L2 of every network; no moving average
            smooths either side of L_B&U over steps, and R is halved (`split_unbiased`), not cross-fitted. 6.
            `agreement="outcomes"` is the default and not the paper's. Every pair's gradient of (L_IPS - L_U)^2 has one
            sign: the published residuals rescale all weights alike, and the level that confounding shifts stays.
            Frequencies of outcomes are the mean errors of a prediction that is constant, do not over-fit R as L_U
            does, and have as many equations as rho_r has numbers. In L_CTCVR p~ is that of r = 1: only such pairs are
            in it. 7. `shared` = True gives exposure and outcome common factors, as entire-space models have them: one
            step learns both, L_IPS holding p^ fixed; L_CTCVR, the entire-space loss, moves the propensity's tower too,
            as in ESCM2 (apart, it moves the prediction alone). The paper does not say; separate networks are the
            default, because sharing hurts where what is chosen has little to do with what is liked (`shared` is
            searched).
Paper.      [Li2023]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from deconrec.base import Spec, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.errors import DataError
from deconrec.losses.elementwise import cross_entropy, product_error
from deconrec.nn.backbone import density_logit, head, tower
from deconrec.nn.tables import OutcomeLogit
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, parameter
from deconrec.propensity.agreement import SPACE, Evidence, target, tilt
from deconrec.propensity.floor import automatic, inverse
from deconrec.propensity.residual import Calibrated
from deconrec.random import numpy_generator
from deconrec.torch_estimator import PairEstimator
from deconrec.training.impressions import ImpressionSource
from deconrec.training.program import History, Loss, Nets, Phase, Program, Step, Terms, merged, scaled
from deconrec.training.samplers import Source, log_pairs


@dataclass(kw_only=True, eq=False, repr=False)
class ResIPS(PairEstimator):
    """IPS with residual-calibrated propensities."""

    paper = "Li2023"
    title = "Residual IPS"
    starts = ({"shared": True, "ctcvr_weight": 3.0},)  # ESCM2-IPS's

    if TYPE_CHECKING:  # held while training; an annotation here would be a parameter
        evidence_: Evidence

    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    floor: float | None = parameter(
        None,
        "smallest propensity; none = the log's density, at most 0.1",
        above=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
    )
    outcome_weight: float = parameter(
        1.0, "weight beta of the CVR bundle", above=0, search=Search(0.1, 10, log=True)
    )
    ctcvr_weight: float = parameter(
        1.0, "weight of L_CTCVR inside the bundle", low=0, search=Search(0.1, 10, log=True)
    )
    unbiased_weight: float = parameter(
        0.1, "weight of L_U inside the bundle (paper: 1); 0 = Table 4's ablation", low=0
    )
    consistency: float = parameter(
        0.01,
        'weight gamma of L_B&U ("outcomes" solve it: any weight is the same); 0 = Table 4\'s ablation',
        low=0,
        search=Search(1e-3, 1.0, log=True),
    )
    residual_propensity: bool = parameter(True, "calibrate propensities; False = Table 3's ablation")
    agreement: str = parameter(
        "outcomes",
        "in what the two logs must agree: outcomes = how often each occurs, loss = the mean error (the paper's)",
        choices=("outcomes", "loss"),
    )
    distance: str = parameter(
        "squared", "loss: d of the two mean errors", choices=("squared", "absolute"), later=True
    )
    residual: str = parameter(
        "mf",
        "loss: residual networks: mf = one of ids, head = linear on the nominal networks' factors, held fixed",
        choices=("mf", "head"),
        later=True,
    )
    slack: float = parameter(
        2.0, "outcomes: standard errors of the randomised frequencies by which the logs may differ", low=0
    )
    policy: str = parameter(
        "paper",
        "who learns from what: paper = each loss one network, joint = all",
        choices=("paper", "joint"),
    )
    split_unbiased: bool = parameter(
        False, "train on one half of the randomised log and calibrate on the other (paper: both on all of it)"
    )
    shared: bool = parameter(
        False,
        "propensity and prediction share their factors, and learn in one step",
        search=Search(choices=(False, True)),
    )
    warmup: int = parameter(0, "epochs of L_CTR alone before the rest begins", low=0)

    @property
    def takes_impressions(self) -> bool:
        """Not with a residual head on factors."""
        return super().takes_impressions and not (self.agreement == "loss" and self.residual == "head")

    @property
    def inert(self) -> frozenset[str]:
        """The weight of an agreement that is solved."""
        return frozenset({"consistency"} if self.agreement == "outcomes" else {"slack"})

    @property
    def tags(self) -> Tags:
        """Needs a randomised log unless both of its uses are switched off."""
        uses = self.unbiased_weight > 0 or self.consistency > 0
        return Tags(
            needs_unbiased=uses,
            uses_unbiased=uses,
            shape="pairs",
            uses_features=self.reads_features,
            impressions=self.takes_impressions,
        )

    @property
    def floor_(self) -> float:
        """The floor in force."""
        return automatic(self.floor, self.spec_.density)

    @property
    def joined(self) -> bool:
        """Whether all but the residuals learn in one step: towers and the factors that they share."""
        return self.shared and self.policy == "paper"

    @property
    def propensities(self) -> Calibrated:
        """p~."""
        return Calibrated(
            self.residual_propensity, self.agreement == "outcomes", self.floor_, held=self.joined
        )

    def nets(self, spec: Spec) -> Nets:
        """Prediction, propensity and its residual; the residual last, so that leaving it out moves no draw."""
        prediction = self.net(spec)
        start = density_logit(spec)
        propensity = tower(prediction, spec, offset=start) if self.shared else self.exposure_net(spec)
        nets: dict[str, Module] = {"prediction": prediction, "propensity": propensity}
        if self.residual_propensity:
            nets["propensity_residual"] = (
                residual(self, spec, propensity, prediction) if self.agreement == "loss" else OutcomeLogit()
            )
        return Nets(**nets)

    def program(self) -> Program:
        """The paper's grouping, or one joint step."""
        bundle = self.outcome_weight
        outcome = scaled(merged(self.ips, self.ctcvr, *self.on_unbiased()), bundle)
        calibrated = self.residual_propensity and self.consistency > 0
        agree = [scaled(self.agree, self.consistency)] if calibrated and self.agreement == "loss" else []
        before = self.agree_on_outcomes if calibrated and self.agreement == "outcomes" else None
        exposure = Step(self.exposure, updates=("propensity",))
        steps = [exposure, Step(outcome, updates=("prediction",))]
        if self.policy == "joint":
            everything = ("prediction", "propensity", *(["propensity_residual"] if agree else ()))
            joint: list[Loss] = [self.exposure, outcome, *agree]
            steps, agree = [Step(merged(*joint), updates=everything)], []
        elif self.joined:
            towers = ("prediction", "propensity")
            exposure = Step(self.exposure, updates=towers)
            steps = [Step(merged(self.exposure, outcome), updates=towers)]
        steps += [Step(loss, ("propensity_residual",)) for loss in agree]
        main = Phase(*steps, start=self.warmup, before=before)
        return [*warm(self.warmup, exposure), main]

    def on_unbiased(self) -> list[Loss]:
        """L_U, unless switched off."""
        return [scaled(self.unbiased, self.unbiased_weight)] if self.unbiased_weight else []

    def exposure_logit(self, nets: Nets, pairs: Pairs) -> Tensor:
        """What is floored: the calibrated propensity; with "outcomes" the nominal one."""
        return self.propensities.bounded(nets, pairs)

    def observed_weights(self, nets: Nets, observed: Pairs) -> Tensor:
        """(n,) 1 / p~ of observed pairs."""
        return self.propensities.weights(nets, observed)

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def ips(self, nets: Nets, b: Batch) -> Terms:
        """L_IPS with calibrated propensities."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"ips": o.expect(e * self.observed_weights(nets, o))}

    def ctcvr(self, nets: Nets, b: Batch) -> Terms:
        """L_CTCVR with calibrated propensities."""
        if not self.ctcvr_weight:
            return {}
        d = b.space
        e = product_error(self.error_kind, self.propensities.logit(nets, d), nets.prediction(d), d.o * d.r)
        return {"ctcvr": self.ctcvr_weight * d.expect(e)}

    def unbiased(self, nets: Nets, b: Batch) -> Terms:
        """L_U, on the half of R that trains where R is split."""
        assert b.unbiased is not None
        r = half(b.unbiased, 0) if self.split_unbiased else b.unbiased
        return {"unbiased": r.expect(self.d(nets.prediction(r), r.r))}

    def agree(self, nets: Nets, b: Batch) -> Terms:
        """L_B&U, on the half of R that calibrates where R is split."""
        assert b.unbiased is not None
        r = half(b.unbiased, 1) if self.split_unbiased else b.unbiased
        gap = self.ips(nets, b)["ips"] - r.expect(self.d(nets.prediction(r), r.r))
        return {"consistency": apart(self.distance, gap)}

    def agree_on_outcomes(self, nets: Nets) -> None:
        """Solve L_B&U of outcomes for rho_r."""
        seen, r_hat = self.evidence_, nets.prediction(self.evidence_.observed).sigmoid()
        level = float(nets.prediction(seen.space).sigmoid().mean())
        rho = agreed_tilt(nets, seen, r_hat, level, self.floor_, seen.slack(self.slack))
        nets.propensity_residual.values.copy_(torch.tensor(rho))

    def _source(self, data: Dataset) -> Source | ImpressionSource:
        source = super()._source(data)
        if self.agreement == "outcomes" and source.unbiased is not None:
            self.evidence_ = evidence(data, source, self.seed, split=self.split_unbiased)
        return source

    def _train(self, data: Dataset, validation: ValidationPart, epochs: int, **how: bool) -> History:
        history = super()._train(data, validation, epochs, **how)
        self.__dict__.pop("evidence_", None)
        return history


def residual(model: PairEstimator, spec: Spec, nominal: Module, prediction: Module) -> Module:
    """A residual network over pairs, zero at the start: of ids, or a head on the nominal network's factors."""
    if model.get_params(deep=False)["residual"] == "mf":
        return model.net(spec, still=True)
    return head(nominal, prediction)


def apart(distance: str, gap: Tensor) -> Tensor:
    """D of two mean errors, from their difference: its square, or its size."""
    return gap**2 if distance == "squared" else gap.abs()


def evidence(data: Dataset, source: Source | ImpressionSource, seed: int, *, split: bool) -> Evidence:
    """What the two logs of a data set say of outcomes."""
    assert source.unbiased is not None
    r = half(source.unbiased, 1) if split else source.unbiased
    rng, n = numpy_generator(seed, "pairs that stand for D"), min(max(20 * len(r), SPACE[0]), SPACE[1])
    space = source.drawn(rng, n)
    observed = log_pairs(data, data.biased, source.tables, source.device)
    counts = None if r.weight is None else r.weight.cpu().numpy().astype(float)
    return Evidence(observed, space, r.r.cpu().numpy().astype(float), counts)


def doubly_robust(
    nets: Nets, seen: Evidence, label: Tensor, level: float, floor: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """(odds 1 / p^ - 1, labels, mean outcome) of the biased log: level + sum_O (r - label) / p^ / sum_O 1 / p^."""
    odds = (inverse(nets.propensity(seen.observed), floor) - 1.0).cpu().numpy().astype(float)
    r, q = (t.cpu().numpy().astype(float) for t in (seen.observed.r, label))
    w = odds + 1.0 if seen.observed.weight is None else (odds + 1.0) * seen.observed.weight.cpu().numpy()
    return odds, q, level + float(w @ (r - q)) / float(w.sum())


def agreed_tilt(
    nets: Nets, seen: Evidence, r_hat: Tensor, level: float, floor: float, slack: float
) -> tuple[float, float]:
    """rho_r at which the doubly robust mean outcome of the biased log, by predictions r_hat, is as R has it."""
    odds, predicted, estimate = doubly_robust(nets, seen, r_hat, level, floor)
    mean = target(estimate, seen.outcomes, slack, seen.counts)
    r = seen.observed.r.cpu().numpy().astype(float)
    counts = None if seen.observed.weight is None else seen.observed.weight.cpu().numpy().astype(float)
    return (0.0, 0.0) if mean == estimate else tilt(odds, r, predicted, level, mean, counts)


def half(pairs: Pairs, which: int) -> Pairs:
    """One of two halves of a sample of R, the same pairs in every step: `which` is 0 or 1."""
    chosen = pairs.take(((pairs.user * 7919 + pairs.item * 104_729) >> 3) % 2 == which)
    if chosen.empty:
        raise DataError(
            "the randomised log must have rows in both halves for split_unbiased=True; one half is empty. Use "
            "split_unbiased=False."
        )
    return chosen


def warm(epochs: int, *steps: Step) -> Program:
    """A phase of `epochs` epochs of these steps alone; nothing for 0."""
    return [Phase(*steps, stop=epochs)] if epochs else []
