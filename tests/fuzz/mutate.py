"""Small changes to bytes, text and JSON: everything follows from the generator that is handed in."""

from __future__ import annotations

import random
import re
from typing import Any

# Words that mean something somewhere: numbers at the edges, gaps, quotes, separators, other encodings.
WORDS = (
    *(
        "",
        " ",
        "0",
        "-0",
        "1",
        "-1",
        "7",
        "007",
        "1.0",
        "0.5",
        "-0.5",
        "1e400",
        "-1e39",
        "1e-400",
        "nan",
        "inf",
        "-inf",
    ),
    *(
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999",
        "true",
        "False",
        "null",
        "NA",
        "None",
    ),
    *(
        "2020-01-01",
        "2020-13-45T99:99",
        "yesterday",
        '"',
        '""',
        '"""',
        "'",
        "\\",
        "\\n",
        "\t",
        "\r",
        "\r\n",
        "\n",
        "\n\n",
    ),
    *(
        ",",
        ",,",
        ";",
        "|",
        ":",
        "=",
        "[",
        "]",
        "{",
        "}",
        "#",
        "\0",
        "\ufeff",
        "\u202e",
        "Zoë",
        "😀",
        "0x10",
        "1_000",
        "[]",
    ),
    *(
        "user_id",
        "item_id",
        "rating",
        "timestamp",
        "propensity",
        "click",
        "conversion",
        "token",
        "float",
        "float_seq",
    ),
)
BYTES = (
    b"\0",
    b"\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x80",
    b"\x1f\x8b",
    b"PAR1",
    b"PK\x03\x04",
    b'"',
    b"\n",
    b"\r",
    b",",
)
JSON = (None, -1, 0, 10**18, 1e308, -0.5, "", "x", [], [[]], {}, True, "mf", [1, 2], 2**63)
_PIECES = re.compile(r"[\w.+-]+|\s|[^\w\s]")


def changed_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Bytes with one to six changes: flips, cuts, repeats, insertions."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 2, 4, 8, 64)))
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at:end]
        elif kind == 2:
            out[at:at] = out[at:end] * rng.choice((1, 2, 30))
        elif kind == 3:
            out[at:at] = rng.choice(BYTES)
        elif kind == 4:
            out[at:end] = rng.randbytes(end - at)
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def changed_text(text: str, rng: random.Random, words: tuple[str, ...] = WORDS) -> str:
    """Text with one to four of its words or signs replaced, repeated, exchanged or left out."""
    pieces = _PIECES.findall(text) or [""]
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        kind = rng.randrange(5)
        if kind < 2:
            pieces[at] = rng.choice(words)
        elif kind == 2:
            pieces[at] = pieces[at] * rng.choice((0, 2, 3, 500))
        elif kind == 3:
            pieces[at], pieces[other] = pieces[other], pieces[at]
        else:
            pieces.insert(at, rng.choice(words))
    return "".join(pieces)


def changed(text: str, rng: random.Random) -> bytes:
    """Text as bytes, changed as one or the other."""
    if rng.random() < 0.6:
        return changed_text(text, rng).encode("utf-8", "surrogatepass")
    return changed_bytes(text.encode(), rng)


def changed_json(value: Any, rng: random.Random) -> Any:
    """Some JSON in the place of some JSON."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: changed_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], changed_json(value[at], rng), *value[at + 1 :]]
    return rng.choice(JSON)
