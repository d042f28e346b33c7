"""Measures what the guide on effects says (about a minute), and writes its table and figures; see measured.py."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from measured import Measured, drawing, svg

import deconrec as dc
from deconrec.effects.factors import LogisticFactors
from deconrec.effects.network import fit_network, network_function, responses
from deconrec.effects.regression import one_at_a_time

DIMS = (1, 2, 3, 4, 5, 6, 8, 10)


def rms(x: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def measure(n_users: int = 8000, bootstrap: int = 30, seed: int = 0) -> dict[str, Any]:
    """Everything the page says, in one world of 100 items, 5 confounders and 30 % exposure, and its variants."""
    data, truth = dc.simulate.effects(n_users=n_users, seed=seed)
    effect, a = truth.extra["effects"], data.biased.pattern(data.shape).toarray().astype(np.float64)
    own, n = np.diag(effect), data.n_items
    other = ~np.eye(n, dtype=bool)
    r, c = truth.rating.astype(np.float64), np.asarray(truth.confounder, np.float64)
    out: dict[str, Any] = {"n_users": n_users, "seed": seed, "exposure": float(a.mean())}

    found = dc.effects.estimate(data, truth.rating, dims=DIMS, bootstrap=bootstrap, seed=seed)
    assert found.error is not None
    assert found.error_known_z is not None
    known = one_at_a_time(a, r, c, own=a, same=np.eye(n, dtype=bool)).effect
    out["dim"] = found.settings["dim"]
    out["verdicts"] = {v.code: v.status for v in found.verdicts}
    for name, values in (("naive", found.naive), ("adjusted", found.adjusted), ("true_confounder", known)):
        gap = values - effect
        out[name] = {
            "own": rms(np.diag(gap)),
            "other": rms(gap[other]),
            "own_bias": float(np.diag(gap).mean()),
        }
    gap = np.abs(found.adjusted - effect)
    out["coverage"] = {
        "bootstrap": float((gap < 1.96 * found.error).mean()),
        "known_z": float((gap < 1.96 * found.error_known_z).mean()),
        "bootstrap_own": float(np.diag(gap < 1.96 * found.error).mean()),
        "known_z_own": float(np.diag(gap < 1.96 * found.error_known_z).mean()),
    }
    z: dict[int, np.ndarray] = {}
    out["sweep"] = []
    for point in found.sweep:
        model = LogisticFactors(dim=point.dim, check_draws=0).fit(data)
        z[point.dim] = model.posterior(a)[0]
        error = rms(np.diag(one_at_a_time(a, r, z[point.dim]).effect) - own)
        row = {"dim": point.dim, "own": error, "p": point.p, "behind": point.behind}
        out["sweep"].append(row | {"behind_error": point.behind_error, "linear_share": point.linear_share})

    out["all"] = {}
    for name, exposure in (("factors", None), ("vae", dc.VAEExposure())):
        every = dc.effects.estimate(
            *(data, truth.rating), treatments="all", dims=(out["dim"],), bootstrap=0, exposure=exposure
        )
        one = dc.effects.estimate(data, truth.rating, dims=(out["dim"],), bootstrap=0, exposure=exposure)
        out["all"][name] = {
            "naive": rms(every.own("naive") - own),
            "adjusted": rms(every.own() - own),
            "one": rms(one.own() - own),
            "linear_share": next(v.value for v in every.verdicts if v.code == "LINEAR_CONFOUNDER"),
        }

    given = z[out["dim"]] / z[out["dim"]].std(0)
    net = fit_network(a, r, given, seed=seed)
    items = np.arange(n)
    mean = responses(network_function(net, given), a, np.arange(min(n_users, 2000)), items, items)
    nobody = network_function(net, np.zeros_like(given[:1]))
    zero = responses(nobody, np.zeros((1, n)), np.zeros(1, np.int64), items, items)
    out["net"] = {
        name: {"own": rms(np.diag(j) - own), "own_bias": float((np.diag(j) - own).mean())}
        for name, j in (("mean", mean), ("zero", zero))
    }

    single, single_truth = dc.simulate.effects(n_users=n_users, single_cause=1.0, seed=seed)
    found = dc.effects.estimate(single, single_truth.rating, dims=(out["dim"],), bootstrap=0)
    gap = found.own() - np.diag(single_truth.extra["effects"])
    out["single"] = {"with": float(gap[:10].mean()), "without": float(gap[10:].mean())}

    masked = np.where(a > 0, r, 0.0)
    refused = dc.effects.estimate(data, masked, dims=(out["dim"],), bootstrap=0, even_if_refused=True)
    out["masked"] = {
        "refused": refused.refused,
        "own_bias": float((refused.own() - own).mean()),
        "own_bias_true_confounder": float((np.diag(one_at_a_time(a, masked, c).effect) - own).mean()),
    }
    out["variance"] = json.loads(dc.effects.variance_theorem(seed=seed).to_json())
    return out


def table(m: dict[str, Any]) -> str:
    """The measured numbers as Markdown."""
    third = m["adjusted"]["own"] / m["naive"]["own"]
    rows = [
        ("difference of means (naive)", m["naive"]),
        (f"given z, dimension {m['dim']} chosen by the predictive check", m["adjusted"]),
        ("given the true confounder", m["true_confounder"]),
    ]
    lines = [
        f"World: {m['n_users']:,} users, 100 items, 5 confounders, {m['exposure']:.0%} exposure, seed {m['seed']}.",
        "",
        "| one exposure at a time | own effects, RMSE | mean error | effects on other items, RMSE |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {v['own']:.3f} | {v['own_bias']:+.3f} | {v['other']:.3f} |" for name, v in rows),
        "",
        f"The error with z is {third:.2f} of the naive one. 95 % intervals cover the truth in "
        f"{m['coverage']['bootstrap_own']:.0%} of own effects ({m['coverage']['bootstrap']:.1%} of all pairs) when the "
        f"bootstrap refits z, and in {m['coverage']['known_z_own']:.0%} ({m['coverage']['known_z']:.1%}) when z is "
        "taken as known"
        + (
            ": the refits buy nothing here."
            if m["coverage"]["bootstrap_own"] <= m["coverage"]["known_z_own"]
            else "."
        ),
        "",
        "| dimension of z | own effects, RMSE | check p | held-out log-likelihood behind the best, nats a user |",
        "| --- | --- | --- | --- |",
        *(
            f"| {p['dim']}{' (chosen)' if p['dim'] == m['dim'] else ''} | {p['own']:.3f} | {p['p']:.2f} | "
            f"{p['behind']:.3f} ± {p['behind_error']:.3f} |"
            for p in m["sweep"]
        ),
        "",
        "| own effects, RMSE | all exposures at once, without z | with z | one at a time, with z | R2(z given a) |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {v['naive']:.3f} | {v['adjusted']:.3f} | {v['one']:.3f} | {v['linear_share']:.4f} |"
            for name, v in (
                ("posterior mean of a logistic factor model", m["all"]["factors"]),
                ("code of the exposure VAE, linear in a / norm(a)", m["all"]["vae"]),
            )
        ),
        "",
        "| tanh network with z | own effects, RMSE | mean error |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {v['own']:.3f} | {v['own_bias']:+.3f} |"
            for name, v in (
                ("mean Jacobian over users", m["net"]["mean"]),
                ("Jacobian at (0, 0, 0)", m["net"]["zero"]),
            )
        ),
        "",
        f"With a confounder of a single item on ten items, the mean error of their own effects is "
        f"{m['single']['with']:+.2f} (other items {m['single']['without']:+.3f}). With outcomes masked by exposure "
        f"(r a in place of r) it is {m['masked']['own_bias']:+.1f}, and {m['masked']['own_bias_true_confounder']:+.1f} "
        "with the true confounder; the result is refused.",
    ]
    return "\n".join(lines) + "\n"


def figures(m: dict[str, Any]) -> dict[str, bytes]:
    """The sweep and the variance theorem as SVG, by file name."""
    from matplotlib.figure import Figure

    from deconrec.report.pictures import COLOURS

    out = {}
    with drawing():
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        x = [p["dim"] for p in m["sweep"]]
        axes.plot(x, [p["own"] for p in m["sweep"]], "o-", color=COLOURS[0], label="given z")
        axes.axhline(m["naive"]["own"], color=COLOURS[1], ls="--", label="naive")
        axes.axhline(m["true_confounder"]["own"], color=COLOURS[2], ls=":", label="given the true confounder")
        axes.axvline(m["dim"], color="#999999", lw=0.8)
        axes.set_ylim(bottom=0)
        axes.set(
            xlabel="dimension of z (line: chosen by the predictive check)",
            ylabel="own effects, RMSE",
            xticks=x,
        )
        axes.legend(frameon=False)
        out["effects-sweep.svg"] = svg(figure)

        v = m["variance"]
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        x = [p["feature_effect"] for p in v["points"]]
        fine = np.linspace(min(x), max(x), 60)
        scale = v["n_users"] * v["exposure_rate"] * (1 - v["exposure_rate"])
        for colour, name, words in ((COLOURS[1], "without", "without x"), (COLOURS[0], "with", "with x")):
            measured = [p[f"{name}_x"] for p in v["points"]]
            bars = [2 * p["error"] * p[f"{name}_x"] for p in v["points"]]
            axes.errorbar(x, measured, yerr=bars, fmt="o", color=colour, capsize=3, label=words)
            left = v["noise"] ** 2 + (name == "without") * fine**2
            axes.plot(fine, left / scale, color=colour, lw=1)
        axes.set(xlabel="weight of the feature x in the outcome", ylabel="variance of the effect", xticks=x)
        axes.set_title(
            "Points: OLS over samples ± 2 SE. Lines: sigma² / (U p (1 - p)).", fontsize=9, loc="left"
        )
        axes.legend(frameon=False)
        out["effects-variance.svg"] = svg(figure)
    return out


GUIDE = Measured("effects", measure, table, figures)

if __name__ == "__main__":
    sys.exit(GUIDE.main(__doc__))
