"""Batches of impressions: their promise, weights, and the risks of methods against loops over rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

import deconrec as dc
from deconrec.checks.fixtures import impressions
from deconrec.training.impressions import ImpressionRows, ImpressionSource, impression_pairs
from manual import impressions as manual
from manual.batches import scramble, value


def table(n=40, seed=0, weight=True):
    rng = np.random.default_rng(seed)
    click = rng.random(n) < 0.4
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 6, n),
            "item_id": rng.integers(0, 5, n),
            "click": click,
            "conversion": (rng.random(n) < 0.5) & click,
            "device": rng.choice(["a", "b", "c"], n),
            "price": rng.standard_normal(n),
            "w": rng.choice([1.0, 2.0, 3.0], n) if weight else np.ones(n),
        }
    )
    return frame.with_columns(
        pl.when(pl.int_range(n) % 7 == 0).then(None).otherwise(pl.col("price")).alias("price")
    )


def data_of(frame, weight="w"):
    return dc.Dataset.from_impressions(
        frame, context=["device", "price"], weight=weight, unbiased=frame.head(9).with_columns(click=True)
    )


def double(batch):
    def sample(p):
        if p is None:
            return None
        context = {k: v.double() if v.is_floating_point() else v for k, v in p.context.items()}
        weight = None if p.weight is None else p.weight.double()
        within = None if p.within is None else (sample(p.within[0]), p.within[1])
        return dataclasses.replace(
            p, o=p.o.double(), r=p.r.double(), context=context, weight=weight, within=within
        )

    observed, space = sample(batch.observed), sample(batch.space)
    return dataclasses.replace(batch, observed=observed, space=space, unbiased=sample(batch.unbiased))


def batches(data, size=None, space=True, seed=0):
    source = ImpressionSource.of(data)
    sampler = ImpressionRows(size or len(source.rows), space)
    return [double(b) for b in sampler.batches(source, np.random.default_rng(seed), 0)]


def rows_of(data):
    shown = data.impressions
    w = np.ones(len(shown)) if shown.log.weight is None else shown.log.weight.astype(float)
    return [(int(o), float(r), float(k)) for o, r, k in zip(shown.click, shown.log.rating, w, strict=True)]


@pytest.mark.parametrize("size", [None, 7])
@pytest.mark.parametrize("space", [True, False])
def test_a_pass_gives_the_sums_over_both_populations(size, space):
    data = data_of(table())
    rows = rows_of(data)
    total = sum(w for _, _, w in rows)
    parts = batches(data, size, space)
    x = [lambda p: p.r + 0.3 * p.user + p.context["inputs"][:, 0], lambda p: torch.ones_like(p.o)]
    shown = data.impressions
    full = shown.log.rating + 0.3 * shown.log.user + shown.context.inputs()[:, 0]
    for f, values in zip(x, (full, np.ones(len(full))), strict=True):
        got = np.mean([b.weight * float(b.observed.expect(f(b.observed))) for b in parts])
        expected = sum(w * v for (o, _, w), v in zip(rows, values, strict=True) if o) / total
        assert got == pytest.approx(expected, rel=1e-6)
        clicked = sum(w for o, _, w in rows if o)
        mean = np.mean([b.weight * float(b.observed.average(f(b.observed))) for b in parts])
        assert mean == pytest.approx(expected * total / clicked, rel=1e-6)
        if space:
            got = np.mean([b.weight * float(b.space.expect(f(b.space))) for b in parts])
            assert got == pytest.approx(
                sum(w * v for (_, _, w), v in zip(rows, values, strict=True)) / total, rel=1e-6
            )


def probabilities(net, pairs):
    return torch.sigmoid(net(pairs)).detach().numpy().tolist()


@pytest.mark.parametrize("size", [None, 11])
@pytest.mark.parametrize("key", ["mf", "esmm", "escm2-dr", "multi-ips", "dr-jl", "snips"])
def test_risks_equal_loops_over_rows(key, size):
    data = data_of(table())
    model = dc.make(key).set_params(dim=3, epochs=0)
    if key == "snips":
        size = None  # its sums are over a step
    if "propensity__epochs" in model.get_params():
        model.set_params(propensity__epochs=2, propensity__dim=2, propensity__floor=0.01)
    model.fit(data, validation=data)
    nets, rows = scramble(model.nets_, std=0.4), rows_of(data)
    parts = batches(data, size, model.reads_space)
    got = {}
    for phase in model.program():
        for step in phase.steps:
            for b in parts:
                for name, term in step.loss(nets, b).items():
                    got[name] = got.get(name, 0.0) + b.weight * float(term.detach()) / len(parts)
    source = ImpressionSource.of(data)
    everything = double(next(ImpressionRows(10**6).batches(source, np.random.default_rng(0), 0))).space
    back = np.argsort(np.random.default_rng(0).permutation(len(rows)))
    r_hat = np.array(probabilities(nets.prediction, everything))[back].tolist()
    if hasattr(model, "propensity_"):
        model.propensity_.nets_.double()
        p = model.propensity_(everything).numpy()[back].tolist()
    elif "propensity" in nets:
        raw = np.array(probabilities(nets.propensity, everything))[back]
        floored = np.maximum(raw, model.floor_).tolist() if hasattr(model, "floor_") else raw.tolist()
        p, raw = floored, raw.tolist()
    if "imputation" in nets:
        label = np.array(probabilities(nets.imputation, everything))[back].tolist()
    expected = {
        "mf": lambda: {"biased": manual.naive(rows, r_hat)},
        "esmm": lambda: {"exposure": manual.ctr(rows, raw), "ctcvr": manual.ctcvr(rows, raw, r_hat)},
        "multi-ips": lambda: {"exposure": manual.ctr(rows, raw), "ips": manual.ips(rows, r_hat, p)},
        "snips": lambda: {"snips": manual.snips(rows, r_hat, p)},
        "dr-jl": lambda: {
            "imputation": manual.imputation(rows, r_hat, p, label),
            "dr": manual.dr(rows, r_hat, p, label),
        },
        "escm2-dr": lambda: {
            "exposure": manual.ctr(rows, raw),
            "imputation": 0.1 * manual.imputation(rows, r_hat, p, label),
            "dr": manual.dr(rows, r_hat, p, label),
            "ctcvr": manual.ctcvr(rows, raw, r_hat),
        },
    }[key]()
    if "direct" in got:
        got["dr"] = got.pop("direct") + got.pop("correction")
    assert set(got) == set(expected)
    for name, number in expected.items():
        assert got[name] == pytest.approx(number, rel=1e-5), name


@pytest.mark.parametrize("key", ["mf", "ips", "snips", "esmm", "escm2-dr", "res-ips"])
def test_a_weight_of_2_is_the_row_twice(key):
    """One step of one batch: risks, and what the L2 prior weighs, are the same numbers."""
    frame = table().with_columns(pl.col("w").cast(pl.Int64))
    once = data_of(frame.with_columns(pl.col("w").cast(pl.Float64)))
    twice = data_of(frame.select(pl.all().repeat_by("w")).explode(pl.all()), weight=None)
    twice = twice.with_impressions(twice.impressions, once.unbiased)
    terms = []
    for data in (once, twice):
        model = dc.make(key).set_params(dim=3, epochs=0)
        if "propensity__epochs" in model.get_params():
            model.set_params(propensity__epochs=1, propensity__dim=2, propensity__floor=0.2)
        model.fit(data, validation=data)
        if hasattr(model, "propensity_"):
            scramble(model.propensity_.nets_, std=0.4)
        nets = scramble(model.nets_, std=0.4)
        (whole,) = batches(data, space=model.reads_space)
        terms.append([value(s.loss(nets, whole)) for ph in model.program() for s in ph.steps])
        terms[-1].append(model.l2_)
    np.testing.assert_allclose(terms[0], terms[1], rtol=1e-5)


def test_within_gives_what_the_clicked_rows_would_say():
    data = data_of(table())
    model = dc.make("escm2-dr").set_params(dim=3, epochs=0).fit(data, validation=data)
    nets = scramble(model.nets_, std=0.4)
    (b,) = batches(data)
    apart = dataclasses.replace(b, observed=dataclasses.replace(b.observed, within=None))
    everywhere: set[int] = set()
    loss = model.program()[0].steps[0].loss
    with nets.remembering(everywhere):
        loss(nets, b)
    assert everywhere
    with nets.remembering(everywhere):
        first = value(loss(nets, b))
    assert first == pytest.approx(value(loss(nets, apart)), rel=1e-9)


def test_rows_are_drawn_as_often_as_they_weigh():
    frame = table(12)
    data = data_of(frame.with_columns(w=pl.when(pl.int_range(12) == 3).then(9.0).otherwise(1.0)))
    drawn = ImpressionSource.of(data).drawn(np.random.default_rng(0), 40_000)
    at = (drawn.user == int(data.impressions.log.user[3])) & (drawn.item == int(data.impressions.log.item[3]))
    assert drawn.weight is None
    same = (data.impressions.log.user == data.impressions.log.user[3]) & (
        data.impressions.log.item == data.impressions.log.item[3]
    )
    expected = (9 + same.sum() - 1) / 20
    assert float(at.double().mean()) == pytest.approx(expected, abs=0.01)


def test_clicked_rows_alone_are_visited_where_no_risk_reads_d():
    data = impressions()
    parts = batches(data, 50, space=False)
    assert sum(len(b.observed) for b in parts) == len(data.biased)
    assert not any(len(b.space) for b in parts)


def test_a_large_randomised_table_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    from deconrec.training import impressions as module

    source = ImpressionSource.of(data_of(table()))
    rng = np.random.default_rng(0)
    assert source.randomised(rng) is source.unbiased
    monkeypatch.setattr(module, "LARGEST_UNBIASED", 4)
    found = source.randomised(rng)
    assert len(found) == 4
    assert set(found.user.tolist()) <= set(source.unbiased.user.tolist())


def test_impressions_without_outcomes() -> None:
    data = data_of(table())
    shown = data.impressions
    found = impression_pairs(shown.log.user, shown.log.item, shown.context, "cpu")
    assert found.user.tolist() == shown.log.user.tolist()
    assert found.item.dtype == torch.int64
    assert not found.r.any()
    assert len(found.context) > 0
