"""Effects of exposures on outcomes, adjusted by a substitute confounder, beside the naive ones (paper 1, 4.2-4.4).

    E[r_i(a + e_j) - r_i(a)] = W_ji       in  r = W'a + V z + B x + alpha + noise       (Eq. 2, 3)

`estimate` fits z to the exposures and the outcome model to all outcomes; `of_model` reads the Jacobian of the network
of a fitted method. Intervals come from a bootstrap over users that refits z; the dimension of z is the smallest whose
held-out predictive check passes and whose held-out log-likelihood is within a standard error of the best.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from deconrec.base import Estimator, ExposureModel
from deconrec.data.dataset import Dataset, Features, Log
from deconrec.data.ids import Vocabulary, as_series
from deconrec.data.split import ValidationPart, take_users
from deconrec.data.validate import read_table
from deconrec.effects import verdicts as say
from deconrec.effects.factors import LogisticFactors
from deconrec.effects.network import (
    At,
    Kind,
    OutcomeFunction,
    fit_network,
    method_function,
    network_function,
    responses,
)
from deconrec.effects.regression import Slopes, all_at_once, linear_share, one_at_a_time
from deconrec.effects.result import Effects, SweepPoint, Verdict
from deconrec.errors import DataError, ParameterError, UnknownItem, UnknownName, UnknownUser
from deconrec.exposure import PoissonExposure, VAEExposure
from deconrec.exposure.check import PredictiveCheck, predictive_check
from deconrec.methods import make
from deconrec.methods.concat_vae import Branch, OutcomeEstimator
from deconrec.pairs import NO_TABLES
from deconrec.parameters import settings_of
from deconrec.random import numpy_generator
from deconrec.torch_estimator import RowEstimator
from deconrec.training.samplers import Source, user_rows

Treatments = Literal["one", "all"]
EXPOSURES: dict[str, type[ExposureModel]] = {
    "factors": LogisticFactors,
    "vae": VAEExposure,
    "poisson": PoissonExposure,
}
DIMS = (1, 2, 3, 4, 5, 6, 8, 10)
CHECKED = 0.2  # share of the users whom the sweep over dimensions does not train on
MOST_CHECKED = 1000
ROUNDS = 4  # held-out fifths of the items of each of these users
TOGETHER = 50  # users who share their held-out items
CELLS = 100_000_000  # users x items held as a dense matrix
PAIRS = 25_000_000  # causes x items in one result


@dataclass(frozen=True, eq=False)
class _Table:
    """What a regression reads: exposures a and outcomes r (n, n_items), which were seen, features x (n, F)."""

    data: Dataset
    a: np.ndarray
    r: np.ndarray
    seen: np.ndarray | None
    x: np.ndarray


@dataclass(frozen=True)
class _Plan:
    """How effects are computed."""

    causes: np.ndarray
    items: np.ndarray
    users: np.ndarray
    treatments: Treatments
    outcome: Literal["linear", "net"]
    kind: Kind
    at: At
    hidden: tuple[int, ...]
    epochs: int
    seed: int


def estimate(
    data: Dataset,
    outcomes: Any = None,
    *,
    causes: Any = None,
    items: Any = None,
    users: Any = None,
    outcome: Literal["linear", "net"] = "linear",
    treatments: Treatments = "one",
    kind: Kind = "jacobian",
    at: At = "mean",
    dims: Sequence[int] | None = None,
    exposure: ExposureModel | str | None = None,
    features: bool = True,
    bootstrap: int = 50,
    hidden: tuple[int, ...] = (100,),
    epochs: int = 60,
    seed: int = 0,
    even_if_refused: bool = False,
) -> Effects:
    """Average effects of exposing items on the outcomes of items, z fitted to the exposures of the biased log.

    Parameters
    ----------
    data: the exposures (rows of the biased log), and user features as pre-treatment variables.
    outcomes: outcomes of all pairs, exposed or not: a table user_id, item_id, rating, or (n_users, n_items) in code
        order, NaN where unseen. None = ratings of the biased log, seen where exposed: own effects are then not given.
    causes, items: raw ids of exposed items j and of items i whose outcome is looked at; None = all.
    users: raw ids that a conditional effect is over (outcome="net"; a linear model has one effect for everybody).
    outcome: "linear" = least squares; "net" = {I + K + F -> hidden -> I}, whose derivatives are read.
    treatments: "one" = r_i on (a_j, a_i, z, x), pair by pair, right where other exposures have no effect of their own
        on r_i or are as good as random given z; "all" = on all exposures, z and x at once (Eq. 2). A net takes all.
    kind: "jacobian", or "difference" = f(a_j = 1) - f(a_j = 0); the same in a linear model.
    at: "mean" over users, or "zero" = the Jacobian at (0, 0, 0), as in the paper; the same in a linear model.
    dims: dimensions of z that are tried; with one, nothing is chosen. None = 1 to 10, below half the items.
    exposure: the exposure model, or its name with parameters ("factors", "poisson", "vae:epochs=20"); its `dim` is set.
        None = "factors".
    features: adjust for user features, where there are some.
    bootstrap: refits over resampled users; 0 = no intervals. The dimension is not chosen again.
    hidden, epochs: of the net.
    even_if_refused: show what the fit says where a verdict refuses.

    Raises
    ------
    DataError: outcomes that do not fit the data; too many cells.  ParameterError: an option out of range.
    UnknownItem, UnknownUser.
    """
    started = time.perf_counter()
    if not isinstance(data, Dataset):
        raise DataError(f"effects needs a deconrec.Dataset; got {type(data).__name__}.")
    _check(outcome, treatments, kind, at, bootstrap, seed)
    tried = _dims(dims, data.n_items)
    if users is not None and outcome == "linear":
        raise ParameterError(
            "'users' of effects needs outcome='net': a linear model has one effect for everybody (paper 1, Eq. 3)."
        )
    table = _table(data, outcomes, features)
    plan = _Plan(
        causes=_codes(data.items, causes, UnknownItem),
        items=_codes(data.items, items, UnknownItem),
        users=_codes(data.users, users, UnknownUser),
        treatments="all" if outcome == "net" else treatments,
        outcome=outcome,
        kind=kind,
        at=at,
        hidden=tuple(hidden),
        epochs=epochs,
        seed=seed,
    )
    _check_sizes(plan, table)
    made = exposure_model("factors" if exposure is None else exposure)
    fits = [_fitted(made, table, k, seed) for k in tried]
    chosen = choose([check for check, _ in fits])
    naive = _slopes(plan, table, None)
    points = tuple(
        _point(k, fits, place, plan, table, naive, place == chosen) for place, k in enumerate(tried)
    )
    model = _fit_exposure(made, data, tried[chosen], seed)
    z = _confounder(model, data)
    found = _slopes(plan, table, z)
    error = _bootstrap(plan, table, model, found, bootstrap) if bootstrap else None
    told: list[Verdict] = [
        say.masked(table.a, table.r, table.seen),
        say.linear_confounder(linear_share(z, table.a), plan.treatments == "all"),
        say.check_passed(fits[chosen][0]),
    ]
    told.append(say.dimension(points))
    if outcome == "linear":
        told.append(say.overlap(found.overlap))
    elif plan.hidden:
        told.append(say.rank(min(plan.hidden), len(plan.items)))
    told.append(say.single_cause())
    return Effects(
        causes=data.items.decode(plan.causes),
        items=data.items.decode(plan.items),
        naive=naive.effect,
        adjusted=found.effect,
        error=error,
        error_known_z=None if outcome == "net" else found.error,
        unit="outcome",
        settings={
            "data": data.name,
            "outcome": outcome,
            "treatments": plan.treatments,
            "kind": kind,
            "at": at,
            "exposure": type(made).__name__,
            "dim": tried[chosen],
            "dims": list(tried),
            "features": table.x.shape[1],
            "bootstrap": bootstrap,
            "users": data.n_users,
            "users_averaged": len(plan.users),
            "items": data.n_items,
            "seed": seed,
        },
        sweep=points,
        verdicts=tuple(told),
        even_if_refused=even_if_refused,
        seconds=time.perf_counter() - started,
    )


def exposure_model(named: ExposureModel | str) -> ExposureModel:
    """An exposure model from `name` or `name:param=value+param=value`; a model is given back.

    Raises
    ------
    UnknownName: no such model or parameter.  ParameterError: text that is no setting, or no model.
    """
    if isinstance(named, ExposureModel):
        return named
    if not isinstance(named, str):
        raise ParameterError(
            f"'exposure' of effects must be an exposure model or the name of one ({', '.join(EXPOSURES)}); got "
            f"{named!r}."
        )
    key, _, rest = named.partition(":")
    if key not in EXPOSURES:
        raise UnknownName("exposure model", key, EXPOSURES)
    model = EXPOSURES[key]().set_text(settings_of(rest, named))
    model.check_params()
    return model


def choose(checks: Sequence[PredictiveCheck | None]) -> int:
    """Which of the dimensions, in increasing order, the predictive check chooses: a position.

    Among those that pass (all, where none does) the smallest whose held-out log-likelihood is within one paired
    standard error of the best; all checks are of the same users and cells.
    """
    if len(checks) == 1 or any(c is None or len(c.p) < 2 for c in checks):
        return len(checks) - 1
    known = [c for c in checks if c is not None]
    passing = [k for k, c in enumerate(known) if c.satisfactory] or list(range(len(known)))
    best = max(passing, key=lambda k: float(known[k].log_likelihood.mean()))
    for k in passing:
        gap, error = _behind(known[best], known[k])
        if gap <= error:
            return k
    return best


def _behind(best: PredictiveCheck, other: PredictiveCheck) -> tuple[float, float]:
    gap = best.log_likelihood - other.log_likelihood
    return float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap)))


# ---------------------------------------------------------------------- one fit
def _slopes(
    plan: _Plan, table: _Table, z: np.ndarray | None, over: tuple[_Table, np.ndarray] | None = None
) -> Slopes:
    """Effects with this z, or without one; a net's are read at the users of `over` (a table and its z) where given."""
    given = _given(table, z)
    if plan.outcome == "net":
        # The paper's point (0, 0, 0) is the mean user's: z and x are standardised.
        mean, spread = given.mean(0), np.where(given.std(0) > 0, given.std(0), 1.0)
        there = table if over is None else over[0]
        at = given if over is None else _given(*over)
        given, at = (given - mean) / spread, (at - mean) / spread
        net = fit_network(table.a, table.r, given, hidden=plan.hidden, epochs=plan.epochs, seed=plan.seed)
        f = network_function(net, at)
        effect = _responses(
            f,
            network_function(net, np.zeros_like(given[:1])),
            there.a,
            plan.users,
            plan.causes,
            plan.items,
            plan,
        )
        nothing = np.full(effect.shape, np.nan)
        return Slopes(effect, nothing, np.full(len(plan.causes), np.nan))
    r = table.r[:, plan.items]
    if plan.treatments == "all":
        return all_at_once(table.a, r, given, plan.causes)
    seen = None if table.seen is None else table.seen[:, plan.items]
    same = plan.causes[:, None] == plan.items
    return one_at_a_time(table.a[:, plan.causes], r, given, seen, table.a[:, plan.items], same)


