"""Every method by its key: read top to bottom. Modules are imported when a method is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from deconrec.errors import MissingExtra, ParameterError, UnknownName
from deconrec.parameters import settings_of

if TYPE_CHECKING:
    from deconrec.base import Estimator

CLASSES = {  # key: (module, class)
    "random": ("random", "RandomRanker"),
    "popularity": ("popularity", "MostPopular"),
    "mf": ("mf", "MF"),
    "ips": ("ips", "IPS"),
    "snips": ("snips", "SNIPS"),
    "eib": ("eib", "EIB"),
    "dr-jl": ("dr_jl", "DRJL"),
    "mrdr": ("mrdr", "MRDR"),
    "esmm": ("esmm", "ESMM"),
    "multi-ips": ("multi_ips", "MultiIPS"),
    "multi-dr": ("multi_dr", "MultiDR"),
    "escm2-ips": ("escm2_ips", "ESCM2IPS"),
    "escm2-dr": ("escm2_dr", "ESCM2DR"),
    "rd-ips": ("rd_ips", "RDIPS"),
    "rd-dr": ("rd_dr", "RDDR"),
    "brd-ips": ("brd_ips", "BRDIPS"),
    "brd-dr": ("brd_dr", "BRDDR"),
    "autodebias": ("autodebias", "AutoDebias"),
    "ltd": ("ltd", "LTD"),
    "res-ips": ("res_ips", "ResIPS"),
    "res-dr": ("res_dr", "ResDR"),
    "cause": ("cause", "CausE"),
    "kd-label": ("kd_label", "KDLabel"),
    "kd-feature": ("kd_feature", "KDFeature"),
    "ease": ("ease", "EASE"),
    "wmf": ("wmf", "WMF"),
    "ipw-mf": ("ipw_mf", "IPWMF"),
    "deconf-mf": ("deconf_mf", "DeconfMF"),
    "concat-vae": ("concat_vae", "ConcatVAE"),
    "vsr-vae": ("vsr_vae", "VSRVAE"),
    "deep-deconf": ("deep_deconf", "DeepDeconf"),
    "grounded-gp": ("grounded_gp", "GroundedGP"),
}

ALIASES = {"mf-uniform": "mf:population=uniform", "mf-combined": "mf:population=combined"}


class Methods(Mapping[str, "type[Estimator]"]):
    """Method classes by key, imported on first use."""

    def __getitem__(self, key: str) -> type[Estimator]:
        if key not in CLASSES:
            raise UnknownName("method", key, [*CLASSES, *ALIASES])
        module, name = CLASSES[key]
        try:
            return getattr(import_module(f"deconrec.methods.{module}"), name)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise MissingExtra("torch", "torch", f"method '{key}'") from error

    def __iter__(self) -> Iterator[str]:
        return iter(CLASSES)

    def __len__(self) -> int:
        return len(CLASSES)

    def __contains__(self, key: object) -> bool:
        return key in CLASSES


METHODS = Methods()


def make(spec: str) -> Estimator:
    """An estimator from `name` or `name:param=value+param=value` ("res-ips:policy=joint+warmup=5").

    A method of one's own goes by the import path of its class ("blended_ips.BlendedIPS:blend=0.3").

    Raises
    ------
    UnknownName: no such method or parameter.  ParameterError: text that is no setting, or out of range; a path that
        leads to no method.
    """
    key, _, rest = ALIASES.get(spec.partition(":")[0], spec.partition(":")[0]).partition(":")
    own = spec.partition(":")[2]
    settings = settings_of(f"{rest}+{own}", spec)
    cls = _imported(key) if "." in key else METHODS[key]
    estimator = cls().set_text(settings)
    estimator.check_params()
    return estimator


def name_of(method: str | type[Estimator]) -> str:
    """The text that `make` reads for a method: itself, or the key or import path of a class.

    Raises
    ------
    ParameterError: neither, or a class that cannot be imported because it was made inside a function.
    """
    if isinstance(method, str):
        return method
    if not isinstance(method, type):
        raise ParameterError(
            f"a method must be a name (with its parameters, 'ips:dim=4') or a class; got {method!r}."
        )
    if "<locals>" in method.__qualname__:
        raise ParameterError(
            f"method '{method.__name__}' stands inside a function, where no other process finds it; move it to a "
            "module."
        )
    key = key_of_class(method)
    return key if key in CLASSES else f"{method.__module__}.{method.__qualname__}"


def _imported(path: str) -> type[Estimator]:
    """The class of an import path; modules beside the caller are found as Python itself would find them."""
    from deconrec.base import Estimator

    module, _, name = path.rpartition(".")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # the last place, so that nothing installed is hidden
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise ParameterError(
            f"method '{path}' names the module '{module}', which cannot be imported ({error}); it must be installed or "
            "be a file in the folder where the command runs."
        ) from error
    if not isinstance(found, type) or not issubclass(found, Estimator):
        raise ParameterError(
            f"method '{path}' must be a class that derives from deconrec.PairEstimator, RowEstimator or another "
            f"estimator; '{module}' has " + (f"{found!r}." if found is not None else "nothing of that name.")
        )
    return found


def key_of(estimator: object) -> str:
    """The key of an estimator's class, or its class name where it is no method of this library."""
    return key_of_class(type(estimator))


def key_of_class(cls: type) -> str:
    """The key of a class, or its name where it is no method of this library."""
    for key, (part, name) in CLASSES.items():
        if name == cls.__name__ and cls.__module__ == f"deconrec.methods.{part}":
            return key
    return cls.__name__
