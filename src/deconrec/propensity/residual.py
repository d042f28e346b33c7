"""Propensities with a residual: the nominal ones corrected on the scale of odds, by pair or by outcome.

logit p~_ui = logit p^_ui + rho_ui          by pair: a network; the floor is of p~
logit p~_r  = logit p^_ui + rho_r           by outcome: one number each; the floor is of p^, and rho is then added
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deconrec.pairs import Pairs
from deconrec.propensity.floor import floored_logit, inverse
from deconrec.training.program import Nets


@dataclass(frozen=True)
class Calibrated:
    """p~ from the nets `propensity` (p^) and `propensity_residual` (rho).

    Attributes
    ----------
    residual: whether rho is there; without it p~ = p^.
    by_outcome: rho is one number an outcome; otherwise a network over pairs.
    floor: smallest propensity that is divided by, in (0, 1].
    held: no gradient of 1 / p~ reaches p^ (that of rho stays).
    """

    residual: bool
    by_outcome: bool
    floor: float
    held: bool = False

    def logit(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) logit of p~; by outcome that of pairs whose outcome is 1, the only ones in L_CTCVR."""
        nominal = nets.propensity(pairs)
        if not self.residual:
            return nominal
        if self.by_outcome:
            return nominal + nets.propensity_residual(torch.ones_like(nominal))
        return nominal + nets.propensity_residual(pairs)

    def bounded(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) logit of what the floor bounds."""
        by_pair = self.residual and not self.by_outcome
        return self.logit(nets, pairs) if by_pair else nets.propensity(pairs)

    def weights(self, nets: Nets, observed: Pairs) -> Tensor:
        """(n,) 1 / p~ of observed pairs."""
        nominal = nets.propensity(observed)
        nominal = nominal.detach() if self.held else nominal
        if not self.by_outcome:
            by_pair = nominal + nets.propensity_residual(observed) if self.residual else nominal
            return inverse(by_pair, self.floor)
        logit = floored_logit(nominal, self.floor)
        if self.residual:
            logit = logit + nets.propensity_residual(observed.r)
        return 1.0 + torch.exp(-logit)