def _given(table: _Table, z: np.ndarray | None) -> np.ndarray:
    """(n, p) z and x."""
    return table.x if z is None else np.column_stack([z, table.x])


def _responses(
    f: OutcomeFunction,
    f_zero: OutcomeFunction,
    a: np.ndarray,
    users: np.ndarray,
    causes: np.ndarray,
    items: np.ndarray,
    plan: _Plan,
) -> np.ndarray:
    if plan.at == "zero":
        return responses(f_zero, np.zeros((1, a.shape[1])), np.zeros(1, np.int64), causes, items, plan.kind)
    return responses(f, a, users, causes, items, plan.kind)


def _fit_exposure(
    made: ExposureModel,
    data: Dataset,
    dim: int,
    seed: int,
    start: ExposureModel | None = None,
) -> ExposureModel:
    model = made.clone().set_params(dim=dim)
    if "seed" in model._names():
        model.set_params(seed=seed)
    if "check_draws" in model._names():
        model.set_params(check_draws=0)  # the dimension is chosen by `_checked`
    if isinstance(model, LogisticFactors) and isinstance(start, LogisticFactors):
        return model.fit(data, start=start)
    return model.fit(data)


def _confounder(model: ExposureModel, data: Dataset) -> np.ndarray:
    """(n_users, dim) z of every user of a data set."""
    rows, _ = user_rows(Source.of(data, NO_TABLES), np.arange(data.n_users))
    return np.asarray(model.confounder(rows).cpu().numpy(), np.float64)


