"""What `risks` does not have: the risks of SNIPS, EIB, MRDR and the entire-space models, by loops over u and i.

o, r, p, ... are (m, n) arrays over D, B is {(u, i): o[u, i] = 1}; probabilities are probabilities, never logits.
"""

from __future__ import annotations

from manual.risks import cells, ctcvr, ctr, delta, dr, imputation, ips


def snips(kind, o, r, r_hat, p):
    """L_SNIPS = (sum_B delta / p) / (sum_B 1 / p)."""
    total, weights = 0.0, 0.0
    for u, i in cells(o):
        if o[u][i] == 1:
            total += delta(kind, r[u][i], r_hat[u][i]) / p[u][i]
            weights += 1 / p[u][i]
    return total / weights


def eib(kind, o, r, r_hat, e_hat):
    """L_EIB = (1/|D|) sum_D [ o delta + (1 - o) e_hat ]."""
    total = 0.0
    for u, i in cells(o):
        total += delta(kind, r[u][i], r_hat[u][i]) if o[u][i] == 1 else e_hat[u][i]
    return total / len(cells(o))


def plain_imputation(kind, o, r, r_hat, e_hat):
    """(1/|B|) sum_B (delta - e_hat)^2."""
    total, n = 0.0, 0
    for u, i in cells(o):
        if o[u][i] == 1:
            total += (delta(kind, r[u][i], r_hat[u][i]) - e_hat[u][i]) ** 2
            n += 1
    return total / n


def more_robust_imputation(kind, o, r, r_hat, p, e_hat):
    """(1/|B|) sum_B (1 - p) / p^2 (delta - e_hat)^2."""
    total, n = 0.0, 0
    for u, i in cells(o):
        if o[u][i] == 1:
            residual = delta(kind, r[u][i], r_hat[u][i]) - e_hat[u][i]
            total += (1 - p[u][i]) / p[u][i] ** 2 * residual**2
            n += 1
    return total / n


def esmm(kind, o, r, p_hat, r_hat, weight):
    """L_CTR + weight L_CTCVR."""
    return ctr(o, p_hat) + weight * ctcvr(kind, o, r, p_hat, r_hat)


def multi_ips(kind, o, r, p_hat, p_floored, r_hat):
    """L_CTR + L_IPS."""
    return ctr(o, p_hat) + ips(kind, o, r, r_hat, p_floored)


def multi_dr(kind, o, r, p_hat, p_floored, r_hat, e_hat, weight):
    """L_CTR + L_DR + weight L_IMP."""
    counterfactual = dr(kind, o, r, r_hat, p_floored, e_hat)
    return ctr(o, p_hat) + counterfactual + weight * imputation(kind, o, r, r_hat, p_floored, e_hat)


def escm2(l_ctr, l_imp, l_cvr, l_ctcvr, weights):
    """L_CTR + lambda_1 L_IMP + lambda_2 L_CVR + lambda_3 L_CTCVR."""
    return l_ctr + weights[0] * l_imp + weights[1] * l_cvr + weights[2] * l_ctcvr


def tower(p, q, diagonal, user_bias, item_bias, offset):
    """(m, n) logits sum_k w_k p_uk q_ik + b_u + b_i + b."""
    out = []
    for u in range(len(p)):
        row = []
        for i in range(len(q)):
            logit = user_bias[u] + item_bias[i] + offset
            for k in range(len(diagonal)):
                logit += diagonal[k] * p[u][k] * q[i][k]
            row.append(logit)
        out.append(row)
    return out
