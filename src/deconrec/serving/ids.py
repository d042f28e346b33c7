"""Raw ids of a request to codes, by the rule of `data.ids`: 17 and "17" are one id, because a URL cannot tell them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from deconrec.data.ids import Vocabulary

RawId = int | str
_WHOLE = re.compile(
    r"[+-]?[0-9]{1,19}"
)  # what polars reads as a 64-bit integer, and nothing that int() alone does


class Ids:
    """One side's vocabulary, ready for single ids.

    Parameters
    ----------
    vocabulary: of a fitted model.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.values: list[RawId] = vocabulary.values.to_list()
        self.is_text = vocabulary.is_text
        self._code: dict[RawId, int] = {value: code for code, value in enumerate(self.values)}

    def __len__(self) -> int:
        return len(self.values)

    def code(self, raw: RawId) -> int:
        """The code of an id, -1 where the model does not know it."""
        if isinstance(raw, str) != self.is_text:
            if self.is_text:
                raw = str(raw)
            elif _WHOLE.fullmatch(str(raw)):
                raw = int(raw)
            else:
                return -1
        return self._code.get(raw, -1)

    def codes(self, raw: Iterable[RawId]) -> np.ndarray:
        """(n,) int64 codes, -1 where unknown."""
        return np.fromiter(map(self.code, raw), np.int64)

    @cached_property
    def json(self) -> list[str]:
        """Every id as JSON."""
        return [json.dumps(value) for value in self.values]