def _fitted(
    made: ExposureModel, table: _Table, dim: int, seed: int
) -> tuple[PredictiveCheck | None, np.ndarray]:
    """(check on users that were not trained on, z of all users) of one dimension."""
    n = table.data.n_users
    order = numpy_generator(seed, "effects/check").permutation(n)
    cut = min(MOST_CHECKED, round(CHECKED * n))
    model = _fit_exposure(made, take_users(table.data, np.sort(order[cut:])), dim, seed)
    return _checked(model, take_users(table.data, np.sort(order[:cut])), seed), _confounder(model, table.data)


def _checked(model: ExposureModel, data: Dataset, seed: int) -> PredictiveCheck | None:
    """The predictive check on new users: the same users and cells for every model, each user in `ROUNDS` rounds."""
    if not hasattr(model, "posterior_logits"):
        return None
    active = np.flatnonzero(np.bincount(data.biased.user, minlength=data.n_users))
    rounds = []
    for turn in range(ROUNDS):
        # A call draws held-out items before anything that depends on the model: blocks keep models on the same cells.
        parts = [
            predictive_check(
                model,
                take_users(data, active[at : at + TOGETHER]),
                new_users=True,
                seed=seed + 1_000 * turn + at,
            )
            for at in range(0, len(active), TOGETHER)
        ]
        rounds.append(
            [np.concatenate([getattr(c, n) for c in parts]) for n in ("p", "log_likelihood", "cells")]
        )
    if not len(active):
        return None
    p, likelihood, cells = (np.stack([r[k] for r in rounds]) for k in range(3))
    return PredictiveCheck(p.mean(0), likelihood.sum(0), cells.sum(0), True)


