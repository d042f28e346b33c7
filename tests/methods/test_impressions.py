"""Methods on impressions: named outputs, rows that were never seen, refusals, saving."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.checks import cheap
from deconrec.checks.bench import quiet
from deconrec.checks.fixtures import confounded, impressions
from deconrec.checks.impressions import asked
from deconrec.errors import DataError, MissingUnbiasedLog
from deconrec.methods import METHODS, make
from deconrec.propensity import Known

DATA = impressions()
TAGGED = [key for key in METHODS if make(key).tags.impressions]
OTHERS = [key for key in METHODS if key not in TAGGED]


def fitted(spec: str, data: dc.Dataset = DATA, **params: object) -> dc.Estimator:
    key, _, rest = spec.partition(":")
    model = (
        cheap(METHODS[key]).set_text(dict(p.split("=") for p in rest.split("+") if p)).set_params(**params)
    )
    with quiet():
        return model.fit(data)


def test_which_methods_run() -> None:
    assert {"mf", "ips", "esmm", "escm2-dr", "multi-ips", "res-ips", "res-dr", "dr-jl"} <= set(TAGGED)
    assert {"ease", "wmf", "concat-vae", "grounded-gp", "cause", "popularity"} <= set(OTHERS)


@pytest.mark.parametrize("key", OTHERS)
def test_others_refuse(key: str) -> None:
    with pytest.raises(DataError, match="cannot learn from impressions"):
        cheap(METHODS[key]).fit(DATA)


@pytest.mark.parametrize(
    "spec",
    [
        "mf:population=combined",
        "mf:population=uniform",
        "ips:propensity=naive-bayes",
        "ips:propensity=popularity",
        "rd-ips:mode=table",
        "res-ips:agreement=loss",
        "res-dr:shared=true",
        "res-ips:split_unbiased=true",
        "esmm:shared=false",
        "escm2-dr:error=squared",
        "mf:backbone=mlp",
    ],
)
def test_settings_answer(spec: str) -> None:
    frame = fitted(spec).predict(asked(DATA), details=True)
    assert np.isfinite(frame["pcvr"].to_numpy()).all()
    assert set(frame["source"]) == {"model"}


def test_named_outputs_are_those_of_the_logits() -> None:
    model = fitted("esmm")
    b, a = model._logits(DATA.impressions.log)
    rows = DATA.frame(DATA.impressions.log)
    frame = model.predict(rows, details=True)
    sigma = [1 / (1 + np.exp(-x)) for x in (b, a)]
    np.testing.assert_allclose(frame["pcvr"], sigma[0], rtol=1e-6)
    np.testing.assert_allclose(frame["pctr"], sigma[1], rtol=1e-6)
    np.testing.assert_allclose(frame["pctcvr"], sigma[0] * sigma[1], rtol=1e-6)
    assert frame["score"].equals(frame["pcvr"].alias("score"))
    assert np.array_equal(model.predict(rows), frame["score"].to_numpy())


@pytest.mark.parametrize("size", [-60.0, 60.0])
def test_extreme_logits_stay_finite(size: float) -> None:
    import torch

    model = fitted("esmm")
    with torch.no_grad():
        for name in ("prediction", "propensity"):
            model.nets_[name].answer.offset.fill_(size)
    frame = model.predict(asked(DATA), details=True)
    for name in ("pcvr", "pctr", "pctcvr"):
        p = frame[name].to_numpy()
        assert np.isfinite(p).all()
        assert (p > 0).all()
        assert (p <= 1).all()


def test_methods_that_learn_no_click_say_null() -> None:
    for key in ("mf", "eib", "autodebias", "ltd"):
        assert fitted(key).predict(asked(DATA), details=True)["pctr"].null_count() == 6
    for key in ("ips", "brd-dr", "res-ips", "multi-dr"):
        assert fitted(key).predict(asked(DATA), details=True)["pctr"].null_count() == 0


def test_every_unseen_user_is_the_same_and_context_still_counts() -> None:
    model = fitted("mf", epochs=20)
    rows = asked(DATA).head(1)
    who = [model.predict(rows.with_columns(user_id=pl.lit(name)))[0] for name in ("nobody", "somebody")]
    assert who[0] == who[1]
    devices = {model.predict(rows.with_columns(device=pl.lit(d)))[0] for d in ("phone", "desktop")}
    assert len(devices) == 2


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    rows = asked(DATA)
    a, b, c = (fitted("escm2-ips", seed=s).predict(rows) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_what_a_model_of_impressions_is_not_asked() -> None:
    model = fitted("mf")
    for ask in (lambda: model.recommend(), lambda: model.score()):
        with pytest.raises(DataError, match="Give the impressions in question to `predict`"):
            ask()
    with pytest.raises(DataError, match=r"got \(users, items\)"):
        model.predict((["u00001"], [3]))
    with pytest.raises(DataError, match="'price' not among"):
        model.predict(asked(DATA).drop("price"))
    with pytest.raises(DataError, match="one table"):
        model.predict(["u00001"], [3])
    assert len(model.similar_items([0], k=3)) == 3


def test_backbones() -> None:
    for spec in ("mf:backbone=fm", "ips:propensity.backbone=fm", "res-ips:agreement=loss+residual=head"):
        with pytest.raises(DataError, match="cannot learn from impressions"):
            fitted(spec)
    with pytest.raises(DataError, match="needs a log of impressions"):
        cheap(METHODS["mf"]).set_params(backbone="mlp").fit(confounded()[0])
    with pytest.raises(DataError, match="one for each row"):
        dc.IPS(propensity=Known(values=np.ones(DATA.shape))).fit(DATA)


def test_randomised_rows_are_needed_where_they_are() -> None:
    with pytest.raises(MissingUnbiasedLog):
        cheap(METHODS["res-ips"]).fit(DATA.with_impressions(DATA.impressions))


def test_a_hold_out_without_a_click_stops_nothing() -> None:
    shown = DATA.impressions
    few = np.zeros(len(shown), bool)
    few[np.flatnonzero(shown.click)[:3]] = True
    model = fitted("mf", DATA.with_impressions(shown.take(few | ~shown.click)))
    assert np.isfinite(model.predict(asked(DATA))).all()


def test_validation_data_must_be_impressions_too() -> None:
    other = dc.Dataset(DATA.users, DATA.items, DATA.biased)
    with pytest.raises(DataError, match="validation data of the kind of the training data"):
        dc.MF(epochs=1).fit(DATA, validation=other)


def test_refit_uses_every_impression() -> None:
    model = fitted("mf")
    with quiet():
        again = cheap(METHODS["mf"]).fit(DATA, refit=True)
    assert again.spec_.n_impressions == len(DATA.impressions)
    assert model.spec_.n_impressions < len(DATA.impressions)
