"""What can be said of the labels themselves: rates, how far their number reaches, and columns that give them away."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from deconrec.data.dataset import Dataset
from deconrec.data.leaks import LEAK, Leak, alone
from deconrec.diagnostics.impressions.rates import Rates, auc_reach

HOLDOUT = 0.15  # of the clicks, which `compare` judges on without forced ones
WITHIN = 0.03  # NOTE half the interval of an AUC that is taken to be enough: methods seldom differ by more
FEWEST = 100  # NOTE conversions below which hardly anything can be learned from the context


@dataclass(frozen=True)
class Clicks:
    """Rates and labels of an impression log.

    Attributes
    ----------
    rates: see `Rates`.
    alone: what every context column alone says of either label.
    judged: (conversions, other rows) that `compare` judges pCVR on, about.
    forced: whether these are forced clicks.
    """

    rates: Rates
    alone: tuple[Leak, ...]
    judged: tuple[int, int]
    forced: bool

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """Columns that give a label away."""
        return tuple(found for found in self.alone if found.auc >= LEAK)

    @property
    def reach(self) -> float:
        """Half the 95 % interval of an AUC of .7 on the rows that `compare` judges on; NaN without a conversion."""
        return auc_reach(*self.judged)

    @property
    def needed(self) -> int | None:
        """Conversions among those rows for which it would be `WITHIN`, at this rate."""
        if not math.isfinite(self.reach):
            return None
        return math.ceil(self.judged[0] * (self.reach / WITHIN) ** 2)

    @property
    def enough(self) -> bool:
        """Whether there are enough conversions to learn from, and to tell methods apart."""
        return self.rates.conversion.events >= FEWEST and self.reach <= WITHIN

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **self.rates.to_dict(),
            "leaks": [asdict(leak) for leak in self.leaks],
            "alone": [asdict(found) for found in sorted(self.alone, key=lambda found: -found.auc)],
            "judged": {
                "conversions": self.judged[0],
                "others": self.judged[1],
                "forced": self.forced,
                "auc_reach": self.reach,
                "reach_wanted": WITHIN,
                "conversions_needed": self.needed,
                "enough": self.enough,
            },
        }


def labels(data: Dataset, found: Rates) -> Clicks:
    """The labels of a log of impressions."""
    assert data.impressions is not None
    of, share = (
        (found.conversion, HOLDOUT) if found.forced is None else (found.forced, data.task.unbiased_split[2])
    )
    judged = round(share * of.events), round(share * (of.rows - of.events))
    every = alone(data.impressions.log, data.impressions.click)
    return Clicks(found, tuple(every), judged, found.forced is not None)
