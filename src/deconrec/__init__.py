"""Recommendation under hidden confounding.

>>> import deconrec as dc
>>> data, truth = dc.simulate.pairs(n_users=200, n_items=60, seed=0)
>>> model = dc.MF(dim=4, epochs=2).fit(data)
>>> model.predict((data.users.values[:2], data.items.values[:2])).shape
(2,)

Public names are imported when they are first used: `import deconrec` alone loads no torch, polars or scipy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {  # name: module
    "Dataset": "data.dataset",
    "Log": "data.dataset",
    "Task": "data.dataset",
    "Truth": "data.dataset",
    "PairsSplit": "data.split",
    "UsersSplit": "data.split",
    "describe": "data.describe",
    "load": "catalogue",
    "Estimator": "base",
    "Tags": "base",
    "PairEstimator": "torch_estimator",
    "RowEstimator": "torch_estimator",
    "load_model": "saving",
    "METHODS": "methods",
    "make": "methods",
    "RandomRanker": "methods.random",
    "MostPopular": "methods.popularity",
    "MF": "methods.mf",
    "IPS": "methods.ips",
    "SNIPS": "methods.snips",
    "EIB": "methods.eib",
    "DRJL": "methods.dr_jl",
    "MRDR": "methods.mrdr",
    "ESMM": "methods.esmm",
    "MultiIPS": "methods.multi_ips",
    "MultiDR": "methods.multi_dr",
    "ESCM2IPS": "methods.escm2_ips",
    "ESCM2DR": "methods.escm2_dr",
    "RDIPS": "methods.rd_ips",
    "RDDR": "methods.rd_dr",
    "BRDIPS": "methods.brd_ips",
    "BRDDR": "methods.brd_dr",
    "AutoDebias": "methods.autodebias",
    "LTD": "methods.ltd",
    "ResIPS": "methods.res_ips",
    "ResDR": "methods.res_dr",
    "CausE": "methods.cause",
    "KDLabel": "methods.kd_label",
    "KDFeature": "methods.kd_feature",
    "EASE": "methods.ease",
    "WMF": "methods.wmf",
    "IPWMF": "methods.ipw_mf",
    "DeconfMF": "methods.deconf_mf",
    "ConcatVAE": "methods.concat_vae",
    "VSRVAE": "methods.vsr_vae",
    "DeepDeconf": "methods.deep_deconf",
    "GroundedGP": "methods.grounded_gp",
    "LogisticMF": "propensity.logistic_mf",
    "NaiveBayes": "propensity.naive_bayes",
    "Popularity": "propensity.popularity",
    "Known": "propensity.known",
    "VAEExposure": "exposure.vae",
    "PoissonExposure": "exposure.poisson",
    "SVDExposure": "exposure.svd",
    "compare": "experiments.compare",
    "tune": "experiments.tune",
    "evaluate": "experiments.evaluate",
    "sensitivity": "experiments.sensitivity",
    "value": "experiments.value",
    "reproduce": "experiments.reproduce",
    "diagnose": "diagnostics",
    "check_estimator": "checks",
    "write_report": "report.html",
}

_MODULES = (
    "checks",
    "data",
    "diagnostics",
    "effects",
    "errors",
    "evaluation",
    "experiments",
    "methods",
    "propensity",
    "report",
    "simulate",
)

__all__ = sorted([*_PUBLIC, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        try:
            value = getattr(import_module(f"deconrec.{_PUBLIC[name]}"), name)
        except ModuleNotFoundError as error:
            if error.name not in ("torch", "jinja2", "matplotlib"):
                raise
            from deconrec.errors import MissingExtra

            extra = "torch" if error.name == "torch" else "report"
            raise MissingExtra(error.name, extra, f"deconrec.{name}") from error
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"deconrec.{name}")
    raise AttributeError(f"module 'deconrec' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
