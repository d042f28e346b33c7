"""The risks over a table of impressions, row by row: D is the list of rows (o, r, w), probabilities are probabilities.

A weight w counts a row w times: |D| is the sum of all weights, |B| that of the clicked rows.
"""

from __future__ import annotations

import math


def d(r, p):
    return -r * math.log(p) - (1 - r) * math.log(1 - p)


def naive(rows, r_hat):
    total, n = 0.0, 0.0
    for (o, r, w), p in zip(rows, r_hat, strict=True):
        if o == 1:
            total += w * d(r, p)
            n += w
    return total / n


def ips(rows, r_hat, propensity):
    total, n = 0.0, 0.0
    for (o, r, w), p, e in zip(rows, r_hat, propensity, strict=True):
        n += w
        if o == 1:
            total += w * d(r, p) / e
    return total / n


def snips(rows, r_hat, propensity):
    total, n = 0.0, 0.0
    for (o, r, w), p, e in zip(rows, r_hat, propensity, strict=True):
        if o == 1:
            total += w * d(r, p) / e
            n += w / e
    return total / n


def ctr(rows, p_hat):
    return sum(w * d(o, p) for (o, _, w), p in zip(rows, p_hat, strict=True)) / sum(w for _, _, w in rows)


def ctcvr(rows, p_hat, r_hat):
    total, n = 0.0, 0.0
    for (o, r, w), p, q in zip(rows, p_hat, r_hat, strict=True):
        n += w
        total += w * d(o * r, p * q)
    return total / n


def dr(rows, r_hat, propensity, label):
    """Label: the imputed label of each row."""
    total, n = 0.0, 0.0
    for (o, r, w), p, e, m in zip(rows, r_hat, propensity, label, strict=True):
        n += w
        e_hat = d(m, p)
        total += w * e_hat
        if o == 1:
            total += w * (d(r, p) - e_hat) / e
    return total / n


def imputation(rows, r_hat, propensity, label):
    total, n = 0.0, 0.0
    for (o, r, w), p, e, m in zip(rows, r_hat, propensity, label, strict=True):
        if o == 1:
            n += w
            total += w * (d(r, p) - d(m, p)) ** 2 / e
    return total / n


def silu(x):
    return x / (1 + math.exp(-x))


def network(u, i, places, z, embedding, answer):
    """The logit of one row; embeddings and answers are dicts of lists."""
    p, q = embedding["user"][u], embedding["item"][i]
    x = [*p, *q]
    for k in places:
        x += embedding["place"][k]
    x += z
    logit = answer["offset"] + answer["user_bias"][u] + answer["item_bias"][i]
    for k in places:
        logit += answer["place_bias"][k]
    for value, weight in zip(z, answer["weights"], strict=True):
        logit += value * weight
    for a, b, w in zip(p, q, answer["diagonal"], strict=True):
        logit += w * a * b
    for j in range(len(answer["out"])):
        h = answer["hidden_bias"][j]
        for k, value in enumerate(x):
            h += value * answer["hidden"][k][j]
        logit += answer["out"][j] * silu(h)
    return logit
