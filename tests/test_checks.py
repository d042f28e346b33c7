"""The checks: every method passes every one, and for every one there is an estimator that it catches."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from deconrec.base import Estimator, Tags
from deconrec.checks import CHECKS, FAST, XFAIL, CheckFailed, cheap, check_estimator, run
from deconrec.errors import UnknownName
from deconrec.methods import METHODS, make
from deconrec.nn.mf import MF as MFNet
from deconrec.parameters import parameter
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Step

NAMES = [check.__name__ for check in CHECKS]
ESTIMATORS = {key: cheap(METHODS[key]) for key in METHODS}  # one object each, so that its fits are shared


# ---------------------------------------------------------------------- the methods of the library
@pytest.mark.parametrize(
    ("key", "check"),
    [(key, check) for key in METHODS for check in CHECKS],
    ids=[f"{key}:{name}" for key in METHODS for name in NAMES],
)
def test_methods(key, check):
    reason = XFAIL.get(key, {}).get(check.__name__)
    outcome = run(check, ESTIMATORS[key])
    if reason is not None:
        assert outcome.verdict == "failed", f"XFAIL is out of date: {key} passes {check.__name__} ({reason})"
    else:
        assert outcome.verdict in ("passed", "not applicable"), outcome.message


VARIANTS = {  # settings that make another program, network or propensity, and checks that they cannot pass
    "mf:population=uniform": {"check_checkerboard": "80 randomised cells are too few to learn a board from"},
    "mf-combined": {},
    "ips:propensity=naive-bayes": {},
    "ips:propensity=popularity": {},
    "dr-jl:error=squared": {},
    "res-ips:policy=joint": {},
    "res-ips:unbiased_weight=0+consistency=0": {},
    "res-ips:warmup=1": {},
    "res-ips:shared=true+warmup=1": {},
    "res-dr:shared=true": {},
    "res-dr:policy=joint": {},
    "res-dr:scheme=jl+epochs=24": {},
    "res-dr:scheme=dl+epochs=24": {},
    "res-dr:imputation=error+error=squared+agreement=loss": {},
    "res-dr:agreement=loss": {},
    "res-ips:agreement=loss": {},
    "concat-vae:variational=true": {},
    "concat-vae:hidden=": {},
    "deep-deconf:late=true+variational=true": {},
}


LEARNING = [c.__name__ for c in CHECKS if c.__module__.endswith("learning")]  # long


def variant(spec):
    model = make(spec)
    given = {part.partition("=")[0] for part in spec.partition(":")[2].split("+")}
    key = "mf" if spec.startswith("mf") else spec.partition(":")[0]
    for name, value in FAST[key].items():
        if name.split("__")[0] not in given:
            model.set_params(**{name: value})
    return model


@pytest.mark.parametrize("spec", VARIANTS)
def test_variants(spec):
    check_estimator(variant(spec), exclude=[*VARIANTS[spec], *LEARNING]).raise_for_failures()


@pytest.mark.slow
@pytest.mark.parametrize("spec", VARIANTS)
def test_variants_learn(spec):
    others = [name for name in NAMES if name not in LEARNING]
    check_estimator(variant(spec), exclude=[*VARIANTS[spec], *others]).raise_for_failures()


BACKBONES = [key for key, model in ESTIMATORS.items() if "backbone" in model.get_params(deep=False)]


@pytest.mark.slow  # every check, learning included; the fast tests hold some methods to the contract
@pytest.mark.parametrize("key", BACKBONES)
def test_methods_on_the_backbone_with_features(key):
    check_estimator(ESTIMATORS[key].clone().set_params(backbone="fm")).raise_for_failures()


# ---------------------------------------------------------------------- a method from elsewhere
@dataclass(kw_only=True, eq=False, repr=False)
class SVD(Estimator):
    """Item means plus the leading singular vectors of the centred log: closed form, no torch."""

    rank: int = parameter(2, "number of factors", low=1)
    weight: float = parameter(1.0, "weight of the factors", above=0, high=10)
    start: str = parameter("mean", "what is subtracted first", choices=("mean", "zero"))
    seed: int = parameter(0, "draws the hold-out", low=0)

    @property
    def tags(self):
        return Tags()

    def _fit(self, data, validation, progress):
        self.base_ = self.item_mean_ if self.start == "mean" else np.zeros_like(self.item_mean_)
        x = self._matrix(data)
        self.v_ = np.linalg.svd(x, full_matrices=False)[2][: self.rank].astype(np.float32)
        self.u_ = (x @ self.v_.T * np.float32(self.weight / data.density)).astype(np.float32)

    def _matrix(self, data):
        x = np.zeros(data.shape, np.float32)
        log = data.biased
        x[log.user, log.item] = data.outcome(log) - self.base_[log.item]
        return x

    def _pairs(self, user, item):
        return np.clip(self.base_[item] + (self.u_[user] * self.v_[:, item].T).sum(1), 0, 1)

    def _block(self, users):
        return np.clip(self.base_ + self.u_[users] @ self.v_, 0, 1)

    def _fold_in(self, history):
        u = self._matrix(history) @ self.v_.T * np.float32(self.weight / self.spec_.density)
        return np.clip(self.base_ + u @ self.v_, 0, 1)

    def _state(self):
        return {"u": self.u_, "v": self.v_, "base": self.base_}

    def _restore(self, state):
        self.u_, self.v_, self.base_ = state["u"], state["v"], state["base"]


def test_a_method_from_elsewhere_passes():
    report = check_estimator(SVD())
    report.raise_for_failures()
    assert report.ok
    assert {o.check: o.verdict for o in report.outcomes}["check_terms"] == "not applicable"


@dataclass(kw_only=True, eq=False, repr=False)
class Bilevel(PairEstimator):
    """Weights of observed errors, taught through a virtual step by the randomised log (the shape of LTD)."""

    epochs: int = parameter(40, "passes", low=0)
    dim: int = parameter(4, "factors", low=1)
    lr: float = parameter(0.05, "learning rate", above=0)

    @property
    def tags(self):
        return Tags(needs_unbiased=True, uses_unbiased=True)

    def nets(self, spec):
        return Nets(prediction=MFNet(*spec.shape, self.dim), weight=MFNet(*spec.shape, 1))

    def program(self):
        inner = Step(self.weighted, updates=("prediction",))
        return [Phase(Step(self.uniform, updates=("weight",), through=inner, virtual_lr=1.0), inner)]

    def weighted(self, nets, b):
        o = b.observed
        return {"weighted": o.average(nets.weight(o).exp() * self.d(nets.prediction(o), o.r))}

    def uniform(self, nets, b):
        return {"uniform": b.unbiased.expect(self.d(nets.prediction(b.unbiased), b.unbiased.r))}


def test_a_bilevel_method_passes():
    report = check_estimator(Bilevel(epochs=4), exclude=LEARNING)
    report.raise_for_failures()
    assert {o.check: o.verdict for o in report.outcomes}["check_through"] == "passed"


# ---------------------------------------------------------------------- what each check catches
class Broken:
    """Filled below: {check name: [estimators that it must catch]}."""

    cases: list[tuple[str, str, Estimator]] = []  # noqa: RUF012


def catches(check, base=SVD, **parameters):
    """A class decorator: `check` must fail for an instance of the class."""

    def register(cls):
        made = dataclass(kw_only=True, eq=False, repr=False)(cls)
        Broken.cases.append((check, cls.__name__, made(**parameters)))
        return made

    return register


@catches("check_init_stores_only")
class ConvertsInInit(SVD):
    def __post_init__(self):
        self.rank = int(self.rank)


@catches("check_init_stores_only")
class WorksInInit(SVD):
    def __post_init__(self):
        self.cache = {}


@catches("check_params_round_trip")
class SetsNothing(SVD):
    def set_params(self, **params):
        return self


@catches("check_clone")
class ClonesWhatItLearned(SVD):
    def clone(self):
        return copy.copy(self)


@catches("check_repr_evaluates")
class SaysNothing(SVD):
    def __repr__(self):
        return "<SVD>"


@catches("check_describe_round_trip")
class DescribesByObject(SVD):
    def describe(self):
        return super().describe() | {"rank": {1, 2}}


@catches("check_parameter_ranges")
class ChecksNothing(SVD):
    def check_params(self):
        pass


@catches("check_parameter_ranges")
class ChecksWithoutWords(SVD):
    def check_params(self):
        if self.rank < 1:
            raise ValueError("bad rank")
        super().check_params()


@catches("check_fit_returns_self")
class ReturnsNothing(SVD):
    def fit(self, data, **options):
        super().fit(data, **options)


@catches("check_not_fitted")
class NeverUnfitted(SVD):
    def _check_fitted(self):
        pass


@catches("check_same_seed")
class DrawsAnew(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        self.u_ = self.u_ + np.random.default_rng().standard_normal(self.u_.shape, dtype=np.float32) * 1e-3


@catches("check_resumes", base=METHODS["mf"], epochs=30)
class WritesBesideItsNets(METHODS["mf"]):
    def program(self):
        return [Phase(before=self.note, stop=1), *super().program()]

    def note(self, nets):
        self.first = float(nets.prediction.user.sum())

    def _pairs(self, user, item):
        return super()._pairs(user, item) + self.first


@catches("check_other_seed")
class IgnoresItsSeed(SVD):
    def fit(self, data, **options):
        seed, self.seed = self.seed, 0
        super().fit(data, **options)
        self.seed = seed
        return self


@catches("check_refit")
class Remembers(SVD):
    def _fit(self, data, validation, progress):
        before = getattr(self, "u_", 0)
        super()._fit(data, validation, progress)
        self.u_ = self.u_ + before * 0.5


@catches("check_inputs_unchanged")
class WritesIntoData(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        validation.data.items.values  # noqa: B018 (the same vocabulary object as the caller's)
        features = data.user_features
        if features is not None:
            features.values.flags.writeable = True
            features.values[0] = 7.0


@catches("check_inputs_unchanged")
class WritesItsParameters(SVD):
    def _fit(self, data, validation, progress):
        self.rank = min(self.rank, 1)
        super()._fit(data, validation, progress)


@catches("check_inputs_unchanged")
class AnswersWriteState(SVD):
    def _pairs(self, user, item):
        self.u_ = self.u_ * np.float32(0.5)
        return super()._pairs(user, item)


@catches("check_global_random_state")
class MovesTheGlobalGenerator(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        torch.rand(1)


@catches("check_global_random_state")
class ReadsTheGlobalGenerator(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        state = torch.get_rng_state()
        self.u_ = self.u_ + torch.rand(1).numpy() * 0.01
        torch.set_rng_state(state)


@catches("check_refuses_truth")
class TakesAnything(SVD):
    def fit(self, data, **options):
        return super().fit(data[0] if isinstance(data, tuple) else data, **options)


@catches("check_ignores_test")
class LearnsFromTheTest(SVD):
    def fit(self, data, **options):
        return super().fit(data if data.test is None else data.with_logs(data.test, data.unbiased), **options)


@catches("check_needs_unbiased")
class NeedsInSecret(SVD):
    @property
    def tags(self):
        return Tags(uses_unbiased=True)

    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        self.base_ = self.base_ + 0 * data.unbiased.rating.mean()


@catches("check_unbiased_as_tagged")
class ClaimsToUseIt(SVD):
    @property
    def tags(self):
        return Tags(uses_unbiased=True)


@catches("check_unbiased_as_tagged")
class UsesItInSecret(SVD):
    def fit(self, data, **options):
        super().fit(data, **options)
        if data.unbiased is not None:
            self.base_ = self.base_ * np.float32(0.9)
        return self


@catches("check_features_as_tagged")
class UsesFeaturesInSecret(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        if data.user_features is not None:
            self.base_ = self.base_ * np.float32(0.9)


@catches("check_answers")
class GivesLogits(SVD):
    def _block(self, users):
        return 20 * super()._block(users) - 10


@catches("check_answers")
class GivesNaN(SVD):
    def _pairs(self, user, item):
        return np.log(-1 - super()._pairs(user, item) * 0, where=False, out=np.full(len(user), np.nan))


@catches("check_ratings")
class OnlyBinary(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        if not data.outcome_scale.binary:
            self.base_ = self.base_ + np.float32(np.nan)


@catches("check_batch_equals_single")
class DependsOnTheBatch(SVD):
    def _pairs(self, user, item):
        got = super()._pairs(user, item)
        return np.clip(got - got.mean() * 0.1, 0, 1)


@catches("check_answers_agree")
class TwoStories(SVD):
    def _pairs(self, user, item):
        return super()._pairs(user, item) * 0.99


@catches("check_raw_ids")
class ReadsNames(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        length = data.users.values.str.len_chars().to_numpy()
        self.u_ = self.u_ * (1 + 0.01 * length[:, None]).astype(np.float32)


@catches("check_empty_user_and_item")
class DividesByCounts(SVD):
    def _covered(self, data):
        return np.ones(data.n_users, bool), np.ones(data.n_items, bool)

    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        count = np.bincount(data.biased.user, minlength=data.n_users)
        self.u_[count == 0] = np.nan


@catches("check_one_item")
class NeedsTwoItems(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        self.v_ = self.v_ / np.float32(data.n_items > 1 or np.nan)


@catches("check_equal_ratings")
class DividesBySpread(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        self.base_ = self.base_ + np.float32(0 if np.ptp(data.outcome(data.biased)) else np.nan)


@catches("check_unknown_ids")
class NeverRefuses(SVD):
    def predict(self, *pairs, unknown="fallback", **options):
        return super().predict(*pairs, unknown=unknown, **options)


@catches("check_exclude_seen")
class RecommendsTheHoldOut(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        object.__setattr__(validation, "data", validation.data.with_logs(data.biased))


@catches("check_large_k")
class CutsTheCatalogue(SVD):
    def recommend(self, users=None, k=20, **options):
        return super().recommend(users, min(k, 10), **options)


@catches("check_fold_in")
class FoldsNobodyIn(SVD):
    def _fold_in(self, history):
        return np.tile(self.base_, (history.n_users, 1))


@catches("check_history")
class RecordsNaN(SVD):
    def _fit(self, data, validation, progress):
        super()._fit(data, validation, progress)
        from deconrec.training.program import History

        self.history_ = History([{"loss": float("nan")}])


@catches("check_save_load")
class SavesHalf(SVD):
    def _state(self):
        return super()._state() | {"u": self.u_.astype(np.float16)}


@catches("check_saved_files")
class SavesAPickle(SVD):
    def save(self, path):
        super().save(path)
        (Path(path) / "more.pkl").write_bytes(pickle.dumps(self.rank))


@dataclass(kw_only=True, eq=False, repr=False)
class Plain(PairEstimator):
    """A sound torch method to break."""

    epochs: int = parameter(2, "passes", low=0)
    dim: int = parameter(2, "factors", low=1)

    @property
    def tags(self):
        return Tags()

    def nets(self, spec):
        return Nets(prediction=MFNet(*spec.shape, self.dim), imputation=MFNet(*spec.shape, self.dim))

    def program(self):
        return [Phase(Step(self.risk, updates=("prediction",)))]

    def risk(self, nets, b):
        o = b.observed
        return {"biased": o.average(self.d(nets.prediction(o), o.r))}


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c.__module__.endswith("engine")], ids=lambda c: c.__name__
)
def test_the_sound_twin_passes(check):
    assert run(check, Plain()).verdict in ("passed", "not applicable")


@catches("check_steps_move_what_they_name")
class MovesAnother(Plain):
    def risk(self, nets, b):
        with torch.no_grad():
            nets.imputation.offset.add_(1)
        return super().risk(nets, b)


@catches("check_steps_move_what_they_name")
class MovesNothing(Plain):
    def program(self):
        return [Phase(Step(self.risk, updates=("imputation",)))]


@catches("check_steps_improve")
class ClimbsUp(Plain):
    def risk(self, nets, b):
        value = super().risk(nets, b)["biased"]
        return {"biased": 2 * value.detach() - value}


@catches("check_steps_improve")
class GoesNowhere(Plain):
    def program(self):
        return [Phase(Step(self.flat, updates=("prediction",)))]

    def flat(self, nets, b):
        value = self.risk(nets, b)["biased"]
        return {"flat": value.detach() + 0 * value}


@catches("check_impressions")
class SaysItRunsOnImpressions(SVD):
    @property
    def tags(self):
        return Tags(impressions=True)


@catches("check_impressions")
class TakesImpressionsForPairs(SVD):
    def fit(self, data, **options):
        return super().fit(dataclasses.replace(data, impressions=None), **options)


@catches("check_terms")
class MeanOfNothing(Plain):
    def risk(self, nets, b):
        o = b.observed
        return {"biased": self.d(nets.prediction(o), o.r).mean()}


@catches("check_terms")
class NoScalar(Plain):
    def risk(self, nets, b):
        o = b.observed
        return {"biased": self.d(nets.prediction(o), o.r)[:2]}

    def _fit(self, data, validation, progress):
        self.epochs, kept = 0, self.epochs
        super()._fit(data, validation, progress)
        self.epochs = kept


@catches("check_terms")
class SameNameTwice(Plain):
    def program(self):
        return [Phase(Step(self.risk, updates=("prediction",)), Step(self.risk, updates=("prediction",)))]


@catches("check_losses_are_pure")
class Counts(Plain):
    def risk(self, nets, b):
        self.calls_ = getattr(self, "calls_", 0) + 1
        return super().risk(nets, b)


@catches("check_losses_are_pure")
class Draws(Plain):
    def risk(self, nets, b):
        return {"biased": super().risk(nets, b)["biased"] * (1 + torch.rand(()))}


@catches("check_losses_are_pure")
class WritesIntoTheBatch(Plain):
    def risk(self, nets, b):
        b.observed.r.mul_(0.5)
        return super().risk(nets, b)


@catches("check_through")
class NothingThrough(Bilevel):
    def weighted(self, nets, b):
        o = b.observed
        return {"weighted": o.average(nets.weight(o).exp().detach() * self.d(nets.prediction(o), o.r))}


@catches("check_checkerboard", weight=1e-6)
class LearnsNoFactor(SVD):
    pass


@catches("check_beats_a_constant")
class UpsideDown(SVD):
    def _block(self, users):
        return 1 - super()._block(users)


@pytest.mark.parametrize(
    ("check", "estimator"), [(c, e) for c, _, e in Broken.cases], ids=[f"{c}:{n}" for c, n, _ in Broken.cases]
)
def test_a_check_can_fail(check, estimator):
    outcome = run(CHECKS[NAMES.index(check)], estimator)
    assert outcome.verdict == "failed"
    assert type(estimator).__name__ in outcome.message or "raised" in outcome.message


def test_every_check_has_an_estimator_that_it_catches():
    assert {check for check, _, _ in Broken.cases} == set(NAMES)


# ---------------------------------------------------------------------- the report
def test_the_report_says_what_failed_and_raises_on_demand():
    report = check_estimator(ReturnsNothing(), exclude=["check_checkerboard"])
    assert not report.ok
    failed = {o.check for o in report.failures}
    assert "check_fit_returns_self" in failed
    assert {o.check for o in report.outcomes if o.verdict == "excluded"} == {"check_checkerboard"}
    assert "end it with `return self`" in str(report)
    with pytest.raises(CheckFailed, match="return self"):
        report.raise_for_failures()
    assert isinstance(CheckFailed(""), AssertionError)


def test_the_report_of_a_class_and_of_no_estimator():
    assert check_estimator(METHODS["mf"], exclude=[n for n in NAMES if n != "check_clone"]).ok
    for wrong in (int, 7, pl.DataFrame()):
        report = check_estimator(wrong)
        assert [o.check for o in report.failures] == ["check_is_estimator"]
        assert "no deconrec.Estimator" in report.failures[0].message


def test_a_misspelt_check_is_an_error():
    with pytest.raises(UnknownName, match="check_clone"):
        check_estimator(SVD(), exclude=["check_clnoe"])


def test_a_bench_follows_the_parameters_and_dies_with_its_estimator():
    from deconrec.checks.bench import _benches, bench

    model = SVD()
    first = bench(model)
    assert bench(model) is first
    model.set_params(rank=1)
    assert bench(model) is not first
    key = id(model)
    del model
    assert key not in _benches


def test_fixtures_are_what_they_say():
    from deconrec.checks import fixtures

    board, truth = fixtures.checkerboard()
    assert (truth.outcome[board.biased.user, board.biased.item] == board.biased.rating).all()
    likes, _ = fixtures.checkerboard(likes_only=True)
    assert (likes.biased.rating == 1).all()
    data = fixtures.empty_user()
    for log in (data.biased, data.unbiased):
        assert data.n_users // 2 not in log.user
        assert data.n_items // 2 not in log.item
    assert fixtures.one_item().n_items == 1
    rows = fixtures.rows_world()
    assert rows.task.protocol == "users"
    assert set(np.unique(rows.biased.rating)) == {1, 2, 3, 4, 5}
    data, truth = fixtures.confounded()
    assert dataclasses.replace(data).fingerprint == fixtures.confounded()[0].fingerprint
    assert np.corrcoef(truth.extra["pair_confounder"].ravel(), truth.propensity.ravel())[0, 1] > 0.3
