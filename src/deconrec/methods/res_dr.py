"""Res-DR: doubly robust learning with residual-calibrated propensities and imputed errors.

Idea. As Res-IPS, and the imputed errors are calibrated too: both residual networks are taught by the agreement of the
biased log, weighted and imputed, with a few randomised ratings.

Risk (paper 2, section 4).
    p~  = sigma( logit p^ + rho )                                logit p^ `propensity`, rho `propensity_residual`
    e~  = d( sigma( m + eta ), r_hat )                           m `imputation`, eta `imputation_residual`
    L_CTR     = E_D[ d(o, p^) ]                                  moves `propensity`
    L_IMP     = (1/|O|) sum_O (e - e_hat)^2 / p^                 moves `imputation`; e_hat = e~ at eta = 0
    L_DR      = (1/|D|) sum_D [ e~ + o (e - e~) / p~ ]
    L_CTCVR   = E_D[ d(o r, p~ r_hat) ]
    L_U       = (1/|R|) sum_R e
    L_B&U     = (L_DR - L_U)^2                                   moves both residual networks
    L_Res     = L_CTR + alpha L_IMP + beta (L_DR + L_CTCVR + L_U) + gamma L_B&U
What must agree, and the residuals, by `agreement`:
    loss       rho_ui and eta_ui, the error as above (the paper)
    outcomes   rho_r, one number an outcome, and eta, one number;
               E_D[ sigma( m + eta ) ] = mean_R r, unless the doubly robust mean by m agrees; rho_r as in Res-IPS

Needs.      a biased log and a randomised log.
Assumes.    representative randomised rows; every pair could have been exposed; "outcomes": propensities as Res-IPS, or
            imputed labels right but for their level. "loss": some weighting of the biased log, by low-rank
            propensities and imputed labels, has the error of the randomised one: propensity or imputation right, once
            calibrated. One number, the agreement of two mean errors, teaches both corrections: neither is identified.
Limits.     rho = eta = 0 (gamma = 0): ESCM2-DR with L_U added; without L_U and with `shared` = True ESCM2-DR, exactly.
            e~ = e: the ideal risk, whatever p~.
Deviations. 1. to 7. as in Res-IPS (`shared`: three towers; L_DR holds p^ and m fixed). 8. `imputation="pseudo-label"`
            (default): the networks impute a label, and e~ has a gradient to r_hat. "error" is the literal
            e~ = sigma(m + eta): it does not depend on r_hat, so that the prediction's gradient is that of Res-IPS; it
            needs errors in (0, 1), hence error="squared", and has no outcomes that could agree: agreement="loss".
            9. `scheme`: "mtl" (the paper's), "jl" and "dl" (Figure 2): propensities are learned in the warm-up, then
            imputation and prediction take turns by epoch; "dl" moves the imputation towards the prediction by
            `sharing` after each of its steps (the paper only says "parameter sharing").
Paper.      [Li2023]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.special import expit
from torch import Tensor
from torch.nn import Module

from deconrec.base import Spec, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.errors import ParameterError
from deconrec.losses.elementwise import cross_entropy, product_error
from deconrec.methods.res_ips import agreed_tilt, apart, doubly_robust, evidence, half, residual, warm
from deconrec.nn.backbone import density_logit, tower
from deconrec.nn.tables import ClassLogit, OutcomeLogit
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, parameter
from deconrec.propensity.agreement import Evidence, shift, target
from deconrec.propensity.floor import automatic, inverse
from deconrec.propensity.residual import Calibrated
from deconrec.torch_estimator import PairEstimator
from deconrec.training.impressions import ImpressionSource
from deconrec.training.program import History, Loss, Nets, Phase, Program, Step, Terms, merged, scaled
from deconrec.training.samplers import Source

JL_WARMUP = (
    20  # NOTE epochs of L_CTR that "jl" and "dl" make at least: their propensities learn nothing later
)


@dataclass(kw_only=True, eq=False, repr=False)
class ResDR(PairEstimator):
    """Doubly robust learning with residual-calibrated propensities and imputed errors."""

    paper = "Li2023"
    title = "Residual DR"
    starts = ({"shared": True, "imputation_weight": 0.1},)  # ESCM2-DR's

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
    imputation_weight: float = parameter(
        1.0, "weight alpha of L_IMP", above=0, search=Search(0.03, 3, log=True)
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
    residual_imputation: bool = parameter(True, "calibrate imputed errors; False = Table 3's ablation")
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
    imputation: str = parameter(
        "pseudo-label", "what is imputed: a label, or the error itself", choices=("pseudo-label", "error")
    )
    policy: str = parameter(
        "paper",
        "who learns from what: paper = each loss one network, joint = all",
        choices=("paper", "joint"),
    )
    split_unbiased: bool = parameter(
        False, "train on one half of the randomised log and calibrate on the other (paper: both on all of it)"
    )
    scheme: str = parameter(
        "mtl", "multi-task, joint or double learning (Figure 2)", choices=("mtl", "jl", "dl")
    )
    sharing: float = parameter(
        0.05,
        "dl: how far the imputation moves to the prediction",
        low=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
    )
    shared: bool = parameter(
        False,
        "propensity, imputation and prediction share their factors, and learn in one step (mtl alone)",
        search=Search(choices=(False, True)),
    )
    warmup: int = parameter(0, "epochs of L_CTR and L_IMP alone before the rest begins", low=0)

    @property
    def takes_impressions(self) -> bool:
        """Not with a residual head on factors."""
        return super().takes_impressions and not (self.agreement == "loss" and self.residual == "head")

    @property
    def inert(self) -> frozenset[str]:
        """The weight of an agreement that is solved; what the learning scheme leaves out."""
        names = {"consistency"} if self.agreement == "outcomes" else {"slack"}
        names |= set() if self.scheme == "mtl" else {"shared"}
        return frozenset(names | (set() if self.scheme == "dl" else {"sharing"}))

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
    def residuals(self) -> tuple[str, ...]:
        """The residual networks that are switched on."""
        pairs = (
            ("propensity_residual", self.residual_propensity),
            ("imputation_residual", self.residual_imputation),
        )
        return tuple(name for name, on in pairs if on)

    def check_params(self) -> None:
        """Ranges, and that a literal imputed error is taught by errors in (0, 1)."""
        super().check_params()
        if self.imputation == "error" and self.error != "squared":
            raise ParameterError(
                "'error' of ResDR must be 'squared' when imputation='error' (an imputed error in (0, 1) cannot "
                f"follow a cross-entropy beyond 1); got {self.error!r}."
            )

        if self.imputation == "error" and self.agreement == "outcomes":
            raise ParameterError(
                "'agreement' of ResDR must be 'loss' when imputation='error' (an imputed error is no outcome); got "
                f"{self.agreement!r}."
            )
        if self.scheme != "mtl" and self.policy == "joint":
            raise ParameterError(
                f"'policy' of ResDR must be 'paper' when scheme='{self.scheme}' (networks take turns); got 'joint'."
            )

    @property
    def floor_(self) -> float:
        """The floor in force."""
        return automatic(self.floor, self.spec_.density)

    @property
    def joined(self) -> bool:
        """Whether all but the residuals learn in one step: towers and the factors that they share."""
        return self.shared and self.policy == "paper" and self.scheme == "mtl"

    @property
    def propensities(self) -> Calibrated:
        """p~."""
        return Calibrated(
            self.residual_propensity, self.agreement == "outcomes", self.floor_, held=self.joined
        )

    def nets(self, spec: Spec) -> Nets:
        """Prediction, imputation, propensity, then the residuals, so that leaving one out moves no draw."""
        prediction = self.net(spec)
        nets: dict[str, Module] = {"prediction": prediction}
        if self.shared and self.scheme == "mtl":
            nets["imputation"] = tower(prediction, spec)
            nets["propensity"] = tower(prediction, spec, offset=density_logit(spec))
        else:
            nets |= {"imputation": self.net(spec), "propensity": self.exposure_net(spec)}
        numbers = {"propensity_residual": OutcomeLogit, "imputation_residual": lambda: ClassLogit(1)}
        for name in self.residuals:
            if self.agreement == "outcomes":
                nets[name] = numbers[name]()
            else:
                nets[name] = residual(self, spec, nets[name.removesuffix("_residual")], prediction)
        return Nets(**nets)

    def program(self) -> Program:
        """The paper's grouping, one joint step, or JL / DL in turns."""
        exposure = Step(self.exposure, updates=("propensity",))
        impute = Step(scaled(self.impute, self.imputation_weight), updates=("imputation",))
        bundle = scaled(merged(self.dr, self.ctcvr, *self.on_unbiased()), self.outcome_weight)
        outcome = Step(bundle, updates=("prediction",))
        calibrated = bool(self.residuals) and self.consistency > 0
        before = self.agree_on_outcomes if calibrated and self.agreement == "outcomes" else None
        agree: list[Loss] = (
            [scaled(self.agree, self.consistency)] if calibrated and self.agreement == "loss" else []
        )
        calibrate = [Step(loss, updates=self.residuals) for loss in agree]
        if self.scheme != "mtl":
            start = max(self.warmup, JL_WARMUP)
            if self.scheme == "dl":
                impute = Step(impute.loss, updates=impute.updates, project=self.share)
            return [
                Phase(exposure, stop=start),
                Phase(impute, start=start),
                Phase(outcome, *calibrate, start=start, before=before),
            ]
        if self.policy == "joint":
            losses = [self.exposure, impute.loss, bundle, *agree]
            everything = ("prediction", "imputation", "propensity", *(self.residuals if agree else ()))
            main = Phase(Step(merged(*losses), updates=everything), start=self.warmup, before=before)
        elif self.joined:
            towers = ("prediction", "imputation", "propensity")
            nominal = merged(self.exposure, impute.loss)
            learn = Step(merged(nominal, bundle), updates=towers)
            main = Phase(learn, *calibrate, start=self.warmup, before=before)
            return [*warm(self.warmup, Step(nominal, updates=towers)), main]
        else:
            main = Phase(exposure, impute, outcome, *calibrate, start=self.warmup, before=before)
        return [*warm(self.warmup, exposure, impute), main]

    def on_unbiased(self) -> list[Loss]:
        """L_U, unless switched off."""
        return [scaled(self.unbiased, self.unbiased_weight)] if self.unbiased_weight else []

    def share(self, nets: Nets) -> None:
        """Double learning: imputation <- (1 - tau) imputation + tau prediction."""
        for mine, other in zip(nets.imputation.parameters(), nets.prediction.parameters(), strict=True):
            mine.lerp_(other, self.sharing)

    def exposure_logit(self, nets: Nets, pairs: Pairs) -> Tensor:
        """What is floored: the calibrated propensity; with "outcomes" the nominal one."""
        return self.propensities.bounded(nets, pairs)

    def observed_weights(self, nets: Nets, observed: Pairs) -> Tensor:
        """(n,) 1 / p~ of observed pairs."""
        return self.propensities.weights(nets, observed)

    def label(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) m + eta; where the networks are joined m is held fixed."""
        m = nets.imputation(pairs)
        m = m.detach() if self.joined else m
        if not self.residual_imputation:
            return m
        if self.agreement == "loss":
            return m + nets.imputation_residual(pairs)
        return m + nets.imputation_residual(torch.zeros_like(m, dtype=torch.int64))

    def imputed(self, nets: Nets, pairs: Pairs, r_hat: Tensor, *, calibrated: bool) -> Tensor:
        """(n,) e~, or e_hat where not `calibrated`; r_hat is the prediction's logit."""
        m = self.label(nets, pairs) if calibrated else nets.imputation(pairs)
        return m.sigmoid() if self.imputation == "error" else self.d(r_hat, m.sigmoid())

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def impute(self, nets: Nets, b: Batch) -> Terms:
        """L_IMP: nominal imputation and propensity; r_hat and p^ are held fixed."""
        o = b.observed
        r_hat = nets.prediction(o).detach()
        e, e_hat = self.d(r_hat, o.r), self.imputed(nets, o, r_hat, calibrated=False)
        weight = inverse(nets.propensity(o), self.floor_).detach()
        return {"imputation": o.average((e - e_hat) ** 2 * weight)}

    def dr(self, nets: Nets, b: Batch) -> Terms:
        """L_DR with calibrated propensities and imputed errors."""
        o, d = b.observed, b.space
        r_hat = nets.prediction(o)
        e, e_tilde = self.d(r_hat, o.r), self.imputed(nets, o, r_hat, calibrated=True)
        everywhere = self.imputed(nets, d, nets.prediction(d), calibrated=True)
        return {
            "direct": d.expect(everywhere),
            "correction": o.expect((e - e_tilde) * self.observed_weights(nets, o)),
        }

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
        biased = torch.stack(list(self.dr(nets, b).values())).sum()
        return {"consistency": apart(self.distance, biased - r.expect(self.d(nets.prediction(r), r.r)))}

    def agree_on_outcomes(self, nets: Nets) -> None:
        """Solve L_B&U of outcomes for eta, then for rho_r."""
        seen, slack = self.evidence_, self.evidence_.slack(self.slack)
        if self.residual_imputation:
            m = nets.imputation(seen.space).cpu().numpy().astype(float)
            label = nets.imputation(seen.observed).sigmoid()
            estimate = doubly_robust(nets, seen, label, float(expit(m).mean()), self.floor_)[2]
            mean = target(estimate, seen.outcomes, slack, seen.counts)
            nets.imputation_residual.values.fill_(0.0 if mean == estimate else shift(m, mean))
        if self.residual_propensity:
            r_hat = nets.prediction(seen.observed).sigmoid()
            level = float(nets.prediction(seen.space).sigmoid().mean())
            rho = agreed_tilt(nets, seen, r_hat, level, self.floor_, slack)
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
