"""What /model tells: facts of the model, never an id of a user or an item."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from deconrec import __version__
from deconrec.methods import CLASSES
from deconrec.serving.ranker import Policy, Ranker


def card_of(ranker: Ranker, policy: Policy) -> dict[str, Any]:
    """The model's card, as JSON values."""
    model = ranker.model
    place = type(model).__module__.removeprefix("deconrec.methods."), type(model).__name__
    spec, scale = model.spec_, model.scale_
    return {
        "model": ranker.name,
        "method": next((key for key, found in CLASSES.items() if found == place), place[1]),
        "params": model.describe(),
        "protocol": asdict(model.task_),
        "outcome": {"low": scale.low, "high": scale.high, "binary": scale.binary},
        "fingerprint": model.fingerprint_,
        "trained": {
            "users": spec.n_users,
            "items": spec.n_items,
            "seen_pairs": int(model.seen_.nnz),
            "unbiased_rows": int(model.unbiased_rows_),
            "user_features": spec.n_user_features,
            "item_features": spec.n_item_features,
            "seconds": float(model.seconds_),
        },
        "fold_in": bool(model.tags.fold_in),
        "reads_features": bool(model.tags.uses_features),
        "policy": policy.to_dict(),
        "deconrec": __version__,
    }
