"""A split is a value: the same split of the same data gives the same parts; the test part opens once.

`PairsSplit` (paper 2): records of the randomised log are permuted and cut into U (training), V (validation) and
test; a hold-out of the biased log serves early stopping and selection. `UsersSplit` (paper 1): users are cut, so
that a test user was never trained on (strong generalisation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np
from scipy.sparse import csr_matrix

from deconrec.data.dataset import Dataset, Log, Truth
from deconrec.errors import DataError, ParameterError, SealedTest
from deconrec.random import numpy_generator

T = TypeVar("T")


class Sealed(Generic[T]):
    """The test part: whoever opens it has used it up."""

    def __init__(self, content: T) -> None:
        self._content: T | None = content

    def open(self) -> T:
        """The content, once.

        Raises
        ------
        SealedTest: it was opened before.
        """
        if self._content is None:
            raise SealedTest(
                "the test part may be opened once in a run, by the evaluator; it was opened before. "
                "Choose epochs and parameters on validation data; make a new split for a new run."
            )
        content, self._content = self._content, None
        return content

    def __repr__(self) -> str:
        return f"Sealed({'opened' if self._content is None else 'unopened'})"


@dataclass(frozen=True, eq=False)
class PairsTest:
    """Test rows of the pairs protocol.

    Attributes
    ----------
    log: rows whose pair stands in no other log of the data.
    leaked: the same rows and those whose pair stands in the biased log too.
    known: pairs (codes) that the split gave to the models in any role: biased log, U and V.
    biased: True where the rows come from the biased log, because there is no unbiased one.
    shown: of an impression log, positions of the held-out impressions in its table; None for pairs.
    """

    log: Log
    leaked: Log
    known: csr_matrix
    biased: bool = False
    shown: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class UsersTest:
    """Test users of the users protocol.

    Attributes
    ----------
    history: the test users, with the exposures and ratings that a model is given for them.
    relevant: (n_test_users, n_items) pattern of positives to be found.
    biased: True where positives come from the biased log, because nothing better is known.
    """

    history: Dataset
    relevant: csr_matrix
    biased: bool = False


@dataclass(frozen=True, eq=False)
class Parts(Generic[T]):
    """What a split gives.

    Attributes
    ----------
    train: what methods are fitted on (biased log less the hold-out, U as the unbiased log).
    holdout: the biased hold-out, as a data set whose biased log is to be predicted (pairs protocol), or the
        validation users (users protocol).
    validation: V, as a data set whose biased log holds the randomised rows; None where there is no V.
    test: the sealed test part.
    counts: rows of every part, for the record.
    """

    train: Dataset
    holdout: ValidationPart
    validation: ValidationPart | None
    test: Sealed[T]
    counts: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class ValidationPart:
    """Rows or users that early stopping and selection may look at.

    Attributes
    ----------
    data: the rows to be predicted are its biased log; its users are the training users (pairs protocol) or
        new users whose `history` a model is given (users protocol).
    history: None, or the new users with the exposures that a model is given.
    unbiased: whether the rows are randomised (they then count as consumed unbiased rows).
    within_exposure: whether models are judged by how their scores follow ratings among the held-out rows of one user,
        instead of by their own validation score.
    """

    data: Dataset
    history: Dataset | None = None
    unbiased: bool = False
    within_exposure: bool = False


def hold_out(log: Log, share: float, seed: int, *, by_time: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held) positions of a log's rows; at least one row stays on each side where there are two.

    Raises
    ------
    DataError: by time without timestamps.
    """
    n = len(log)
    order = _order(log, seed, "holdout", by_time)
    size = min(max(round(share * n), 1 if n > 1 and share > 0 else 0), max(n - 1, 0))
    return np.sort(order[: n - size]), np.sort(order[n - size :])


def _order(log: Log, seed: int, stream: str, by_time: bool) -> np.ndarray:
    """Positions of a log's rows in the order in which they are dealt out.

    Rows are first put in the order of their pairs, so that a shuffled file is split the same way.
    """
    canonical = np.lexsort((log.item, log.user))
    if not by_time:
        return canonical[numpy_generator(seed, stream).permutation(len(log))]
    if log.timestamp is None:
        raise DataError(
            "a split by time needs timestamps, but the log has none; name their column or split by record."
        )
    return canonical[np.argsort(log.timestamp[canonical], kind="stable")]


