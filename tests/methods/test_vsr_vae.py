"""VSR-VAE: weights that make features and exposures independent, and what is left without them."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

import deconrec as dc
from deconrec.checks.fixtures import rows_world
from deconrec.data.dataset import Features
from deconrec.data.split import UsersSplit
from deconrec.errors import OverlapWarning, ParameterError
from deconrec.exposure import PoissonExposure, VAEExposure
from deconrec.methods.concat_vae import ConcatVAE
from deconrec.methods.deep_deconf import DeepDeconf
from deconrec.methods.vsr_vae import VSRVAE
from deconrec.pairs import NO_TABLES
from deconrec.training.samplers import Blocks, Source, user_rows
from manual import rows
from manual.batches import batches, scramble, value

EXPOSURE = VAEExposure(dim=3, epochs=2, check_draws=0)
SETTINGS = {"hidden": (4,), "width": 3, "exposure": EXPOSURE}


def world(**parameters):
    """A scrambled model in evaluation mode, and one batch of every user in epoch 3."""
    data = rows_world()
    model = VSRVAE(epochs=0, anneal=10.0, kl=0.5, warmup=1, **SETTINGS).set_params(**parameters)
    model.fit(data, validation=data)
    scramble(model.exposure_.nets_, seed=1, std=0.3)
    nets = scramble(model.nets_, std=0.3).eval()
    (batch,) = batches(data, Blocks(data.n_users), 3, tables=model.tables(data))
    return model, nets, batch, data


def folds(nets):
    return [{n: p.detach().numpy() for n, p in fold.named_parameters()} for fold in nets.ratio.folds]


def codes(model, user_rows):
    """(mean, std) of q(z | a_u), by loops."""
    a, layer = user_rows.dense("o").numpy(), model.exposure_.nets_.exposure.encoder
    weight, bias = layer.items.detach().numpy(), layer.bias.detach().numpy()
    out = np.array([rows.linear(rows.scaled(row), weight, bias) for row in a])
    mean, log_std = np.split(out, 2, axis=1)
    return mean, np.exp(np.clip(log_std, -20, 2))


def drawn(model, monkeypatch, noise):
    """Replace the draws of codes by given ones, in turn."""
    queue = iter(noise)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: torch.as_tensor(next(queue)))


@pytest.mark.parametrize("n_folds", [1, 2, 3])
def test_weights_equal_the_twin(n_folds, monkeypatch):
    model, nets, batch, data = world(folds=n_folds, draws=4, largest=3.0)
    r = batch.rows
    noise = np.random.default_rng(0).normal(size=(4, data.n_users, 3))
    mean, std = codes(model, r)
    networks = folds(nets)
    wanted = []
    for b, user in enumerate(r.user.tolist()):
        draws = [mean[b] + std[b] * noise[s, b] for s in range(4)]
        wanted.append(rows.sample_weight(networks[user % n_folds], r.x[b].tolist(), draws))
    drawn(model, monkeypatch, noise)
    got = model.log_weights(nets, r).detach().numpy()
    np.testing.assert_allclose(np.exp(got), wanted, rtol=1e-6)

    every = np.array(wanted)[np.argsort(r.user.numpy())]
    monkeypatch.setattr(
        model, "log_weights", lambda nets, part: torch.as_tensor(np.log(every[part.user.numpy()]))
    )
    model.weigh(nets)
    np.testing.assert_allclose(model.weight_, rows.bounded(list(every), 3.0), rtol=1e-6)
    assert model.weight_.mean() == pytest.approx(1.0, rel=1e-6)
    assert model.weight_.max() / model.weight_.min() <= 9.0 * (1 + 1e-6)


@pytest.mark.parametrize("independent", ["permuted", "prior"])
def test_the_classifiers_loss_equals_the_twin(independent, monkeypatch):
    model, nets, batch, data = world(folds=2, independent=independent)
    r, n = batch.rows, data.n_users
    noise = np.random.default_rng(0).normal(size=(2, n, 3))
    mean, std = codes(model, r)
    joint, fold = mean + std * noise[0], r.user.numpy() % 2
    shift = 7
    drawn(model, monkeypatch, noise)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor(shift))
    wanted = 0.0
    sums = {"joint": [0.0, 0], "other": [0.0, 0]}
    for k, net in enumerate(folds(nets)):
        for b in range(n):
            x = r.x[b].tolist()
            if fold[b] == k:
                continue
            sums["joint"][0] += np.log1p(np.exp(rows.density_ratio(net, x, joint[b])))
            sums["joint"][1] += 1
            v = (b - shift) % n
            if independent == "permuted" and fold[v] == k:
                continue
            z = joint[v] if independent == "permuted" else noise[1][b]
            sums["other"][0] += np.log1p(np.exp(-rows.density_ratio(net, x, z)))
            sums["other"][1] += 1
    wanted = sum(total / count for total, count in sums.values()) / 2
    assert value(model.classify(nets, batch)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("variational", [False, True])
def test_the_weighted_bound_equals_the_twin(variational):
    model, nets, batch, data = world(variational=variational)
    model.weight_ = np.random.default_rng(0).uniform(0.2, 3, data.n_users).astype(np.float32)
    plain = ConcatVAE(epochs=0, hidden=(4,), variational=variational, anneal=10.0, kl=0.5).fit(
        data, validation=data
    )
    total = {"outcome": 0.0, "kl": 0.0}
    for user in range(data.n_users):
        (one,) = [
            b for b in batches(data, Blocks(1), 3, tables=model.tables(data)) if int(b.rows.user[0]) == user
        ]
        one = dataclasses.replace(one, epoch=2.0)  # the warm-up of one epoch does not anneal
        for name, term in plain.elbo(nets, one).items():
            total[name] += float(model.weight_[user]) * float(term.detach()) / data.n_users
    terms = model.elbo(nets, batch)
    assert set(terms) == {n for n, v in total.items() if v}
    for name, term in terms.items():
        assert float(term.detach()) == pytest.approx(total[name], rel=1e-6)


# ---------------------------------------------------------------------- limits
def test_a_largest_weight_of_one_is_concat_vae():
    data = rows_world()
    settings = {"hidden": (4,), "epochs": 4}
    model = VSRVAE(largest=1.0, exposure=EXPOSURE, **settings).fit(data)
    plain = ConcatVAE(**settings).fit(data)
    assert "ratio" not in model.nets_
    np.testing.assert_array_equal(model.score(), plain.score())


def test_without_features_it_is_concat_vae():
    data = dataclasses.replace(rows_world(), user_features=None)
    settings = {"hidden": (4,), "epochs": 4}
    model = VSRVAE(exposure=EXPOSURE, **settings).fit(data)
    np.testing.assert_array_equal(model.score(), ConcatVAE(**settings).fit(data).score())
    assert (model.weight_ == 1).all()
    assert model.effective_users_ == data.n_users


def driven(strength, n_users=600, n_items=40, seed=0):
    """Exposures that one feature drives: half of the items are shown more where it is high; the other is noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_users, 2)).astype(np.float32)
    sign = np.where(np.arange(n_items) % 2, 1.0, -1.0)
    shown = rng.random((n_users, n_items)) < 1 / (1 + np.exp(1.0 - strength * x[:, :1] * sign))
    shown[:, 0] |= ~shown.any(1)
    u, i = np.nonzero(shown)
    log = pl.DataFrame({"user_id": u, "item_id": i, "rating": rng.integers(1, 6, len(u)).astype(float)})
    users = pl.DataFrame({"user_id": np.arange(n_users), "a": x[:, 0], "b": x[:, 1]})
    return dc.Dataset.from_frames(log, users=users, rating_range=(1, 5)), x, shown


