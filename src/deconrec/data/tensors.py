"""Arrays in a safetensors file, read with every size checked before anything is allocated; and ids as such arrays.

The format: 8 bytes N (little-endian), N bytes of JSON {name: {dtype, shape, data_offsets}}, then the arrays' bytes, one
after the other without a gap. Nothing in it can run code; what is left to refuse is a file that lies about sizes.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

LARGEST_HEADER = 16 << 20  # bytes
DTYPES = {
    **{"BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64},
    **{"F16": np.float16, "F32": np.float32, "F64": np.float64},
}


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, read-only views of its bytes.

    Raises
    ------
    ValueError: a header beyond 16 MiB or beyond the file, one that is no JSON object of arrays, an element type that is
        none of ours, sizes that do not agree, gaps, overlaps, or bytes left over.
    """
    if len(content) < 8:
        raise ValueError(f"a safetensors file has at least 8 bytes; got {len(content)}")
    length = int.from_bytes(content[:8], "little")
    if length > min(LARGEST_HEADER, len(content) - 8):
        raise ValueError(
            f"the header says {length:,} bytes; at most {min(LARGEST_HEADER, len(content) - 8):,} are possible"
        )
    header = json.loads(content[8 : 8 + length].decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("the header must be a JSON object")
    header.pop("__metadata__", None)
    body = memoryview(content)[8 + length :]
    entries = sorted(((name, *_entry(name, about)) for name, about in header.items()), key=lambda e: e[3])
    out, end = {}, 0
    for name, dtype, shape, start, stop in entries:
        if start != end or stop > len(body):
            raise ValueError(
                f"array '{name}' must lie at byte {end:,} and end by {len(body):,}; got {start:,} to {stop:,}"
            )
        end = stop
        out[name] = np.frombuffer(body[start:stop], dtype).reshape(shape)
    if end != len(body):
        raise ValueError(f"{len(body) - end:,} bytes belong to no array")
    return out


def _entry(name: str, about: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """(dtype, shape, first byte, byte after the last) of an array's entry in the header."""
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"array '{name}' must be described by dtype, shape and data_offsets; got {about!r}")
    if about["dtype"] not in DTYPES:
        raise ValueError(f"array '{name}' has elements '{about['dtype']}'; known: {', '.join(DTYPES)}")
    shape, offsets = about["shape"], about["data_offsets"]
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
            raise ValueError(f"{what} of array '{name}' must be whole numbers >= 0; got {numbers!r}")
    dtype = np.dtype(DTYPES[about["dtype"]]).newbyteorder("<")
    if len(offsets) != 2 or len(shape) > 8 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"array '{name}' of shape {shape} does not take the bytes {offsets}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def checked_csr(
    indptr: np.ndarray,
    indices: np.ndarray,
    shape: tuple[int, int],
    what: str,
    values: np.ndarray | None = None,
) -> csr_matrix:
    """A CSR matrix, of ones where no values are given, whose places are all inside: scipy itself does not look.

    Raises
    ------
    ValueError.
    """
    n, m = len(indices), shape[1]
    rising = indptr.shape == (shape[0] + 1,) and indptr[0] == 0 and indptr[-1] == n
    if not rising or (np.diff(indptr) < 0).any():
        raise ValueError(f"rows of '{what}' must be {shape[0]:,} rising places of its {n:,} entries")
    if indices.ndim != 1 or (n and (indices.min() < 0 or indices.max() >= m)):
        raise ValueError(f"columns of '{what}' must lie in [0, {m:,})")
    data = np.ones(n, np.float32) if values is None else np.array(values)
    if data.shape != (n,):
        raise ValueError(f"'{what}' needs {n:,} values; got {data.shape}")
    return csr_matrix((data, np.array(indices), np.array(indptr)), shape=shape)


# ---------------------------------------------------------------------- ids and other text
def text_arrays(name: str, values: pl.Series) -> dict[str, np.ndarray]:
    """A column of strings or of 64-bit integers, without nulls, as arrays."""
    if values.dtype != pl.String:
        return {f"{name}.numbers": values.cast(pl.Int64).to_numpy()}
    ends = values.str.len_bytes().cast(pl.Int64).cum_sum().to_numpy()
    text = np.frombuffer("".join(values.to_list()).encode(), np.uint8)
    return {f"{name}.text": text, f"{name}.ends": ends}


def text_of(name: str, arrays: dict[str, np.ndarray]) -> pl.Series:
    """The inverse of `text_arrays`.

    Raises
    ------
    ValueError: ends that do not cut the text, or text that is not UTF-8.  KeyError: no such arrays.
    """
    if f"{name}.numbers" in arrays:
        return pl.Series(name, arrays[f"{name}.numbers"].astype(np.int64))
    text, ends = arrays[f"{name}.text"].tobytes(), arrays[f"{name}.ends"].astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    if (starts > ends).any() or (ends[-1] if len(ends) else 0) != len(text):
        raise ValueError(f"'{name}.ends' must be the rising ends of {len(text):,} bytes of text")
    cut = zip(starts.tolist(), ends.tolist(), strict=True)
    return pl.Series(name, [text[a:b].decode("utf-8") for a, b in cut], dtype=pl.String)
