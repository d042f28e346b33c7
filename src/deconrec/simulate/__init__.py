"""Worlds with a known truth: each simulator returns (Dataset, Truth). Nothing here imports torch.

A module is named `..._world`, its function plainly (`simulate.pairs`), so that neither hides the other. Every
source of randomness has its own stream of the seed: turning one dial keeps all the other draws.
"""

from __future__ import annotations

from deconrec.simulate.deep_deconf_world import deep_deconf
from deconrec.simulate.pairs_world import pairs
from deconrec.simulate.randomised import randomise

__all__ = ["deep_deconf", "pairs", "randomise"]
