"""Exposure models, by the names that the command line and saved models use."""

from deconrec.exposure.vae import VAEExposure

__all__ = ["EXPOSURE_MODELS", "VAEExposure"]

EXPOSURE_MODELS = {"vae": VAEExposure}
