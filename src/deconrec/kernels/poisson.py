"""Poisson factorisation by coordinate ascent: what its updates share.

A count x_ui is a sum of sources k with rates s_uik = exp(E log theta_uk + E log beta_ik); its expected split among
them is x_ui s_uik / s_ui. Sums of these shares over a user's or an item's counts are all that the updates of Gamma
factors need [Gopalan2015], and only cells with a count have any.
"""

from __future__ import annotations

import numpy as np

from deconrec.kernels.als import Entries

TINY = 1e-30


def shares(
    entries: Entries, own: np.ndarray, other: np.ndarray, x: np.ndarray, extra: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over each row's entries of the expected counts of its sources, and the ratios they were made with.

    Parameters
    ----------
    own: (n, k) and other: (m, k), >= 0, the sources' rates' two factors.
    x: (nnz,) counts, in the order of the log.
    extra: (nnz,) further rate of each cell, in the order of the log.

    Returns ((n, k) own * sum_j x_j other_j / s_j, (nnz,) x_j / s_j in the order of the log) with s_j = own . other_j
    + extra_j.
    """
    k, m = own.shape[1], len(other)
    own = np.asarray(own, np.float32)
    other = np.vstack([other, np.zeros((1, k))]).astype(np.float32)
    counts = np.append(np.asarray(x, np.float32)[entries.order], np.float32(0))
    beside = None
    if extra is not None:
        beside = np.append(np.asarray(extra, np.float32)[entries.order], np.float32(0))
    sums, ratio = np.zeros(own.shape, np.float32), np.zeros(len(counts), np.float32)
    for rows, at, index in entries.blocks(k, m):
        theirs = other.take(index.reshape(-1), 0, mode="clip").reshape(*index.shape, k)
        s = (theirs @ own[rows][:, :, None])[:, :, 0]
        if beside is not None:
            s += beside[at]
        part = counts[at] / np.maximum(s, TINY)
        sums[rows] = (part[:, None, :] @ theirs)[:, 0]
        ratio[at] = part
    sums *= own
    out = np.empty(len(counts) - 1, np.float32)
    out[entries.order] = ratio[:-1]
    return sums, out


def gamma_means(shape: np.ndarray, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(E[g], exp(E[log g])) of Gamma(shape, rate) variables, float64."""
    from scipy.special import psi

    return shape / rate, np.exp(np.maximum(psi(shape), -60.0)) / rate


def gamma_divergence(shape: np.ndarray, rate: np.ndarray, prior_shape: float, prior_rate: float) -> float:
    """Sum of KL(Gamma(shape, rate) || Gamma(prior_shape, prior_rate)), nats."""
    from scipy.special import gammaln, psi

    shape, rate = np.broadcast_arrays(shape, rate)
    terms = (
        (shape - prior_shape) * psi(shape)
        - gammaln(shape)
        + gammaln(prior_shape)
        + prior_shape * (np.log(rate) - np.log(prior_rate))
        + shape * (prior_rate - rate) / rate
    )
    return float(terms.sum())