def _point(
    dim: int,
    fits: Sequence[tuple[PredictiveCheck | None, np.ndarray]],
    place: int,
    plan: _Plan,
    table: _Table,
    naive: Slopes,
    chosen: bool,
) -> SweepPoint:
    check, z = fits[place]
    found = _slopes(plan, table, z)
    own, before = _own(plan, found.effect), _own(plan, naive.effect)
    checks = [c for c, _ in fits if c is not None and len(c.p) > 1]
    gap: tuple[float | None, float | None] = (None, None)
    if check is not None and len(checks) == len(fits):
        best = max(checks, key=lambda c: float(c.log_likelihood.mean()))
        gap = _behind(best, check)
    moved = own - before
    return SweepPoint(
        dim=dim,
        p=None if check is None else check.overall,
        log_likelihood=None if check is None else check.mean_log_likelihood,
        behind=gap[0],
        behind_error=gap[1],
        linear_share=linear_share(z, table.a),
        own=float(np.nanmean(own)) if np.isfinite(own).any() else None,
        moved=float(np.sqrt(np.nanmean(moved**2))) if np.isfinite(moved).any() else None,
        chosen=chosen,
    )


def _own(plan: _Plan, effect: np.ndarray) -> np.ndarray:
    at = {int(i): k for k, i in enumerate(plan.items)}
    return np.array([effect[j, at[int(c)]] for j, c in enumerate(plan.causes) if int(c) in at])


