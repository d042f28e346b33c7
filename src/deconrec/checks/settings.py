"""How the methods of the library are checked: cheap settings, settings that learn, known exceptions."""

from __future__ import annotations

from typing import Any

_PAIRS = {"dim": 4, "epochs": 3}
_ROWS = {"hidden": (8,), "epochs": 3}

# By method key: parameters under which a fit on a fixture takes a few hundredths of a second.
FAST: dict[str, dict[str, Any]] = {
    "mf": _PAIRS,
    "ips": _PAIRS | {"propensity__dim": 2, "propensity__epochs": 3},
    "dr-jl": _PAIRS | {"propensity__dim": 2, "propensity__epochs": 3},
    "res-ips": _PAIRS,
    "res-dr": _PAIRS,
    "concat-vae": _ROWS,
    "deep-deconf": _ROWS | {"exposure__dim": 4, "exposure__epochs": 3},
}

# By method key: parameters for the learning checks; a method from elsewhere is taken as it is.
_PAIRS_LEARN = {"dim": 4, "epochs": 40, "lr": 0.05}
_ROWS_LEARN = {"hidden": (16,), "epochs": 40, "lr": 0.01, "batch": 20, "anneal": 20.0}
LEARN: dict[str, dict[str, Any]] = {
    "mf": _PAIRS_LEARN,
    "ips": _PAIRS_LEARN,
    "dr-jl": _PAIRS_LEARN,
    "res-ips": _PAIRS_LEARN,
    "res-dr": _PAIRS_LEARN,
    "concat-vae": _ROWS_LEARN,
    "deep-deconf": _ROWS_LEARN | {"exposure__dim": 4, "exposure__epochs": 40},
}

# {method key: {check: reason}}: exceptions that are known and explained.
XFAIL: dict[str, dict[str, str]] = {}
