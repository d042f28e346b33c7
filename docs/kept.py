"""Tables of experiments that were run: drawn from experiments/results, never typed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from markup import ROOT, table

KEPT = ROOT / "experiments" / "results"


def experiments(page: Path) -> str:
    """Every experiment of the library with its title, its command and, where it was run, its tables."""
    from deconrec.experiments.spec import load_spec, spec_names

    rows = []
    for name in spec_names():
        done = KEPT / f"{name}.md"
        link = Path(os.path.relpath(done, page.parent)).as_posix()
        rows.append(
            [
                f"`deconrec reproduce {name}`",
                load_spec(name)[1].title,
                f"[tables]({link})" if done.is_file() else "not run here yet",
            ]
        )
    return table(["command", "what", "results"], rows)


def gap_on_coat() -> str:
    """By how much the best configurations fall short of the paper's Res-DR on Coat, from the kept runs."""
    from deconrec.experiments.spec import load_spec
    from deconrec.methods import make

    name, metrics = "res-dr/table1-coat", ("auc", "ndcg@5/shown", "recall@5/shown")
    paper = load_spec(name)[1].paper.tables[0].values["res-dr:agreement=loss"]
    digest = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
    means: dict[str, dict[str, float]] = {}
    for row in digest["summary"]:
        means.setdefault(row["method"], {})[row["metric"]] = row["mean"]
    ids_alone = [m for m in means if not make(m).tags.uses_features]
    chosen = {
        "best with ids alone, leaked pairs kept": (
            max(ids_alone, key=lambda m: means[m]["auc/leaked"]),
            "/leaked",
        ),
        "best with features, leaked pairs kept": (
            max(means, key=lambda m: means[m]["auc/leaked"]),
            "/leaked",
        ),
        "best with ids alone, leak-free": (max(ids_alone, key=lambda m: means[m]["auc"]), ""),
        "best with features, leak-free": (max(means, key=lambda m: means[m]["auc"]), ""),
    }
    rows = [["the paper's Res-DR", "", *(f"{v:.3f}" for v in paper), ""]]
    for what, (method, twin) in chosen.items():
        ours = [means[method][m + twin] for m in metrics]
        short = " / ".join(f"{a - b:+.3f}" for a, b in zip(ours, paper, strict=True))
        rows.append([what, f"`{method}`", *(f"{v:.3f}" for v in ours), short])
    return table(["", "method", "AUC", "NDCG@5", "Recall@5", "ours minus the paper's"], rows)


def speed() -> str:
    """Every kept benchmark: each side against the named peer, and the target where there is one."""
    rows = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        setting = ", ".join(f"{name} {value:,}" for name, value in record["setting"].items())
        for turn, (name, side) in enumerate(record["sides"].items()):
            peer, target = name == record["peer_name"], side["target"]
            memory = "" if side["peak_mib"] is None else f"{side['peak_mib']:,.0f} MiB"
            reached = "" if target is None else f"{target:g}: {'yes' if side['ratio'] >= target else 'no'}"
            rows.append(
                [
                    f"`{record['case']}`: {record['says']}" + (f" ({setting})" if setting else "")
                    if not turn
                    else "",
                    f"{name} (the peer)" if peer else name,
                    f"{side['median_seconds']:.3g} s",
                    "1" if peer else f"**{side['ratio']:.3g}**",
                    reached,
                    memory,
                    record["machine"]["processor"] if not turn else "",
                ]
            )
    head = ["case", "side", "median", "times as fast as the peer", "at least", "memory added", "processor"]
    return table(head, rows)


LEVELS = {  # of Table 2 of paper 1: an experiment, and what its worlds are called here
    "deep-deconf/table2-simulated": "simulated",
    "deep-deconf/table2-ml": "ML-causal",
}
LEVELLED = (
    "popularity",
    "wmf",
    "deconf-mf",
    "concat-vae",
    "deep-deconf",
    "deep-deconf:exposure=known",
    "grounded-gp",
)
ORACLE = "`deep-deconf` given the true confounder"
CONTROLS = {"concat-vae": "without z", "deep-deconf:permuted=true": "with another user's z"}


