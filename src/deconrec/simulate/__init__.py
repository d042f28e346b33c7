"""Worlds with a known truth: each simulator returns (Dataset, Truth). torch is loaded only where decoders are fitted.

A module is named `..._world`, its function plainly (`simulate.pairs`), so that neither hides the other. Every
source of randomness has its own stream of the seed: turning one dial keeps all the other draws.
"""

from __future__ import annotations

from deconrec.simulate.causal_world import causal, ml_causal, vg_causal
from deconrec.simulate.deep_deconf_world import deep_deconf
from deconrec.simulate.effects_world import effects
from deconrec.simulate.impressions_world import impressions
from deconrec.simulate.kuairec_world import kuairec_semi
from deconrec.simulate.pairs_world import pairs
from deconrec.simulate.randomised import randomise

__all__ = [
    "causal",
    "deep_deconf",
    "effects",
    "impressions",
    "kuairec_semi",
    "ml_causal",
    "pairs",
    "randomise",
    "vg_causal",
]