def _bootstrap(plan: _Plan, table: _Table, model: ExposureModel, found: Slopes, times: int) -> np.ndarray:
    """(J, I) standard errors over resampled users, the exposure model fitted to each sample again.

    An average over everybody is taken over each sample; an effect over named users, over those users.
    """
    n, rng = len(table.a), numpy_generator(plan.seed, "effects/bootstrap")
    count = np.zeros(found.effect.shape)
    mean, square = np.zeros(found.effect.shape), np.zeros(found.effect.shape)
    for _ in range(times):
        chosen = np.sort(rng.integers(0, n, n))
        part = _sample(table, chosen)
        again = _fit_exposure(model, part.data, model.dim, plan.seed, start=model)
        z = _confounder(again, part.data)
        if len(plan.users) < n:
            effect = _slopes(plan, part, z, (table, _confounder(again, table.data))).effect
        else:
            effect = _slopes(replace(plan, users=np.arange(n)), part, z).effect
        valid = np.isfinite(effect)
        count += valid
        step = np.where(valid, effect - mean, 0.0)  # Welford: no cancellation
        mean += step / np.maximum(count, 1)
        square += step * np.where(valid, effect - mean, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error: np.ndarray = np.sqrt(square / (count - 1))
    error[(count < 2) | (2 * count < times)] = np.nan
    return error


def _sample(table: _Table, chosen: np.ndarray) -> _Table:
    """The table of these users, some of them several times, as users of their own."""
    indptr, order = table.data.biased.by_user(table.data.n_users)
    counts = np.diff(indptr)[chosen]
    rows = np.concatenate([order[indptr[u] : indptr[u + 1]] for u in chosen])
    log = table.data.biased
    sampled = Log(np.repeat(np.arange(len(chosen)), counts), log.item[rows], log.rating[rows])
    data = Dataset(
        users=Vocabulary(pl.Series(np.arange(len(chosen))), "user"),
        items=table.data.items,
        biased=sampled,
        task=table.data.task,
        user_features=None if table.data.user_features is None else table.data.user_features.take(chosen),
    )
    seen = None if table.seen is None else table.seen[chosen]
    return _Table(data, table.a[chosen], table.r[chosen], seen, table.x[chosen])


# ---------------------------------------------------------------------- the network of a fitted method
def of_model(
    model: Estimator,
    outcomes: Any = None,
    *,
    outcome: Literal["network", "linear", "net"] | None = None,
    output: Literal["logit", "probability"] = "logit",
    causes: Any = None,
    items: Any = None,
    users: Any = None,
    kind: Kind = "jacobian",
    at: At = "mean",
    dims: Sequence[int] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
    even_if_refused: bool = False,
    **options: Any,
) -> Effects:
    """Effects by a fitted method: the Jacobian of its network over user rows, or regressions on its exposures.

    Parameters
    ----------
    outcomes: outcomes of all pairs (see `estimate`); the pairs that the model was given are the exposures. With them
        any method will do; without, one that keeps users' rows.
    outcome: "network" = derivatives of the method's own network, the naive ones from the same network fitted
        without z; "linear" or "net": as in `estimate`. None = "linear" where outcomes are given, else "network".
    output: of the network: "logit", centred over items, or "probability".
    dims: for "network", dimensions of z whose fits are swept over; for the others as in `estimate`, but that
        exposure="model" keeps the model's own.
    bootstrap: refits; None = 50 for "linear", 0 for the others, whose refits train networks.
    causes, items, users, kind, at, even_if_refused, and other options: as in `estimate`; exposure="model" takes the
        method's own exposure model, with its parameters.

    Raises
    ------
    DataError: a method that does not keep what is asked for, or has no such network.  ParameterError: a bad option.
    """
    model._check_fitted()
    which = outcome or ("network" if outcomes is None else "linear")
    if which not in ("network", "linear", "net"):
        raise ParameterError(f"'outcome' of effects must be 'network', 'linear' or 'net'; got {outcome!r}.")
    times = (50 if which == "linear" else 0) if bootstrap is None else bootstrap
    if which != "network":
        if output != "logit":
            raise ParameterError(
                f"'output' of effects is the unit of a method's own network (outcome='network'); got {output!r} with "
                f"outcome='{which}'."
            )
        data, rated = exposures_of(model)
        if rated is None and outcomes is None:
            raise DataError(
                f"effects of {type(model).__name__}, which keeps no ratings, needs outcomes= (the outcomes of all "
                "pairs)."
            )
        if options.get("exposure") == "model":
            own = model.exposure_model
            if own is None:
                raise ParameterError(
                    f"'exposure' of effects must name an exposure model ({', '.join(EXPOSURES)}): "
                    f"{type(model).__name__} has none of its own."
                )
            options["exposure"], dims = own.clone(), dims or (own.dim,)
        return estimate(
            data,
            rated if outcomes is None else outcomes,
            causes=causes,
            items=items,
            users=users,
            outcome=which,
            kind=kind,
            at=at,
            dims=dims,
            bootstrap=times,
            seed=seed,
            even_if_refused=even_if_refused,
            **options,
        )
    if outcomes is not None or options:
        given = ["outcomes"] * (outcomes is not None) + sorted(options)
        raise ParameterError(
            f"effects of a method's own network does not read {', '.join(given)}; set outcome='linear' or 'net'."
        )
    if not isinstance(model, RowEstimator):
        raise DataError(
            f"effects without outcomes needs a method that keeps whole user rows (deep-deconf, concat-vae); got "
            f"{type(model).__name__}. Pass outcomes= (the outcomes of all pairs)."
        )
    return _of_network(
        model, rows_of(model), causes, items, users, kind, at, output, dims, times, seed, even_if_refused
    )


def exposures_of(model: Estimator) -> tuple[Dataset, np.ndarray | None]:
    """(every exposure that a method was given, as a data set; (n_users, n_items) ratings, NaN where it keeps none).

    The ratings are None for a method that keeps none at all.

    What stopped training was exposed too: leaving it out would count exposed pairs as unexposed.
    """
    seen = model.seen_.tocoo()
    if isinstance(model, RowEstimator):
        fitted = rows_of(model)
        rating = np.full(fitted.shape, np.nan, np.float32)
        rating[fitted.biased.user, fitted.biased.item] = fitted.biased.rating
        known = np.nan_to_num(rating[seen.row, seen.col])
        return fitted.with_logs(Log(seen.row, seen.col, known), None), rating
    x = getattr(model, "x_", None)
    tables = getattr(model, "tables_", None)
    if tables is not None and tables.user is not None:
        x = tables.user.cpu().numpy()
    data = Dataset(
        users=model.users_,
        items=model.items_,
        biased=Log(seen.row, seen.col, np.zeros(seen.nnz, np.float32)),
        task=model.task_,
        user_features=None if x is None or not x.shape[1] else _features(x),
        name=f"the log of {type(model).__name__}",
    )
    return data, None


def _features(values: np.ndarray) -> Features:
    names = tuple(f"x{k + 1}" for k in range(values.shape[1]))
    return Features(names, values, np.zeros(len(values), bool))


def rows_of(model: RowEstimator) -> Dataset:
    """The log that a method over user rows was fitted to, with its (standardised) features, as a data set."""
    rows = model.rows_
    x = rows.tables.user
    return Dataset(
        users=model.users_,
        items=model.items_,
        biased=Log(rows.user, rows.item, rows.rating),
        task=model.task_,
        user_features=None if x is None else _features(x.cpu().numpy()),
        name=f"the log of {type(model).__name__}",
    )


def _of_network(
    model: RowEstimator,
    data: Dataset,
    causes: Any,
    items: Any,
    users: Any,
    kind: Kind,
    at: At,
    output: Literal["logit", "probability"],
    dims: Sequence[int] | None,
    times: int,
    seed: int,
    even_if_refused: bool,
) -> Effects:
    started = time.perf_counter()
    _check("linear", "all", kind, at, times, seed)
    if output not in ("logit", "probability"):
        raise ParameterError(f"'output' of effects must be 'logit' or 'probability'; got {output!r}.")
    j, i = _codes(data.items, causes, UnknownItem), _codes(data.items, items, UnknownItem)
    who = _codes(data.users, users, UnknownUser)
    if len(j) * len(i) > PAIRS:
        raise DataError(
            f"effects of {len(j):,} causes on {len(i):,} items are {len(j) * len(i):,} pairs; at most {PAIRS:,} are "
            "held. Name causes and items."
        )

    def read(fitted: RowEstimator, users: np.ndarray) -> np.ndarray:
        if at == "zero":
            f = method_function(fitted, output=output, zero=True)  # the same for everybody: read at one user
            return responses(f, np.zeros((1, len(fitted.items_))), np.zeros(1, np.int64), j, i, kind)
        f = method_function(fitted, output=output, frozen=kind == "jacobian")
        return responses(f, _dense(fitted), users, j, i, kind)

    exposure, source = model.exposure_model, substitute_of(model)
    if dims and exposure is None:
        raise ParameterError(
            "'dims' of effects needs a method with an exposure model, whose dimension it varies; "
            f"{type(model).__name__} has none."
        )
    told: list[Verdict] = [say.masked_network()]
    adjusted, naive = read(model, who), None
    error: np.ndarray | None = None
    points: list[SweepPoint] = []
    if source is None:
        naive, adjusted = adjusted, np.full(adjusted.shape, np.nan)
        told.append(say.linear_confounder(float("nan"), True))
    else:
        naive = read(_without_z(model, data), who)
        told += [
            say.linear_confounder(_linear_share(model), True),
            say.check_passed(_check_of(model)),
        ]
        plan = _Plan(j, i, who, "all", "net", kind, at, (), 0, seed)
        shown = even_if_refused or not any(
            v.status == "refuses" for v in told
        )  # what nobody sees is not fitted
        for k in (dims or ()) if shown else ():
            again = _refit(model, data, k)
            points.append(
                _network_point(
                    again, read(again, who), naive, k, plan, exposure is not None and k == exposure.dim
                )
            )
        if times and shown:
            rng, drawn = numpy_generator(seed, "effects/bootstrap"), []
            dense = _dense(model)
            for _ in range(times):
                chosen = np.sort(rng.integers(0, data.n_users, data.n_users))
                part = _sample(_Table(data, dense, dense, None, np.zeros((len(dense), 0))), chosen).data
                again = _refit(model, part, None)
                named = len(who) < data.n_users
                drawn.append(
                    read(_seen_by(again, data), who) if named else read(again, np.arange(part.n_users))
                )
            error = np.std(drawn, axis=0, ddof=1) if len(drawn) > 1 else None
    if exposure is not None:
        told.append(say.given_dimension(exposure.dim))
    told.append(say.logit_constant(output))
    hidden = getattr(model, "hidden", ())
    if hidden:
        told.append(say.rank(min(hidden), data.n_items))
    told.append(say.single_cause())
    return Effects(
        causes=data.items.decode(j),
        items=data.items.decode(i),
        naive=naive,
        adjusted=adjusted,
        error=error,
        error_known_z=None,
        unit=output,
        settings={
            "data": data.name,
            "outcome": "network",
            "treatments": "all",
            "kind": kind,
            "at": at,
            "exposure": None if exposure is None else type(exposure).__name__,
            "dim": None if exposure is None else exposure.dim,
            "dims": list(dims or ()),
            "features": 0 if data.user_features is None else data.user_features.values.shape[1],
            "bootstrap": times,
            "users": data.n_users,
            "users_averaged": len(who),
            "items": data.n_items,
            "seed": seed,
        },
        sweep=tuple(points),
        verdicts=tuple(told),
        even_if_refused=even_if_refused,
        seconds=time.perf_counter() - started,
    )


def _dense(model: RowEstimator) -> np.ndarray:
    rows = model.rows_
    if rows.shape[0] * rows.shape[1] > CELLS:
        raise DataError(
            f"effects holds users x items as a dense matrix of at most {CELLS:,} cells; got "
            f"{rows.shape[0] * rows.shape[1]:,}. Fit the model to a sample of users."
        )
    a = np.zeros(rows.shape, np.float32)
    a[rows.user, rows.item] = 1.0
    return a


def substitute_of(model: RowEstimator) -> ExposureModel | Branch | None:
    """What gives a method's substitute confounder: its exposure model, or a branch of its network; None without one."""
    if model.exposure_model is not None:
        return model.exposure_model
    return Branch(model) if isinstance(model, OutcomeEstimator) and model.branched else None


def _linear_share(model: RowEstimator) -> float:
    """R2(z | a) of the substitute confounder."""
    source = substitute_of(model)
    assert source is not None
    z = source.confounder(user_rows(model.rows_, np.arange(model.rows_.shape[0]))[0])
    return linear_share(z.cpu().numpy().astype(np.float64), _dense(model))


def _check_of(model: RowEstimator) -> PredictiveCheck | None:
    """The predictive check of what gives the substitute confounder."""
    if model.exposure_model is not None:
        return getattr(model.exposure_model, "check_", None)
    return getattr(model, "branch_check_", None)


def _refit(model: RowEstimator, data: Dataset, dim: int | None) -> RowEstimator:
    """The method with the same parameters, but for the dimension of z, fitted to a data set again."""
    fresh = model.clone()
    if dim is not None:
        name = getattr(model, "CONFOUNDER", "exposure")
        fresh.set_params(**{name: getattr(fresh, name).clone().set_params(dim=dim)})
    return _fit_alike(fresh, model, data)


def _fit_alike(fresh: RowEstimator, model: RowEstimator, data: Dataset) -> RowEstimator:
    """`fresh` fitted to every row of `data` for as many epochs as `model` chose: no rows are put aside to stop it, so
    that what differs between two fits is not which rows they saw.
    """
    epochs = model.history_.best_epoch + 1 if len(model.history_) else 0
    fresh.set_params(epochs=epochs, patience=0)
    return fresh.fit(data, validation=ValidationPart(data.with_logs(data.biased.take(np.zeros(0, np.int64)))))


def _seen_by(model: RowEstimator, data: Dataset) -> RowEstimator:
    """The fitted method with the rows of another data set in place of those that it was fitted to."""
    view = copy.copy(model)
    view.rows_ = Source.of(data, model.tables(data), model.device)
    return view


def _without_z(model: RowEstimator, data: Dataset) -> RowEstimator:
    """The same outcome network fitted without a confounder: Concat-VAE with the method's own parameters."""
    plain = make("concat-vae")
    shared = {k: v for k, v in model.get_params(deep=False).items() if k in plain._names()}
    shared |= {"deconfounder": None, "branch": 0.0}
    plain.set_params(**shared)
    assert isinstance(plain, RowEstimator)
    return _fit_alike(plain, model, data)


def _network_point(
    model: RowEstimator, effect: np.ndarray, naive: np.ndarray, dim: int, plan: _Plan, chosen: bool
) -> SweepPoint:
    check = _check_of(model)
    own = _own(plan, effect)
    return SweepPoint(
        dim=dim,
        p=None if check is None else check.overall,
        log_likelihood=None if check is None else check.mean_log_likelihood,
        behind=None,
        behind_error=None,
        linear_share=_linear_share(model),
        own=float(own.mean()) if len(own) else None,
        moved=float(np.sqrt(np.mean((own - _own(plan, naive)) ** 2))) if len(own) else None,
        chosen=chosen,
    )


# ---------------------------------------------------------------------- input
def _table(data: Dataset, outcomes: Any, features: bool) -> _Table:
    if data.n_users * data.n_items > CELLS:
        raise DataError(
            f"effects holds users x items as a dense matrix of at most {CELLS:,} cells; got "
            f"{data.n_users * data.n_items:,}. Take a sample of users, or fewer items."
        )
    if not len(data.biased):
        raise DataError("effects needs a biased log with at least one row: its rows are the exposures.")
    a = data.biased.pattern(data.shape).toarray().astype(np.float64)
    r = np.full(data.shape, np.nan)
    if outcomes is None:
        r[data.biased.user, data.biased.item] = data.biased.rating
    elif isinstance(outcomes, np.ndarray):
        if outcomes.shape != data.shape:
            raise DataError(
                f"outcomes of effects must have the data's shape {data.shape} (users, items, in code order); got "
                f"{outcomes.shape}."
            )
        r = outcomes.astype(np.float64)
    else:
        read = read_table(outcomes, "the outcomes")
        if not {"user_id", "item_id", "rating"} <= set(read.columns):
            raise DataError(f"the outcomes need the columns user_id, item_id and rating; got {read.columns}.")
        user, item = data.users.encode(read["user_id"]), data.items.encode(read["item_id"])
        known = (user >= 0) & (item >= 0)
        if not known.any():
            raise DataError("no row of the outcomes is of a user and an item of the data; check their ids.")
        r[user[known], item[known]] = read["rating"].cast(pl.Float64).to_numpy()[known]
    seen = np.isfinite(r)
    if not seen.any():
        raise DataError("effects needs outcomes; every one of them is missing.")
    given = np.zeros((data.n_users, 0))
    if features and data.user_features is not None:
        x = data.user_features.values.astype(np.float64)
        spread = x.std(0)
        given = ((x - x.mean(0)) / np.where(spread > 0, spread, 1.0))[:, spread > 0]
    return _Table(data, a, np.where(seen, r, 0.0), None if seen.all() else seen, given)


def _codes(ids: Vocabulary, raw: Any, error: type[DataError]) -> np.ndarray:
    if raw is None:
        return np.arange(len(ids))
    series = as_series(raw)
    code = ids.encode(series).astype(np.int64)
    if not len(code):
        raise DataError(f"effects needs at least one {ids.kind}; got an empty list.")
    if (code < 0).any():
        first = ", ".join(repr(v) for v in series.filter(pl.Series(code < 0)).head(3))
        raise error(f"{int((code < 0).sum())} of {len(code)} {ids.kind} ids are not in the data: {first}.")
    return np.asarray(np.unique(code))


def _dims(dims: Sequence[int] | None, n_items: int) -> tuple[int, ...]:
    given = tuple(dims) if dims is not None else tuple(k for k in DIMS if 2 * k < n_items) or (1,)
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1 for k in given)
    if not given or not whole or list(given) != sorted(set(given)):
        raise ParameterError(f"'dims' of effects must be increasing whole numbers >= 1; got {list(given)!r}.")
    if max(given) >= n_items:
        raise ParameterError(
            f"'dims' of effects must lie below the number of items, {n_items}; got {max(given)}."
        )
    return tuple(int(k) for k in given)


