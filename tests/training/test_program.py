"""Steps, phases and what they may move."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deconrec.errors import ParameterError
from deconrec.pairs import Batch, Pairs
from deconrec.training.program import (
    SGD,
    Adam,
    History,
    Mover,
    Nets,
    Phase,
    Step,
    evaluate_step,
    merged,
    scaled,
    total,
)


class Pair(nn.Module):
    """Two vectors."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, _batch):
        return self.a * self.b


def nets():
    return Nets(prediction=Pair([1.0, 2.0], [3.0, -1.0]), weight=Pair([0.5, 0.5], [1.0, 2.0]))


def batch(weight=1.0):
    none = torch.zeros(0, dtype=torch.int64)
    empty = Pairs(none, none, torch.zeros(0), torch.zeros(0))
    return Batch(empty, empty, weight=weight)


def loss(n, b):
    return {"x": (n.prediction(b) ** 2).sum(), "y": (n.weight(b) ** 2).sum()}


def move(step, n, weight=1.0, default=SGD(0.1)):  # noqa: B008
    return Mover.of(step, n, default).move(n, batch(weight))


def moved(n):
    before = nets().state_dict()
    return {name for name, value in n.state_dict().items() if not torch.equal(value, before[name])}


# ---------------------------------------------------------------------- what moves
@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        (("prediction",), {"prediction.a", "prediction.b"}),
        (("prediction.a",), {"prediction.a"}),
        (("prediction.a", "weight.b"), {"prediction.a", "weight.b"}),
        (("weight", "prediction"), {"prediction.a", "prediction.b", "weight.a", "weight.b"}),
    ],
)
def test_only_what_is_named_moves(updates, expected):
    n = nets()
    move(Step(loss, updates), n)
    assert moved(n) == expected
    assert all(p.grad is None and p.requires_grad for p in n.parameters())


def test_a_name_that_is_only_a_beginning_selects_nothing():
    n = Nets(prediction=Pair([1.0], [1.0]), prediction_residual=Pair([1.0], [1.0]))
    assert set(n.select(("prediction",))) == {"prediction.a", "prediction.b"}
    for wrong in ("predict", "prediction.", "prediction.c", ""):
        with pytest.raises(ParameterError, match="none has such a parameter"):
            n.select((wrong,))


def test_a_step_is_sgd_by_hand():
    n = nets()
    terms = move(Step(loss, ("prediction",)), n, weight=0.5)
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    torch.testing.assert_close(n.prediction.a.detach(), a - 0.1 * 0.5 * 2 * a * b**2)
    torch.testing.assert_close(n.prediction.b.detach(), b - 0.1 * 0.5 * 2 * b * a**2)
    assert float(terms["x"].detach()) == pytest.approx(9 + 4)  # as it was before the move, not weighted


def test_ascend_goes_up():
    up, down = nets(), nets()
    move(Step(loss, ("prediction",), ascend=True), up)
    move(Step(loss, ("prediction",)), down)
    start = nets().prediction.a
    torch.testing.assert_close(up.prediction.a - start, start - down.prediction.a)
    assert float(total(loss(up, batch())).detach()) > float(total(loss(nets(), batch())).detach())


def test_project_comes_after_the_move_without_a_gradient():
    seen = []

    def project(n):
        seen.append(torch.is_grad_enabled())
        n.prediction.a.clamp_(max=0.7)

    n = nets()
    move(Step(loss, ("prediction",), ascend=True, project=project), n)
    assert seen == [False]
    assert float(n.prediction.a.max().detach()) == pytest.approx(0.7)


def test_l2_is_half_the_square_in_the_gradient():
    n = nets()
    nothing = Step(
        lambda n, b: {"zero": 0 * n.prediction(b).sum()}, ("prediction",), optimizer=SGD(0.1, l2=0.5)
    )
    move(nothing, n)
    torch.testing.assert_close(n.prediction.a.detach(), torch.tensor([1.0, 2.0]) * (1 - 0.1 * 0.5))


def test_a_step_may_have_its_own_optimiser():
    n = nets()
    mover = Mover.of(Step(loss, ("weight",), optimizer=Adam(0.25)), n, SGD(0.1))
    assert isinstance(mover.optimizer, torch.optim.Adam)
    mover.move(n, batch())
    step = (n.weight.a - nets().weight.a).abs().detach()
    torch.testing.assert_close(step, torch.full((2,), 0.25), rtol=1e-4, atol=0)  # Adam's first step is lr


def test_a_loss_beyond_reach_moves_nothing():
    n = nets()
    terms = move(Step(lambda n, b: {"constant": torch.tensor(2.0)}, ("prediction",)), n)
    assert float(terms["constant"]) == 2.0
    assert moved(n) == set()


def test_stop_gradients_in_a_loss_are_kept():
    n = nets()
    move(Step(lambda n, b: {"x": (n.prediction.a.detach() * n.prediction.b).sum()}, ("prediction",)), n)
    assert moved(n) == {"prediction.b"}


