"""Data by name: public data sets, simulators and data files behind one call.

A name takes parameters as a method does: "sim-pairs:confounding=2+n_users=500". A simulator draws a fresh world for
each seed, a semi-real data set fresh users or fresh exposures; everything else is one data set, whatever the seed.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deconrec.data.dataset import Dataset, Log, Truth
from deconrec.data.explain import shown
from deconrec.data.given import read_data
from deconrec.errors import MissingData, ParameterError, UnknownName


@dataclass(frozen=True)
class Entry:
    """One name of the catalogue.

    Attributes
    ----------
    kind: "public" (files under the root), "gated" (the user brings them), "simulator", or "semi-real" (made from files
        under the root, the rest simulated).
    says: one sentence.
    module, function: where it is built.
    metrics: what `compare` computes unless told otherwise, where the protocol's defaults do not fit.
    new_users: whether each seed draws users of its own; real ones are the same for every seed.
    all_outcomes: whether outcomes are observed for every pair, exposed or not: no secret, beside the log.
    """

    kind: Literal["public", "gated", "simulator", "semi-real"]
    says: str
    module: str
    function: str
    metrics: tuple[str, ...] = ()
    new_users: bool = False
    all_outcomes: bool = False


CATALOGUE: dict[str, Entry] = {
    "coat": Entry(
        "public", "290 users, 300 coats: chosen and randomly shown ratings.", "data.sources.coat", "load"
    ),
    "movielens-1m": Entry("public", "1,000,209 film ratings.", "data.sources.movielens", "load_1m"),
    "movielens-100k": Entry("public", "100,000 film ratings.", "data.sources.movielens", "load_100k"),
    "kuairec": Entry("public", "Short videos; a fully observed part.", "data.sources.kuairec", "load"),
    "kuairec-semi": Entry(
        "semi-real",
        "KuaiRec's fully observed matrix under simulated exposure, with hidden confounding on a dial.",
        "simulate",
        "kuairec_semi",
        (
            "auc",
            "ndcg@50/shown",
            "recall@50/shown",
            "ndcg@50/full",
            "recall@50/full",
            "logloss/full",
            "logloss",
            "mse",
        ),
    ),
    "yahoo-r3": Entry("gated", "Songs: chosen and randomly shown ratings.", "data.sources.yahoo_r3", "load"),
    "amazon-video-games": Entry("public", "Video game reviews.", "data.sources.amazon", "load"),
    "sim-pairs": Entry(
        "simulator", "Pairs with hidden confounding on a dial; every probability known.", "simulate", "pairs"
    ),
    "sim-impressions": Entry(
        "simulator",
        "Impressions with clicks, conversions and context; hidden confounding on a dial, pCVR known.",
        "simulate",
        "impressions",
    ),
    "sim-deconf": Entry(
        "simulator", "Paper 1's fully simulated data: multi-cause confounders.", "simulate", "deep_deconf"
    ),
    "sim-effects": Entry(
        "simulator",
        "A linear truth for effects of exposures on outcomes, which are observed for every pair.",
        "simulate",
        "effects",
        all_outcomes=True,
    ),
    "ml-causal": Entry(
        "semi-real",
        "Paper 1's simulated users of MovieLens 1M; its exposure rate and ratings.",
        "simulate",
        "ml_causal",
        new_users=True,
    ),
    "vg-causal": Entry(
        "semi-real",
        "Paper 1's simulated users of Amazon video games; their exposure rate and ratings.",
        "simulate",
        "vg_causal",
        new_users=True,
    ),
}


@dataclass(frozen=True)
class Opened:
    """Data that a name stands for.

    Attributes
    ----------
    name: as the user wrote it.
    fresh: whether each seed is a draw of its own.
    same_users: whether the users, and what they like, are the same for every seed.
    metrics: what `compare` computes unless told otherwise; () = the protocol's defaults.
    """

    name: str
    fresh: bool
    draw_: Callable[[int], tuple[Dataset, Truth | None]]
    params: Mapping[str, Any] = field(default_factory=dict)
    same_users: bool = True
    metrics: tuple[str, ...] = ()

    def draw(self, seed: int) -> tuple[Dataset, Truth | None]:
        """The data set, and what only the simulator knows (None for real data)."""
        return self.draw_(seed)


def load(name: str | Path, root: str | Path | None = None, *, seed: int = 0) -> Dataset:
    """A data set by catalogue name, or from a TOML data file, a folder, or a log by itself (CSV, Parquet, .inter).

    Parameters
    ----------
    name: "coat", "sim-pairs:confounding=2", "my-data.toml", "ml-100k" (a RecBole folder), "log.csv", ...
    root: folder that holds `coat/`, `ml-1m/`, ...; None = DECONREC_DATA, then the user's cache.
    seed: the world of a simulator.

    Raises
    ------
    UnknownName: no such name.  MissingData: files that are not there; says what to bring and where to put it.
    """
    return open_data(name, root).draw(seed)[0]


def open_data(name: str | Path, root: str | Path | None = None) -> Opened:
    """What a name stands for, nothing read yet for a simulator; see `load`."""
    text = str(name)
    key = text.partition(":")[0]
    if key not in CATALOGUE:
        path = Path(text)
        if os.path.exists(path) or path.suffix == ".toml":
            data = read_data(path)
            return Opened(text, False, lambda seed: (data, None))
        if path.suffix or len(path.parts) > 1:
            raise MissingData(
                f"there is no data set {shown(text)}: no such file or folder, and no name of the catalogue (deconrec "
                "data list). Check the path."
            )
        raise UnknownName("data set", key, CATALOGUE)
    entry = CATALOGUE[key]
    function = _builder(entry)
    settings = typed_settings(text, function)
    if is_simulated(key):
        real = entry.kind == "semi-real"

        def draw(seed: int) -> tuple[Dataset, Truth | None]:
            return function(*([root] if real else []), **{"seed": seed} | settings)

        return Opened(
            text, True, draw, settings, same_users=real and not entry.new_users, metrics=entry.metrics
        )
    data = function(root, **settings)
    return Opened(text, False, lambda seed: (data, None), settings)


def is_simulated(name: str) -> bool:
    """Whether a catalogue name stands for worlds that are drawn, and not for one data set."""
    return CATALOGUE[name.partition(":")[0]].kind in ("simulator", "semi-real")


def open_parameters(name: str) -> dict[str, Any]:
    """The parameters of a catalogue name that its text leaves open, with their defaults; the seed is none of them.

    Raises
    ------
    UnknownName: no such name or parameter.  ParameterError: text that is no value of a parameter.
    """
    key = name.partition(":")[0]
    if key not in CATALOGUE:
        raise UnknownName("data set", key, CATALOGUE)
    function = _builder(CATALOGUE[key])
    taken = {"seed", *typed_settings(name, function)}
    return {n: default for n, default in _defaults(function).items() if n not in taken}


def _builder(entry: Entry) -> Callable[..., Any]:
    built: Callable[..., Any] = getattr(import_module(f"deconrec.{entry.module}"), entry.function)
    return built


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that a data set's name may set, with their defaults."""
    every = inspect.signature(function).parameters.items()
    return {name: p.default for name, p in every if p.kind is inspect.Parameter.KEYWORD_ONLY}


