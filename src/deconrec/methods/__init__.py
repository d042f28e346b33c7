"""Every method by its key: read top to bottom. Modules are imported when a method is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from deconrec.errors import MissingExtra, UnknownName
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

    Raises
    ------
    UnknownName: no such method or parameter.  ParameterError: text that is no setting, or out of range.
    """
    key, _, rest = ALIASES.get(spec.partition(":")[0], spec.partition(":")[0]).partition(":")
    own = spec.partition(":")[2]
    settings = settings_of(f"{rest}+{own}", spec)
    estimator = METHODS[key]().set_text(settings)
    estimator.check_params()
    return estimator


def key_of(estimator: object) -> str:
    """The key of an estimator's class, or its class name where it is no method of this library."""
    name = type(estimator).__name__
    module = type(estimator).__module__
    for key, (part, cls) in CLASSES.items():
        if cls == name and module == f"deconrec.methods.{part}":
            return key
    return name
