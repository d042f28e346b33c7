"""Checks of methods that the engine trains: what a step may move, and that it moves it the right way."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deconrec.base import Estimator
from deconrec.checks.bench import CheckFailed, NotApplicable, bench, require

if TYPE_CHECKING:
    import torch

    from deconrec.pairs import Batch
    from deconrec.torch_estimator import TorchEstimator
    from deconrec.training.program import Nets, Step
    from deconrec.training.samplers import Sampler, Source


def _torch(estimator: Estimator) -> TorchEstimator:
    """The estimator fitted to a fixture, where it is trained by the engine."""
    try:
        from deconrec.torch_estimator import TorchEstimator
    except ImportError:
        raise NotApplicable("torch is not installed") from None
    if not isinstance(estimator, TorchEstimator):
        raise NotApplicable("it is not trained by the engine")
    model = bench(estimator).fitted()
    assert isinstance(model, TorchEstimator)
    return model


def _world(estimator: Estimator) -> tuple[TorchEstimator, Nets, Batch, Sampler, Source]:
    """(fitted model, a copy of its nets, a frozen batch in the second epoch, its sampler, its source)."""
    from deconrec.random import numpy_generator
    from deconrec.training.samplers import Source

    model = _torch(estimator)
    data = bench(estimator).data().without_test()
    if not model.tags.uses_unbiased:
        data = data.with_logs(data.biased)
    source = Source.of(data, model.tables(data), model.device)
    sampler = model.sampler(data)
    batch = next(iter(sampler.batches(source, numpy_generator(0, "checks/batch"), 1)))
    return model, copy.deepcopy(model.nets_), batch, sampler, source


def _steps(model: TorchEstimator) -> list[tuple[str, Step]]:
    """Every step of the program with a name for messages."""
    return [
        (f"step {k} of phase {j} of {type(model).__name__} (updates {', '.join(step.updates)})", step)
        for j, phase in enumerate(model.program())
        for k, step in enumerate(phase.steps)
    ]


def check_steps_move_what_they_name(estimator: Estimator) -> None:
    """A step changes the nets in `updates`, and no other."""
    import torch

    from deconrec.training.program import SGD, Mover

    model, nets, batch, _, _ = _world(estimator)
    for name, step in _steps(model):
        before = {k: v.clone() for k, v in nets.state_dict().items()}
        named = set(nets.select(step.updates))
        Mover.of(step, nets, SGD(1e-2)).move(nets, batch)
        moved = {k for k, v in nets.state_dict().items() if not torch.equal(v, before[k])}
        require(
            not moved - named, f"{name} moved {sorted(moved - named)}; a loss or `project` writes to nets."
        )
        require(
            moved,
            f"{name} moved nothing: its loss does not depend on the nets that it updates (a `detach` too "
            "many?).",
        )


def check_steps_improve(estimator: Estimator) -> None:
    """A small move along its gradient lowers a step's loss on a frozen batch (raises it with `ascend`)."""
    import torch

    from deconrec.training.program import evaluate_step, total

    model, nets, batch, _, _ = _world(estimator)
    nets.eval()
    for name, step in _steps(model):
        terms, parameters, gradients = evaluate_step(step, nets, batch)
        before = float(total(terms).detach()) * batch.weight
        norm = float(torch.sqrt(torch.stack([(g.double() ** 2).sum() for g in gradients]).sum()))
        require(norm > 0, f"{name} has no gradient; its loss does not depend on the nets that it updates.")
        kept = [p.detach().clone() for p in parameters.values()]
        sign, seen = (1.0 if step.ascend else -1.0), []
        for size in (0.1, 0.03, 0.01, 0.003):  # the gradient's direction is right for a small enough move
            with torch.no_grad():
                for p, start, g in zip(parameters.values(), kept, gradients, strict=True):
                    p.copy_(start + sign * size / norm * g)
            after = float(total(evaluate_step(step, nets, batch)[0]).detach()) * batch.weight
            change = sign * (after - before)
            seen.append(change / (size * norm))
        with torch.no_grad():
            for p, start in zip(parameters.values(), kept, strict=True):
                p.copy_(start)
        require(
            max(seen) > 0.1,
            f"{name} does not improve its own loss: moves along the gradient change it by "
            f"{[round(s, 3) for s in seen]} "
            "of what the gradient promises. A stop-gradient inside a step's own nets makes this so on "
            "purpose only.",
        )