def typed_settings(spec: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Settings of "name:param=value+param=value", typed by the function's defaults.

    Raises
    ------
    UnknownName: no such parameter.  ParameterError: text that is no value of its type.
    """
    key, _, rest = spec.partition(":")
    parameters = _defaults(function)
    out: dict[str, Any] = {}
    for part in [p for p in rest.split("+") if p]:
        name, sign, text = part.partition("=")
        if not sign:
            raise ParameterError(
                f"data '{spec}' must be written name:param=value+param=value; '{part}' has no '='."
            )
        if name not in parameters:
            raise UnknownName(f"parameter of '{key}'", name, parameters)
        out[name] = _typed(name, text, parameters[name])
    return out


def _typed(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool) and text.lower() in ("true", "false", "yes", "no", "on", "off"):
        return text.lower() in ("true", "yes", "on")
    for kind in (int, float):
        # A whole default may still be given as 1e3; a boolean one may also be a number (a share).
        try:
            number = kind(text)
        except ValueError:
            continue
        return number
    if isinstance(default, bool | int | float):
        raise ParameterError(
            f"'{name}' must be a {'number' if not isinstance(default, bool) else 'true or false'}; got '{text}'."
        )
    return text


def write_world(
    name: str, settings: Mapping[str, str], seed: int, out: str | Path, root: str | Path | None = None
) -> Path:
    """Draw a simulator's world and write it: the tables and data.toml that `fit` and `compare` read, and truth/ apart.

    Parameters
    ----------
    name: a simulator, with or without parameters ("sim-pairs:confounding=2").
    settings: more parameters, as text.
    out: the folder; an earlier world there is replaced whole.
    root: folder of the public data sets, for the worlds that are made from one; None as in `load`.

    truth/truth.safetensors holds the arrays of `Truth`: outcome, rating, propensity, nominal_propensity, confounder
    (those that the world has) and extra.*, rows and columns in the order of users.parquet and items.parquet. Where
    outcomes of all pairs are observed, outcomes.parquet holds them, as `deconrec effects --outcomes` reads them.

    Raises
    ------
    UnknownName: no simulator of that name.  FileError: the folder holds something else.
    MissingData: the files that the world is made from are not there.
    """
    from safetensors.numpy import save_file

    from deconrec.data.files import write_tables
    from deconrec.data.writing import replaced_folder

    simulators = [n for n in CATALOGUE if is_simulated(n)]
    if name.partition(":")[0] not in simulators:
        raise UnknownName("simulator", name, simulators)
    text = "+".join([name.partition(":")[2], *(f"{k}={v}" for k, v in settings.items())]).strip("+")
    data, truth = open_data(f"{name.partition(':')[0]}:{text}", root).draw(seed)
    assert truth is not None
    named = ("outcome", "rating", "propensity", "nominal_propensity", "confounder")
    arrays = {n: getattr(truth, n) for n in named if getattr(truth, n) is not None}
    arrays |= {f"extra.{n}": a for n, a in truth.extra.items()}
    with replaced_folder(out) as folder:
        write_tables(data, folder)
        if CATALOGUE[name.partition(":")[0]].all_outcomes:
            assert truth.rating is not None
            user, item = (c.ravel() for c in np.indices(data.shape))
            every = Log(user, item, truth.rating.ravel())
            data.frame(every).write_parquet(folder / "outcomes.parquet")
        (folder / "truth").mkdir()
        save_file(
            {n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / "truth" / "truth.safetensors"
        )
    return Path(out)
