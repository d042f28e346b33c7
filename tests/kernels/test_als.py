"""Ridge regressions of many rows: every form against one solve a row."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.kernels.als import Entries, solve_rows
from manual import factors

M, K = 30, 6


def world(counts, seed=0, weight=lambda rng, n: rng.exponential(5.0, n)):
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(len(counts)), counts)
    column = np.concatenate([rng.permutation(M)[:n] for n in counts]) if sum(counts) else np.zeros(0, int)
    mix = rng.permutation(len(row))  # a log comes in any order
    y = rng.normal(size=(M, K))
    h = y.T @ y + 0.3 * np.eye(K)
    return row[mix], column[mix], y, h, weight(rng, len(row)), rng.normal(size=len(row)), rng


def by_loops(counts, row, column, y, h, w, d, g):
    rows = range(len(counts))
    return np.array(
        [factors.ridge([(y[column[j]], w[j], d[j]) for j in np.flatnonzero(row == u)], h, g[u]) for u in rows]
    )


@pytest.mark.parametrize(
    "counts",
    [[0, 1, 2, 3, 5], [6, 7, 12, 30], [0, 4, 30, 1, 9, 0, 2, 2, 2, 17], [0, 0]],
    ids=["dual", "primal", "mixed", "empty"],
)
@pytest.mark.parametrize("given", [False, True])
def test_solutions_equal_one_solve_a_row(counts, given):
    row, column, y, h, w, d, rng = world(counts)
    g = rng.normal(size=(len(counts), K)) if given else np.zeros((len(counts), K))
    got = solve_rows(Entries.of(row, column, len(counts)), y, h, w, d, g if given else None)
    np.testing.assert_allclose(got, by_loops(counts, row, column, y, h, w, d, g), rtol=2e-4, atol=2e-5)


def test_entries_without_weight_keep_their_right_hand_side():
    counts = [3, 4, 9]
    row, column, y, h, w, d, _ = world(counts)
    w[::2] = 0
    got = solve_rows(Entries.of(row, column, 3), y, h, w, d)
    wanted = by_loops(counts, row, column, y, h, w, d, np.zeros((3, K)))
    np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)


def test_huge_weights_keep_four_digits():
    counts = [2, 5, 20]
    row, column, y, h, w, d, _ = world(counts, weight=lambda rng, n: rng.exponential(1e4, n))
    d = w * d
    got = solve_rows(Entries.of(row, column, 3), y, h, w, d)
    wanted = by_loops(counts, row, column, y, h, w, d, np.zeros((3, K)))
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def test_conjugate_gradients_arrive_and_a_few_steps_come_nearer():
    counts = [0, 1, 4, 8, 20]
    row, column, y, h, w, d, rng = world(counts)
    entries = Entries.of(row, column, len(counts))
    g = rng.normal(size=(len(counts), K))
    exact = solve_rows(entries, y, h, w, d, g)
    away = [np.abs(solve_rows(entries, y, h, w, d, g, steps=s)[1:] - exact[1:]).max() for s in (1, 3, K + 4)]
    assert away[0] > away[1] > away[2]
    assert away[2] < 1e-3 * np.abs(exact).max()
    np.testing.assert_allclose(
        solve_rows(entries, y, h, w, d, g, start=exact, steps=2)[1:], exact[1:], rtol=1e-3, atol=1e-4
    )


def test_blocks_hold_every_row_with_entries_once_and_padding_is_no_entry():
    counts = np.random.default_rng(1).integers(0, 30, 200)
    row = np.repeat(np.arange(200), counts)
    column = np.concatenate([np.arange(n) for n in counts])
    entries = Entries.of(row, column, 200)
    blocks = entries.blocks(K, M)
    rows = np.concatenate([b[0] for b in blocks])
    assert sorted(rows) == list(np.flatnonzero(counts))
    for part, at, index in blocks:
        np.testing.assert_array_equal((index < M).sum(1), counts[part])
        assert (at[index == M] == len(row)).all()
    np.testing.assert_array_equal(entries.sums(np.ones(len(row)), np.eye(M))[5], np.arange(M) < counts[5])
