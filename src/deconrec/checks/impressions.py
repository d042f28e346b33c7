"""Checks on a log of impressions: a method that says so answers for any row, and another one refuses."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from deconrec.base import Estimator
from deconrec.checks.bench import CheckFailed, NotApplicable, quiet, require
from deconrec.checks.fixtures import impressions
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError
from deconrec.saving import load_model


def check_impressions(estimator: Estimator) -> None:
    """On impressions: finite answers for every row, unseen ids and gaps too; pctcvr is the product; saved as fitted."""
    data, who = impressions(), type(estimator).__name__
    if not estimator.tags.impressions:
        try:
            with quiet():
                estimator.clone().fit(data)
        except DataError:
            raise NotApplicable("tags.impressions is False") from None
        raise CheckFailed(
            f"{who}.fit took a log of impressions, which its tags do not name; set tags.impressions."
        )
    with quiet():
        model = estimator.clone().fit(data)
        again = estimator.clone().fit(data)
    rows = asked(data)
    frame = model.predict(rows, details=True)
    require(
        frame.columns == ["user_id", "item_id", "score", "source", "pcvr", "pctr", "pctcvr"],
        f"predict(details=True) of {who} on impressions gives {frame.columns}.",
    )
    p = frame["pcvr"].to_numpy()
    require(
        bool(np.isfinite(p).all() and (p > 0).all() and (p < 1).all()),
        f"{who} must answer every impression with a pCVR inside (0, 1), unseen ids and categories too.",
    )
    if frame["pctr"].null_count() == 0:
        product = frame["pctr"].to_numpy() * p
        require(
            np.allclose(frame["pctcvr"].to_numpy(), product, rtol=1e-6),
            f"pctcvr of {who} must be pctr times pcvr.",
        )
    require(
        np.array_equal(model.predict(rows), again.predict(rows)),
        f"two fits of {who} on the same impressions with one seed differ.",
    )
    one = np.concatenate([model.predict(rows[k : k + 1]) for k in range(len(rows))])
    require(
        np.allclose(one, p, rtol=1e-4, atol=1e-7), f"{who} answers an impression otherwise when asked alone."
    )
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_model(model.save(Path(folder) / "model"), cls=type(model))
    require(
        np.array_equal(loaded.predict(rows), model.predict(rows)),
        f"{who} answers impressions otherwise after save and load.",
    )


def asked(data: Dataset) -> pl.DataFrame:
    """Rows of the log, and one each with an unseen user, item, category, and without anything."""
    assert data.impressions is not None
    rows = data.frame(data.impressions.log).drop("click", "conversion").head(6)
    new = pl.Series(["nobody", *rows["user_id"].to_list()[1:]])
    device = rows["device"].to_list()
    return rows.with_columns(
        new.alias("user_id"),
        pl.Series("item_id", [*rows["item_id"].to_list()[:-1], 10**6]),
        pl.Series("device", [device[0], "watch", None, *device[3:]]),
        pl.Series("price", [None, *rows["price"].to_list()[1:]]),
    )


IMPRESSIONS = (check_impressions,)
