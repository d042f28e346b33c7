"""Paper 1 (section 4), symbol by symbol: a_u as a list of 0 and 1, ratings r_u with 0 where not exposed."""

from __future__ import annotations

import math


def bernoulli(a, logits):
    """sum_i a log s_i + (1 - a) log(1 - s_i), s = sigma(logit): one user."""
    total = 0.0
    for exposed, logit in zip(a, logits, strict=True):
        s = 1.0 / (1.0 + math.exp(-logit))
        total += math.log(s) if exposed else math.log(1.0 - s)
    return total


def multinomial(r, logits):
    """sum_i r_i log softmax(logits)_i: one user, ratings as counts."""
    largest = max(logits)
    norm = sum(math.exp(logit - largest) for logit in logits)
    total = 0.0
    for count, logit in zip(r, logits, strict=True):
        total += count * (logit - largest - math.log(norm))
    return total


def kl(mean, std):
    """KL(N(mean, std^2) || N(0, I)) of one user's code."""
    total = 0.0
    for m, s in zip(mean, std, strict=True):
        total += 0.5 * (m * m + s * s - 1.0) - math.log(s)
    return total


def annealed(epoch, over, cap):
    """The KL's weight: from 0 to `cap` over the first epochs."""
    return cap * min(1.0, epoch / over)


def scaled(a):
    """a_u / ||a_u||; zeros for a user without exposures."""
    length = math.sqrt(sum(a))
    return [v / length if length else 0.0 for v in a]


def linear(x, weight, bias):
    """x W + b with W (inputs, outputs)."""
    out = list(bias)
    for value, row in zip(x, weight, strict=True):
        for k, w in enumerate(row):
            out[k] += value * w
    return out
