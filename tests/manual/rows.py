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


def density_ratio(net, x, z):
    """The logit (P x) . (Q z) + w . relu(A [x, z] + b) + c of one classifier: `net` its parameters by name."""
    total = net["out.bias"][0]
    for p, q in zip(net["of_x.weight"], net["of_z.weight"], strict=True):
        total += sum(a * b for a, b in zip(p, x, strict=True)) * sum(a * b for a, b in zip(q, z, strict=True))
    both = [*x, *z]
    for row, b, w in zip(net["hidden.weight"], net["hidden.bias"], net["out.weight"][0], strict=True):
        total += w * max(0.0, b + sum(a * v for a, v in zip(row, both, strict=True)))
    return total


def sample_weight(net, x, draws):
    """w_u = 1 / E_z[(1 - d) / d] over the codes drawn for a user, d = sigma(logit)."""
    total = 0.0
    for z in draws:
        d = 1.0 / (1.0 + math.exp(-density_ratio(net, x, z)))
        total += (1.0 - d) / d
    return len(draws) / total


def bounded(weights, largest):
    """Divided by their mean, held in [1 / largest, largest], divided by their mean again."""
    mean = sum(weights) / len(weights)
    held = [min(max(w / mean, 1.0 / largest), largest) for w in weights]
    mean = sum(held) / len(held)
    return [w / mean for w in held]
