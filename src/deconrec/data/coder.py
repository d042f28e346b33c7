"""Raw ids to codes, batch by batch: each id is looked at once, and only codes and distinct ids are kept."""

from __future__ import annotations

import numpy as np
import polars as pl

from deconrec.data.ids import normalise_ids, refuse_empty

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiples of it fall apart (Knuth, section 6.4)


class Coder:
    """Codes of one column of ids, in the order in which they are first seen.

    Strings are told apart by 96 bits of two hashes: among ten million, the chance that any two fall together is
    below 1e-14. Numbers are told apart by themselves.

    Parameters
    ----------
    kind: "user" or "item", for messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._table: _Table | None = None
        self._seen: list[pl.Series] = []
        self._rows = self._empty = 0

    def encode(self, ids: pl.Series) -> np.ndarray:
        """(n,) int32 codes of the next batch; of a batch with empty ids they mean nothing.

        Raises
        ------
        DataError: ids that are neither strings nor numbers.
        """
        self._rows += len(ids)
        if empty := ids.null_count():
            self._empty += empty
            return np.zeros(len(ids), np.int32)  # `distinct` will refuse the column
        if not len(ids):
            return np.zeros(0, np.int32)
        if ids.dtype in (pl.Categorical, pl.Enum):
            ids = ids.cast(pl.String)
        text = ids.dtype == pl.String
        if not text and not ids.dtype.is_integer() and not ids.dtype.is_float():
            normalise_ids(ids[:1], self.kind)
        if ids.dtype == pl.Int128:
            ids = normalise_ids(ids, self.kind)
            text = ids.dtype == pl.String
        first, second = _hashes(ids) if text else _numbers(ids)
        if self._table is None:
            self._table = _Table(len(ids))
        codes, rows = self._table.codes(first, second)
        if len(rows):
            new = ids.gather(rows)
            # Text is copied, because it would otherwise hold on to the whole batch that it came in.
            self._seen.append(new + "" if text else new)
        return codes

    def distinct(self) -> pl.Series:
        """The ids by code, as they were given.

        Raises
        ------
        DataError: an id was empty.
        """
        refuse_empty(self._empty, self._rows, self.kind)
        if any(ids.dtype == pl.String for ids in self._seen):
            self._seen = [ids.cast(pl.String) for ids in self._seen]
        return pl.concat(self._seen) if self._seen else pl.Series([], dtype=pl.Null)


def _hashes(text: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    return text.hash(0).to_numpy(), text.hash(1).to_numpy()


def _numbers(ids: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as 64 bits, mixed by a product that can be undone: no two numbers fall together."""
    values = ids.to_numpy()
    if values.dtype.kind == "f":
        bits = (values.astype(np.float64) + 0.0).view(np.uint64)  # -0.0 + 0.0 is 0.0
    elif values.dtype.kind == "i":
        bits = values.astype(np.int64).view(np.uint64)
    else:
        bits = values.astype(np.uint64)
    return bits * _ODD, np.zeros(len(bits), np.uint64)


class _Table:
    """Open addressing with linear probing, a whole batch at a time; at most half of the places are taken.

    A place holds the first hash, and in one word the upper half of the second and the code + 1 (0 = free).
    """

    def __init__(self, expected: int) -> None:
        self._size = 0
        self._make(max(8, int(expected).bit_length()))

    def _make(self, bits: int) -> None:
        self._first = np.zeros(1 << bits, np.uint64)
        self._word = np.zeros(1 << bits, np.uint64)
        self._shift = np.uint64(64 - bits)

    def codes(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((n,) int32 codes, the rows that hold an id for the first time, in the order of their codes)."""
        place = (first >> self._shift).astype(np.int64)
        found, low = self._look(place, first, second)
        codes = low.astype(np.int32) - 1
        rest = np.flatnonzero(~found)
        new: list[np.ndarray] = []
        while len(rest):
            at = place[rest]
            free = (self._word[at] & _LOW) == 0
            if free.any():
                places, where = np.unique(at[free], return_index=True)
                if 2 * (self._size + len(places)) > len(self._first):
                    self._grow(self._size + len(places))
                    place[rest] = (first[rest] >> self._shift).astype(np.int64)
                    continue
                rows = rest[free][where]
                order = np.argsort(rows)
                self._put(places[order], first[rows[order]], second[rows[order]])
                new.append(rows[order])
            found, low = self._look(at, first[rest], second[rest])
            codes[rest[found]] = low[found].astype(np.int32) - 1
            rest = rest[~found]
            place[rest] = (place[rest] + 1) & (len(self._first) - 1)
        return codes, np.concatenate(new) if new else np.zeros(0, np.int64)

    def _look(
        self, place: np.ndarray, first: np.ndarray, second: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        word = self._word[place]
        low = word & _LOW
        return (self._first[place] == first) & (((word ^ second) >> _HALF) == 0) & (low != 0), low

    def _put(self, places: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
        numbers = np.arange(self._size + 1, self._size + len(places) + 1, dtype=np.uint64)
        self._first[places] = first
        self._word[places] = ((second >> _HALF) << _HALF) | numbers
        self._size += len(places)

    def _grow(self, needed: int) -> None:
        taken = np.flatnonzero(self._word)
        first, word = self._first[taken], self._word[taken]
        self._make(int(needed).bit_length() + 1)
        place = (first >> self._shift).astype(np.int64)
        rest = np.arange(len(first))
        while len(rest):
            at = place[rest]
            free = self._word[at] == 0
            places, where = np.unique(at[free], return_index=True)
            rows = rest[free][where]
            self._first[places], self._word[places] = first[rows], word[rows]
            rest = rest[self._word[at] != word[rest]]  # a word holds its code: no two are the same
            place[rest] = (place[rest] + 1) & (len(self._first) - 1)
