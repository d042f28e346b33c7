"""Effects of exposures on outcomes, adjusted by a substitute confounder, beside the naive ones (paper 1, 4.2-4.4).

    E[r_i(a + e_j) - r_i(a)] = W_ji       in  r = W'a + V z + B x + alpha + noise       (Eq. 2, 3)

Fits z to the exposures and the outcome model to all outcomes. Intervals come from a bootstrap over users that refits z;
the dimension of z is the smallest whose held-out predictive check passes and whose held-out log-likelihood is within a
standard error of the best.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from deconrec.base import ExposureModel
from deconrec.data.dataset import Dataset
from deconrec.data.split import take_users
from deconrec.effects import verdicts as say
from deconrec.effects.factors import LogisticFactors
from deconrec.effects.network import At, Kind, OutcomeFunction, fit_network, network_function, responses
from deconrec.effects.question import (
    Plan,
    Table,
    Treatments,
    check_arguments,
    check_sizes,
    codes_of,
    own_cells,
    sample_users,
    table_of,
)
from deconrec.effects.regression import Slopes, all_at_once, linear_share, one_at_a_time
from deconrec.effects.result import Effects, SweepPoint, Verdict
from deconrec.errors import DataError, ParameterError, UnknownItem, UnknownName, UnknownUser
from deconrec.exposure import PoissonExposure, VAEExposure
from deconrec.exposure.check import PredictiveCheck, predictive_check
from deconrec.pairs import NO_TABLES
from deconrec.parameters import settings_of
from deconrec.random import numpy_generator
from deconrec.training.samplers import Source, user_rows

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
    check_arguments(outcome, treatments, kind, at, bootstrap, seed)
    tried = _dims(dims, data.n_items)
    if users is not None and outcome == "linear":
        raise ParameterError(
            "'users' of effects needs outcome='net': a linear model has one effect for everybody (paper 1, Eq. 3)."
        )
    table = table_of(data, outcomes, features)
    plan = Plan(
        causes=codes_of(data.items, causes, UnknownItem),
        items=codes_of(data.items, items, UnknownItem),
        users=codes_of(data.users, users, UnknownUser),
        treatments="all" if outcome == "net" else treatments,
        outcome=outcome,
        kind=kind,
        at=at,
        hidden=tuple(hidden),
        epochs=epochs,
        seed=seed,
    )
    check_sizes(plan, table)
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


def _slopes(
    plan: Plan, table: Table, z: np.ndarray | None, over: tuple[Table, np.ndarray] | None = None
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


def _given(table: Table, z: np.ndarray | None) -> np.ndarray:
    """(n, p) z and x."""
    return table.x if z is None else np.column_stack([z, table.x])


def _responses(
    f: OutcomeFunction,
    f_zero: OutcomeFunction,
    a: np.ndarray,
    users: np.ndarray,
    causes: np.ndarray,
    items: np.ndarray,
    plan: Plan,
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
    made: ExposureModel, table: Table, dim: int, seed: int
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
    plan: Plan,
    table: Table,
    naive: Slopes,
    chosen: bool,
) -> SweepPoint:
    check, z = fits[place]
    found = _slopes(plan, table, z)
    own, before = own_cells(plan, found.effect), own_cells(plan, naive.effect)
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


def _bootstrap(plan: Plan, table: Table, model: ExposureModel, found: Slopes, times: int) -> np.ndarray:
    """(J, I) standard errors over resampled users, the exposure model fitted to each sample again.

    An average over everybody is taken over each sample; an effect over named users, over those users.
    """
    n, rng = len(table.a), numpy_generator(plan.seed, "effects/bootstrap")
    count = np.zeros(found.effect.shape)
    mean, square = np.zeros(found.effect.shape), np.zeros(found.effect.shape)
    for _ in range(times):
        chosen = np.sort(rng.integers(0, n, n))
        part = sample_users(table, chosen)
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