def confounding_levels() -> str:
    """Deep-Deconf over the confounding level, selected by validation: beside baselines, and what z adds."""
    rows: list[list[str]] = []
    for name, called in LEVELS.items():
        path = KEPT / f"{name}.json"
        if not path.is_file():
            continue
        digest = json.loads(path.read_text(encoding="utf-8"))
        metric = digest["summary"][0]["metric"]
        settings = {json.dumps(s["setting"]): s["setting"] for s in digest["summary"]}
        for setting in settings.values():
            if setting["selection"] != "validation":
                continue
            means = {
                s["method"]: s["mean"]
                for s in digest["summary"]
                if s["metric"] == metric and s["setting"] == setting and s["mean"] is not None
            }
            row = [f"{called}, {setting['gamma_theta']:g}"]
            row += [f"{means[m]:.4f}" if m in means else "" for m in LEVELLED]
            row += [_contrast(digest, control, setting) for control in CONTROLS]
            rows.append(row)
    head = ["worlds, gamma_theta", *(ORACLE if "known" in m else f"`{m}`" for m in LEVELLED)]
    head += [f"`deep-deconf` less itself {said}" for said in CONTROLS.values()]
    note = (
        "`recall_capped@20/full`, means over 10 seeds, each a world or a draw of its own, parameters and epochs chosen "
        "by validation users; differences with 95 % intervals; * p < .05 in paired tests, Holm-corrected over the "
        "contrasts of the experiment. Without z it is `concat-vae`, tuned as much."
    )
    return table(head, rows) + "\n\n" + note


def _contrast(digest: dict[str, Any], control: str, setting: dict[str, Any]) -> str:
    """What a claim's contrast of Deep-Deconf with a control found at a setting; "" where it was not run."""
    for contrast in (c for claim in digest["verdict"]["claims"] for c in claim["contrasts"]):
        if (contrast["a"], contrast["b"]) != ("deep-deconf", control) or contrast["difference"] is None:
            continue
        if contrast["setting_a"] == contrast["setting_b"] == setting:
            mark = " *" if contrast["p_holm"] is not None and contrast["p_holm"] < 0.05 else ""
            return f"{contrast['difference']:+.4f} [{contrast['low']:+.4f}, {contrast['high']:+.4f}]{mark}"
    return ""


HEADLINE = {  # what an experiment is called here, and its headline metric
    "res-dr/table1-coat": "Coat (real)",
    "res-dr/table1-kuairec": "KuaiRec (semi-real)",
    "studies/residual-mechanism": "simulated pairs",
}
SHOWN = (
    "mf",
    "mf-combined",
    "ips",
    "autodebias",
    "res-ips",
    "res-dr",
    "res-dr:agreement=loss",
    "grounded-gp",
)


def headline() -> str:
    """A few methods on three kept experiments, and what tests say of Res-DR against `mf-combined`."""
    from deconrec.evaluation.statistics import holm
    from deconrec.experiments.results import higher_is_better

    rows: list[list[str]] = []
    tests: list[tuple[float, float]] = []
    for name, called in HEADLINE.items():
        digest = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
        metric = digest["summary"][0]["metric"]
        sign = 1 if higher_is_better(metric) else -1
        for setting in sorted({json.dumps(s["setting"]) for s in digest["summary"]}):
            dial = json.loads(setting)
            means = {
                s["method"]: s["mean"]
                for s in digest["summary"]
                if s["metric"] == metric and s["setting"] == dial
            }
            test = next(
                t
                for t in digest["tests"]
                if t["metric"] == metric
                and t["setting"] == dial
                and {t["a"], t["b"]} == {"mf-combined", "res-dr"}
            )
            tests.append((sign * test["difference"] * (1 if test["a"] == "res-dr" else -1), test["p"]))
            best = max((v for m, v in means.items() if m in SHOWN), key=lambda v: sign * v)
            cells = ["" if m not in means else f"{means[m]:.3f}" for m in SHOWN]
            bold = [f"**{c}**" if c == f"{best:.3f}" else c for c in cells]
            place = called + "".join(f", {k} {v:g}" for k, v in dial.items())
            rows.append([place, f"`{metric}` {'↑' if sign > 0 else '↓'}", *bold])
    corrected = holm([p for _, p in tests])
    for row, (gain, _), p in zip(rows, tests, corrected, strict=True):
        row.append("no difference shown" if p >= 0.05 else "better" if gain > 0 else "worse")
    names = {"res-dr:agreement=loss": "`res-dr` as published"}
    head = ["data", "metric", *(names.get(m, f"`{m}`") for m in SHOWN), "`res-dr` against `mf-combined`"]
    note = (
        "Means over 10 seeds, tuned by a hold-out of the biased log where the experiment tunes; bold: the best mean of "
        "the row, which need not be significantly so. Last column: paired tests, Holm-corrected over the rows of this "
        "table. Intervals and every other method: the experiments' own pages."
    )
    return table(head, rows) + "\n\n" + note


