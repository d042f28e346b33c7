"""Propensity models, by the names that the command line and saved models use."""

from deconrec.propensity.known import Known
from deconrec.propensity.logistic_mf import LogisticMF
from deconrec.propensity.naive_bayes import NaiveBayes
from deconrec.propensity.popularity import Popularity

__all__ = ["PROPENSITIES", "Known", "LogisticMF", "NaiveBayes", "Popularity"]

PROPENSITIES = {
    "logistic-mf": LogisticMF,
    "naive-bayes": NaiveBayes,
    "popularity": Popularity,
    "known": Known,
}