LEARNS = {
    "hidden": (4,),
    "warmup": 60,
    "epochs": 61,
    "exposure": VAEExposure(dim=4, epochs=40, check_draws=0, batch=100),
    "batch": 100,
    "ratio_lr": 0.01,
}


def test_features_that_do_not_move_exposure_weigh_nothing():
    data, *_ = driven(0.0)
    model = VSRVAE(**LEARNS).fit(data, validation=data)
    assert model.effective_users_ > 0.95 * data.n_users


def test_weights_take_the_feature_out_of_the_exposures():
    """The correlation of x with the exposures that it drives shrinks under the weights (not to 0: codes of 40
    items are uncertain, which smooths the ratio)."""
    data, x, shown = driven(0.7)
    model = VSRVAE(**LEARNS).fit(data, validation=data)
    codes_of = data.users.encode(np.arange(data.n_users))
    w = model.weight_[codes_of]
    driven_by = (shown * np.where(np.arange(shown.shape[1]) % 2, 1.0, -1.0)).sum(1)

    def correlation(weight):
        a, b = (v - np.average(v, weights=weight) for v in (x[:, 0], driven_by))
        return (weight * a * b).sum() / np.sqrt((weight * a * a).sum() * (weight * b * b).sum())

    assert correlation(np.ones(len(w))) > 0.6
    assert correlation(w) < 0.92 * correlation(np.ones(len(w)))
    # Users whose exposures are what their feature foretells are many, and count less.
    assert np.corrcoef(np.log(w), x[:, 0] * driven_by)[0, 1] < -0.5
    assert model.effective_users_ < 0.95 * data.n_users


def test_a_classifier_never_saw_the_users_that_it_weighs():
    """Flaw of a classifier for all: it knows its own pairs by heart, and its weights are noise."""
    model, nets, batch, _ = world(folds=2)
    loss = model.classify(nets, batch)["ratio"]
    used = model._used(batch.rows)
    for k in range(2):
        own = batch.rows.user % 2 == k
        assert not used[k][own].any()
        assert used[k][~own].all()
    assert loss.requires_grad


