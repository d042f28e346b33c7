"""The training loop: what is kept, when it ends, and what it says when it fails."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from deconrec.errors import TrainingError
from deconrec.nn.mf import MF
from deconrec.pairs import NO_TABLES
from deconrec.training.program import SGD, Nets, Phase, Step
from deconrec.training.samplers import Blocks, Source, UniformPairs
from deconrec.training.trainer import Trainer
from manual.batches import SHAPE, tiny


class Number(nn.Module):
    """One number, moved by 1 a step under SGD(1)."""

    def __init__(self, start=0.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(start))


def counting():
    """A net whose value is the number of steps that were made."""
    return Nets(prediction=Number()), [
        Phase(Step(lambda n, b: {"down": -n.prediction.value / b.weight}, ("prediction",)))
    ]


def run(trainer, nets, program, score=None, sampler=None):
    return trainer.run(nets, program, sampler or Blocks(*SHAPE), Source.of(tiny(), NO_TABLES), score)


def trainer(epochs, **options):
    return Trainer(epochs, SGD(1.0), **options)


# ---------------------------------------------------------------------- the best state
def test_the_best_state_is_a_true_copy():
    nets, program = counting()
    scores = iter([0.1, 0.5, 0.9, 0.4, 0.3])
    history = run(trainer(5), nets, program, lambda: next(scores))
    assert float(nets.prediction.value.detach()) == 3.0  # after the third epoch; an alias would hold 5
    assert history.best_epoch == 2
    assert history.stopped == "epochs"
    assert history.curve("score") == [0.1, 0.5, 0.9, 0.4, 0.3]


def test_patience_counts_epochs_without_a_better_score():
    nets, program = counting()
    scores = iter([0.5, 0.6, 0.6, 0.6, 9.0])  # a tie is not better
    history = run(trainer(100, patience=2), nets, program, lambda: next(scores))
    assert len(history) == 4
    assert history.stopped == "patience"
    assert history.best_epoch == 1
    assert float(nets.prediction.value.detach()) == 2.0


def test_no_patience_no_stop_and_no_score_no_choice():
    nets, program = counting()
    history = run(trainer(6, patience=0), nets, program, lambda: 0.0)
    assert len(history) == 6
    assert history.best_epoch == 0
    nets, program = counting()
    history = run(trainer(6, patience=1), nets, program)
    assert (len(history), history.best_epoch) == (6, 5)
    assert float(nets.prediction.value.detach()) == 6.0


def test_warm_up_epochs_are_neither_kept_nor_counted():
    nets, program = counting()
    scores = iter([9.0, 8.0, 0.1, 0.2, 0.1, 0.0])
    history = run(trainer(6, patience=2, warmup=2), nets, program, lambda: next(scores))
    assert history.best_epoch == 3
    assert len(history) == 6
    assert float(nets.prediction.value.detach()) == 4.0


def test_no_epochs_no_change():
    nets, program = counting()
    history = run(trainer(0), nets, program, lambda: 1.0)
    assert len(history) == 0
    assert float(nets.prediction.value.detach()) == 0.0


def test_nets_train_in_training_mode_and_answer_in_evaluation_mode():
    modes = []
    nets = Nets(prediction=Number())

    def loss(n, b):
        modes.append(n.training)
        return {"x": n.prediction.value**2}

    run(trainer(2), nets, [Phase(Step(loss, ("prediction",)))], lambda: modes.append(nets.training) or 0.0)
    assert modes == [True, False, True, False]
    assert not nets.training


# ---------------------------------------------------------------------- divergence
def test_a_nan_names_the_term_that_failed_first_and_restores_the_best_state():
    nets = Nets(prediction=Number(), imputation=Number(1.0))

    def healthy(n, b):
        return {"healthy": -n.prediction.value + 0 * n.imputation.value}

    def sick(n, b):
        # Finite for three steps; its own net is NaN from then on, and `healthy` reads that net.
        return {"sick": torch.log(3.5 - n.prediction.value.detach()) * n.imputation.value}

    steps = [Phase(Step(healthy, ("prediction",)), Step(sick, ("imputation",)))]
    scores = iter(range(10))
    with pytest.raises(TrainingError, match="term 'sick' became nan in epoch 3") as caught:
        run(trainer(10), nets, steps, lambda: next(scores))
    assert caught.value.term == "sick"
    assert caught.value.epoch == 3
    assert caught.value.nets == ("imputation",)
    assert "updates imputation" in str(caught.value)
    assert float(nets.prediction.value.detach()) == 3.0
    assert all(torch.isfinite(p).all() for p in nets.parameters())


def test_the_cause_is_named_and_not_what_it_spoils_within_one_epoch():
    # Many steps an epoch: by its end both terms are NaN, and the first in order is not the cause.
    nets = Nets(prediction=Number(), imputation=Number(1.0))

    def first(n, b):
        return {"effect": (n.prediction.value - n.imputation.value) * 0.0 - n.prediction.value / b.weight}

    def second(n, b):
        return {"cause": torch.log(3.5 - n.prediction.value.detach()) * n.imputation.value}

    program = [Phase(Step(first, ("prediction",)), Step(second, ("imputation",)))]
    with pytest.raises(TrainingError, match="term 'cause'"):
        run(trainer(1), nets, program, sampler=Blocks(1, 1))


def test_infinity_is_divergence_too():
    nets = Nets(prediction=Number())
    program = [Phase(Step(lambda n, b: {"x": (n.prediction.value + 1000).exp()}, ("prediction",)))]
    with pytest.raises(TrainingError, match="became inf"):
        run(trainer(1), nets, program)


def test_a_validation_score_of_nan_is_divergence():
    nets, program = counting()
    with pytest.raises(TrainingError, match="validation score"):
        run(trainer(3), nets, program, lambda: float("nan"))


# ---------------------------------------------------------------------- repeatability and the record
@pytest.mark.parametrize("sampler", [Blocks(3, 2), UniformPairs(4, 6)])
def test_the_same_seed_gives_the_same_bits(sampler):
    def trained(seed):
        torch.manual_seed(0)
        nets = Nets(prediction=MF(*SHAPE, 2))

        def loss(n, b):
            o = b.observed
            return {"x": o.expect((n.prediction(o) - o.r) ** 2) + b.space.expect(n.prediction(b.space) ** 2)}

        history = Trainer(3, SGD(0.5), seed=seed).run(
            nets, [Phase(Step(loss, ("prediction",)))], sampler, Source.of(tiny(), NO_TABLES)
        )
        return torch.cat([p.detach().flatten() for p in nets.parameters()]), history.curve("x")

    (one, terms), (two, again), (other, _) = trained(3), trained(3), trained(4)
    assert torch.equal(one, two)
    assert terms == again
    assert not torch.equal(one, other)


def test_the_record_is_the_weighted_mean_of_every_term():
    nets = Nets(prediction=Number(1.0))
    table = np.random.default_rng(0).normal(size=SHAPE)

    def loss(n, b):
        x = torch.as_tensor(table[b.space.user.numpy(), b.space.item.numpy()])
        return {"mean": b.space.expect(x) * n.prediction.value}

    program = [Phase(Step(loss, ("prediction",), optimizer=SGD(1e-12)))]
    history = run(trainer(1), nets, program, sampler=Blocks(3, 2))
    assert history.curve("mean")[0] == pytest.approx(table.mean(), rel=1e-5)
    assert history.epochs[0]["seconds"] >= 0


def test_phases_make_passes_in_their_epochs_and_before_runs_before():
    nets = Nets(prediction=Number(), weight=Number())
    log = []

    def before(n):
        log.append(("before", torch.is_grad_enabled(), float(n.prediction.value)))

    def step(net):
        return Step(lambda n, b: {net: -n[net].value}, (net,))

    program = [Phase(step("prediction"), stop=2), Phase(step("weight"), every=2, start=1, before=before)]
    history = run(trainer(4), nets, program)
    assert [sorted(set(e) - {"seconds"}) for e in history] == [
        ["prediction"],
        ["prediction", "weight"],
        [],
        ["weight"],
    ]
    assert float(nets.prediction.value.detach()) == 2.0
    assert float(nets.weight.value.detach()) == 2.0
    assert log == [("before", False, 2.0), ("before", False, 2.0)]


def test_steps_of_a_phase_interleave_on_each_batch():
    order = []

    def step(name):
        return Step(
            lambda n, b: (order.append((name, id(b))), {name: n.prediction.value**2})[1], ("prediction",)
        )

    run(trainer(1), Nets(prediction=Number(1.0)), [Phase(step("a"), step("b"))], sampler=Blocks(4, 5))
    names, batches = zip(*order, strict=True)
    assert names == ("a", "b", "a", "b")
    assert batches[0] == batches[1] != batches[2] == batches[3]


def test_training_leaves_the_caller_s_copy_alone():
    nets, program = counting()
    kept = copy.deepcopy(nets.state_dict())
    alias = nets.state_dict()
    run(trainer(2), nets, program)
    assert float(kept["prediction.value"]) == 0.0
    assert float(alias["prediction.value"]) == 2.0  # what a state_dict is without a copy


def test_the_progress_bar_shows_on_a_terminal_alone(capsys):
    nets, program = counting()
    run(trainer(2, progress="MF"), nets, program)
    assert capsys.readouterr() == ("", "")


def test_the_progress_bar_counts_epochs_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    nets, program = counting()
    run(trainer(2, progress="MF"), nets, program, lambda: 0.5)
    assert "MF" in shown.getvalue()
    assert "validation 0.5000" in shown.getvalue()
    assert "2/2" in shown.getvalue()
