"""Deep-Deconf: the confounder's way into the network, held fixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks.fixtures import rows_world
from deconrec.data.split import UsersSplit
from deconrec.errors import ParameterError, UnknownName, UnknownUser
from deconrec.exposure import PoissonExposure, VAEExposure
from deconrec.methods.deep_deconf import DeepDeconf
from deconrec.training.samplers import Blocks
from manual import rows
from manual.batches import batches, scramble, value


def world(**parameters):
    data = rows_world()
    model = DeepDeconf(epochs=0, hidden=(4,), exposure=VAEExposure(dim=3, epochs=2))
    model.set_params(**parameters).fit(data, validation=data)
    scramble(model.exposure_.nets_, seed=1, std=0.3)
    nets = scramble(model.nets_, std=0.3).eval()
    (batch,) = batches(data, Blocks(data.n_users), 3, tables=model.tables(data))
    return model, nets, batch, data


def confounders(model, data):
    """z_u: the mean of q(z | a_u), by loops."""
    net, dim = model.exposure_.nets_.exposure.encoder, model.exposure_.dim
    a = np.zeros(data.shape)
    a[data.biased.user, data.biased.item] = 1
    weight, bias = net.items.detach().numpy()[:, :dim], net.bias.detach().numpy()[:dim]
    return a, [rows.linear(rows.scaled(row), weight, bias) for row in a]


@pytest.mark.parametrize("late", [False, True])
def test_the_network_equals_the_twin(late):
    model, nets, batch, data = world(variational=False, late=late)
    a, z = confounders(model, data)
    np.testing.assert_allclose(model.z(batch.rows)[batch.rows.user.argsort()], z, rtol=1e-6)
    net = nets.outcome
    x = data.user_features.values.astype(float)
    x = (x - x.mean(0)) / x.std(0)
    rating = np.zeros(data.shape)
    rating[data.biased.user, data.biased.item] = data.biased.rating
    weight = np.vstack([net.first.items.detach().numpy(), net.first.dense.detach().numpy()])
    total = 0.0
    for u in range(data.n_users):
        extra = [*x[u]] if late else [*x[u], *z[u]]
        h = np.tanh(rows.linear([*rows.scaled(a[u]), *extra], weight, net.first.bias.detach().numpy()))
        h = [*h, *z[u]] if late else h
        out = net.out
        total -= rows.multinomial(
            rating[u], rows.linear(h, out.weight.detach().numpy().T, out.bias.detach().numpy())
        )
    assert value(model.elbo(nets, batch)) == pytest.approx(total / data.n_users, rel=1e-6)


def test_the_outcome_loss_never_reaches_the_exposure_model():
    model, nets, batch, _ = world()
    assert not model.z(batch.rows).requires_grad
    sum(model.elbo(nets, batch).values()).backward()
    assert all(p.grad is None for p in model.exposure_.nets_.parameters())


def test_the_confounder_of_raw_ids():
    model, _, _, data = world()
    every = model.substitute_confounder()
    assert every.shape == (data.n_users, 3)
    chosen = data.users.values[[7, 2]]
    np.testing.assert_array_equal(model.substitute_confounder(chosen), every[[7, 2]])
    with pytest.raises(UnknownUser):
        model.substitute_confounder(["nobody"])


def test_a_late_confounder_needs_a_decoder():
    with pytest.raises(
        ParameterError, match="'hidden' of DeepDeconf must name a hidden layer when late=True"
    ):
        DeepDeconf(late=True, hidden=()).fit(rows_world())


def test_the_confounder_has_a_gradient_path_to_the_scores():
    for late in (False, True):
        model, nets, batch, _ = world(late=late)
        z = model.z(batch.rows).requires_grad_()
        nets.outcome(batch.rows, batch.rows.x, z)[0].square().sum().backward()
        assert torch.any(z.grad != 0)


@pytest.mark.parametrize("late", [False, True])
def test_the_confounder_is_dropped_out_at_the_input_alone(late):
    """Whole, it would give the dropped exposures back."""
    model, nets, batch, _ = world(late=late)
    net, r, z = nets.outcome, batch.rows, model.z(batch.rows)
    with torch.no_grad():
        net.first.items.zero_()  # what is left at the input is x and z
        answers = []
        for training in (True, True, False):
            nets.train(training)
            answers.append(net(r, r.x, z)[0])
        assert torch.equal(answers[0], answers[1]) is late
        assert torch.equal(net(r, r.x, z)[0], answers[2])
        nets.train()
        torch.manual_seed(0)
        dropped = net.code(r, r.x, z)[0]
        if not late:
            torch.manual_seed(0)
            kept = z * (torch.rand_like(z) >= 0.5) / 0.5
            nets.eval()
            torch.testing.assert_close(net.code(r, r.x, kept)[0], dropped)


def test_the_exposure_model_is_named():
    with pytest.raises(UnknownName, match="known"):
        DeepDeconf().set_text({"exposure": "none"})


def test_the_default_is_the_papers_structure():
    """{I + F + K -> K -> I}, z among the inputs, no code."""
    model = DeepDeconf(exposure=VAEExposure(dim=3, epochs=1)).fit(rows_world())
    net = model.nets_.outcome
    assert net.first.items.shape == (25, 100)
    assert net.first.dense.shape == (3 + 3, 100)
    assert (len(net.middle), net.out.weight.shape, net.log_std) == (0, (25, 100), None)


def test_the_released_structure_is_an_option():
    """A Gaussian code of exposures and features; z joins it at the decoder."""
    model = DeepDeconf(exposure=VAEExposure(dim=3, epochs=1), late=True, variational=True, epochs=2).fit(
        rows_world()
    )
    net = model.nets_.outcome
    assert net.first.dense.shape == (3, 100)
    assert net.out.weight.shape == (25, 100 + 3)
    assert {"outcome", "kl"} <= set(model.history_.epochs[0])


@pytest.mark.parametrize("exposure", [VAEExposure(dim=3, epochs=2), PoissonExposure(dim=3, iterations=4)])
def test_the_released_script_infers_validation_confounders_from_held_out_rows(exposure):
    """Here they come from the rows that a model is given; `leak` brings the flaw back."""
    parts = UsersSplit(0).apply(rows_world())
    part = parts.holdout
    for leak in (False, True):
        model = DeepDeconf(exposure=exposure, leak=leak, epochs=1, hidden=(4,))
        model.fit(parts.train, validation=part)
        seen, inner = [], model.exposure_

        class Spy:
            def confounder(self, rows, seen=seen, inner=inner):
                seen.append((rows.row.numpy().copy(), rows.item.numpy().copy()))
                return inner.confounder(rows)

        model.exposure_ = Spy()
        model.validation_score(part)
        got = {pair for row, item in seen for pair in zip(row.tolist(), item.tolist(), strict=True)}
        kept, held = (
            set(zip(log.user.tolist(), log.item.tolist(), strict=True))
            for log in (part.history.biased, part.data.biased)
        )
        assert held - kept
        assert got == (kept | held if leak else kept)


def test_the_leak_moves_validation_scores_and_no_answer():
    parts = UsersSplit(0).apply(rows_world())
    models = [
        DeepDeconf(exposure=VAEExposure(dim=3, epochs=5), leak=k, epochs=1, hidden=(4,)).fit(
            parts.train, validation=parts.holdout
        )
        for k in (False, True)
    ]
    everyone = np.arange(parts.holdout.history.n_users)
    assert not np.allclose(*(m._validation_scorer(parts.holdout)(everyone) for m in models))
    np.testing.assert_array_equal(*(m._affinity(parts.holdout.history) for m in models))


def test_features_are_standardised_on_training_users():
    parts = UsersSplit(0).apply(rows_world())
    model = DeepDeconf(exposure=VAEExposure(dim=2, epochs=1), epochs=1, hidden=(4,))
    model.fit(parts.train, validation=parts.holdout)
    x = model.tables(parts.train).user
    torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(3))
    other = model.tables(parts.holdout.history).user
    assert float(other.mean(0).abs().max()) > 0.01  # measured by the training users' mean, not by their own


def test_no_matrix_of_users_and_items_is_made(monkeypatch):
    """No tensor of either stage exceeds two batches of rows (1,024 users where scores are made), no array a mask."""
    import tracemalloc

    from torch.utils._python_dispatch import TorchDispatchMode

    from deconrec.simulate import deep_deconf

    class Largest(TorchDispatchMode):
        cells = 0

        def __torch_dispatch__(self, f, types, args=(), kwargs=None):
            out = f(*args, **(kwargs or {}))
            made = out if isinstance(out, tuple | list) else [out]
            self.cells = max([self.cells, *(t.numel() for t in made if isinstance(t, torch.Tensor))])
            return out

    data, truth = deep_deconf(
        n_users=3000, n_items=300, n_factors=5, n_features=2, exposure_rate=0.01, seed=0
    )
    parts = UsersSplit(0).apply(data, truth)
    exposure = VAEExposure(dim=4, epochs=1, batch=200, check_draws=3)
    model = DeepDeconf(exposure=exposure, hidden=(6,), epochs=1, batch=200)
    with Largest() as made:
        model.fit(parts.train, validation=parts.holdout)
    assert made.cells <= 1024 * 300

    # Steps alone: what scores validation users and fits the map of affinities holds blocks of 1,024 users.
    monkeypatch.setattr(DeepDeconf, "validation_score", lambda self, validation: 0.0)
    monkeypatch.setattr(DeepDeconf, "_calibrate", lambda self: None)
    bare = model.clone().set_params(exposure__check_draws=0)
    tracemalloc.start()
    try:
        with Largest() as made:
            bare.fit(parts.train, validation=parts.holdout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.cells <= 2 * 200 * 300
    assert peak < parts.train.n_users * 300


def test_permuted_gives_every_user_the_confounder_of_another():
    data = rows_world()
    exposure = VAEExposure(dim=3, epochs=2)
    own = DeepDeconf(epochs=1, hidden=(4,), exposure=exposure).fit(data, validation=data)
    other = DeepDeconf(epochs=1, hidden=(4,), exposure=exposure, permuted=True).fit(data, validation=data)
    z, given = own.substitute_confounder(), other.substitute_confounder()
    np.testing.assert_array_equal(z, other.others_.numpy())
    drawn = [int(np.flatnonzero((z == row).all(1))[0]) for row in given]  # each is somebody's
    assert np.mean([u == v for u, v in enumerate(drawn)]) < 0.2
    alone = other.substitute_confounder(data.users.values[3:4])
    np.testing.assert_array_equal(alone, given[3:4])  # whoever else is asked for
    np.testing.assert_array_equal(other.substitute_confounder(history=data), given)  # drawn by the row


def test_a_saved_permutation_answers_as_before(tmp_path):
    data = rows_world()
    model = DeepDeconf(epochs=1, hidden=(4,), exposure=VAEExposure(dim=3, epochs=1), permuted=True).fit(data)
    model.save(tmp_path / "m")
    loaded = DeepDeconf.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.score(data.users.values), model.score(data.users.values))
