"""Exposure models, by the names that the command line and saved models use."""

from deconrec.exposure.check import PredictiveCheck, predictive_check
from deconrec.exposure.known import KnownConfounder
from deconrec.exposure.poisson import PoissonExposure
from deconrec.exposure.svd import SVDExposure
from deconrec.exposure.vae import VAEExposure

__all__ = [
    "EXPOSURE_MODELS",
    "KnownConfounder",
    "PoissonExposure",
    "PredictiveCheck",
    "SVDExposure",
    "VAEExposure",
    "predictive_check",
]

EXPOSURE_MODELS = {
    "vae": VAEExposure,
    "poisson": PoissonExposure,
    "svd": SVDExposure,
    "known": KnownConfounder,
}
