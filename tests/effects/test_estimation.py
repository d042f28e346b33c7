from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.dataset import Dataset, Truth
from deconrec.effects import Effects
from deconrec.effects.estimation import choose
from deconrec.effects.fitted import exposures_of
from deconrec.effects.verdicts import masked
from deconrec.errors import DataError, ParameterError, UnknownItem, UnknownName
from deconrec.exposure import PredictiveCheck
from deconrec.torch_estimator import TorchEstimator


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def status(found: Effects) -> dict[str, str]:
    return {v.code: v.status for v in found.verdicts}


@pytest.fixture(scope="module")
def found(world: tuple[Dataset, Truth]) -> Effects:
    return dc.effects.estimate(world[0], world[1].rating, dims=(1, 2, 3, 4), bootstrap=12)


def test_own_effects_are_recovered_with_a_dimension_that_nobody_gave(
    found: Effects, world: tuple[Dataset, Truth]
) -> None:
    true = np.diag(world[1].extra["effects"])
    assert found.settings["dim"] == 2
    assert rms(found.own() - true) < rms(found.own("naive") - true) / 3
    assert not found.refused
    assert status(found)["PREDICTIVE_CHECK"] == "holds"
    assert status(found)["SINGLE_CAUSE"] == "assumed"


def test_intervals_cover(found: Effects, world: tuple[Dataset, Truth]) -> None:
    gap = np.abs(found.adjusted - world[1].extra["effects"])
    assert found.error is not None
    assert 0.85 < (gap < 1.96 * found.error).mean() < 0.99


def test_a_confounder_of_a_single_item_stays() -> None:
    data, truth = dc.simulate.effects(
        n_users=1200, n_items=40, n_confounders=2, single_cause=1.5, single_items=5, seed=1
    )
    found = dc.effects.estimate(data, truth.rating, dims=(2,), bootstrap=0)
    gap = found.own() - np.diag(truth.extra["effects"])
    assert gap[:5].mean() > 0.8
    assert abs(gap[5:].mean()) < 0.05


def test_features_make_effects_more_precise(world: tuple[Dataset, Truth]) -> None:
    data, truth = dc.simulate.effects(n_users=1200, n_items=40, n_confounders=2, feature_effect=2.0, seed=1)
    errors = []
    for features in (True, False):
        found = dc.effects.estimate(data, truth.rating, dims=(2,), bootstrap=0, features=features)
        assert found.error_known_z is not None
        errors.append(np.diag(found.error_known_z).mean())
    assert 0.4 < errors[0] / errors[1] < 0.5  # sqrt(1 / (1 + 4))


def test_a_linear_z_is_refused_with_all_exposures(world: tuple[Dataset, Truth]) -> None:
    """Principal components are a linear function of the exposures: with all of them, z changes nothing."""
    data, truth = world

    class Components(dc.effects.LogisticFactors):  # type: ignore[misc,unused-ignore]
        def posterior(self, a: np.ndarray, items: Any = None) -> Any:
            mean, cov = super().posterior(a, items)
            return (a - 0.3) @ self.loading_ if items is None else mean, cov

    for treatments, expected in (("all", "refuses"), ("one", "warns")):
        got = dc.effects.estimate(
            data, truth.rating, dims=(2,), bootstrap=0, treatments=treatments, exposure=Components()
        )
        assert status(got)["LINEAR_CONFOUNDER"] == expected
        if treatments == "all":
            assert got.refused
            with pytest.raises(DataError, match="LINEAR_CONFOUNDER"):
                got.frame()


def test_a_failing_check_refuses(world: tuple[Dataset, Truth], monkeypatch: pytest.MonkeyPatch) -> None:
    from deconrec.effects import estimation as module

    failing = PredictiveCheck(np.full(50, 0.02), np.full(50, -9.0), np.full(50, 8), True)
    monkeypatch.setattr(module, "_checked", lambda *_: failing)
    got = dc.effects.estimate(world[0], world[1].rating, dims=(2,), bootstrap=0)
    assert status(got)["PREDICTIVE_CHECK"] == "refuses"
    assert got.to_dict()["effects"][0]["adjusted"] is None
    assert "No effects are given" in str(got)


