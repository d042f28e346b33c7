"""Reweighted risks of samples of O and D, from pointwise errors and weights; each is a scalar, 0 on an empty sample.

Errors and weights are (n,) over the rows of the sample that stands beside them; a weight is 1 / p in the papers' terms.
"""

from __future__ import annotations

from torch import Tensor

from deconrec.pairs import Pairs


def ips(o: Pairs, e: Tensor, w: Tensor) -> Tensor:
    """(1/|D|) sum_O w e [Schnabel2016]."""
    return o.expect(e * w)


def snips(o: Pairs, e: Tensor, w: Tensor) -> Tensor:
    """sum_O w e / sum_O w, both sums over all rows of the sample [Swaminathan2015].

    Over a pass, samples count by their rows, so that equal weights give the mean of e over O whatever the sampler.
    """
    return o.average(e * w * o.mass / o.expect(w))


def eib(o: Pairs, d: Pairs, e: Tensor, e_hat: Tensor) -> Tensor:
    """(1/|D|) sum_D [ o e + (1 - o) e_hat ]; e over the rows of `o`, e_hat over those of `d` [Steck2010]."""
    return o.expect(e) + d.expect((1 - d.o) * e_hat)


def dr(o: Pairs, d: Pairs, e: Tensor, e_hat: Tensor, e_hat_d: Tensor, w: Tensor) -> dict[str, Tensor]:
    """(1/|D|) sum_D [ e_hat + o w (e - e_hat) ] in two terms; e and e_hat over `o`, e_hat_d over `d` [Wang2019]."""
    return {"direct": d.expect(e_hat_d), "correction": o.expect((e - e_hat) * w)}


def imputation(o: Pairs, e: Tensor, e_hat: Tensor, w: Tensor | float = 1.0) -> Tensor:
    """(1/|O|) sum_O w (e - e_hat)^2."""
    return o.average((e - e_hat) ** 2 * w)
