"""Tiny worlds with known answers, for checks and tests. Users are named by text, items by numbers.

checkerboard   a user likes the items of its own parity; the withheld cells are the question
mnar           ratings missing not at random, no hidden confounder
confounded     the same with a hidden confounder: small, the work-horse of the contract checks
empty_user     `confounded`, with a user and an item that have no row in any log
one_item       a catalogue of one item
impressions    400 impressions with clicks, conversions and context, and 60 with a forced click
rows_world     ratings 1 to 5 with user features: the users protocol
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset, Log, Truth
from deconrec.data.ids import Vocabulary
from deconrec.random import numpy_generator


def checkerboard(
    n_users: int = 40, n_items: int = 20, *, shown: float = 0.6, likes_only: bool = False, seed: int = 0
) -> tuple[Dataset, Truth]:
    """A user likes an item where their parities agree: (data, truth), truth.outcome the board in {0, 1}.

    Parameters
    ----------
    shown: share of the cells in the biased log, at random; a tenth of all cells is in the randomised log.
    likes_only: the biased log holds the liked ones of the shown cells alone (implicit feedback).
    """
    board = (np.arange(n_users)[:, None] % 2 == np.arange(n_items) % 2).astype(np.float32)
    rng = numpy_generator(seed, "checks/checkerboard")
    seen = rng.random(board.shape) < shown
    random = rng.random(board.shape) < 0.1
    if likes_only:
        seen &= board > 0
    data = Dataset.from_frames(
        _frame(board, seen),
        unbiased=_frame(board, random),
        rating_range=(0.0, 1.0),
        binarize=0.5,
        name="checkerboard",
    )
    return data, Truth(outcome=board, rating=board)


def mnar(seed: int = 0) -> tuple[Dataset, Truth]:
    """`simulate.pairs` with 300 users and 100 items, without a hidden confounder."""
    from deconrec.simulate import pairs

    return pairs(
        n_users=300, n_items=100, confounding=0.0, exposure_rate=0.15, unbiased_share=0.05, seed=seed
    )


def confounded(seed: int = 0) -> tuple[Dataset, Truth]:
    """`simulate.pairs` with 40 users and 25 items and a hidden confounder of effect 1."""
    from deconrec.simulate import pairs

    data, truth = pairs(
        n_users=40, n_items=25, confounding=1.0, exposure_rate=0.3, unbiased_share=0.15, seed=seed
    )
    return renamed(data, user="u{:03d}", item=10), truth


def empty_user() -> Dataset:
    """`confounded` without any row of its middle user (`users.values[n // 2]`) and of its middle item."""
    data, _ = confounded()

    def without(log: Log) -> Log:
        return log.take((log.user != data.n_users // 2) & (log.item != data.n_items // 2))

    assert data.unbiased is not None
    return data.with_logs(without(data.biased), without(data.unbiased))


def one_item() -> Dataset:
    """24 users and one item; 16 ratings are biased, 12 randomised."""
    rating = (np.arange(24) % 3 == 0).astype(np.float32)[:, None]
    users = np.arange(24)[:, None]
    return Dataset.from_frames(
        _frame(rating, users < 16),
        unbiased=_frame(rating, users >= 12),
        rating_range=(0.0, 1.0),
        binarize=0.5,
        name="one item",
    )


def rows_world(seed: int = 0) -> Dataset:
    """40 users and 25 items, ratings 1 to 5 (5 is relevant), three user features, users protocol."""
    rng = numpy_generator(seed, "checks/rows world")
    taste, kind = rng.standard_normal((40, 2)), rng.standard_normal((25, 2))
    fit = taste @ kind.T
    rating = np.clip(np.round(3.0 + fit), 1, 5).astype(np.float32)
    seen = rng.random(fit.shape) < 1.0 / (1.0 + np.exp(-fit))
    random = rng.random(fit.shape) < 0.15
    noise = rng.standard_normal(40)
    features = {
        "user_id": [f"u{u:03d}" for u in range(40)],
        "x1": taste[:, 0],
        "x2": taste[:, 1],
        "x3": noise,
    }
    return Dataset.from_frames(
        _frame(rating, seen),
        unbiased=_frame(rating, random),
        users=pl.DataFrame(features),
        rating_range=(1.0, 5.0),
        relevant=5.0,
        protocol="users",
        name="rows world",
    )


def impressions(seed: int = 0) -> Dataset:
    """`simulate.impressions` with 400 impressions of 30 users and 12 items, and 60 whose click was forced."""
    from deconrec.simulate import impressions as simulated

    return simulated(
        n_impressions=400, n_users=30, n_items=12, click_rate=0.4, unbiased_share=0.15, seed=seed
    )[0]


def renamed(data: Dataset, *, user: str = "{}", item: int = 1) -> Dataset:
    """The same data under other ids, in the same order: user code u is `user.format(u)`, item i is i * item.

    `user` must keep the order of the codes ("u{:03d}"), and `item` must be >= 1.
    """
    return replace(
        data,
        users=Vocabulary(pl.Series([user.format(u) for u in range(data.n_users)]), "user"),
        items=Vocabulary(pl.Series(np.arange(data.n_items) * item), "item"),
    )


def _frame(rating: np.ndarray, where: np.ndarray) -> pl.DataFrame:
    """The cells of a (users, items) matrix as a log; `where` is of its shape."""
    u, i = np.nonzero(np.broadcast_to(where, rating.shape))
    return pl.DataFrame({"user_id": [f"u{k:03d}" for k in u], "item_id": i * 10, "rating": rating[u, i]})
