"""CausE, KDCRec and EASE, symbol by symbol, from their papers; notation as in `risks`."""

from __future__ import annotations

import math

from manual.risks import cells, delta, naive


def distance(kind, a, b):
    """|a - b|_1, ||a - b||^2 or 1 - cos(a, b) of two vectors."""
    total, ab, aa, bb = 0.0, 0.0, 0.0, 0.0
    for x, y in zip(a, b, strict=True):
        total += abs(x - y) if kind == "l1" else (x - y) ** 2
        ab, aa, bb = ab + x * y, aa + x * x, bb + y * y
    return 1.0 - ab / math.sqrt(aa * bb) if kind == "cos" else total


def tie(kind, o, control, treatment, tied):
    """(1/|B|) sum_B 1[i tied] dist(q_i, q'_i): an item counts once for each observed pair."""
    total, n = 0.0, 0
    for u, i in cells(o):
        if o[u][i] == 1:
            n += 1
            if tied[i]:
                total += distance(kind, control[i], treatment[i])
    return total / n


def logits(p, b_u, q, b_i, b):
    """l_ui = p_u . q_i + b_u + b_i + b."""
    out = []
    for u, p_u in enumerate(p):
        row = []
        for i, q_i in enumerate(q):
            row.append(sum(x * y for x, y in zip(p_u, q_i, strict=True)) + b_u[u] + b_i[i] + b)
        out.append(row)
    return out


def bridge(r_hat, teacher):
    """The mean squared difference of student and teacher over D."""
    total = 0.0
    for u, i in cells(r_hat):
        total += (r_hat[u][i] - teacher[u][i]) ** 2
    return total / len(cells(r_hat))


def refine(kind, o, r, r_hat, teacher, share):
    """The mean error over B against labels that are mixed with the teacher's."""
    mixed = [[(1 - share) * r[u][i] + share * teacher[u][i] for i in range(len(r[0]))] for u in range(len(r))]
    return naive(kind, o, mixed, r_hat)


def hint(h, h_teacher, known):
    """The mean of ||h - h'||^2 over what the teacher has rows of."""
    total, n = 0.0, 0
    for mine, theirs, has_rows in zip(h, h_teacher, known, strict=True):
        if has_rows:
            total += distance("l2", mine, theirs)
            n += 1
    return total / n


def ease_column(x, ridge, j):
    """Column j of B: min_b sum_u (X_uj - sum_{i != j} X_ui b_i)^2 + ridge ||b||^2, by its own normal equations."""
    n = len(x[0])
    rest = [i for i in range(n) if i != j]
    a = [[sum(row[i] * row[k] for row in x) + (ridge if i == k else 0.0) for k in rest] for i in rest]
    y = [sum(row[i] * row[j] for row in x) for i in rest]
    b = solve(a, y)
    out = [0.0] * n
    for i, value in zip(rest, b, strict=True):
        out[i] = value
    return out


def solve(a, y):
    """Gaussian elimination with pivots."""
    n = len(y)
    rows = [[*row, value] for row, value in zip(a, y, strict=True)]
    for k in range(n):
        best = max(range(k, n), key=lambda m: abs(rows[m][k]))
        rows[k], rows[best] = rows[best], rows[k]
        for m in range(k + 1, n):
            factor = rows[m][k] / rows[k][k]
            rows[m] = [v - factor * w for v, w in zip(rows[m], rows[k], strict=True)]
    out = [0.0] * n
    for k in reversed(range(n)):
        out[k] = (rows[k][n] - sum(rows[k][m] * out[m] for m in range(k + 1, n))) / rows[k][k]
    return out


def logistic_objective(w, x, r, centre, spread, start, penalty):
    """Cross-entropy plus (penalty / 2) (standardised weights squared + (intercept - start)^2 / 100)."""
    total = 0.0
    for row, label in zip(x, r, strict=True):
        logit = w[0] + sum(v * (a - c) / s for v, a, c, s in zip(w[1:], row, centre, spread, strict=True))
        total += delta("cross-entropy", label, 1.0 / (1.0 + math.exp(-logit)))
    return total + penalty / 2 * (sum(v * v for v in w[1:]) + (w[0] - start) ** 2 / 100)
