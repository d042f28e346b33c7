"""Effects as the network of a fitted method has them: its Jacobian, with intervals from networks fitted again."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from deconrec.base import Estimator, ExposureModel
from deconrec.data.dataset import Dataset, Features, Log
from deconrec.data.split import ValidationPart
from deconrec.effects import verdicts as say
from deconrec.effects.estimation import EXPOSURES, estimate
from deconrec.effects.network import At, Kind, method_function, responses
from deconrec.effects.question import (
    CELLS,
    PAIRS,
    Plan,
    Table,
    check_arguments,
    codes_of,
    own_cells,
    sample_users,
)
from deconrec.effects.regression import linear_share
from deconrec.effects.result import Effects, SweepPoint, Verdict
from deconrec.errors import DataError, ParameterError, UnknownItem, UnknownUser
from deconrec.exposure.check import PredictiveCheck
from deconrec.methods import make
from deconrec.methods.concat_vae import Branch, OutcomeEstimator
from deconrec.random import numpy_generator
from deconrec.torch_estimator import RowEstimator
from deconrec.training.samplers import Source, user_rows


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
    check_arguments("linear", "all", kind, at, times, seed)
    if output not in ("logit", "probability"):
        raise ParameterError(f"'output' of effects must be 'logit' or 'probability'; got {output!r}.")
    j, i = codes_of(data.items, causes, UnknownItem), codes_of(data.items, items, UnknownItem)
    who = codes_of(data.users, users, UnknownUser)
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
        plan = Plan(j, i, who, "all", "net", kind, at, (), 0, seed)
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
                part = sample_users(Table(data, dense, dense, None, np.zeros((len(dense), 0))), chosen).data
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
    model: RowEstimator, effect: np.ndarray, naive: np.ndarray, dim: int, plan: Plan, chosen: bool
) -> SweepPoint:
    check = _check_of(model)
    own = own_cells(plan, effect)
    return SweepPoint(
        dim=dim,
        p=None if check is None else check.overall,
        log_likelihood=None if check is None else check.mean_log_likelihood,
        behind=None,
        behind_error=None,
        linear_share=_linear_share(model),
        own=float(own.mean()) if len(own) else None,
        moved=float(np.sqrt(np.mean((own - own_cells(plan, naive)) ** 2))) if len(own) else None,
        chosen=chosen,
    )