# ---------------------------------------------------------------------- through
def test_through_equals_a_second_derivative_by_hand():
    # inner(a) = (w a)^2 / 2 (per element): a' = a - v w^2 a; outer = a'^2 / 2: d outer / d w = a' (-2 v w a).
    v = 0.3

    def inner(n, b):
        return {"inner": ((n.weight.a * n.prediction.a) ** 2).sum() / 2}

    def outer(n, b):
        return {"outer": (n.prediction.a**2).sum() / 2}

    n = nets()
    a, w = n.prediction.a.detach().clone(), n.weight.a.detach().clone()
    step = Step(outer, ("weight.a",), through=Step(inner, ("prediction.a",)), virtual_lr=v)
    terms, parameters, (gradient,) = evaluate_step(step, n, batch())
    virtual = a - v * w**2 * a
    torch.testing.assert_close(gradient, virtual * (-2 * v * w * a))
    assert float(terms["outer"].detach()) == pytest.approx(float((virtual**2).sum() / 2), rel=1e-6)
    assert list(parameters) == ["weight.a"]
    assert moved(n) == set()  # the virtual step is virtual


def test_through_carries_the_batch_weight_and_the_inner_direction():
    def inner(n, b):
        return {"inner": (n.weight.a * n.prediction.a).sum()}

    def outer(n, b):
        return {"outer": n.prediction.a.sum()}

    n = nets()
    for ascend, sign in ((False, -1.0), (True, 1.0)):
        step = Step(
            outer, ("weight.a",), through=Step(inner, ("prediction.a",), ascend=ascend), virtual_lr=0.3
        )
        terms, _, (gradient,) = evaluate_step(step, n, batch(weight=0.5))
        # a' = a + sign 0.3 (0.5 w); the outer gradient is weighted once more.
        torch.testing.assert_close(gradient, torch.full((2,), sign * 0.3 * 0.5 * 0.5))
        assert float(terms["outer"].detach()) == pytest.approx(3.0 + sign * 0.3 * 0.5 * 1.0)


def test_through_moves_the_weights_towards_a_better_virtual_step():
    n = nets()
    inner = Step(lambda n, b: {"i": ((n.weight.a * n.prediction.a) ** 2).sum()}, ("prediction",))
    step = Step(lambda n, b: {"o": (n.prediction.a**2).sum()}, ("weight",), through=inner, virtual_lr=0.05)
    before, *_ = evaluate_step(step, n, batch())
    move(step, n)
    after, *_ = evaluate_step(step, n, batch())
    assert moved(n) == {"weight.a"}
    assert float(after["o"].detach()) < float(before["o"].detach())


# ---------------------------------------------------------------------- losses
def test_merged_and_scaled_losses():
    n = nets()
    other = scaled(lambda n, b: {"z": torch.tensor(2.0)}, 3.0)
    terms = merged(loss, other)(n, batch())
    assert list(terms) == ["x", "y", "z"]
    assert float(terms["z"]) == 6.0
    with pytest.raises(ParameterError, match="have a term 'x'"):
        merged(loss, loss)(n, batch())


def test_the_terms_of_a_step_share_their_forward_passes():
    calls = []

    class Counting(Pair):
        def forward(self, b):
            calls.append(b)
            return super().forward(b)

    n = Nets(prediction=Counting([1.0], [2.0]))
    b = batch()
    twice = Step(lambda n, b: {"x": (n.prediction(b) * n.prediction(b)).sum()}, ("prediction",))
    _, _, gradients = evaluate_step(twice, n, b)
    assert len(calls) == 1
    torch.testing.assert_close(gradients[0], torch.tensor([2 * 1.0 * 4.0]))
    with torch.no_grad():
        n.prediction.a.fill_(5.0)
    terms, *_ = evaluate_step(twice, n, b)  # nothing is remembered from one evaluation to the next
    assert float(terms["x"].detach()) == pytest.approx(100.0)


def test_nets_are_a_named_module():
    n = nets()
    assert n.prediction is n["prediction"]
    assert set(n.state_dict()) == {"prediction.a", "prediction.b", "weight.a", "weight.b"}
    with pytest.raises(AttributeError):
        _ = n.imputation


# ---------------------------------------------------------------------- phases and the history
@pytest.mark.parametrize(
    ("phase", "active"),
    [
        (Phase(), [0, 1, 2, 3, 4, 5, 6]),
        (Phase(every=2), [0, 2, 4, 6]),
        (Phase(every=3, start=1), [1, 4]),
        (Phase(stop=2), [0, 1]),
        (Phase(every=2, start=1, stop=5), [1, 3]),
    ],
)
def test_when_a_phase_makes_a_pass(phase, active):
    assert [epoch for epoch in range(7) if phase.active(epoch)] == active


def test_the_history_is_json_ready():
    history = History([{"x": 1.0}, {"x": 0.5, "score": 0.7}], best_epoch=1, stopped="patience")
    assert history.curve("x") == [1.0, 0.5]
    assert history.curve("score") == [0.7]
    assert len(history) == 2
    assert History(**history.to_dict()) == history
