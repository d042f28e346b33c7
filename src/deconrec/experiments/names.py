"""Names of metrics: `name@K/candidates[/stratum][/leaked|/biased|/truth]` and `r2/confounder`.

Of impressions: `name/pcvr|pctr|pctcvr` (`experiments.impressions`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deconrec.errors import ParameterError, UnknownName
from deconrec.evaluation import ranking
from deconrec.experiments.beyond import POPULARITY, STRATA

POINTWISE = ("auc", "mse", "logloss", "ece")
RANKING = ranking.METRICS
CANDIDATES = ("shown", "full")
CONFOUNDER = "r2/confounder"  # a simulator's hidden confounder, as a method's substitute explains it
TARGETS = ("pcvr", "pctr", "pctcvr")  # outputs of models of impressions
VARIANTS = ("leaked", "biased", "truth", "confounder")


@dataclass(frozen=True)
class Metric:
    """A parsed metric name.

    Attributes
    ----------
    base: "auc", "ndcg", ...
    k: cut-off of a ranking metric.
    candidates: "shown", "full" or None.
    variant: "leaked", "biased", "truth", "confounder" or None.
    stratum: "cold-users", "cold-items" or None: rows of users, or positives among items, with few ratings.
    target: of impressions, the output that is judged; None elsewhere.
    """

    base: str
    k: int | None = None
    candidates: str | None = None
    variant: str | None = None
    stratum: str | None = None
    target: str | None = None

    @property
    def ranked(self) -> bool:
        """Whether it judges rankings by positives."""
        return self.base in RANKING

    @property
    def per_user(self) -> bool:
        """Whether it is a mean of one value a user."""
        return self.ranked or self.base in ("arp", "aplt")

    @classmethod
    def parse(cls, name: str) -> Metric:
        """A metric from its name.

        Raises
        ------
        UnknownName, ParameterError: no such metric.
        """
        if name == CONFOUNDER:
            return cls("r2", variant="confounder")
        head, *rest = name.split("/")
        match = re.fullmatch(r"([a-z_]+)(?:@(\d+))?", head)
        if match is None or match[1] not in (*POINTWISE, *RANKING, *POPULARITY):
            known = [*POINTWISE, *(f"{m}@5" for m in RANKING), *(f"{m}@20" for m in POPULARITY), CONFOUNDER]
            raise UnknownName("metric", head, known)
        base, k = match[1], None if match[2] is None else int(match[2])
        variant = rest.pop() if rest and rest[-1] in VARIANTS else None
        if base in POINTWISE and k is None and rest and rest[0] in TARGETS:
            if (
                len(rest) > 1
                or (variant == "truth" and base not in ("mse", "auc"))
                or variant in ("leaked", "confounder")
            ):
                raise ParameterError(
                    f"metric '{name}' does not exist; of an output there are {base}/{rest[0]}, with /biased on clicks, "
                    "and mse and auc with /truth in a simulator."
                )
            return cls(base, variant=variant, target=rest[0])
        stratum = rest.pop() if rest and rest[-1] in STRATA else None
        candidates = rest.pop() if rest else None
        if rest or (candidates is not None and candidates not in CANDIDATES):
            raise UnknownName("candidate set", candidates or name, CANDIDATES)
        if base in RANKING and (k is None or k < 1 or candidates is None):
            raise ParameterError(
                f"metric '{name}' must name its cut-off and candidates, as {base}@5/shown or {base}@20/full."
            )
        if base in POPULARITY:
            if k is None or k < 1 or candidates != "full" or stratum or variant:
                raise ParameterError(
                    f"metric '{name}' is of lists of all candidates and needs no positives; write '{base}@20/full'."
                )
            return cls(base, k, candidates)
        everywhere = base == "logloss" and candidates == "full" and variant is None
        if base in POINTWISE and (k is not None or (candidates is not None and not everywhere)):
            raise ParameterError(
                f"metric '{name}' has no cut-off and no candidates; write '{base}'. Only logloss/full exists (over "
                "all pairs outside the biased log, U and V)."
            )
        if variant == "confounder":
            raise ParameterError(f"metric '{name}' does not exist; of a confounder there is {CONFOUNDER}.")
        if variant == "truth" and base not in ("mse", "auc"):
            raise ParameterError(
                f"metric '{name}' cannot be compared with the truth; there are mse/truth and auc/truth."
            )
        if stratum and (variant == "truth" or everywhere):
            raise ParameterError(
                f"metric '{name}' has no strata; there are {base}/cold-users and {base}/cold-items."
            )
        return cls(base, k, candidates, variant, stratum)

    def __str__(self) -> str:
        head = self.base if self.k is None else f"{self.base}@{self.k}"
        parts = (self.candidates, self.target, self.stratum, self.variant)
        return "/".join([head, *(part for part in parts if part)])
