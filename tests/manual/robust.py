"""Worst cases over a box of weights (Ding et al. 2022) and weights learned by a virtual step (Chen et al. 2021,
Wang et al. 2021), symbol by symbol. Arrays as in `risks`.
"""

from __future__ import annotations

import math

from manual.risks import cells, delta, sigma


def true_propensities(p, gamma):
    """Smallest and largest true propensity whose odds are within a factor gamma of those of the nominal p.

    (p_true / (1 - p_true)) = k p / (1 - p), k in [1/gamma, gamma], solved for p_true.
    """
    return p / (p + (1 - p) * gamma), p * gamma / (p * gamma + 1 - p)


def box(p, gamma):
    """[a, b] of the paper."""
    return 1 + (1 / p - 1) / gamma, 1 + (1 / p - 1) * gamma


def worst(x, p, gamma):
    """max of w x over the box: at one of its ends, as it is linear in w."""
    a, b = box(p, gamma)
    return max(a * x, b * x)


def rd_ips(kind, o, r, r_hat, p, gamma):
    """max_w (1/|D|) sum_D o w delta."""
    total = 0.0
    for u, i in cells(o):
        if o[u][i] == 1:
            total += worst(delta(kind, r[u][i], r_hat[u][i]), p[u][i], gamma)
    return total / len(cells(o))


def rd_dr(kind, o, r, r_hat, p, e_hat, gamma):
    """max_w (1/|D|) sum_D [ e_hat + o w (delta - e_hat) ]."""
    total = 0.0
    for u, i in cells(o):
        total += e_hat[u][i]
        if o[u][i] == 1:
            total += worst(delta(kind, r[u][i], r_hat[u][i]) - e_hat[u][i], p[u][i], gamma)
    return total / len(cells(o))


def rd_imputation(kind, o, r, r_hat, p, e_hat, gamma):
    """max_v (1/|B|) sum_B v (delta - e_hat)^2."""
    total, n = 0.0, 0
    for u, i in cells(o):
        if o[u][i] == 1:
            total += worst((delta(kind, r[u][i], r_hat[u][i]) - e_hat[u][i]) ** 2, p[u][i], gamma)
            n += 1
    return total / n


def table_weights(p, r, odds):
    """w_ui = 1 + (1/p - 1) odds[i][class of r]; the class is 1 from r = 1/2 on."""
    return [
        [1 + (1 / p[u][i] - 1) * odds[i][1 if r[u][i] >= 0.5 else 0] for i in range(len(p[0]))]
        for u in range(len(p))
    ]


def brd_ips(kind, o, r, r_hat, benchmark, p, gamma):
    """max_w [ L_IPS(theta, w) - L_IPS(benchmark, w) ]."""
    total = 0.0
    for u, i in cells(o):
        if o[u][i] == 1:
            gap = delta(kind, r[u][i], r_hat[u][i]) - delta(kind, r[u][i], benchmark[u][i])
            total += worst(gap, p[u][i], gamma)
    return total / len(cells(o))


def brd_dr(kind, o, r, r_hat, benchmark, p, label, gamma):
    """max_w [ L_DR(theta, w) - L_DR(benchmark, w) ], both with the errors against the same imputed labels."""
    total = 0.0
    for u, i in cells(o):
        mine, other = (delta(kind, label[u][i], x[u][i]) for x in (r_hat, benchmark))
        total += mine - other
        if o[u][i] == 1:
            gap = delta(kind, r[u][i], r_hat[u][i]) - delta(kind, r[u][i], benchmark[u][i])
            total += worst(gap - (mine - other), p[u][i], gamma)
    return total / len(cells(o))


def additive_weight(a, b, c):
    """w_ui[k] = exp((a_u + b_i + c_k) / 5), as a function of u, i and the class k."""
    return lambda u, i, k: math.exp((a[u] + b[i] + c[k]) / 5)


def bounded(w, largest):
    """A weight held in [1/largest, largest]: its logarithm l becomes t tanh(l / t), t = log largest."""
    t = math.log(largest)
    return math.exp(t * math.tanh(math.log(w) / t))


def autodebias(kind, o, r, r_hat, w1, w2, m, weight):
    """L_T = (1/|B|) sum_B w1 delta + weight (1/|D|) sum_D w2 delta(m, r_hat).

    m is a triple: of an unobserved pair, an observed one with r < 1/2, and one with r >= 1/2.
    """
    observed, imputed, n = 0.0, 0.0, 0
    for u, i in cells(o):
        kind_of_r = 1 if r[u][i] >= 0.5 else 0
        state = 0
        if o[u][i] == 1:
            observed += w1(u, i, kind_of_r) * delta(kind, r[u][i], r_hat[u][i])
            n += 1
            state = 1 + kind_of_r
        imputed += w2(u, i, int(o[u][i])) * delta(kind, m[state], r_hat[u][i])
    return observed / n + weight * imputed / len(cells(o))


def autodebias_step(o, r, logit, w1, w2, m, weight, lr):
    """Logits after one gradient step on L_T with the cross-entropy, whose derivative in a logit is r_hat - r."""
    n = sum(o[u][i] for u, i in cells(o))
    out = [list(row) for row in logit]
    for u, i in cells(o):
        r_hat, kind_of_r = sigma(logit[u][i]), 1 if r[u][i] >= 0.5 else 0
        state, slope = 0, 0.0
        if o[u][i] == 1:
            slope += w1(u, i, kind_of_r) * (r_hat - r[u][i]) / n
            state = 1 + kind_of_r
        slope += weight * w2(u, i, int(o[u][i])) * (r_hat - m[state]) / len(cells(o))
        out[u][i] -= lr * slope
    return out


def ips_step(o, r, logit, p, lr):
    """Logits after one gradient step on L_IPS with the cross-entropy."""
    out = [list(row) for row in logit]
    for u, i in cells(o):
        if o[u][i] == 1:
            out[u][i] -= lr * (sigma(logit[u][i]) - r[u][i]) / p[u][i] / len(cells(o))
    return out


def unbiased_of_logits(rows, logit):
    """L_U with the cross-entropy."""
    total = 0.0
    for u, i, r in rows:
        total += delta("cross-entropy", r, sigma(logit[u][i]))
    return total / len(rows)


def slope(f, x, step=1e-5):
    """Central differences of f in each entry of the list x."""
    out = []
    for k in range(len(x)):
        up, down = list(x), list(x)
        up[k] += step
        down[k] -= step
        out.append((f(up) - f(down)) / (2 * step))
    return out