def test_masked_outcomes(world: tuple[Dataset, Truth], exposures: np.ndarray) -> None:
    data, truth = world
    filled = dc.effects.estimate(data, np.where(exposures > 0, truth.rating, 0), dims=(2,), bootstrap=0)
    assert status(filled)["MASKED_OUTCOMES"] == "refuses"
    assert filled.own().mean() > 5  # the mask, taken for an effect
    log = dc.effects.estimate(data, dims=(2,), bootstrap=0)
    assert status(log)["MASKED_OUTCOMES"] == "warns"
    assert np.isnan(log.own()).all()
    off = ~np.eye(40, dtype=bool)
    assert rms((log.adjusted - truth.extra["effects"])[off]) < 0.2
    with pytest.raises(DataError, match="treatments='one'"):
        dc.effects.estimate(data, dims=(2,), treatments="all")


@pytest.mark.parametrize("rate", [0.03, 0.3, 0.6])
def test_clicks_that_are_zero_wherever_nothing_was_shown_are_masked(
    exposures: np.ndarray, rate: float
) -> None:
    clicks = (np.random.default_rng(0).random(exposures.shape) < rate) * 1.0
    assert masked(exposures, np.where(exposures > 0, clicks, 0.0), None).status == "refuses"
    assert masked(exposures, clicks, None).status == "holds"  # the same clicks, seen everywhere
    alike = np.zeros_like(clicks)
    assert masked(exposures, alike, None).status == "holds"  # nobody ever clicks: no mask


def test_intervals_of_conditional_effects_are_of_the_users_that_were_named(
    world: tuple[Dataset, Truth],
) -> None:
    data, truth = world
    few = {"outcome": "net", "causes": data.items.values[:2], "items": data.items.values[:2], "dims": (2,)}
    few |= {"hidden": (8,), "epochs": 4, "bootstrap": 3}
    everyone = dc.effects.estimate(data, truth.rating, **few)
    named = dc.effects.estimate(data, truth.rating, users=data.users.values[:2], **few)
    assert not np.allclose(everyone.adjusted, named.adjusted)
    assert named.error is not None
    assert everyone.error is not None
    assert not np.allclose(everyone.error, named.error)
    assert status(named)["DIMENSION"] == "warns"  # given, not chosen


def test_a_table_is_the_array(world: tuple[Dataset, Truth]) -> None:
    data, truth = world
    user, item = (x.ravel() for x in np.indices(data.shape))
    table = pl.DataFrame({"user_id": user, "item_id": item, "rating": truth.rating.ravel()}).sample(
        fraction=1.0, shuffle=True, seed=0
    )
    wanted = {"causes": [3, 5], "items": [5], "dims": (2,), "bootstrap": 0}
    one, other = (dc.effects.estimate(data, o, **wanted) for o in (table, truth.rating))
    assert np.allclose(one.adjusted, other.adjusted)
    assert one.frame()["cause_id"].to_list() == [3, 5]
    assert one.frame()["own"].to_list() == [False, True]


def test_the_same_seed_gives_the_same_numbers(world: tuple[Dataset, Truth]) -> None:
    one, other = (
        dc.effects.estimate(world[0], world[1].rating, dims=(1, 2), bootstrap=2, seed=3) for _ in range(2)
    )
    assert one.error is not None
    assert other.error is not None
    assert np.array_equal(one.adjusted, other.adjusted)
    assert np.array_equal(one.error, other.error)


def test_net_and_conditional_effects(world: tuple[Dataset, Truth]) -> None:
    data, truth = world
    options: dict[str, Any] = {"outcome": "net", "dims": (2,), "bootstrap": 0, "hidden": (10,), "epochs": 4}
    everyone = dc.effects.estimate(data, truth.rating, **options)
    few = dc.effects.estimate(data, truth.rating, users=[0, 1], **options)
    zero = dc.effects.estimate(data, truth.rating, at="zero", kind="difference", **options)
    assert status(everyone)["RANK"] == "warns"
    assert not np.allclose(everyone.adjusted, few.adjusted)
    assert not np.allclose(everyone.adjusted, zero.adjusted)
    assert few.settings["users_averaged"] == 2


