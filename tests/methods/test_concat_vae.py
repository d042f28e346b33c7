"""Concat-VAE against loops over users and items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deconrec.checks.fixtures import checkerboard, rows_world
from deconrec.data.split import PairsSplit, UsersSplit
from deconrec.errors import DataError, ParameterError
from deconrec.evaluation.rating import within_users
from deconrec.exposure import PoissonExposure, VAEExposure
from deconrec.methods import make
from deconrec.methods.concat_vae import Branch, ConcatVAE
from deconrec.methods.deep_deconf import DeepDeconf
from deconrec.saving import load_model
from deconrec.training.features import weight_within_exposure
from deconrec.training.samplers import Blocks, Source, user_rows
from manual import rows
from manual.batches import batches, scramble, value

EPOCH = 3


def world(**parameters):
    """A scrambled model in evaluation mode, and one batch of every user in epoch 3."""
    data = rows_world()
    model = ConcatVAE(epochs=0, hidden=(4,), anneal=10.0, kl=0.5).set_params(**parameters)
    model.fit(data, validation=data)
    nets = scramble(model.nets_, std=0.3).eval()
    (batch,) = batches(data, Blocks(data.n_users), EPOCH, tables=model.tables(data))
    return model, nets, batch, data


def inputs(model, data):
    """(a, r, x): lists of exposures, ratings and standardised features."""
    a, r = np.zeros(data.shape), np.zeros(data.shape)
    a[data.biased.user, data.biased.item] = 1
    r[data.biased.user, data.biased.item] = data.biased.rating
    x = data.user_features.values.astype(float)
    return a, r, (x - x.mean(0)) / x.std(0)


def through(layers, h):
    """tanh after every layer but the last."""
    for k, layer in enumerate(layers):
        weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
        h = rows.linear(h, weight, bias)
        h = np.tanh(h) if k < len(layers) - 1 else h
    return h


def first(net, a, x):
    weight = np.vstack([net.items.detach().numpy(), net.dense.detach().numpy()])
    return rows.linear([*rows.scaled(a), *x], weight, net.bias.detach().numpy())


def test_the_deterministic_network_equals_the_twin():
    model, nets, batch, data = world(variational=False, hidden=(4, 3))
    net = nets.outcome
    total = 0.0
    for u, (a, r, x) in enumerate(zip(*inputs(model, data), strict=True)):
        logits = through([*net.middle, net.out], np.tanh(first(net.first, a, x)))
        got = model.logits(nets, batch.rows)[batch.rows.user == u].detach()[0]
        np.testing.assert_allclose(got, logits, atol=1e-6)  # features are standardised in single precision
        total -= rows.multinomial(r, logits)
    terms = model.elbo(nets, batch)
    assert set(terms) == {"outcome"}
    assert value(terms) == pytest.approx(total / data.n_users, rel=1e-6)


@pytest.mark.parametrize("hidden", [(4,), (4, 3)])
def test_the_variational_bound_equals_the_twin(hidden):
    model, nets, batch, data = world(hidden=hidden, variational=True)
    net = nets.outcome
    likelihood = divergence = 0.0
    for a, r, x in zip(*inputs(model, data), strict=True):
        mean = first(net.first, a, x)
        if len(hidden) > 1:
            h = np.tanh(mean)
            mean, log_std = through(net.middle, h), through([net.log_std], h)
        else:
            log_std = first(net.log_std, a, x)
        likelihood += rows.multinomial(r, through([net.out], mean))
        divergence += rows.kl(mean, np.exp(np.clip(log_std, -20, 2)))
    terms = model.elbo(nets, batch)
    weight = rows.annealed(EPOCH, 10.0, 0.5)
    assert value({"o": terms["outcome"]}) == pytest.approx(-likelihood / data.n_users, rel=1e-6)
    assert value({"kl": terms["kl"]}) == pytest.approx(weight * divergence / data.n_users, rel=1e-6)


def test_a_pass_over_unequal_blocks_averages_to_the_whole():
    model, nets, batch, data = world(variational=False)
    parts = batches(data, Blocks(15), EPOCH, tables=model.tables(data))
    assert len({len(b.rows) for b in parts}) > 1
    got = np.mean([b.weight * value(model.elbo(nets, b)) for b in parts])
    assert got == pytest.approx(value(model.elbo(nets, batch)), rel=1e-6)


def test_without_features_the_network_reads_exposures_alone():
    import dataclasses

    data = dataclasses.replace(rows_world(), user_features=None)
    model = ConcatVAE(epochs=1, hidden=(4,)).fit(data)
    assert model.nets_.outcome.first.dense is None
    assert np.isfinite(model.score()).all()


def test_training_draws_codes_and_answers_use_their_mean():
    model, nets, batch, _ = world(variational=True)
    nets.train()
    torch.manual_seed(0)
    assert not torch.equal(model.logits(nets, batch.rows), model.logits(nets, batch.rows))
    nets.eval()
    assert torch.equal(model.logits(nets, batch.rows), model.logits(nets, batch.rows))


def test_ratings_below_zero_are_no_counts():
    import polars as pl

    from deconrec.data.dataset import Dataset

    log = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 1], "rating": [-1.0, 1.0, 1.0]})
    with pytest.raises(DataError, match="counts, which must be >= 0; the lowest is -1"):
        ConcatVAE(epochs=1).fit(Dataset.from_frames(log))


@pytest.mark.parametrize("hidden", [(0,), (1.5,), "8", 8, (8, -1)])
def test_widths_must_be_whole_numbers_from_1(hidden):
    says = r"'hidden' of ConcatVAE must be a tuple, each entry a whole number >= 1"
    with pytest.raises(ParameterError, match=says):
        ConcatVAE(hidden=hidden).fit(rows_world())


def test_a_code_needs_a_layer_to_be():
    with pytest.raises(ParameterError, match="'hidden' of ConcatVAE must name a layer when variational=True"):
        ConcatVAE(hidden=(), variational=True).fit(rows_world())


# ---------------------------------------------------------------------- the branch that decodes exposures
@pytest.mark.parametrize("variational", [False, True])
def test_the_branch_equals_the_twin(variational):
    """The paper's conclusion: the user's code must generate the exposures too, each on its own."""
    model, nets, batch, data = world(branch=0.7, variational=variational)
    net, g = nets.outcome, nets.exposure
    likelihood = 0.0
    for a, _, x in zip(*inputs(model, data), strict=True):
        h = first(net.first, a, x)
        h = h if variational else np.tanh(h)
        logits = rows.linear(h, g.weight.detach().numpy().T, g.bias.detach().numpy())
        likelihood += rows.bernoulli(a, logits)
    terms = model.elbo(nets, batch)
    assert value({"e": terms["exposures"]}) == pytest.approx(-0.7 * likelihood / data.n_users, rel=1e-6)
    plain, bare, same, _ = world(variational=variational)
    for name, p in bare.outcome.named_parameters():
        p.data.copy_(net.get_parameter(name))
    for name, term in plain.elbo(bare, same).items():
        assert float(terms[name].detach()) == pytest.approx(float(term.detach()), rel=1e-6)


def test_the_branch_teaches_the_code_and_is_saved(tmp_path):
    data = rows_world()
    model = ConcatVAE(branch=1.0, hidden=(4,), epochs=8, patience=0).fit(data, validation=data)
    curve = model.history_.curve("exposures")
    assert curve[-1] < curve[0]
    other = ConcatVAE(hidden=(4,), epochs=8, patience=0).fit(data, validation=data)
    assert not np.allclose(model.score(), other.score())
    _, nets, batch, _ = world(branch=1.0)
    model.elbo(nets, batch)["exposures"].backward()
    assert nets.outcome.first.items.grad.abs().sum() > 0  # the encoder's
    assert nets.outcome.out.weight.grad is None
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").score(), model.score())


def test_the_branch_is_checked_on_exposures_that_it_was_not_given(tmp_path):
    data, _ = checkerboard(likes_only=True)
    parts = UsersSplit(0).apply(data)
    settings = {"branch": 1.0, "hidden": (8,), "epochs": 60, "patience": 0, "lr": 0.01, "dropout": 0.2}
    model = ConcatVAE(**settings).fit(parts.train, validation=parts.holdout)
    check = model.branch_check_
    assert check.new_users
    # By hand: a user's logits from the rows that are left, and the exposures among the held-out items.
    three, _ = user_rows(model.rows_, np.arange(3))
    held = np.array([0, 5, 6])
    got = Branch(model).posterior_logits(three, held, 2, np.random.default_rng(0))
    h = model.nets_.outcome.code(three, three.x, None)[0]
    expected = model.nets_.exposure(h)[:, held].detach().numpy()
    np.testing.assert_allclose(got, np.stack([expected, expected]), rtol=1e-6)
    silent = ConcatVAE(**settings | {"epochs": 0}).fit(parts.train, validation=parts.holdout)
    assert check.mean_log_likelihood > silent.branch_check_.mean_log_likelihood
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").branch_check_.p, check.p)
    assert ConcatVAE(hidden=(4,), epochs=1).fit(data, validation=data).branch_check_ is None


def test_a_branch_needs_a_code():
    with pytest.raises(ParameterError, match="'hidden' of ConcatVAE must name a layer when branch > 0"):
        ConcatVAE(hidden=(), branch=1.0).fit(rows_world())
    with pytest.raises(ParameterError, match="'branch' of ConcatVAE must be a number >= 0"):
        ConcatVAE(branch=-1.0).fit(rows_world())


# ---------------------------------------------------------------------- a deconfounder
EXPOSURES = [VAEExposure(dim=3, epochs=2, check_draws=0), PoissonExposure(dim=3, iterations=5, check_draws=0)]


@pytest.mark.parametrize("exposure", EXPOSURES, ids=["vae", "poisson"])
@pytest.mark.parametrize("form", [{"hidden": (4,)}, {"hidden": (4, 3), "variational": True}, {"hidden": ()}])
def test_with_a_deconfounder_it_is_deep_deconf(exposure, form):
    data = rows_world()
    concat = ConcatVAE(deconfounder=exposure, epochs=3, **form).fit(data)
    deep = DeepDeconf(exposure=exposure, epochs=3, **form).fit(data)
    np.testing.assert_array_equal(concat.score(), deep.score())
    assert not np.allclose(concat.score(), ConcatVAE(epochs=3, **form).fit(data).score())


def test_without_one_nothing_is_fitted_first():
    model = ConcatVAE(epochs=1, hidden=(4,)).fit(rows_world())
    assert model.deconfounder is None
    assert not hasattr(model, "deconfounder_")
    assert model.z(None) is None
    assert repr(model) == "ConcatVAE(epochs=1, hidden=(4,))"


def test_a_deconfounder_is_set_by_name_and_saved(tmp_path):
    model = ConcatVAE(epochs=1, hidden=(4,)).set_text({"deconfounder": "vae", "deconfounder.dim": "2"})
    model.set_params(deconfounder__epochs=1).fit(rows_world())
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.deconfounder.dim == 2
    np.testing.assert_array_equal(again.score(), model.score())
    assert model.set_text({"deconfounder": "none"}).deconfounder is None


def test_a_new_user_has_a_confounder_of_its_own():
    data = rows_world()
    model = ConcatVAE(deconfounder=EXPOSURES[0], epochs=2, hidden=(4,)).fit(data, validation=data)
    np.testing.assert_allclose(model._fold_in(data), model._block(np.arange(data.n_users)), rtol=1e-6)


def test_confounders_are_inferred_once(monkeypatch):
    """Those of training users are held fixed: no step infers them again, and no table of them is kept."""
    calls = []
    inner = PoissonExposure(dim=2, iterations=3, check_draws=0)
    plain = PoissonExposure.confounder
    monkeypatch.setattr(
        PoissonExposure, "confounder", lambda self, rows: calls.append(len(rows)) or plain(self, rows)
    )
    data = rows_world()
    model = ConcatVAE(deconfounder=inner, epochs=5, batch=10, hidden=(4,), patience=0)
    monkeypatch.setattr(ConcatVAE, "validation_score", lambda self, validation: 0.0)
    monkeypatch.setattr(ConcatVAE, "_calibrate", lambda self: None)
    model.fit(data, validation=data)
    assert calls == [data.n_users]
    assert "confounders_" not in vars(model)


def both_logits(model, data):
    """(f(a, 0), f(a, x)) of all users."""
    r, _ = user_rows(Source.of(data, model.tables(data)), np.arange(data.n_users))
    net = model.nets_.eval().outcome
    with torch.no_grad():
        return tuple(net(r, x, None)[0].numpy() for x in (torch.zeros_like(r.x), r.x))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_what_features_add_is_weighed(weight, tmp_path):
    data = rows_world()
    model = ConcatVAE(epochs=3, hidden=(4,), feature_weight=weight).fit(data, validation=data)
    own, whole = both_logits(model, data)
    assert np.abs(whole - own).max() > 1e-3
    expected = own + weight * (whole - own)
    found = model._affinity(data)
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-4)
    model.save(tmp_path / "m")
    loaded = ConcatVAE.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.score(data.users.values), model.score(data.users.values))


def test_training_knows_nothing_of_the_weight():
    data = rows_world()
    one, two = (
        ConcatVAE(epochs=3, hidden=(4,), feature_weight=w).fit(data, validation=data) for w in (1.0, 3.0)
    )
    assert one.history_.curve("score") == two.history_.curve("score")


@pytest.mark.parametrize("protocol", ["users", "pairs"])
def test_the_chosen_weight_follows_ratings_within_held_out_exposures(protocol):
    data = rows_world()
    parts = UsersSplit(0).apply(data) if protocol == "users" else PairsSplit(0).apply(data)
    model = ConcatVAE(epochs=3, hidden=(4,), feature_weight=None)
    model.fit(parts.train, validation=parts.holdout)
    log = parts.holdout.data.biased
    own, whole = both_logits(model, parts.holdout.history or parts.train)
    own, felt = own[log.user, log.item], (whole - own)[log.user, log.item]
    assert model.feature_weight_ == weight_within_exposure(own, felt, log.rating, log.user)


def test_without_features_none_are_read():
    data = rows_world()
    bare = data._replace(user_features=None)
    told = ConcatVAE(epochs=3, hidden=(4,), features=False).fit(data, validation=data)
    none = ConcatVAE(epochs=3, hidden=(4,)).fit(bare, validation=bare)
    np.testing.assert_array_equal(told.score(data.users.values), none.score(data.users.values))
    assert not told.tags.uses_features


@pytest.mark.parametrize(
    "name", ["concat-vae:hidden=4", "deep-deconf:hidden=4+exposure.epochs=2", "wmf:dim=3", "ease"]
)
def test_judged_within_exposures(name):
    """The twin: the correlation of scores and ratings, both less their user's mean, on the held-out rows."""
    parts = UsersSplit(0).apply(rows_world())
    part = replace(parts.holdout, within_exposure=True)
    model = make(name).fit(parts.train, validation=part)
    log, score = part.data.biased, model._fold_in(part.history)
    score = np.log(score / (1 - score)) if name != "ease" else score  # the map to outcomes is a logistic one
    cells = score[log.user, log.item]
    a, b = (within_users(v, log.user) for v in (cells, log.rating))
    assert model.judge(part) == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)), abs=1e-4)
    if getattr(model, "history_", None) is not None:
        assert model.judge(part) == pytest.approx(max(model.history_.curve("score")), abs=1e-5)