def cut(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """(the data set less a share of its biased log, or of its impressions; that share, without a randomised log)."""
    if data.impressions is not None:
        kept, held = hold_out(data.impressions.log, share, seed)
        return (
            data.with_impressions(data.impressions.take(kept), data.unbiased),
            data.with_impressions(data.impressions.take(held)),
        )
    kept, held = hold_out(data.biased, share, seed)
    return data.with_logs(data.biased.take(kept), data.unbiased), data.with_logs(data.biased.take(held))


def joined(data: Dataset, other: Dataset) -> Dataset:
    """The data set with the other's biased rows, or impressions, too: the inverse of `cut`."""
    if data.impressions is not None and other.impressions is not None:
        return data.with_impressions(data.impressions.joined(other.impressions), data.unbiased)
    return data.with_logs(data.biased.joined(other.biased, data.n_items), data.unbiased)


@dataclass(frozen=True)
class PairsSplit:
    """The pairs protocol of paper 2 (section 5; the split of its public relatives: records, not users).

    Parameters
    ----------
    seed: draws the permutation of records and the biased hold-out.
    shares: (U, V, test) of the randomised log; None = the task's `unbiased_split`.
    largest_train: the largest U share of a sweep (0 = no sweep): test and V are then the same for every share
        up to it, and a smaller U is part of a larger one.
    holdout: share of the biased log held out for stopping and selection.
    by: "record" or "time" (earliest rows train, latest rows test).
    """

    seed: int = 0
    shares: tuple[float, float, float] | None = None
    largest_train: float = 0.0
    holdout: float = 0.15
    by: Literal["record", "time"] = "record"

    def apply(self, data: Dataset) -> Parts[PairsTest]:
        """The parts of `data`.

        Raises
        ------
        ParameterError: shares that do not fit.  DataError: nothing is left for a part that is needed.
        """
        by_time = self.by == "time"
        if not 0 <= self.holdout < 0.9:
            raise ParameterError(f"'holdout' of PairsSplit must be in [0, 0.9); got {self.holdout}.")
        if data.impressions is not None:
            return self._impressions(data, by_time)
        kept, held = hold_out(data.biased, self.holdout, self.seed, by_time=by_time)
        biased, holdout = data.biased.take(kept), data.biased.take(held)
        no_unbiased_test = data.unbiased is None and data.test is None
        empty = np.zeros(0, np.int64)
        u = v = t = empty
        if data.unbiased is not None:
            u, v, t = self._cut(data, by_time)
        clean = ~data.in_biased
        u_log = data.unbiased.take(u[clean[u]]) if data.unbiased is not None else None
        v_log = data.unbiased.take(v[clean[v]]) if data.unbiased is not None else None
        if no_unbiased_test:
            # Never the selection's own rows: the test is a second cut of the biased log.
            rest, tested = hold_out(biased, self.holdout, self.seed + 1_000_003, by_time=by_time)
            test_log = leaked = biased.take(tested)
            biased = biased.take(rest)
        elif data.test is not None:
            leaked = data.test
            keys = [log.key(data.n_items) for log in (data.biased, data.unbiased) if log is not None]
            test_log = leaked.take(~np.isin(leaked.key(data.n_items), np.concatenate(keys)))
        else:
            assert data.unbiased is not None
            leaked = data.unbiased.take(t)
            test_log = data.unbiased.take(t[clean[t]])
        if not len(test_log):
            if no_unbiased_test:
                raise DataError(
                    "without unbiased data the biased log is cut into training, hold-out and test, which needs "
                    f"at least three rows; got {len(data.biased)}."
                )
            raise DataError(
                "the test part is empty: the unbiased log has too few rows, or all its pairs stand in the biased "
                f"log (shares {self._shares(data)}, {len(data.unbiased or ())} unbiased rows)."
            )
        known = _pattern([biased, holdout, u_log, v_log], data.shape)
        train = data.with_logs(biased, u_log if u_log is not None and len(u_log) else None)
        v_part = None
        if v_log is not None and len(v_log):
            v_part = ValidationPart(data.with_logs(v_log), unbiased=True)
        counts = {
            "biased": len(biased),
            "holdout": len(holdout),
            "U": 0 if u_log is None else len(u_log),
            "V": 0 if v_log is None else len(v_log),
            "test": len(test_log),
            "test_leaked": len(leaked),
        }
        test = Sealed(PairsTest(test_log, leaked, known, biased=no_unbiased_test))
        return Parts(train, ValidationPart(data.with_logs(holdout)), v_part, test, counts)

    def _impressions(self, data: Dataset, by_time: bool) -> Parts[PairsTest]:
        """The parts of an impression log: impressions are cut into training, hold-out and test, U into U, V and test.

        Conversions are tested on randomised rows, where there are some, and on the held-out clicks otherwise; clicks
        and conversions together on the held-out impressions.
        """
        shown = data.impressions
        assert shown is not None
        kept, held = hold_out(shown.log, self.holdout, self.seed, by_time=by_time)
        rest = shown.log.take(kept)
        again, tested = hold_out(rest, self.holdout, self.seed + 1_000_003, by_time=by_time)
        trained, tested = kept[again], kept[tested]
        empty = np.zeros(0, np.int64)
        u, v, t = self._cut(data, by_time) if data.unbiased is not None else (empty, empty, empty)
        u_log, v_log, t_log = (None if data.unbiased is None else data.unbiased.take(x) for x in (u, v, t))
        no_unbiased_test = data.unbiased is None and data.test is None
        test_log = data.test if data.test is not None else t_log
        if test_log is None:
            test_log = shown.take(tested).clicked
        if not len(test_log):
            raise DataError(
                f"the test part is empty: {len(tested):,} impressions were held out, and "
                f"{'none of them was clicked' if no_unbiased_test else 'the unbiased log has too few rows'}. Give more "
                "rows."
            )
        train = data.with_impressions(
            shown.take(trained), u_log if u_log is not None and len(u_log) else None
        )
        holdout = data.with_impressions(shown.take(held))
        v_part = None
        if v_log is not None and len(v_log):
            v_part = ValidationPart(data.with_logs(v_log), unbiased=True)
        counts = {
            "impressions": len(trained),
            "biased": len(train.biased),
            "holdout": len(holdout.biased),
            "U": 0 if u_log is None else len(u_log),
            "V": 0 if v_log is None else len(v_log),
            "test": len(test_log),
            "test_leaked": len(test_log),
            "test_impressions": len(tested),
        }
        known = _pattern([train.biased, holdout.biased, u_log, v_log], data.shape)
        test = Sealed(PairsTest(test_log, test_log, known, biased=no_unbiased_test, shown=tested))
        return Parts(train, ValidationPart(holdout), v_part, test, counts)

    def _shares(self, data: Dataset) -> tuple[float, float, float]:
        return data.task.unbiased_split if self.shares is None else self.shares

    def _cut(self, data: Dataset, by_time: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert data.unbiased is not None
        train, validation, test = self._shares(data)
        n = len(data.unbiased)
        order = _order(data.unbiased, self.seed, "unbiased", by_time)
        if data.test is not None:
            # A fixed test log leaves the whole randomised log to U and V, in the proportion of their shares.
            whole = train + validation
            n_u = round(n * (train / whole)) if whole else n
            return order[:n_u], order[n_u:] if validation else order[:0], order[:0]
        largest = max(self.largest_train, train)
        if largest + validation + (test if not self.largest_train else 0) > 1 + 1e-9:
            raise ParameterError(
                f"'shares' {(train, validation, test)} with largest_train {self.largest_train} must have a sum of at "
                "most 1."
            )
        n_u, n_largest, n_v = int(train * n), int(largest * n), int(validation * n)
        # The test is what no share of the sweep may touch; without a sweep it is its own share.
        n_t = n - n_largest - n_v if self.largest_train else min(round(test * n), n - n_u - n_v)
        return order[:n_u], order[n_largest : n_largest + n_v], order[n - n_t :]


@dataclass(frozen=True)
class UsersSplit:
    """The users protocol of paper 1: 80/10/10 by user, strong generalisation.

    Parameters
    ----------
    seed: draws the permutation of users.
    validation, test: shares of the users.
    held: share of a validation user's rows (and of a test user's, where no better target is known) that is
        to be found; users with fewer than `least` rows give none.
    """

    seed: int = 0
    validation: float = 0.10
    test: float = 0.10
    held: float = 0.20
    least: int = 5

    def apply(self, data: Dataset, truth: Truth | None = None) -> Parts[UsersTest]:
        """The parts of `data`. With a simulator's truth, or a test log, test users' positives are unexposed
        pairs; otherwise they are a held-out part of their own biased rows.

        Raises
        ------
        ParameterError: shares that do not fit.  DataError: too few users.
        """
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise ParameterError(
                "'validation' and 'test' of UsersSplit must be > 0 with a sum below 1; got "
                f"{self.validation}, {self.test}."
            )
        n = data.n_users
        n_v, n_t = round(self.validation * n), round(self.test * n)
        if min(n_v, n_t, n - n_v - n_t) < 1:
            raise DataError(
                f"the users protocol needs users for training, validation and test; got {n} users."
            )
        order = numpy_generator(self.seed, "users").permutation(n)
        tested, validated = np.sort(order[:n_t]), np.sort(order[n_t : n_t + n_v])
        trained = np.sort(order[n_t + n_v :])
        train = take_users(data, trained)
        v_data = take_users(data, validated)
        v_history, v_target = self._halve(v_data)
        holdout = ValidationPart(v_data.with_logs(v_target), history=v_history)
        t_data = take_users(data, tested)
        test = self._test(t_data, None if truth is None else truth.rating[tested])
        counts = {
            "users_train": len(trained),
            "users_validation": n_v,
            "users_test": n_t,
            "biased": len(train.biased),
            "holdout": len(v_target),
            "U": len(train.unbiased) if train.unbiased is not None else 0,
            "test": int(test.relevant.nnz),
        }
        return Parts(train, holdout, None, Sealed(test), counts)

    def _halve(self, data: Dataset) -> tuple[Dataset, Log]:
        """A user's rows as (given history, rows to be found)."""
        rng = numpy_generator(self.seed, f"held-{data.n_users}")
        indptr, order = data.biased.by_user(data.n_users)
        held = np.zeros(len(data.biased), bool)
        for u in range(data.n_users):
            rows = order[indptr[u] : indptr[u + 1]]
            if len(rows) >= self.least:
                held[rng.choice(rows, max(1, int(self.held * len(rows))), replace=False)] = True
        return data.with_logs(data.biased.take(~held)), data.biased.take(held)

    def _test(self, data: Dataset, rating: np.ndarray | None) -> UsersTest:
        if rating is not None:
            seen = data.biased.pattern(data.shape).astype(bool)
            relevant = csr_matrix(data.positive(rating))
            relevant = csr_matrix(relevant.astype(np.int8) - relevant.multiply(seen).astype(np.int8))
            relevant.eliminate_zeros()
            return UsersTest(data.with_logs(data.biased), relevant.astype(bool))
        if data.test is not None:
            positive = data.test.take(data.positive(data.test.rating))
            return UsersTest(data.without_test(), positive.pattern(data.shape).astype(bool))
        history, target = self._halve(data)
        positive = target.take(data.positive(target.rating))
        return UsersTest(history, positive.pattern(data.shape).astype(bool), biased=True)


def take_users(data: Dataset, codes: np.ndarray) -> Dataset:
    """The data of these users alone (sorted codes), recoded; items keep their codes."""
    from deconrec.data.ids import Vocabulary

    place = np.full(data.n_users, -1, np.int64)
    place[codes] = np.arange(len(codes))

    def cut(log: Log | None) -> Log | None:
        if log is None:
            return None
        rows = place[log.user] >= 0
        kept = log.take(rows)
        return replace(kept, user=place[kept.user])

    biased = cut(data.biased)
    assert biased is not None
    return data._replace(
        users=Vocabulary(data.users.decode(codes), "user"),
        biased=biased,
        unbiased=cut(data.unbiased),
        test=cut(data.test),
        user_features=None if data.user_features is None else data.user_features.take(codes),
    )


def _pattern(logs: list[Log | None], shape: tuple[int, int]) -> csr_matrix:
    present = [log for log in logs if log is not None and len(log)]
    users = np.concatenate([log.user for log in present])
    items = np.concatenate([log.item for log in present])
    out = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
    out.data[:] = 1.0
    return out