RESIDUAL_LOSS = "residuals: logs agree on the loss, as published"
RESIDUAL_NONE = "Res-* without residuals, L_U kept"
FAMILY_TABLES = {
    "families-coat": "res-dr/table1-coat",
    "families-kuairec": "res-dr/table1-kuairec",
    "families-ratio": "res-dr/table2",
    "families-simulated": "studies/residual-mechanism",
}
FAMILIES = {
    "randomised rows, no correction": ("mf-uniform", "mf-combined"),
    "weights": ("ips", "snips", "multi-ips", "escm2-ips"),
    "imputation, doubly robust": ("eib", "dr-jl", "mrdr", "multi-dr", "escm2-dr"),
    "entire space": ("esmm",),
    "bounds on hidden confounding": ("rd-ips", "rd-dr", "brd-ips", "brd-dr"),
    "weights learned from randomised rows": ("autodebias", "ltd"),
    "a teacher of randomised rows": ("cause", "kd-label", "kd-feature"),
    "residuals: logs agree on outcomes": ("res-ips", "res-dr"),
    RESIDUAL_LOSS: (),
    RESIDUAL_NONE: (),
    "item-item": ("ease",),
    "one model of both logs": ("grounded-gp",),
}


def family_of(method: str) -> str:
    """The family of a method's text; with `backbone=fm` one of their own."""
    if "backbone=fm" in method:
        return "features (backbone=fm)"
    if "agreement=loss" in method:
        return RESIDUAL_LOSS
    if "residual_propensity=false" in method:
        return RESIDUAL_NONE
    return next((name for name, members in FAMILIES.items() if method.partition(":")[0] in members), "")


def families(name: str) -> str:
    """One row a family and setting of an experiment: its differences to mf and mf-combined in the headline metric."""
    from deconrec.evaluation.statistics import holm
    from deconrec.experiments.results import higher_is_better

    path = KEPT / f"{name}.json"
    if not path.is_file():
        return f"Not run here yet: `deconrec reproduce {name}`."
    digest = json.loads(path.read_text(encoding="utf-8"))
    metric = digest["summary"][0]["metric"]
    sign = 1 if higher_is_better(metric) else -1
    found: dict[tuple[str, str, str], list[tuple[float, str]]] = {}
    for floor in ("mf", "mf-combined"):
        tests = [t for t in digest["tests"] if t["metric"] == metric and floor in (t["a"], t["b"])]
        tests = [t for t in tests if t["difference"] is not None and t["p"] is not None]
        corrected = holm([t["p"] for t in tests]) if tests else []
        for test, p in zip(tests, corrected, strict=True):
            other = test["b"] if test["a"] == floor else test["a"]
            gain = sign * test["difference"] * (1 if test["a"] == other else -1)
            said = "no difference shown" if p >= 0.05 else "better" if gain > 0 else "worse"
            setting = ", ".join(f"{k}={v:g}" for k, v in test["setting"].items())
            if family_of(other):
                found.setdefault((setting, family_of(other), floor), []).append((gain, said))
    settings = list(dict.fromkeys(setting for setting, _, _ in found))
    rows = []
    for setting in settings:
        for family in [*FAMILIES, "features (backbone=fm)"]:
            cells = []
            for floor in ("mf", "mf-combined"):
                each = found.get((setting, family, floor), [])
                counts = [
                    f"{sum(s == word for _, s in each)} {word}"
                    for word in ("better", "worse", "no difference shown")
                    if any(s == word for _, s in each)
                ]
                gains = [g for g, _ in each]
                spread = (
                    f"{min(gains):+.3f}"
                    if len(gains) == 1
                    else f"{min(gains):+.3f} to {max(gains):+.3f}"
                    if gains
                    else ""
                )
                cells.append(f"{spread}: {', '.join(counts)}" if each else "")
            if any(cells):
                rows.append([*([setting] if len(settings) > 1 else []), family, *cells])
    head = [
        *(["setting"] if len(settings) > 1 else []),
        "family",
        "gain over `mf`",
        "gain over `mf-combined`",
    ]
    note = (
        f"`deconrec reproduce {name}`, `{metric}` (a gain is an improvement): the smallest and the largest mean gain "
        "among a family's methods, and what paired tests say, Holm-corrected over the methods and settings of a column."
    )
    missing = f" Not complete: {len(digest['missing'])} entries are missing." if digest["missing"] else ""
    return table(head, rows) + "\n\n" + note + missing
