"""Factor methods of paper 1 by loops: weighted least squares over cells, Poisson factorisation, its check."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import psi


def ridge(rows, h, right):
    """x of (h + sum_j w_j y_j y_j') x = right + sum_j d_j y_j, rows = [(y_j, w_j, d_j)]."""
    a, b = np.array(h, float), np.array(right, float)
    for y, w, d in rows:
        y = np.asarray(y, float)
        a = a + w * np.outer(y, y)
        b = b + d * y
    return np.linalg.solve(a, b)


def wmf_risk(c, t, p, q, y, x, l2):
    """sum_ui c_ui (t_ui - (p_u + sum_f x_uf y_f) . q_i)^2 + l2 (squares)."""
    total = l2 * ((p**2).sum() + (q**2).sum() + (y**2).sum())
    for u in range(len(c)):
        v = p[u] + sum((x[u, f] * y[f] for f in range(x.shape[1])), np.zeros(p.shape[1]))
        for i in range(len(c[0])):
            total += c[u][i] * (t[u][i] - v @ q[i]) ** 2
    return total


def wmf(c, t, x, q, l2, rounds):
    """ALS by the normal equations of all cells: (v, q, y) after the rounds, and v once more."""
    n_users, n_items, k = len(c), len(q), q.shape[1]
    y = np.zeros((x.shape[1], k))

    def users(q, y):
        v = np.zeros((n_users, k))
        for u in range(n_users):
            cells = [(q[i], c[u][i], c[u][i] * t[u][i]) for i in range(n_items)]
            v[u] = ridge(cells, l2 * np.eye(k), l2 * (y.T @ x[u]))
        return v

    for _ in range(rounds):
        v = users(q, y)
        # y: minimise l2 sum_u |v_u - Y'x_u|^2 + l2 |Y|^2.
        y = np.linalg.solve(sum((np.outer(a, a) for a in x), np.eye(x.shape[1])), x.T @ v)
        q = np.array(
            [
                ridge(
                    [(v[u], c[u][i], c[u][i] * t[u][i]) for u in range(n_users)], l2 * np.eye(k), np.zeros(k)
                )
                for i in range(n_items)
            ]
        )
    return users(q, y), q, y


def deconf_risk(c, t, a, v, q, gamma, beta, prior, l2, gamma_l2):
    """sum_ui c (t - v.q - gamma_u a_ui - beta)^2 + l2 (|v - prior|^2 + |q|^2) + gamma_l2 |gamma|^2; c = 0: no cell."""
    total = l2 * (((v - prior) ** 2).sum() + (q**2).sum()) + gamma_l2 * (np.asarray(gamma) ** 2).sum()
    for u in range(len(c)):
        for i in range(len(c[0])):
            total += c[u][i] * (t[u][i] - v[u] @ q[i] - gamma[u] * a[u][i] - beta) ** 2
    return total


def poisson_round(x, theta, beta, a, b):
    """One round of Gopalan's updates for counts x; theta and beta are (shape, rate) pairs of lists of lists."""
    n_users, n_items, k = len(x), len(x[0]), len(theta[0][0])

    def log_mean(shape, rate):
        return psi(shape) - math.log(rate)

    t_shape = [[a] * k for _ in range(n_users)]
    b_shape = [[a] * k for _ in range(n_items)]
    for u in range(n_users):
        for i in range(n_items):
            if x[u][i] == 0:
                continue
            phi = [
                math.exp(log_mean(theta[0][u][j], theta[1][u][j]) + log_mean(beta[0][i][j], beta[1][i][j]))
                for j in range(k)
            ]
            for j in range(k):
                t_shape[u][j] += x[u][i] * phi[j] / sum(phi)
                b_shape[i][j] += x[u][i] * phi[j] / sum(phi)
    t_rate = [b + sum(beta[0][i][j] / beta[1][i][j] for i in range(n_items)) for j in range(k)]
    theta = (t_shape, [t_rate] * n_users)
    b_rate = [b + sum(t_shape[u][j] / t_rate[j] for u in range(n_users)) for j in range(k)]
    return theta, (b_shape, [b_rate] * n_items)


def predictive_p(logits, a, uniform):
    """(P(t(a_rep) < t(a)), log p(a | kept)) of one user; t(a) = E_z[log p(a | z)] over draws of z."""

    def log_p(cells, logit):
        total = 0.0
        for cell, value in zip(cells, logit, strict=True):
            s = 1 / (1 + math.exp(-value))
            total += math.log(s if cell else 1 - s)
        return total

    def t(cells):
        return sum(log_p(cells, logit) for logit in logits) / len(logits)

    below = 0.0
    for logit, draw in zip(logits, uniform, strict=True):
        rep = [d < 1 / (1 + math.exp(-value)) for d, value in zip(draw, logit, strict=True)]
        gap = t(rep) - t(a)
        below += 0.5 if abs(gap) < 1e-12 else float(gap < 0)
    each = [log_p(a, logit) for logit in logits]
    return below / len(logits), math.log(sum(math.exp(e) for e in each) / len(each))
