"""The doctor of data: `dc.diagnose(data)` and what it is made of."""

from deconrec.diagnostics.confounding import Confounding
from deconrec.diagnostics.doctor import diagnose
from deconrec.diagnostics.result import Advice, Diagnosis, Verdict

__all__ = ["Advice", "Confounding", "Diagnosis", "Verdict", "diagnose"]
