"""Paper 2 (sections 2 to 4), symbol by symbol.

o, r, p, ... are (m, n) arrays over D; B is {(u, i): o[u, i] = 1}. U is a list of rows (u, i, r).
Probabilities are probabilities here, never logits.
"""

from __future__ import annotations

import math


def sigma(x):
    return 1.0 / (1.0 + math.exp(-x))


def sigma_inverse(p):
    return math.log(p / (1.0 - p))


def delta(kind, r, r_hat):
    """The pre-specified loss of section 2: cross-entropy "e.g."; squared as the public relatives."""
    if kind == "squared":
        return (r - r_hat) ** 2
    return -r * math.log(r_hat) - (1 - r) * math.log(1 - r_hat)


def cells(o):
    """D as pairs (u, i)."""
    return [(u, i) for u in range(len(o)) for i in range(len(o[0]))]


def ideal(kind, r, r_hat):
    """L_ideal: the mean error over D, with every r known."""
    total = 0.0
    for u, i in cells(r):
        total += delta(kind, r[u][i], r_hat[u][i])
    return total / len(cells(r))


def naive(kind, o, r, r_hat):
    """The mean error over B."""
    total, n = 0.0, 0
    for u, i in cells(o):
        if o[u][i] == 1:
            total += delta(kind, r[u][i], r_hat[u][i])
            n += 1
    return total / n


def unbiased(kind, rows, r_hat):
    """L_CVR^U: the mean error over U."""
    total = 0.0
    for u, i, r in rows:
        total += delta(kind, r, r_hat[u][i])
    return total / len(rows)


def combined(kind, o, r, rows, r_hat, weight):
    """The mean error over the records of B and U, a record of U counting `weight` times."""
    total, n = 0.0, 0.0
    for u, i in cells(o):
        if o[u][i] == 1:
            total += delta(kind, r[u][i], r_hat[u][i])
            n += 1
    for u, i, label in rows:
        total += weight * delta(kind, label, r_hat[u][i])
        n += weight
    return total / n


def ips(kind, o, r, r_hat, p):
    """L_IPS = (1/|D|) sum_D o delta / p."""
    total = 0.0
    for u, i in cells(o):
        if o[u][i] == 1:
            total += delta(kind, r[u][i], r_hat[u][i]) / p[u][i]
    return total / len(cells(o))


def dr(kind, o, r, r_hat, p, e_hat):
    """L_DR = (1/|D|) sum_D [ e_hat + o (delta - e_hat) / p ]."""
    total = 0.0
    for u, i in cells(o):
        total += e_hat[u][i]
        if o[u][i] == 1:
            total += (delta(kind, r[u][i], r_hat[u][i]) - e_hat[u][i]) / p[u][i]
    return total / len(cells(o))


def imputation(kind, o, r, r_hat, p, e_hat):
    """L_IMP = (1/|B|) sum_B (delta - e_hat)^2 / p."""
    total, n = 0.0, 0
    for u, i in cells(o):
        if o[u][i] == 1:
            total += (delta(kind, r[u][i], r_hat[u][i]) - e_hat[u][i]) ** 2 / p[u][i]
            n += 1
    return total / n


def ctr(o, p_hat):
    """L_CTR = (1/|D|) sum_D delta(o, p_hat), with the cross-entropy."""
    total = 0.0
    for u, i in cells(o):
        total += delta("cross-entropy", o[u][i], p_hat[u][i])
    return total / len(cells(o))


def ctcvr(kind, o, r, p, r_hat):
    """L_CTCVR = (1/|D|) sum_D delta(o r, p r_hat)."""
    total = 0.0
    for u, i in cells(o):
        total += delta(kind, o[u][i] * r[u][i], p[u][i] * r_hat[u][i])
    return total / len(cells(o))


def agreement(biased_loss, unbiased_loss):
    """L_CVR^{B&U} with the squared difference (a cross-entropy of losses is not defined above 1)."""
    return (biased_loss - unbiased_loss) ** 2


def calibrated(nominal, difference):
    """p~ = sigma(sigma^-1(p^) + sigma^-1(Delta p)), and e~ likewise, elementwise."""
    return [
        [sigma(sigma_inverse(a) + sigma_inverse(b)) for a, b in zip(row, other, strict=True)]
        for row, other in zip(nominal, difference, strict=True)
    ]


def raised(p, floor):
    """Propensities below the floor are the floor."""
    return [[max(value, floor) for value in row] for row in p]


def errors_against(kind, label, r_hat):
    """Imputed errors delta(m, r_hat) of imputed labels m."""
    return [
        [delta(kind, a, b) for a, b in zip(row, other, strict=True)]
        for row, other in zip(label, r_hat, strict=True)
    ]


def naive_bayes(seen, random, density, smoothing):
    """{r: p(o=1 | r)} = p(r | o=1) p(o=1) / p(r), counts with `smoothing` added; at most 1."""
    values = sorted(set(seen) | set(random))
    out = {}
    for value in values:
        given_seen = (seen.count(value) + smoothing) / (len(seen) + smoothing * len(values))
        anywhere = (random.count(value) + smoothing) / (len(random) + smoothing * len(values))
        out[value] = min(given_seen * density / anywhere, 1.0)
    return out


def fold_in_gradient(q, base, items, r, p, b, penalty):
    """Gradient of sum_rows delta(r, sigma(p.q_i + b + base_i)) + (penalty/2) (|p|^2 + b^2) in (p, b)."""
    dim = len(p)
    gradient = [penalty * v for v in p] + [penalty * b]
    for i, label in zip(items, r, strict=True):
        logit = b + base[i]
        for k in range(dim):
            logit += p[k] * q[i][k]
        residual = sigma(logit) - label
        for k in range(dim):
            gradient[k] += residual * q[i][k]
        gradient[dim] += residual
    return gradient