def _check(outcome: str, treatments: str, kind: str, at: str, bootstrap: int, seed: int) -> None:
    for name, value, allowed in (
        ("outcome", outcome, ("linear", "net")),
        ("treatments", treatments, ("one", "all")),
        ("kind", kind, ("jacobian", "difference")),
        ("at", at, ("mean", "zero")),
    ):
        if value not in allowed:
            raise ParameterError(
                f"'{name}' of effects must be {' or '.join(map(repr, allowed))}; got {value!r}."
            )
    for name, number in (("bootstrap", bootstrap), ("seed", seed)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise ParameterError(f"'{name}' of effects must be a whole number >= 0; got {number!r}.")
    if bootstrap == 1:
        raise ParameterError("'bootstrap' of effects must be 0 (no intervals) or at least 2; got 1.")


def _check_sizes(plan: _Plan, table: _Table) -> None:
    if len(plan.causes) * len(plan.items) > PAIRS:
        raise DataError(
            f"effects of {len(plan.causes):,} causes on {len(plan.items):,} items are "
            f"{len(plan.causes) * len(plan.items):,} pairs; at most {PAIRS:,} are held. Name causes and items."
        )
    if plan.treatments == "all" and table.seen is not None:
        raise DataError(
            "effects of all exposures at once (treatments='all', or a net) needs the outcome of every pair; "
            f"{int((~table.seen).sum()):,} are missing. Use treatments='one' with outcome='linear'."
        )
