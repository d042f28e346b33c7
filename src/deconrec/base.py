"""What every method is: `Estimator`, its `Tags`, and the protocols of the models that methods are built from."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from deconrec.data.context import Schema
from deconrec.data.dataset import Dataset, Log, OutcomeScale, Task
from deconrec.data.ids import Vocabulary, as_series
from deconrec.data.impressions import raw_weight
from deconrec.data.provenance import provenance
from deconrec.data.split import ValidationPart, cut, joined
from deconrec.data.tables import read_table
from deconrec.errors import (
    DataError,
    DataWarning,
    MissingUnbiasedLog,
    NotFitted,
    ParameterError,
    UnknownItem,
    UnknownUser,
)
from deconrec.evaluation.logits import joint, probability
from deconrec.evaluation.policy import check_policy, draw, draw_posterior
from deconrec.evaluation.rating import correlation_within_users
from deconrec.folding import new_users, pair_scores
from deconrec.kernels.top_k import top_k
from deconrec.parameters import Parameterised
from deconrec.random import numpy_generator
from deconrec.training.checkpoints import EVERY, Checkpoint, checkpoint_of, fit_identity, keeping

if TYPE_CHECKING:
    from torch import Tensor

    from deconrec.effects import Effects
    from deconrec.pairs import Pairs, Rows

Unknown = Literal["error", "fallback"]
SOURCES = ("model", "fold-in", "fallback")
CELLS = 4_000_000  # scores held at once by `recommend` (16 MB in float32)
DRAWS = 40  # NOTE of a posterior, for which fewer users are taken at a time
SHRINK = 5.0  # NOTE rows of the overall mean that the fallback's item means are shrunk with
HOLDOUT = 0.15  # NOTE share of the biased log that stops training where no validation data are given


@dataclass(frozen=True)
class Tags:
    """What a method needs and can do, with its present parameters.

    Attributes
    ----------
    needs_unbiased: `fit` refuses data without a randomised log.
    uses_unbiased: the randomised log, where there is one, changes the result.
    uses_features: user or item features, where there are some, change the result.
    shape: protocol that the method is made for: "pairs", "rows" or "both".
    outcome: "any" or "binary".
    uses_rating: the method reads the rating behind a binarised outcome.
    fold_in: whether users that were not seen in training can be scored from a history.
    yardstick: a ranker that learns nothing of anybody's taste; others are measured by it.
    impressions: the method also runs on a log of impressions, with their context.
    """

    needs_unbiased: bool = False
    uses_unbiased: bool = False
    uses_features: bool = False
    shape: Literal["pairs", "rows", "both"] = "pairs"
    outcome: Literal["any", "binary"] = "any"
    uses_rating: bool = False
    fold_in: bool = True
    yardstick: bool = False
    impressions: bool = False


@dataclass(frozen=True, eq=False)
class Spec:
    """Sizes and rates of the data that networks are built for; what loading a model gives back.

    Attributes
    ----------
    n_users, n_items, n_user_features, n_item_features, n_row_features: sizes.
    item_rate: (n_items,) share of users exposed to each item, or None when rebuilding a saved model.
    mean_outcome: mean outcome of the biased log, in [0, 1].
    density: |O| / |D|.
    n_impressions: rows of D, by weight, where it is a table of impressions; 0 where it is users x items.
    n_columns, n_places: categorical columns of their context, and places of all their categories.
    """

    n_users: int
    n_items: int
    n_user_features: int = 0
    n_item_features: int = 0
    n_row_features: int = 0
    item_rate: np.ndarray | None = None
    mean_outcome: float = 0.5
    density: float = 0.5
    n_impressions: int = 0
    n_columns: int = 0
    n_places: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        return self.n_users, self.n_items

    @property
    def rows(self) -> int:
        """Rows of the biased log."""
        return round(self.density * (self.n_impressions or self.n_users * self.n_items))

    @classmethod
    def of(cls, data: Dataset) -> Spec:
        """The spec of a data set."""
        sizes = [0 if f is None else f.values.shape[1] for f in (data.user_features, data.item_features)]
        rate = np.bincount(data.biased.item, minlength=data.n_items) / max(data.n_users, 1)
        mean = float(data.outcome(data.biased).mean())
        spec = cls(*data.shape, sizes[0], sizes[1], item_rate=rate, mean_outcome=mean, density=data.density)
        if data.impressions is None:
            return spec
        schema = data.impressions.schema
        return replace(
            spec,
            n_row_features=schema.n_inputs,
            n_impressions=max(1, round(float(raw_weight(data.impressions.log).sum(dtype=np.float64)))),
            n_columns=len(schema.categories),
            n_places=schema.n_places,
        )


class Estimator(Parameterised, ABC):
    """A method: hyper-parameters, `fit`, and answers in raw ids.

    Learned state ends in `_`. A subclass is a dataclass of parameters and implements the hooks below; it is final.
    """

    paper: ClassVar[str] = ""  # key in `references.PAPERS`
    title: ClassVar[str] = ""
    # Further settings that a search tries after the method's own: where a method extends another, that one's.
    starts: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    users_: Vocabulary
    items_: Vocabulary
    task_: Task
    scale_: OutcomeScale
    spec_: Spec
    seen_: csr_matrix
    mean_: float
    item_mean_: np.ndarray
    covered_users_: np.ndarray
    covered_items_: np.ndarray
    context_: Schema | None = None  # of an impression log
    about_: dict[str, Any] | None = None  # where it comes from, see `data.provenance`
    checkpoint_: Checkpoint | None = None

    # ------------------------------------------------------------------ hooks
    @property
    def inert(self) -> frozenset[str]:
        """Dotted names of parameters without effect at the present settings: a search spends no trial on them."""
        return frozenset()

    @property
    @abstractmethod
    def tags(self) -> Tags:
        """What the method needs with its present parameters."""

    @property
    def exposure_model(self) -> ExposureModel | None:
        """The fitted model of exposures whose substitute confounders the method reads; None where it reads none."""
        return None

    @abstractmethod
    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        """Learn from `data`; stop on `validation`."""

    def _chooses(self, validation: ValidationPart) -> bool:
        """Whether `_fit` chooses anything by such rows; if not, `fit(refit=True)` learns from all rows at once."""
        return True

    @abstractmethod
    def _pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(n,) expected outcome in [0, 1] of coded pairs of training users."""

    @abstractmethod
    def _block(self, users: np.ndarray) -> np.ndarray:
        """(B, n_items) expected outcome in [0, 1] of training users."""

    @abstractmethod
    def _fold_in(self, history: Dataset) -> np.ndarray:
        """(n, n_items) expected outcome in [0, 1] of new users, from the biased log of `history`."""

    @abstractmethod
    def _state(self) -> dict[str, np.ndarray]:
        """Learned arrays by name, for `save`."""

    @abstractmethod
    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of `_state`; `spec_` is set."""

    def _of_log(self, data: Dataset, log: Log) -> np.ndarray:
        """(n,) expected outcome in [0, 1] of a log's rows, which are coded as the training data are."""
        return self._pairs(log.user, log.item)

    def _logits(self, log: Log) -> tuple[np.ndarray, np.ndarray | None]:
        """((n,) logit of pCVR, (n,) logit of pCTR or None) of impressions; codes of unseen ids are n_users, n_items."""
        raise DataError(f"{type(self).__name__} does not answer for impressions.")

    def _covered(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """((n_users,), (n_items,)) bool: users and items that the model learned anything about."""
        users, items = np.zeros(data.n_users, bool), np.zeros(data.n_items, bool)
        whole = data.biased if data.impressions is None else data.impressions.log
        for log in (whole, data.unbiased):
            if log is not None:
                users[log.user], items[log.item] = True, True
        return users, items

    def _posterior(self, users: np.ndarray, history: Dataset | None = None) -> np.ndarray:
        """(K, B, n_items) expected outcomes under K draws from a posterior: of training users by their codes, or of the
        users of a history by their numbers in it; B >= 1.

        Raises
        ------
        ParameterError: the method has no posterior.
        """
        raise ParameterError(
            f"{type(self).__name__} has no posterior to explore by; use explore='epsilon-greedy' or 'plackett-luce', "
            "or a method that has one ('grounded-gp')."
        )

    def _item_vectors(self) -> np.ndarray | None:
        """(n_items, d) for `similar_items`, or None."""
        return None

    def _similarities(self, code: np.ndarray) -> np.ndarray | None:
        """(n, n_items) in [-1, 1] for `similar_items`: the cosine of item vectors where there are some, or None."""
        vectors = self._item_vectors()
        if vectors is None:
            return None
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit[code] @ unit.T

    # ------------------------------------------------------------------ fitting
    def fit(
        self,
        data: Dataset,
        *,
        validation: ValidationPart | Dataset | None = None,
        refit: bool = False,
        progress: bool = False,
        checkpoint: str | Path | None = None,
        checkpoint_every: float = EVERY,
    ) -> Self:
        """Learn from a data set; its fixed test log is put aside unseen.

        Parameters
        ----------
        data: a `Dataset` (never a simulator's truth).
        validation: what training stops on; None = a hold-out of 15 % of the biased log, drawn by `seed`.
        refit: once stopped, learn again from all rows of the biased log, those that stopped it included, for as many
            epochs as they chose (methods over pairs; no effect where randomised rows or other users stop it).
        progress: show a progress bar on a terminal.
        checkpoint: a folder of its own, from which a fit that was killed goes on when it is called again with the same
            data and parameters, to the same model; `save` removes it. Methods that are trained by gradient keep some;
            others begin anew.
        checkpoint_every: seconds between writes, > 0; large networks are written less often, see
            `training.checkpoints`.

        Raises
        ------
        ParameterError: a parameter out of range.  MissingUnbiasedLog: the method needs one.
        DataError: data that the method cannot use.  TrainingError: training diverged.
        FileError: the folder of the checkpoint holds something else.

        Warns
        -----
        DataWarning: a log whose outcomes are all the same.  FitWarning: a checkpoint of another fit, which is not used.
        """
        if not isinstance(data, Dataset):
            raise DataError(
                f"fit of {type(self).__name__} needs a deconrec.Dataset; got {type(data).__name__}."
            )
        self.check_params()
        tags = self.tags
        if tags.needs_unbiased and (data.unbiased is None or not len(data.unbiased)):
            raise MissingUnbiasedLog(type(self).__name__)
        if tags.outcome == "binary" and not data.outcome_scale.binary:
            raise DataError(
                f"{type(self).__name__} needs a binary outcome; the ratings run from {data.outcome_scale.low:g} to "
                f"{data.outcome_scale.high:g}. Set binarize (the rating from which an outcome counts as 1)."
            )
        refuse_impressions(type(self).__name__, tags, data)
        started = time.perf_counter()
        self.__dict__.pop("seconds_", None)  # a fit that fails leaves no model behind
        given = data = data.without_test()
        if not tags.uses_unbiased:
            data = data.with_logs(data.biased, None)
        self._check_logs(data, tags)
        if isinstance(validation, Dataset):
            validation = ValidationPart(validation)
        if validation is not None:
            self._check_validation(data, validation)
        # Users that a pair method never trained on cannot stop it: rows of its own users do.
        own = validation is None or (validation.history is not None and tags.shape == "pairs")
        self.about_ = provenance(given, None if own else validation, refit)
        if validation is None or own:
            data, held = cut(data, HOLDOUT, int(getattr(self, "seed", 0)))
            validation = ValidationPart(held)
        self.users_, self.items_, self.task_ = data.users, data.items, data.task
        self.scale_, self.spec_ = data.outcome_scale, Spec.of(data)
        self.context_ = None if data.impressions is None else data.impressions.schema
        self.fingerprint_ = data.fingerprint
        self.unbiased_rows_ = self.n_unbiased_ = len(data.unbiased) if data.unbiased is not None else 0
        if validation.unbiased:
            self.unbiased_rows_ += len(validation.data.biased)
        again = refit and validation.history is None and not validation.unbiased
        self.checkpoint_ = None
        if checkpoint is not None:
            whose = fit_identity(self, validation, refit)
            self.checkpoint_ = checkpoint_of(Path(checkpoint), whose, checkpoint_every)
        with keeping(self.checkpoint_):
            if not again or self._chooses(validation):
                self._remember(data)
                self._fit(data, validation, progress)
            if again:
                self.learn_again(joined(data, validation.data), progress)
        # What stopped training was rated too: it is no news to its user.
        if validation.history is None and validation.data.users.same(self.users_):
            both = csr_matrix(self.seen_ + validation.data.biased.pattern(data.shape))
            both.data[:] = 1.0
            self.seen_ = both
        self.seconds_ = time.perf_counter() - started
        return self

    def learn_again(self, data: Dataset, progress: bool = False) -> None:
        """Learn from more rows, of the users and items of the first fit, for as many epochs as that one chose."""
        data = data if self.tags.uses_unbiased else data.with_logs(data.biased, None)
        self.spec_ = Spec.of(data)
        self._remember(data)
        self._fit_again(data, progress)

    # ------------------------------------------------------------------ judging
    def judge(self, validation: ValidationPart) -> float:
        """What stopping and selection go by; higher is better.

        The method's own validation score or, where the part asks for it, the correlation of scores and ratings within
        users over the held-out exposures.

        Raises
        ------
        ParameterError: the method has no validation score.
        """
        if validation.within_exposure:
            log = validation.data.biased
            return correlation_within_users(self._validation_scores(validation), log.rating, log.user)
        return self.validation_score(validation)

    def validation_score(self, validation: ValidationPart) -> float:
        """The method's own validation score; higher is better."""
        raise ParameterError(f"{type(self).__name__} has no validation score to be tuned by; use trials=0.")

    def _validation_scores(self, validation: ValidationPart) -> np.ndarray:
        """(n,) scores of the rows that are to be predicted."""
        log = validation.data.biased
        if validation.history is None:
            return self._of_log(validation.data, log)
        return self._fold_in(validation.history)[log.user, log.item]

    def _fit_again(self, data: Dataset, progress: bool) -> None:
        """Learn from more rows what validation has chosen; nothing where a method makes no such use of it."""

    def _check_logs(self, data: Dataset, tags: Tags) -> None:
        """Refuse a biased log without rows; warn where a log's outcomes, all the same, say nothing of pairs."""
        if not len(data.biased):
            raise DataError(
                f"fit of {type(self).__name__} needs a biased log with at least one row; got none. Check the filter "
                "that was applied to it."
            )
        # Methods over rows read which items were exposed: likes alone are what they are made for.
        if tags.shape == "pairs":
            _warn_one_outcome(
                "biased",
                data.outcome(data.biased),
                "ratings alone cannot tell pairs apart: set `binarize` so that both outcomes occur, or use a method "
                "over exposures ('ease', 'concat-vae')",
            )
        if data.unbiased is not None:
            _warn_one_outcome(
                "randomised",
                data.outcome(data.unbiased),
                "whatever learns from it is drawn to that value everywhere: give it more rows, or compare with 'mf'",
            )

    def _check_validation(self, data: Dataset, validation: ValidationPart) -> None:
        same_users = validation.history is not None or validation.data.users.same(data.users)
        if (data.impressions is None) != (validation.data.impressions is None):
            raise DataError(
                f"fit of {type(self).__name__} needs validation data of the kind of the training data; one is a log of "
                "impressions and the other is not."
            )
        if not (same_users and validation.data.items.same(data.items)):
            raise DataError(
                f"fit of {type(self).__name__} needs validation data with the users and items of the training data, "
                "so that codes mean the same; got other ids. Cut both from one Dataset (PairsSplit, or data.with_logs)."
            )

    def _remember(self, data: Dataset) -> None:
        """Keep what answers need: seen pairs, the fallback's means, what the model covers."""
        seen = data.biased.pattern(data.shape)
        if data.unbiased is not None:
            seen = csr_matrix(seen + data.unbiased.pattern(data.shape))
            seen.data[:] = 1.0
        self.seen_ = seen
        r = data.outcome(data.biased)
        self.mean_ = float(r.mean()) if len(r) else 0.5
        total = np.bincount(data.biased.item, weights=r, minlength=data.n_items)
        count = np.bincount(data.biased.item, minlength=data.n_items)
        self.item_mean_ = ((total + SHRINK * self.mean_) / (count + SHRINK)).astype(np.float32)
        self.covered_users_, self.covered_items_ = self._covered(data)

    def _check_fitted(self) -> None:
        if not hasattr(self, "seconds_"):  # the last thing that `fit` sets
            raise NotFitted(type(self).__name__)

    # ------------------------------------------------------------------ answers
    def predict(
        self,
        pairs: Any,
        items: Any = None,
        *,
        history: Any = None,
        features: Any = None,
        unknown: Unknown = "error",
        details: bool = False,
    ) -> Any:
        """Expected outcome E[r | u, i] of pairs, on the outcome's own scale.

        Parameters
        ----------
        pairs: a table with user_id and item_id, or (users, items), or the users with `items` given apart; raw ids.
        history: rows (user_id, item_id, rating) of users that are then folded in.
        features: a table of user features, the id in its first column and the columns of training: its users, beside
            those of `history`, are folded in too (methods that read features).
        unknown: what an id means that the model does not know: "error", or "fallback": the item's mean outcome,
            or the overall mean for an unknown item.
        details: give a polars frame user_id, item_id, score, source ("model" | "fold-in" | "fallback").

        Of a model of impressions `pairs` is a table with user_id, item_id and the context's columns; every row is
        answered by the model, ids and categories that it never saw too, and the frame has pcvr (the score), pctr and
        pctcvr beside, null where the method learns no click.

        Returns (n,) float64, or the frame.

        Raises
        ------
        UnknownUser, UnknownItem: with unknown="error".  NotFitted.
        """
        self._check_fitted()
        if self.context_ is not None:
            if items is not None or history is not None or features is not None:
                raise DataError(
                    f"predict of {type(self).__name__}, a model of impressions, needs one table with user_id, item_id "
                    "and the context; it folds no one in, because an unseen user is answered too."
                )
            return self._predict_impressions(pairs, details=details)
        raw_users, raw_items = _pair_columns(pairs, items)
        user, item = self.users_.encode(raw_users), self.items_.encode(raw_items)
        folded = self._newcomers(history, features)
        place = np.full(len(user), -1) if folded is None else folded.users.encode(raw_users)
        if unknown == "error":
            self._refuse_unknown(raw_users, (user < 0) & (place < 0), raw_items, item < 0)
        score = np.full(len(user), self.mean_)
        source = np.full(len(user), 2, np.int8)
        known_item = item >= 0
        score[known_item] = self.item_mean_[item[known_item]]
        known_item &= self.covered_items_[np.maximum(item, 0)]
        by_model = known_item & (user >= 0) & self.covered_users_[np.maximum(user, 0)] & (place < 0)
        if by_model.any():
            score[by_model], source[by_model] = self._pairs(user[by_model], item[by_model]), 0
        by_fold = known_item & (place >= 0)
        if folded is not None and by_fold.any():
            score[by_fold] = pair_scores(self, folded, place[by_fold], item[by_fold], CELLS)
            source[by_fold] = 1
        score = np.asarray(self.scale_.outward(score), np.float64)
        if not details:
            return score
        names = pl.Series([SOURCES[s] for s in source], dtype=pl.String)
        return pl.DataFrame({"user_id": raw_users, "item_id": raw_items, "score": score, "source": names})

    def _predict_impressions(self, rows: Any, *, details: bool) -> Any:
        """The answers of `predict` for a table of impressions."""
        assert self.context_ is not None
        if isinstance(rows, tuple):
            raise DataError(
                f"predict of {type(self).__name__}, a model of impressions, needs a table with user_id, item_id and "
                f"the context columns {list(self.context_.names)}; got (users, items)."
            )
        table = read_table(rows, "the impressions")
        raw_users, raw_items = _pair_columns(table, None)
        user, item = (
            np.where(code < 0, len(ids), code)
            for ids, code in (
                (self.users_, self.users_.encode(raw_users)),
                (self.items_, self.items_.encode(raw_items)),
            )
        )
        log = Log(
            user,
            item,
            np.zeros(len(table), np.float32),
            context=self.context_.encode(table, "the impressions"),
        )
        b, a = self._logits(log)
        score = probability(b)
        if not details:
            return score
        nothing = pl.Series([None] * len(score), dtype=pl.Float64)
        return pl.DataFrame(
            {
                "user_id": raw_users,
                "item_id": raw_items,
                "score": score,
                "source": pl.Series(["model"] * len(score), dtype=pl.String),
                "pcvr": score,
                "pctr": nothing if a is None else pl.Series(probability(a)),
                "pctcvr": nothing if a is None else pl.Series(joint(a, b)),
            }
        )

    def score(
        self, users: Any = None, *, history: Any = None, features: Any = None, unknown: Unknown = "error"
    ) -> np.ndarray:
        """(n, n_items) float32 expected outcome of every item, in the order of `items_.values`; see `recommend`."""
        self._check_fitted()
        raw, folded = self._asked(users, history, features)
        blocks = [block for _, _, block in self._score_blocks(raw, folded, unknown)]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.items_)), np.float32)

    def recommend(
        self,
        users: Any = None,
        k: int = 20,
        *,
        exclude_seen: bool = True,
        history: Any = None,
        features: Any = None,
        unknown: Unknown = "error",
        explore: str | None = None,
        epsilon: float = 0.1,
        temperature: float = 0.1,
        seed: int = 0,
    ) -> pl.DataFrame:
        """The k items of highest expected outcome for each user, or k items drawn from an exploring policy.

        Parameters
        ----------
        users: raw ids, or None for every user that is folded in, or, without one, of the model (in order of ids).
        k: most rows a user; fewer where fewer candidates are left.
        exclude_seen: leave out pairs of the training data and of `history`.
        history, features: rows, or features, of users that are folded in; see `predict`.
        unknown: "error", or "fallback": the items of highest mean outcome.
        explore: None, "epsilon-greedy" (`epsilon`) or "plackett-luce" (`temperature`, in the outcome's unit): the
            policies of `evaluation.policy`; or "posterior", for methods that have one. Each user's draw depends on
            `seed` and the user's id alone.

        Returns a polars frame user_id, item_id, rank (from 1), score, and, with `explore`, propensity: P(the item is in
        the user's list) under the policy, exactly. Ties go to the smaller item id.

        Raises
        ------
        UnknownUser: with unknown="error".  ParameterError: k < 1, no such policy, or its parameter out of range.
        NotFitted.
        """
        self._check_fitted()
        if not isinstance(k, int | np.integer) or k < 1:
            raise ParameterError(f"'k' of recommend must be a whole number >= 1; got {k!r}.")
        k = max(1, min(int(k), len(self.items_)))  # tables are made for k places
        if explore is not None:
            check_policy(explore, epsilon, temperature)
        raw, folded = self._asked(users, history, features)
        frames = []
        cells = CELLS // DRAWS if explore == "posterior" else CELLS
        for part, seen, scores in self._score_blocks(raw, folded, unknown, cells):
            hidden = seen.nonzero() if exclude_seen else None
            if hidden is not None:
                scores[hidden] = -np.inf
            shown = None
            if explore is None:
                top, value = top_k(scores, int(k))
            else:
                streams = [numpy_generator(seed, f"explore/{user}") for user in part]
                if explore == "posterior":
                    drawn = self._drawn_scores(part, folded, scores)
                    if hidden is not None:
                        drawn[:, *hidden] = -np.inf
                    shown = draw_posterior(drawn, int(k), streams)
                else:
                    shown = draw(explore, scores, int(k), streams, epsilon=epsilon, temperature=temperature)
                top = shown.item
                value = np.where(top >= 0, np.take_along_axis(scores, np.maximum(top, 0), 1), -np.inf)
            row, rank = np.nonzero(value > -np.inf)
            frames.append(
                pl.DataFrame(
                    {
                        "user_id": part.gather(row),
                        "item_id": self.items_.decode(top[row, rank]),
                        "rank": pl.Series(rank + 1, dtype=pl.Int32),
                        "score": pl.Series(value[row, rank].astype(np.float64)),
                    }
                    | ({} if shown is None else {"propensity": pl.Series(shown.propensity[row, rank])})
                )
            )
        if not frames:
            ids = (self.users_.values.clear().alias("user_id"), self.items_.values.clear().alias("item_id"))
            names = ("score", "propensity") if explore is not None else ("score",)
            values = (pl.Series(name, [], pl.Float64) for name in names)
            return pl.DataFrame([*ids, pl.Series("rank", [], pl.Int32), *values])
        return pl.concat(frames)

    def similar_items(self, items: Any, k: int = 10) -> pl.DataFrame:
        """The k items with the highest cosine to each: item_id, similar_id, rank (from 1), score in [-1, 1].

        Raises
        ------
        UnknownItem: an id that the model does not know.  DataError: the method has no item vectors.
        ParameterError: k < 1.
        """
        self._check_fitted()
        if not isinstance(k, int | np.integer) or k < 1:
            raise ParameterError(f"'k' of similar_items must be a whole number >= 1; got {k!r}.")
        raw = as_series(items)
        code = self.items_.encode(raw)
        self._refuse_unknown(None, None, raw, code < 0)
        cosine = self._similarities(code)
        if cosine is None:
            raise DataError(f"{type(self).__name__} has no item vectors to compare items by.")
        cosine[np.arange(len(code)), code] = -np.inf
        top, value = top_k(cosine, min(k, len(self.items_) - 1))
        row, rank = np.nonzero(value > -np.inf)
        return pl.DataFrame(
            {
                "item_id": raw.gather(row),
                "similar_id": self.items_.decode(top[row, rank]),
                "rank": pl.Series(rank + 1, dtype=pl.Int32),
                "score": pl.Series(value[row, rank].astype(np.float64)),
            }
        )

    def effects(self, outcomes: Any = None, **options: Any) -> Effects:
        """Effects of exposing items on outcomes, naive beside adjusted, with what they rest on; `effects.of_model`.

        Parameters
        ----------
        outcomes: outcomes of all pairs, exposed or not (a table user_id, item_id, rating, or an array in code order);
            None = the Jacobian of the method's own network, which is no effect: see its verdicts.
        options: causes, items, users, outcome, treatments, kind, at, dims, bootstrap, ... of `effects.of_model`.

        Raises
        ------
        DataError: a method that does not read user rows.  ParameterError: a bad option.  NotFitted.
        """
        from deconrec.effects import of_model

        return of_model(self, outcomes, **options)

    # ------------------------------------------------------------------ saving
    def save(self, path: str | Path) -> Path:
        """Write the model to a folder: JSON and safetensors, never a pickle; replaces a saved model whole.

        Raises
        ------
        NotFitted.  FileError: the folder exists and is no saved model.
        """
        from deconrec.saving import save_model

        self._check_fitted()
        folder = save_model(self, Path(path))
        if self.checkpoint_ is not None:
            self.checkpoint_.remove()
        return folder

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A model of this class from its folder; `deconrec.load_model` finds the class by itself.

        Raises
        ------
        FileError: no saved model, or one of another class.
        """
        from deconrec.saving import load_model

        model = load_model(path, cls=cls)
        assert isinstance(model, cls)  # load_model refuses another class
        return model

    # ------------------------------------------------------------------ inside
    def _newcomers(self, history: Any, features: Any) -> Dataset | None:
        """The users to fold in as a data set, or None."""
        return None if history is None and features is None else new_users(self, history, features)

    def _asked(self, users: Any, history: Any, features: Any = None) -> tuple[pl.Series, Dataset | None]:
        """(raw ids of the users that are asked for, the users to fold in as a data set)."""
        if self.context_ is not None:
            raise DataError(
                f"{type(self).__name__} was trained on impressions: what an item would do for a user depends on the "
                "impression's context. Give the impressions in question to `predict`, and rank by what it says."
            )
        folded = self._newcomers(history, features)
        everyone = self.users_ if folded is None else folded.users
        return everyone.values if users is None else as_series(users), folded

    def _drawn_scores(self, raw: pl.Series, folded: Dataset | None, scores: np.ndarray) -> np.ndarray:
        """(K, n, n_items) scores of users under draws from the posterior; those of unknown users are `scores`, K times.

        Raises
        ------
        ParameterError: the method has no posterior.
        """
        code = self.users_.encode(raw)
        place = np.full(len(raw), -1) if folded is None else folded.users.encode(raw)
        known, new = (code >= 0) & (place < 0), place >= 0
        parts = []
        if known.any():
            parts.append((known, self._posterior(code[known].astype(np.int64))))
        if new.any():
            parts.append((new, self._posterior(place[new].astype(np.int64), folded)))
        out = np.repeat(scores[None], len(parts[0][1]) if parts else 1, axis=0)
        for where, drawn in parts:
            out[:, where] = self.scale_.outward(drawn)
        return out

    def _score_blocks(
        self, raw: pl.Series, folded: Dataset | None, unknown: Unknown, cells: int = CELLS
    ) -> Iterator[tuple[pl.Series, csr_matrix, np.ndarray]]:
        """Blocks of (raw users, seen pattern, scores on the outcome's scale)."""
        code = self.users_.encode(raw)
        place = np.full(len(raw), -1) if folded is None else folded.users.encode(raw)
        if unknown == "error":
            self._refuse_unknown(raw, (code < 0) & (place < 0), None, None)
        size = max(1, cells // max(len(self.items_), 1))
        fallback = self._filled(self.item_mean_[None, :])[0]
        for start in range(0, len(raw), size):
            c, f = code[start : start + size], place[start : start + size]
            seen = csr_matrix((len(c), len(self.items_)), dtype=np.float32)
            known = c >= 0
            model = known & (f < 0)
            trained = model & self.covered_users_[np.maximum(c, 0)]
            if trained.all():
                scores = np.asarray(self._filled(self._block(c[trained])), fallback.dtype)
            else:
                scores = np.tile(fallback, (len(c), 1))
                if trained.any():
                    scores[trained] = self._filled(self._block(c[trained]))
            if known.any():
                seen = seen + _spread(self.seen_[c[known]], np.flatnonzero(known), len(c))
            if folded is not None and (f >= 0).any():
                from deconrec.data.split import take_users

                chosen, back = np.unique(f[f >= 0], return_inverse=True)
                part = take_users(folded, chosen)
                scores[f >= 0] = self._filled(self._fold_in(part))[back]
                seen = seen + _spread(part.biased.pattern(part.shape)[back], np.flatnonzero(f >= 0), len(c))
            yield (
                raw[start : start + size],
                csr_matrix(seen),
                np.array(self.scale_.outward(scores), np.float32),  # the caller's own: it hides pairs in it
            )

    def _filled(self, block: np.ndarray) -> np.ndarray:
        """Scores with the overall mean for items that the model learned nothing about."""
        if self.covered_items_.all():
            return block
        return np.where(self.covered_items_, block, np.float32(self.mean_))

    def _refuse_unknown(
        self,
        users: pl.Series | None,
        bad_user: np.ndarray | None,
        items: pl.Series | None,
        bad_item: np.ndarray | None,
    ) -> None:
        for kind, error, raw, bad in (
            ("user", UnknownUser, users, bad_user),
            ("item", UnknownItem, items, bad_item),
        ):
            if raw is not None and bad is not None and bad.any():
                first = ", ".join(repr(v) for v in raw.filter(pl.Series(bad)).head(3))
                raise error(
                    f"{int(bad.sum())} of {len(raw)} {kind} ids were not in the training data: {first}. "
                    f'unknown="fallback" answers with mean outcomes'
                    + ("; `history=` folds new users in." if kind == "user" else ".")
                )


def refuse_impressions(who: str, tags: Tags, data: Dataset) -> None:
    """Refuse a method on a log of impressions that it has no network for.

    Raises
    ------
    DataError.
    """
    if data.impressions is not None and not tags.impressions:
        raise DataError(
            f"{who} cannot learn from impressions: it reads whole user rows, or the factors of users and items (as "
            "backbone=fm and residual=head do), and no context. Use a method that says so (`deconrec methods --json "
            "-`: impressions), such as 'esmm', 'escm2-dr' or 'res-ips', or give a [biased] table of (user, item) pairs."
        )


def _warn_one_outcome(log: str, r: np.ndarray, says: str) -> None:
    """Warn (DataWarning) where all outcomes r of a log are the same; the text names no method, to be said once."""
    if len(r) and r.min() == r.max():
        warnings.warn(
            f"[ONE_OUTCOME] every outcome of the {log} log is the same (rows: {len(r):,}); {says}.",
            DataWarning,
            stacklevel=1,
        )


def _spread(rows: csr_matrix, where: np.ndarray, n: int) -> csr_matrix:
    """`rows` placed at the positions `where` of n rows."""
    counts = np.zeros(n, np.int64)
    counts[where] = np.diff(rows.indptr)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return csr_matrix((rows.data, rows.indices, indptr), shape=(n, rows.shape[1]))


def _pair_columns(pairs: Any, items: Any) -> tuple[pl.Series, pl.Series]:
    """Two columns of raw ids, of one length."""
    if items is None and isinstance(pairs, tuple):
        if len(pairs) != 2:
            raise DataError(f"pairs must be (users, items) or a table; got a tuple of {len(pairs)}.")
        pairs, items = pairs
    if items is None:
        table = read_table(pairs, "the pairs")
        if not {"user_id", "item_id"} <= set(table.columns):
            raise DataError(
                f"the pairs need the columns user_id and item_id; got {table.columns}. Rename yours to these."
            )
        return table["user_id"], table["item_id"]
    users, things = as_series(pairs), as_series(items)
    if len(users) != len(things):
        raise DataError(f"pairs need as many users as items; got {len(users)} and {len(things)}.")
    return users, things


# ---------------------------------------------------------------------- what methods are built from
class Propensity(Parameterised, ABC):
    """P(o = 1 | u, i): fitted first, then called in losses. Floored in `propensity/floor.py` and nowhere else."""

    needs_unbiased: ClassVar[bool] = False

    @abstractmethod
    def fit(self, data: Dataset, excluded: csr_matrix | None = None) -> Self:
        """Learn from a data set.

        Parameters
        ----------
        excluded: (n_users, n_items) pattern of pairs that could not be logged (a recommender shows nothing twice): no
            part of D, and without a row in the biased log.
        """

    @abstractmethod
    def __call__(self, pairs: Pairs) -> Tensor:
        """(n,) in (0, 1], without gradient."""

    def of_new(self, pairs: Pairs, n_users: int) -> Tensor | None:
        """(n,) propensities of pairs of `n_users` users outside the training data, whose codes and features `pairs`
        holds (`tables.user` is theirs); None where the model knows training users only.
        """
        return None

    @abstractmethod
    def _state(self) -> dict[str, np.ndarray]:
        """Learned arrays by name."""

    @abstractmethod
    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        """The inverse of `_state`."""


class ExposureModel(Parameterised, ABC):
    """A factor model of whole exposure rows that gives substitute confounders."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension of z: a parameter of most models, or of the data that were fitted."""

    @abstractmethod
    def fit(self, data: Dataset, validation: Dataset | None = None) -> Self:
        """Learn from the exposures of a data set's biased log."""

    @abstractmethod
    def confounder(self, rows: Rows) -> Tensor:
        """(B, dim) substitute confounders of rows, without gradient."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """(B, n_items) E[a_ui | z_u] of substitute confounders z (B, dim), without gradient."""

    @abstractmethod
    def reconstruct(self, rows: Rows) -> Tensor:
        """(B, n_items) P(a_ui = 1 | z_u), without gradient."""

    @abstractmethod
    def moved(self, code: np.ndarray) -> Self:
        """The model over other items; code (n_items,): each one here, or -1 for a new one, which says nothing."""

    @abstractmethod
    def _state(self) -> dict[str, np.ndarray]:
        """Learned arrays by name."""

    @abstractmethod
    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        """The inverse of `_state`."""