def check_terms(estimator: Estimator) -> None:
    """Terms have names of their own, are finite scalars, and stay so on batches without an observed row."""
    import torch

    from deconrec.training.program import evaluate_step

    model, nets, batch, _, source = _world(estimator)
    who = type(model).__name__
    for phase in model.program():
        names = [name for step in phase.steps for name in step.loss(nets, batch)]
        twice = sorted({n for n in names if names.count(n) > 1})
        require(
            not twice,
            f"two steps of {who} have terms {twice}; the history would add them up: name them apart.",
        )
        shapes = {
            k: tuple(v.shape) for s in phase.steps for k, v in s.loss(nets, batch).items() if v.numel() != 1
        }
        require(not shapes, f"{who} has terms that are no scalars: {shapes}; take `expect` or a mean.")
    batches: list[Batch] = [batch, _without_rows(batch, source)]
    for name, step in _steps(model):
        for b in batches:
            terms, _, gradients = evaluate_step(step, nets, b)
            bad = [key for key, value in terms.items() if not torch.isfinite(value).all()]
            bad += [f"gradient {k}" for k, g in enumerate(gradients) if not torch.isfinite(g).all()]
            rows = len(b.observed)
            require(
                not bad,
                f"{name} gives NaN or infinity in {bad} on a batch of {rows} observed rows; use `expect`.",
            )


def _without_rows(batch: Batch, source: Source) -> Batch:
    """The batch as it would be without an observed row."""
    import dataclasses

    import torch

    from deconrec.pairs import Rows
    from deconrec.training.samplers import LazyPairs

    o = batch.observed
    none = dataclasses.replace(
        o, user=o.user[:0], item=o.item[:0], o=o.o[:0], r=o.r[:0], mass=0.0, share=source.density, within=None
    )
    space = batch.space
    if isinstance(space, LazyPairs):
        zeros = torch.zeros_like(space.o)
        space = LazyPairs(o=zeros, r=zeros, tables=space.tables, grid=space.grid)  # type: ignore[arg-type]  # it has a grid
    rows = batch.rows
    if rows is not None:
        empty = rows.item[:0]
        rows = Rows(
            rows.user, empty, torch.zeros_like(rows.offset), rows.r[:0], rows.rating[:0], rows.x, rows.n_items
        )
    return dataclasses.replace(batch, observed=none, space=space, rows=rows)


def check_losses_are_pure(estimator: Estimator) -> None:
    """In evaluation mode a loss gives the same terms twice, and leaves nets, batch and estimator alone."""
    import torch

    model, nets, batch, _, _ = _world(estimator)
    nets.eval()
    who = type(model).__name__
    attributes = dict(vars(model))
    state = {k: v.clone() for k, v in nets.state_dict().items()}
    frozen = {k: v.clone() for k, v in _tensors(batch)}
    for name, step in _steps(model):
        first, second = step.loss(nets, batch), step.loss(nets, batch)
        same = first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
        require(same, f"{name}: its loss gives other terms the second time; a loss must not draw or count.")
    changed = sorted(k for k, v in vars(model).items() if k not in attributes or attributes[k] is not v)
    require(
        not changed,
        f"a loss of {who} writes attributes {changed}; a loss reads, and `Phase(before=)` writes.",
    )
    moved = [k for k, v in nets.state_dict().items() if not torch.equal(v, state[k])]
    require(not moved, f"a loss of {who} changes nets: {moved}.")
    spoilt = [k for k, v in _tensors(batch) if not torch.equal(v, frozen[k])]
    require(not spoilt, f"a loss of {who} writes into its batch: {spoilt}; no in-place operations.")


def _tensors(batch: Batch) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a batch with its path."""
    import torch

    parts: dict[str, Any] = {"observed": batch.observed, "space": batch.space, "unbiased": batch.unbiased}
    for part, sample in (parts | {"rows": batch.rows}).items():
        for key in ("user", "item", "o", "r", "rating", "offset", "x"):
            value = getattr(sample, key, None)
            if isinstance(value, torch.Tensor):
                yield f"{part}.{key}", value


def check_through(estimator: Estimator) -> None:
    """A bilevel step has a gradient through its virtual step."""
    from deconrec.training.program import evaluate_step

    model, nets, batch, _, _ = _world(estimator)
    bilevel = [(name, step) for name, step in _steps(model) if step.through is not None]
    if not bilevel:
        raise NotApplicable("no step has `through`")
    for name, step in bilevel:
        try:
            _, _, gradients = evaluate_step(step, nets, batch)
        except RuntimeError as error:
            raise CheckFailed(
                f"{name} cannot be differentiated twice ({error}); avoid in-place operations in the inner "
                "loss."
            ) from error
        size = sum(float(g.abs().sum()) for g in gradients)
        require(
            0 < size < float("inf"),
            f"{name} has no finite gradient through its virtual step; the inner loss must depend on its "
            "`updates`.",
        )


ENGINE = (
    check_steps_move_what_they_name,
    check_steps_improve,
    check_terms,
    check_losses_are_pure,
    check_through,
)