# ---------------------------------------------------------------------- plug-in, fold-in, bad input
@pytest.mark.parametrize("inner", [VAEExposure(dim=2, epochs=2), PoissonExposure(dim=2, iterations=5)])
def test_a_deconfounder_is_one_parameter(inner, tmp_path):
    data = rows_world()
    plain = VSRVAE(epochs=4, warmup=2, **SETTINGS).fit(data)
    model = VSRVAE(epochs=4, warmup=2, deconfounder=inner, **SETTINGS).fit(data)
    assert plain.nets_.outcome.first.dense.shape[0] + 2 == model.nets_.outcome.first.dense.shape[0]
    assert not np.array_equal(plain.score(), model.score())
    model.save(tmp_path / "model")
    again = dc.load_model(tmp_path / "model")
    np.testing.assert_array_equal(again.score(), model.score())
    np.testing.assert_array_equal(again.weight_, model.weight_)


def test_a_branch_is_one_parameter_and_weighted_as_the_user():
    model, nets, batch, data = world(branch=0.5)
    model.weight_ = np.random.default_rng(0).uniform(0.2, 3, data.n_users).astype(np.float32)
    plain = ConcatVAE(epochs=0, hidden=(4,), branch=0.5).fit(data, validation=data)
    wanted = 0.0
    for user in range(data.n_users):
        (one,) = [
            b for b in batches(data, Blocks(1), 3, tables=model.tables(data)) if int(b.rows.user[0]) == user
        ]
        term = plain.elbo(nets, one)["exposures"]
        wanted += float(model.weight_[user]) * float(term.detach()) / data.n_users
    assert float(model.elbo(nets, batch)["exposures"].detach()) == pytest.approx(wanted, rel=1e-6)
    settings = {"hidden": (4,), "epochs": 4, "branch": 0.5}
    unweighted = VSRVAE(largest=1.0, exposure=EXPOSURE, **settings).fit(data)
    np.testing.assert_array_equal(unweighted.score(), ConcatVAE(**settings).fit(data).score())
    with pytest.raises(ParameterError, match="'hidden' of VSRVAE must name a layer when branch > 0"):
        VSRVAE(hidden=(), branch=1.0, exposure=EXPOSURE).fit(data)


def test_without_weights_a_deconfounder_makes_it_deep_deconf():
    data = rows_world()
    settings = {"hidden": (4,), "epochs": 4}
    model = VSRVAE(largest=1.0, deconfounder=EXPOSURE, exposure=VAEExposure(dim=2, epochs=1), **settings).fit(
        data
    )
    deep = DeepDeconf(exposure=EXPOSURE, **settings).fit(data)
    np.testing.assert_array_equal(model.score(), deep.score())


def test_new_users_are_folded_in_without_weights():
    parts = UsersSplit(0).apply(rows_world())
    model = VSRVAE(epochs=4, warmup=2, **SETTINGS).fit(parts.train, validation=parts.holdout)
    history = parts.holdout.history
    before = model.weight_.copy()
    rows_, _ = user_rows(Source.of(history, NO_TABLES), np.arange(history.n_users))
    assert model._fold_in(history).shape == (len(rows_), history.n_items)
    np.testing.assert_array_equal(model.weight_, before)


def test_weights_that_rest_on_few_users_are_said():
    data = rows_world()
    model = VSRVAE(epochs=3, warmup=1, largest=1e6, **SETTINGS)

    def few(nets, part):
        return torch.where(part.user == 3, 20.0, 0.0)

    model.log_weights = few
    with pytest.warns(OverlapWarning, match=r"\[OVERLAP\] VSRVAE: weights rest on 1 of 40 users"):
        model.fit(data)


def test_the_outcome_needs_epochs_after_the_warm_up():
    with pytest.raises(ParameterError, match="'epochs' of VSRVAE must be a whole number > 30"):
        VSRVAE(epochs=30, exposure=EXPOSURE).fit(rows_world())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("largest", 0.5), ("draws", 0), ("folds", 0), ("independent", "no"), ("ratio_lr", 0.0)],
)
def test_ranges_are_checked(name, wrong):
    with pytest.raises(ParameterError, match=f"'{name}' of VSRVAE must be"):
        VSRVAE(**{name: wrong}).fit(rows_world())


def test_features_of_the_data_set_are_read():
    data = rows_world()
    f = data.user_features
    other = dataclasses.replace(data, user_features=Features(f.names, -f.values[::-1].copy(), f.missing))
    a, b = (VSRVAE(epochs=4, warmup=3, **SETTINGS).fit(d).weight_ for d in (data, other))
    assert not np.allclose(a, b)
