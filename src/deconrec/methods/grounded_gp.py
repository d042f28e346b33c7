"""Grounded GP: the potential outcome as one Gaussian process, grounded by randomised ratings.

Idea. Exposures reveal the hidden confounder (paper 1), randomised ratings ground what remains (paper 2); one
probabilistic model holds both. The score of a pair is a sum of a level, a user, an item, their interaction and latent
factors. Features and substitute confounders say which users and items are alike. Biased rows differ from randomised
ones by a shift that only a randomised log can tell.

Risk (predictions are means under the posterior).
    f_ui = mu + a_u + b_i + g(u, i) + p_u . q_i + kappa e_ui
    g    ~ GP(0, x1 Ku Ki + x2 1[u = u'] Ki + x3 Ku 1[i = i']),   Ku = phi_u . phi_u',   Ki = psi_i . psi_i'
    a_u  ~ N(alpha . phi_u, s_a)     b_i ~ N(beta . psi_i, s_b)     p_uk ~ N(0, s_pk)     q_ik ~ N(0, s_qk)
    y_ui = f_ui + d_0 + d_1 log n_i + d_2 log n_u + noise            in the biased log; r_ui follows y_ui
    y_ui = f_ui + c_a a'_u + c_b b'_i + c_g g'_ui + noise            in the randomised one, and in the answers
    phi_u   kernel features of x_u; z_u of `exposure`; log n_u. psi_i alike: `exposure.likeness`
    d       the selection shift; n_i, n_u counts of the biased log
    c       slopes: a', b', g' are f's means over items and over users, and what is left; users differ less where each
            rates what they like best
    e_ui    exposure affinity of `affinity`           r   levels by an ordered probit, else y itself: `kernels.response`
    kappa   learned from randomised rows alone, as e is a cause of being in the biased log. Without them it is 0, or,
            where other users' held-out rows judge (users protocol), the one that is best for these
    s, x    variances, drawn with everything else (`kernels.bilinear`)

Needs.      a biased log. A randomised log grounds level, shift and kappa; features enter where there are some.
Assumes.    no confounder of a single item, for z to stand in for it; representative randomised rows, for the level.
            Given features, z and latent factors, selection moves all scores by the shift alone.
Limits.     no features, exposure_kernel = false, dim = 0: user and item effects alone. No randomised log: no shift, no
            slopes. One level everywhere: that level. A large kappa: the order of the exposure affinity.
Deviations. 1. The model is the library's own; the sampler of p and q is the paper's. 2. Variances have half-Cauchy
            priors, and move with their coefficients too; the paper's are Wishart. 3. Cuts of the probit are estimated,
            not drawn. 4. New users are answered with the item side of a few draws, their own part at its most
            probable value.
Paper.      [Salakhutdinov2008]; what it joins is of [Zhu2024] and [Li2023]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
import torch
from scipy.special import expit, ndtri

from deconrec.base import Estimator, ExposureModel, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart, take_users
from deconrec.errors import DataError, ParameterError
from deconrec.evaluation.rating import correlation_within_users
from deconrec.exposure import EXPOSURE_MODELS, SVDExposure
from deconrec.exposure.likeness import Likeness
from deconrec.factor_estimator import (
    ENOUGH,
    FactorEstimator,
    increasing_map,
    ndcg_of_held_out,
    score_of_pairs,
)
from deconrec.kernels.als import Entries
from deconrec.kernels.bilinear import Draw, Sampler, Side, update
from deconrec.kernels.posterior import Collected, Posterior, spread_out, with_ones
from deconrec.kernels.response import Gaussian, Ordinal, restored
from deconrec.kernels.tables import dots
from deconrec.methods.wmf import WMF
from deconrec.parameters import nuisance, parameter
from deconrec.random import numpy_generator

OF_EXPOSURES = {name: EXPOSURE_MODELS[name] for name in ("svd", "vae", "poisson")}
# NOTE prior variances: a few randomised rows are not to order items by counts, nor to turn parts around
SHIFT, KAPPA, SLOPE = (1.0, 0.05, 0.05), 0.05, 0.05
LEVELS = 12  # NOTE distinct ratings up to which they are levels; beyond, they are continuous
WORK = 20_000_000  # NOTE rows drawn in all, from which the number of draws follows
DRAWS = (20, 200)  # fewest and most draws that predictions average over
FOLD = 16  # draws that new users are answered with
ROUNDS = 8  # NOTE of a new user's own part; the last moves scores by less than 0.01
HEADS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # kappa over the ratio of the two parts' spreads
JUDGED = 1000  # validation users that kappa is chosen by
KNOWN = 50  # randomised rows from which their shares of levels start the cuts
CELLS = 4_000_000  # scores held at once
SHIFTED = 20_000  # biased rows over which the shift's size in the outcome is averaged


@dataclass(kw_only=True, eq=False, repr=False)
class GroundedGP(Estimator):
    """A Gaussian process of potential outcomes, grounded by randomised ratings."""

    paper = "Salakhutdinov2008"
    title = "Grounded Gaussian process"

    features: bool = parameter(True, "read user and item features, where there are some")
    unbiased: bool = parameter(True, "read the randomised log, where there is one")
    rank: int = parameter(32, "kernel features of user and of item features, at most", low=1)
    exposure_kernel: bool = parameter(True, "let substitute confounders say which users and items are alike")
    exposure: ExposureModel = nuisance(SVDExposure, "exposure model, fitted first", OF_EXPOSURES)
    exposure_rank: int = parameter(12, "principal components of z that are read, at most", low=1)
    affinity: FactorEstimator = nuisance(
        partial(WMF, reads="exposures"),
        "model of exposure affinities e, fitted first where kappa can be learned",
        {"wmf": WMF},
    )
    head: bool = parameter(True, "let exposure affinities enter the score, with coefficient kappa")
    dim: int = parameter(8, "latent factors p and q; 0 = none", low=0)
    interactions: int = parameter(12, "leading features of either side that interact exactly", low=0)
    slopes: bool = parameter(
        True, "let randomised rows say how much users, items and interactions differ, against the biased log"
    )
    copies: int = parameter(1, "ratings that a randomised row counts as", low=1)
    burn: int | None = parameter(
        None, "sweeps before the first draw; None = 10 to 20, half the number of draws", low=1
    )
    draws: int | None = parameter(
        None, "draws that predictions average over; None = 20 to 200, fewer for larger logs", low=2
    )
    kept: int = parameter(40, "draws that are kept for intervals and new users, at most", low=2)
    seed: int = parameter(0, "draws the posterior, initial values and the hold-out", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        exposure_: ExposureModel
        affinity_: FactorEstimator
        response_: Ordinal | Gaussian
        levels_: np.ndarray
        likeness_: Likeness
        before_: GroundedGP
        posterior_: Posterior
        columns_: np.ndarray
        shift_outcome_: np.ndarray
        kappa_: float
        affinity_scale_: np.ndarray
        platt_: np.ndarray

    @property
    def tags(self) -> Tags:
        """Reads whatever there is: randomised rows, features, the rating behind a binarised outcome."""
        return Tags(uses_unbiased=self.unbiased, uses_features=self.features, shape="both", uses_rating=True)

    @property
    def inert(self) -> frozenset[str]:
        """All that its parts would have tuned: what matters is drawn, and a hold-out of the biased log tells little."""
        parts = {"exposure": self.exposure, "affinity": self.affinity}
        return frozenset(f"{name}.{one}" for name, part in parts.items() for one in part.get_params())

    @property
    def exposure_model(self) -> ExposureModel | None:
        """The fitted model of exposures."""
        return getattr(self, "exposure_", None) if self.exposure_kernel else None

    def _covered(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Everybody: a user or an item without a row has the prior's answer, its features in it."""
        return np.ones(data.n_users, bool), np.ones(data.n_items, bool)

    # ------------------------------------------------------------------ fitting
    def _chooses(self, validation: ValidationPart) -> bool:
        """Only kappa is ever chosen, by other users' rows: variances are drawn, not tuned."""
        return validation.history is not None

    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        grounded = data.unbiased is not None and len(data.unbiased) > 0
        self.kappa_, self.platt_, self.affinity_scale_ = 0.0, np.zeros(2), np.zeros(2)
        before = self._before
        chosen = before is not None and bool(before.platt_[0])
        with_head = self.head and (grounded or validation.history is not None or chosen)
        if with_head:
            self._fit_affinity(data, validation)
        self._learn(data, with_head)
        if with_head and not grounded and not chosen:
            self._choose_kappa(validation)

    def update(self, data: Dataset, *, burn: int = 5, draws: int = 40) -> GroundedGP:
        """A model of more rows, and of new users and items, that goes on where this one stopped; this one is unchanged.

        What says who is like whom (exposure model, kernel features) and kappa's choice stay as they are; the posterior
        given all rows takes a few sweeps from here instead of many from nothing.

        Parameters
        ----------
        data: all rows, old and new, with features of the same columns.
        burn, draws: sweeps.

        Raises
        ------
        DataError: another kind of outcome or features.  NotFitted.
        """
        self._check_fitted()
        if not isinstance(data, Dataset):
            raise DataError(f"update of GroundedGP needs a deconrec.Dataset; got {type(data).__name__}.")
        for side, n in (("user", self.spec_.n_user_features), ("item", self.spec_.n_item_features)):
            features = getattr(data, f"{side}_features")
            got = 0 if features is None else features.values.shape[1]
            if self.features and got != n:
                raise DataError(
                    f"update of GroundedGP needs the {n} {side} features that the model was fitted to; got {got}."
                )
        if data.outcome_scale != self.scale_:
            raise DataError(
                f"update of GroundedGP needs outcomes on the model's scale, {self.scale_}; got {data.outcome_scale}. "
                "Give both data sets one rating_range."
            )
        new = self.clone().set_params(burn=burn, draws=draws)
        new.before_ = self
        new.fit(data, refit=True)
        del new.before_
        return new.set_params(burn=self.burn, draws=self.draws)

    @property
    def _before(self) -> GroundedGP | None:
        """The model that this fit goes on from; None for a fit from nothing."""
        return getattr(self, "before_", None)

    def _fit_again(self, data: Dataset, progress: bool) -> None:
        nothing = ValidationPart(data.with_logs(data.biased.take(np.zeros(0, np.int64))))
        self._fit(data, nothing, progress)

    def _fit_affinity(self, data: Dataset, validation: ValidationPart) -> None:
        model = self.affinity.clone()
        model.set_params(seed=self.seed)
        plain = data if self.features else data._replace(user_features=None, item_features=None)
        self.affinity_ = model.fit(plain.with_logs(data.biased), validation=validation)
        some = np.linspace(0, data.n_users - 1, min(data.n_users, 500)).astype(np.int64)
        e = self.affinity_._affinity(some)
        self.affinity_scale_ = np.array([float(e.mean()), max(float(e.std()), 1e-6)])

    def _standard(self, e: np.ndarray) -> np.ndarray:
        """Affinities with mean 0 and deviation 1 over all pairs."""
        return (e - self.affinity_scale_[0]) / self.affinity_scale_[1]

    def _learn(self, data: Dataset, with_head: bool) -> None:
        rng = numpy_generator(self.seed, "posterior")
        like = self.likeness_ = self._likeness(data)
        biased, random = data.biased, data.unbiased
        logs = [biased] if random is None or not len(random) else [biased, random]
        user = np.concatenate([log.user for log in logs]).astype(np.int64)
        item = np.concatenate([log.item for log in logs]).astype(np.int64)
        grounded, n = len(logs) > 1, len(biased)
        copies = np.ones(len(user), np.int64)
        copies[n:] = self.copies
        response = self._response(data, np.concatenate([log.rating for log in logs]), n)
        self.columns_ = np.array(
            [3.0 * grounded, float(grounded and with_head), 3.0 * (grounded and self.slopes)]
        )
        columns = np.zeros((len(user), int(self.columns_.sum())), np.float32)
        if grounded:
            columns[:n, :3] = self._shift_columns(
                biased.item, np.bincount(biased.user, minlength=data.n_users)[biased.user]
            )
            if with_head:
                e = self.affinity_._pair_affinity(user[n:], item[n:])
                columns[n:, 3] = self._standard(e)
        sampler: Sampler[Ordinal | Gaussian] = Sampler(
            phi=like.phi,
            psi=like.psi,
            phi_group=like.phi_group,
            psi_group=like.psi_group,
            user=user,
            item=item,
            copies=copies,
            response=response,
            columns=columns,
            spread=np.repeat(
                [*SHIFT, KAPPA, SLOPE], [*np.repeat(self.columns_[0] > 0, 3), *self.columns_[1:].astype(int)]
            ),
            grounded=np.arange(n, len(user)) if self.columns_[2] else np.zeros(0, np.int64),
            dim=self.dim,
            rng=rng,
            interactions=self.interactions,
            start=response.centre,
        )
        before = self._before
        if before is not None:
            codes = (
                known.encode(ids.values).astype(np.int64)
                for known, ids in ((before.users_, data.users), (before.items_, data.items))
            )
            sampler.resume(before.posterior_.draws[-1], *codes)
            if before.platt_[0] and with_head:
                self.kappa_, self.platt_ = before.kappa_, before.platt_
        self._run(sampler, n, self.draws or draws_for(len(user)))

    def _response(self, data: Dataset, rating: np.ndarray, n: int) -> Ordinal | Gaussian:
        """The response of the rows, the first n of them biased; `levels_` are the ratings that its levels begin at."""
        scale = data.outcome_scale
        before = self._before
        if before is not None:
            self.levels_ = before.levels_
            if isinstance(before.response_, Gaussian):
                return replace(before.response_, outcome=scale.inward(rating))
            return replace(before.response_, level=self._levels(rating))
        levels = np.unique(rating)
        self.levels_ = np.zeros(0)
        if len(levels) > LEVELS and scale.threshold is None:
            return Gaussian.of(scale.inward(rating))
        if scale.threshold is not None:
            threshold = scale.threshold
            if len(levels) > LEVELS:  # a binarised outcome of continuous ratings
                levels = np.array([levels[0], threshold])
            # Both outcomes can occur, whether or not they did.
            below, above = (levels < threshold).any(), (levels >= threshold).any()
            levels = np.concatenate([[] if below else [threshold - 1], levels, [] if above else [threshold]])
            outcome = (levels >= threshold).astype(np.float64)
            anchor = int(np.argmax(outcome)) - 1
        else:
            levels = np.unique(np.concatenate([levels, [scale.low, scale.high]]))
            outcome = scale.inward(levels).astype(np.float64)
            anchor = (len(levels) - 1) // 2
        self.levels_ = levels.astype(np.float64)
        code = self._levels(rating)
        counts = np.bincount(code[n:] if len(code) - n >= KNOWN else code, minlength=len(levels)) + 0.5
        return Ordinal.of(code, outcome, counts, anchor)

    def _levels(self, rating: np.ndarray) -> np.ndarray:
        """(n,) the level of each rating: the highest that it reaches."""
        code = np.searchsorted(self.levels_, rating.astype(np.float64), side="right") - 1
        return np.maximum(code, 0)

    def _likeness(self, data: Dataset) -> Likeness:
        """Who is like whom; fits the exposure model."""
        model: ExposureModel | None = None
        before = self._before
        if before is not None:
            if before.exposure_model is not None:
                code = before.items_.encode(data.items.values).astype(np.int64)
                model = self.exposure_ = before.exposure_model.moved(code)
            return before.likeness_.again(data, model)
        if self.exposure_kernel:
            model = self.exposure.clone()
            if "seed" in model.get_params(deep=False):
                model.set_params(seed=self.seed)
            self.exposure_ = model = model.fit(data.with_logs(data.biased))
        return Likeness.of(
            data,
            features=self.features,
            rank=self.rank,
            model=model,
            exposure_rank=self.exposure_rank,
            rng=numpy_generator(self.seed, "landmarks"),
        )

    def _shift_columns(self, item: np.ndarray, n_u: np.ndarray) -> np.ndarray:
        """(n, 3) what the selection shift of biased rows depends on; n_u (n,) rows of each row's user."""
        like = self.likeness_
        both = like.item_activity[item], like.user_activity(n_u)
        return np.column_stack([np.ones(len(item)), *both]).astype(np.float32)

    # ------------------------------------------------------------------ the posterior
    def _run(self, sampler: Sampler[Ordinal | Gaussian], n_biased: int, steps: int) -> None:
        """Burn in, draw, and keep what answers are made from."""
        for _ in range(int(np.clip(steps // 2, 10, 20)) if self.burn is None else self.burn):
            sampler.sweep()
        collected = Collected(sampler, steps, self.kept, slopes=bool(self.columns_[2]))
        rows, shift = spread_out(n_biased, SHIFTED), []
        for _ in range(steps):
            sampler.sweep()
            draw = collected.add()
            if self.columns_[0]:
                moved = sampler.columns[rows, :3] @ draw.d[:3]
                f = sampler.f[rows].astype(np.float64)
                felt = (float(sampler.response.expected(f - drop).mean()) for drop in (0.0, moved))
                shift.append(next(felt) - next(felt))
        self.posterior_ = collected.posterior()
        parameters = np.mean(collected.parameters, axis=0)
        self.response_ = restored(sampler.response.with_parameters(parameters).state())
        self.shift_outcome_ = np.array(shift)
        if self.columns_[1]:
            self.kappa_ = float(self.posterior_.d[:, 3].mean())

    # ------------------------------------------------------------------ the affinity's coefficient without U
    def _choose_kappa(self, validation: ValidationPart) -> None:
        """Kappa of `HEADS` by held-out rows of other users, and the map to outcomes that goes with it."""
        history, held = validation.history, validation.data
        assert history is not None
        if not len(held.biased):
            return
        users = np.unique(held.biased.user)
        users = users[spread_out(len(users), JUDGED)]
        some = ValidationPart(
            take_users(held, users), take_users(history, users), within_exposure=validation.within_exposure
        )
        assert some.history is not None
        f, e = self._new_scores(some.history), self._standard(self.affinity_._new_affinity(some.history))
        ratio = float((f - f.mean(1, keepdims=True)).std()) / max(float(e.std()), 1e-12)
        values = [self._judged(some, f + head * ratio * e) for head in HEADS]
        self.kappa_ = HEADS[int(np.argmax(values))] * ratio
        if not self.kappa_:
            return
        log = some.data.biased
        scores, r = (f + self.kappa_ * e)[log.user, log.item], some.data.outcome(log)
        if len(r) < ENOUGH or np.ptp(r) == 0:
            scores, r = np.zeros(2), np.array([self.mean_, self.mean_])
        self.platt_ = np.array(increasing_map(scores, r))

    def _judged(self, validation: ValidationPart, scores: np.ndarray) -> float:
        """What `judge` would say of these scores (n, n_items) of the validation users."""
        log = validation.data.biased
        if validation.within_exposure:
            return correlation_within_users(scores[log.user, log.item], log.rating, log.user)
        return ndcg_of_held_out(validation, lambda users: scores[users])

    def validation_score(self, validation: ValidationPart) -> float:
        """NDCG@20 of validation users' held-out positives; without such users, AUC, or minus the error."""
        history = validation.history
        if history is not None:
            return ndcg_of_held_out(validation, lambda users: self._fold_in(take_users(history, users)))
        log = validation.data.biased
        return score_of_pairs(validation.data, self._pairs(log.user, log.item))

    # ------------------------------------------------------------------ answers
    def _outcome(self, f: np.ndarray, variance: np.ndarray | float) -> np.ndarray:
        """Expected outcome in [0, 1] of scores f, the affinity's part included, in f's precision."""
        if self.platt_[0]:
            return np.asarray(expit(self.platt_[0] * f.astype(np.float64) + self.platt_[1]))
        return np.asarray(self.response_.expected(f, variance))

    def _pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        f = self.posterior_.pairs(user, item).astype(np.float64)
        if self.kappa_:
            f += self.kappa_ * self._standard(self.affinity_._pair_affinity(user, item))
        posterior = self.posterior_
        variance = posterior.variance(posterior.user_variance[user], posterior.item_variance[item])
        return self._outcome(f, variance)

    def _block(self, users: np.ndarray) -> np.ndarray:
        posterior = self.posterior_
        f = posterior.block(users)
        if self.kappa_:
            f += np.float32(self.kappa_) * self._standard(self.affinity_._affinity(users)).astype(np.float32)
        variance = posterior.variance(posterior.user_variance[users, None], posterior.item_variance)
        return self._outcome(f, variance)

    def _fold_in(self, history: Dataset) -> np.ndarray:
        f = self._new_scores(history)
        if self.kappa_:
            f += self.kappa_ * self._standard(self.affinity_._new_affinity(history))
        typical = np.full((len(f), 1), self.posterior_.user_variance.mean(), np.float32)
        return self._outcome(f, self.posterior_.variance(typical, self.posterior_.item_variance))

    def _new_scores(self, history: Dataset) -> np.ndarray:
        """(n, n_items) scores of new users, without the affinity's part: the mean over draws of the item side."""
        draws = self.posterior_.draws
        chosen = [draws[k] for k in spread_out(len(draws), FOLD)]
        out = np.zeros((history.n_users, history.n_items))
        for score, _ in self._new_draws(history, chosen):
            out += score
        return out / len(chosen)

    def _new_draws(self, history: Dataset, chosen: Sequence[Draw]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """((n, n_items) most probable, (n, n_items) drawn) scores of new users under each draw of the item side."""
        phi_1, psi_1 = with_ones(self.likeness_.users(history)), self.posterior_.psi_1
        log, h, f = history.biased, psi_1.shape[1], phi_1.shape[1]
        user, item = log.user.astype(np.int64), log.item.astype(np.int64)
        columns = np.zeros((len(user), int(self.columns_.sum())), np.float32)
        if self.columns_[0]:
            columns[:, :3] = self._shift_columns(item, np.bincount(user, minlength=len(phi_1))[user])
        side = Side.of(Entries.of(user, item, len(phi_1)), h + self.dim, history.n_items)
        response, rng = self._response_of(history), numpy_generator(self.seed, "new users")
        weight = np.full(len(user), self.response_.unit**-2, np.float32)
        for draw in chosen:
            items = draw.item.astype(np.float32)
            table = np.column_stack([psi_1, items[:, f:]])
            shared = phi_1 @ draw.g
            base = dots(shared, psi_1, user, item) + dots(phi_1, items[:, :f], user, item)
            base += columns @ draw.d
            likely, score = response.with_parameters(draw.parameters), base
            own = drawn = np.zeros((len(phi_1), h + self.dim), np.float32)
            for _ in range(ROUNDS):
                y = likely.likely_target(score)
                drawn, own, _ = update(side, table, own, draw.user_prior, y - score, weight, rng)
                score = base + dots(own, table, user, item)
            left = [np.column_stack([shared + x[:, :h], phi_1, x[:, h:]]) for x in (own, drawn)]
            yield self.posterior_.rescaled(draw, left[0]), self.posterior_.rescaled(draw, left[1])

    def _response_of(self, data: Dataset) -> Ordinal | Gaussian:
        """The response with the rows of a history."""
        rating = data.biased.rating
        if isinstance(self.response_, Gaussian):
            return replace(self.response_, outcome=self.scale_.inward(rating))
        return replace(self.response_, level=self._levels(rating))

    # ------------------------------------------------------------------ the posterior, asked
    def _posterior(self, users: np.ndarray, history: Dataset | None = None) -> np.ndarray:
        """(K, B, n_items) expected outcomes under the draws that were kept."""
        draws = self.posterior_.draws
        if history is None:
            scores = (left[users] @ right.T for left, right in map(self.posterior_.tables, draws))
        else:
            history = take_users(history, users)
            scores = (drawn for _, drawn in self._new_draws(history, draws))
        e: np.ndarray | float = 0.0
        if self.kappa_:
            e = self.affinity_._affinity(users) if history is None else self.affinity_._new_affinity(history)
            e = self._standard(e)
        out = np.empty((len(draws), len(users), len(self.posterior_.psi_1)), np.float32)
        for k, score in enumerate(scores):
            out[k] = self._drawn_outcome(draws[k], score + self._drawn_kappa(draws[k]) * e)
        return out

    def _drawn_kappa(self, draw: Draw) -> float:
        """Kappa of a draw: its own where randomised rows gave it one."""
        return float(draw.d[3]) if self.columns_[1] else self.kappa_

    def _drawn_outcome(self, draw: Draw, f: np.ndarray) -> np.ndarray:
        """Expected outcome in [0, 1] of scores f under a draw."""
        if self.platt_[0]:
            return self._outcome(f, 0.0)
        return self.response_.with_parameters(draw.parameters).expected(f)

    def intervals(
        self, pairs: Any, items: Any = None, *, level: float = 0.9, of: str = "expected"
    ) -> pl.DataFrame:
        """Expected outcomes of training users' pairs with credible intervals: user_id, item_id, score, low, high.

        Parameters
        ----------
        pairs, items: as in `predict`.
        level: in (0, 1).
        of: "expected": normal intervals of the score under the draws that were kept, mapped to the outcome's scale;
            they hold what the model is unsure of, not the noise of a single rating. "rating": where a single rating of
            the pair lies, noise included; what belongs to one pair alone is noise to the model, which sees a pair once.

        Raises
        ------
        UnknownUser, UnknownItem.  ParameterError: level out of range, or no such `of`.  NotFitted.
        """
        if of not in ("expected", "rating"):
            raise ParameterError(f"'of' of intervals must be 'expected' or 'rating'; got {of!r}.")
        score = self.predict(pairs, items, details=True)
        width = quantile_of(level)
        user, item = (
            codes.encode(score[name]).astype(np.int64)
            for codes, name in ((self.users_, "user_id"), (self.items_, "item_id"))
        )
        e = self._standard(self.affinity_._pair_affinity(user, item)) if self.kappa_ else 0.0
        draws = self.posterior_.draws
        f = np.empty((len(draws), len(user)))
        for k, draw in enumerate(draws):
            left, right = self.posterior_.tables(draw)
            f[k] = dots(left, right, user, item) + self._drawn_kappa(draw) * e
        if of == "rating":
            parameters = [draw.parameters for draw in draws]
            ends = self.response_.quantiles(f, parameters, [(1 - level) / 2, (1 + level) / 2])
        else:
            centre, spread = f.mean(0), f.std(0, ddof=1)
            ends = np.stack([self._outcome(centre + sign * width * spread, 0.0) for sign in (-1, 1)])
        low, high = (self.scale_.outward(end) for end in ends)
        return score.select("user_id", "item_id", "score").with_columns(
            pl.Series("low", low), pl.Series("high", high)
        )

    def means(self, side: str = "items", *, level: float = 0.9, most: int = 2000) -> pl.DataFrame:
        """Mean expected outcome of every item over all users, or of every user over all items, with intervals.

        What an item's mean rating would be if everybody rated it. Columns: item_id (or user_id), mean, low, high.

        Parameters
        ----------
        side: "items" or "users".
        level: of the credible intervals, in (0, 1).
        most: users (items) that an average runs over: all of them, or so many, evenly spread.

        Raises
        ------
        ParameterError: no such side, or level out of range.  NotFitted.
        """
        self._check_fitted()
        width = quantile_of(level)
        if side not in ("items", "users"):
            raise ParameterError(f"'side' of means must be 'items' or 'users'; got {side!r}.")
        ids = self.items_ if side == "items" else self.users_
        n, over = len(ids), len(self.users_ if side == "items" else self.items_)
        some = spread_out(over, most)

        def affinities(mine: np.ndarray) -> np.ndarray | float:
            """(len(mine), len(some)) e of these items (users) and the others that are averaged over."""
            if not self.kappa_:
                return 0.0
            affinity = self.affinity_._affinity
            return self._standard(affinity(some)[:, mine].T if side == "items" else affinity(mine)[:, some])

        draws, size = self.posterior_.draws, max(1, CELLS // len(some))
        parts = [np.arange(start, min(start + size, n)) for start in range(0, n, size)]
        drawn = np.empty((len(draws), n))
        for k, draw in enumerate(draws):
            left, right = self.posterior_.tables(draw)
            for mine in parts:
                f = right[mine] @ left[some].T if side == "items" else left[mine] @ right[some].T
                f = f + self._drawn_kappa(draw) * affinities(mine)
                drawn[k, mine] = self._drawn_outcome(draw, f).mean(1)
        centre, spread = drawn.mean(0), drawn.std(0, ddof=1)
        columns = {
            "mean": centre,
            "low": np.maximum(centre - width * spread, 0.0),
            "high": np.minimum(centre + width * spread, 1.0),
        }
        return pl.DataFrame(
            {f"{side[:-1]}_id": ids.values} | {name: self.scale_.outward(x) for name, x in columns.items()}
        )

    def selection_shift(self, *, level: float = 0.9) -> dict[str, float]:
        """By how much selection raises the outcomes of the biased log: a measure of hidden confounding.

        mean, low, high: of the outcome of biased rows less what the same pairs would have if drawn at random, on the
        outcome's own scale, with a credible interval; share: of the draws in which it is above 0. What features,
        substitute confounders and latent factors explain of the biased log's level is not in it.

        Raises
        ------
        DataError: the model read no randomised rows.  ParameterError: level out of range.  NotFitted.
        """
        self._check_fitted()
        if not self.columns_[0]:
            raise DataError(
                "the selection shift is told by randomised rows, and this model read none; fit it to data with an "
                "unbiased log (and unbiased=True)."
            )
        width = quantile_of(level)
        shift = self.shift_outcome_ * (self.scale_.high - self.scale_.low)
        centre, spread = float(shift.mean()), float(shift.std(ddof=1))
        return {
            "mean": centre,
            "low": centre - width * spread,
            "high": centre + width * spread,
            "share": float((shift > 0).mean()),
        }

    @property
    def selection_shift_(self) -> dict[str, float] | None:
        """The selection shift with its 90 % interval; None where no randomised rows were read."""
        return self.selection_shift() if self.columns_[0] else None

    def _item_vectors(self) -> np.ndarray:
        """Items by how their scores vary over users."""
        users = self.posterior_.user_table
        centred = users - users.mean(0)
        value, vector = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
        return np.asarray(self.posterior_.item_table @ (vector * np.sqrt(np.maximum(value, 0.0))), np.float32)

    # ------------------------------------------------------------------ saving
    ARRAYS: ClassVar[tuple[str, ...]] = ("levels", "columns", "shift_outcome", "affinity_scale", "platt")

    def _state(self) -> dict[str, np.ndarray]:
        state = {name: np.asarray(getattr(self, f"{name}_")) for name in self.ARRAYS}
        state["kappa"] = np.array([self.kappa_])
        state |= {f"likeness.{k}": v for k, v in self.likeness_.state().items()}
        state |= {f"posterior.{k}": v for k, v in self.posterior_.state().items()}
        state |= {f"response.{k}": v for k, v in self.response_.state().items()}
        if self.exposure_kernel:
            state |= {f"exposure.{k}": v for k, v in self.exposure_._state().items()}
        if self.affinity_scale_[1]:
            state |= {f"affinity.{k}": v for k, v in self.affinity_._state().items()}
        return state

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        for name in self.ARRAYS:
            setattr(self, f"{name}_", np.array(state[name]))
        self.kappa_ = float(state["kappa"][0])
        self.response_ = restored(below(state, "response"))
        model = None
        if self.exposure_kernel:
            model = self.exposure_ = self.exposure.clone()
            with torch.random.fork_rng(devices=[]):  # initial values are drawn, and replaced at once
                model._restore(below(state, "exposure"), self.spec_)
        like = self.likeness_ = Likeness.restored(below(state, "likeness"), model)
        self.posterior_ = Posterior.restored(below(state, "posterior"), like.phi, like.psi)
        if self.affinity_scale_[1]:
            self.affinity_ = self.affinity.clone()
            self.affinity_.spec_, self.affinity_.task_, self.affinity_.scale_ = (
                self.spec_,
                self.task_,
                self.scale_,
            )
            self.affinity_._restore(below(state, "affinity"))


def quantile_of(level: float) -> float:
    """Half-width, in standard deviations, of a normal interval.

    Raises
    ------
    ParameterError: level outside (0, 1).
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise ParameterError(f"'level' of an interval must be a number in (0, 1); got {level!r}.")
    return float(ndtri(0.5 + level / 2))


def below(state: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `name`, without it."""
    return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}


def draws_for(rows: int) -> int:
    """How many draws a log of so many rows is averaged over."""
    return int(np.clip(WORK // max(rows, 1), *DRAWS))