def check(likelihood: list[float], p: float = 0.5) -> PredictiveCheck:
    return PredictiveCheck(np.full(4, p), np.array(likelihood), np.full(4, 10), True)


def test_choose() -> None:
    worse, close = check([-9.0, -9.5, -9.0, -9.5]), check([-5.0, -5.2, -4.8, -5.1])
    best = check([-5.1, -5.0, -4.9, -4.9])
    assert choose([worse, close, best]) == 1  # within a standard error of the best, and smaller
    assert choose([check([-1.0] * 4, p=0.05), worse]) == 1  # a better one that fails the check
    assert choose([worse]) == 0


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"dims": (2, 1)}, ParameterError, "increasing"),
        ({"dims": (40,)}, ParameterError, "below the number of items"),
        ({"treatments": "some"}, ParameterError, "'one' or 'all'"),
        ({"bootstrap": 1}, ParameterError, "at least 2"),
        ({"users": [1]}, ParameterError, "outcome='net'"),
        ({"items": [99]}, UnknownItem, "1 of 1 item"),
        ({"items": []}, DataError, "at least one item"),
    ],
)
def test_bad_options(
    world: tuple[Dataset, Truth], options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        dc.effects.estimate(world[0], world[1].rating, **options)


def test_bad_outcomes(world: tuple[Dataset, Truth]) -> None:
    with pytest.raises(DataError, match="shape"):
        dc.effects.estimate(world[0], world[1].rating[:, :3])
    with pytest.raises(DataError, match="every one of them is missing"):
        dc.effects.estimate(world[0], np.full(world[0].shape, np.nan))
    with pytest.raises(DataError, match="columns user_id, item_id and rating"):
        dc.effects.estimate(world[0], pl.DataFrame({"user_id": [1], "item_id": [2]}))


# ---------------------------------------------------------------------- fitted methods
def test_a_methods_network_is_refused_but_can_be_shown(fitted: dc.DeepDeconf) -> None:
    got = fitted.effects()
    assert got.refused
    assert {c: s for c, s in status(got).items() if c in ("MASKED_OUTCOMES", "LOGIT_CONSTANT", "RANK")} == {
        "MASKED_OUTCOMES": "refuses",
        "LOGIT_CONSTANT": "warns",
        "RANK": "warns",
    }
    assert got.to_dict()["summary"]["own_adjusted"] is None
    shown = fitted.effects(even_if_refused=True, causes=[1, 2], items=[1, 2, 3], dims=[2, 3], bootstrap=2)
    assert shown.frame().shape == (6, 7)
    assert shown.frame()["low"].null_count() == 0
    assert [p.dim for p in shown.sweep] == [2, 3]
    assert "NOT an effect" in str(shown)
    json.loads(shown.to_json())


def test_exposures_of_a_method_hold_what_stopped_its_training(
    fitted: dc.DeepDeconf, world: tuple[Dataset, Truth]
) -> None:
    data, rated = exposures_of(fitted)
    assert len(data.biased) == len(world[0].biased) > len(fitted.rows_.user)
    assert np.isfinite(rated).sum() == len(fitted.rows_.user)


def test_outcomes_given_to_a_method_are_estimated_with(
    fitted: dc.DeepDeconf, world: tuple[Dataset, Truth]
) -> None:
    got = fitted.effects(world[1].rating, dims=(2,), bootstrap=0)
    direct = dc.effects.estimate(world[0], world[1].rating, dims=(2,), bootstrap=0)
    assert np.allclose(got.adjusted, direct.adjusted)
    with pytest.raises(ParameterError, match="does not read outcomes"):
        fitted.effects(world[1].rating, outcome="network")
    with pytest.raises(ParameterError, match="'network', 'linear' or 'net'"):
        fitted.effects(outcome="tree")


def test_any_method_gives_its_exposures_where_outcomes_are_given(world: tuple[Dataset, Truth]) -> None:
    direct = dc.effects.estimate(world[0], world[1].rating, dims=(2,), bootstrap=0)
    for model in (dc.DeconfMF(dim=2, iterations=2), dc.MF(dim=2, epochs=1)):
        fitted = model.fit(world[0])
        got = fitted.effects(world[1].rating, dims=(2,), bootstrap=0)
        assert np.allclose(got.adjusted, direct.adjusted)
        with pytest.raises(DataError, match="keeps whole user rows"):
            fitted.effects()
        with pytest.raises(DataError, match="keeps no ratings"):
            fitted.effects(outcome="linear")


def test_the_exposure_model_by_name_or_the_methods_own(
    fitted: dc.DeepDeconf, world: tuple[Dataset, Truth]
) -> None:
    got = fitted.effects(world[1].rating, exposure="model", bootstrap=0)
    assert got.settings["exposure"] == "VAEExposure"
    assert got.settings["dims"] == [fitted.exposure.dim]
    vae = fitted.effects(world[1].rating, exposure="vae:epochs=3", dims=(2,), bootstrap=0)
    direct = dc.effects.estimate(
        world[0], world[1].rating, exposure=dc.VAEExposure(epochs=3), dims=(2,), bootstrap=0
    )
    assert np.allclose(vae.adjusted, direct.adjusted)
    with pytest.raises(UnknownName, match="exposure model"):
        fitted.effects(world[1].rating, exposure="vea")
    with pytest.raises(ParameterError, match="has none of its own"):
        dc.MF(dim=2, epochs=1).fit(world[0]).effects(world[1].rating, exposure="model")
    with pytest.raises(ParameterError, match="'output' of effects is the unit of a method's own network"):
        fitted.effects(world[1].rating, output="probability")


def test_fits_that_are_compared_saw_the_same_rows(
    fitted: dc.DeepDeconf, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    train = TorchEstimator._train

    def spy(model: TorchEstimator, data: Dataset, validation: object, epochs: int, **how: object) -> object:
        seen.append((type(model).__name__, len(data.biased), epochs))
        return train(model, data, validation, epochs, **how)

    monkeypatch.setattr(TorchEstimator, "_train", spy)
    fitted.effects(even_if_refused=True, causes=[1], items=[1], dims=[2])
    epochs = fitted.history_.best_epoch + 1
    rows = len(fitted.rows_.user)
    assert seen == [("ConcatVAE", rows, epochs), ("DeepDeconf", rows, epochs)]


def test_what_is_refused_and_not_shown_is_not_refitted(
    fitted: dc.DeepDeconf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deconrec.effects.fitted._refit", lambda *_: pytest.fail("refitted"))
    got = fitted.effects(causes=[1], items=[1, 2], dims=[2, 3], bootstrap=2)
    assert got.sweep == ()
    assert got.error is None
    assert status(got)["DIMENSION"] == "warns"


def test_the_papers_point_is_the_same_for_everybody(fitted: dc.DeepDeconf) -> None:
    everybody, one = (
        fitted.effects(even_if_refused=True, causes=[1, 4], items=[1, 2], at="zero", users=users)
        for users in (None, [5])
    )
    assert np.array_equal(everybody.adjusted, one.adjusted)
    assert np.isfinite(everybody.adjusted).all()


def test_a_branch_is_a_substitute_confounder_too(world: tuple[Dataset, Truth]) -> None:
    model = dc.ConcatVAE(epochs=2, hidden=(4,), branch=1.0).fit(world[0])
    got = model.effects(causes=[0, 1], items=[1], even_if_refused=True)
    assert np.isfinite(got.naive).all()
    assert np.isfinite(got.adjusted).all()
    assert not np.allclose(got.naive, got.adjusted)
    said = {v.code: v for v in got.verdicts}
    assert said["PREDICTIVE_CHECK"].value == pytest.approx(model.branch_check_.overall)
    assert 0 < said["LINEAR_CONFOUNDER"].value <= 1
    with pytest.raises(ParameterError, match="'dims' of effects needs a method with an exposure model"):
        model.effects(dims=[2])


def test_a_method_without_z_has_naive_numbers_alone(world: tuple[Dataset, Truth]) -> None:
    got = dc.ConcatVAE(epochs=1, hidden=(4,)).fit(world[0]).effects(causes=[0], items=[1])
    assert np.isfinite(got.naive).all()
    assert status(got)["LINEAR_CONFOUNDER"] == "refuses"
