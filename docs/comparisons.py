"""The comparisons behind tables of results on the pages: how each is run, and its record as a table."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from markup import DOCS, code, table

RECORDS = DOCS / "records"
_WORLD = "n_users=600+n_items=300+exposure_rate=0.08+unbiased_share=0.1"
_PAIRS = "mf,mf-combined,ips,dr-jl,res-ips,res-dr"
_METRICS = "mse,auc,ndcg@5/shown"
MEASURED: dict[
    str, tuple[str, str, int, str | None]
] = {  # name: data, methods, seeds, metrics (None = the defaults)
    "tour": ("world/data.toml", "mf,mf-combined,ips,res-dr", 5, "mse,auc"),
    "confounded": (f"sim-pairs:confounding=2+{_WORLD}", _PAIRS, 10, _METRICS),
    "unconfounded": (f"sim-pairs:confounding=0+{_WORLD}", _PAIRS, 10, _METRICS),
    "users": ("sim-deconf:n_users=1000+n_items=500+n_factors=50", "mf,concat-vae,deep-deconf", 5, None),
}


def command_of(name: str) -> str:
    """The command line that makes a record."""
    data, methods, seeds, metrics = MEASURED[name]
    quoted = f'"{data}"' if "+" in data else data
    line = f"deconrec compare {quoted} --methods {methods} --seeds {seeds}"
    return line + (f" --metrics {metrics}" if metrics else "")


def measure(name: str) -> None:
    """Run a comparison and write its record: what the tables and sentences are drawn from."""
    from deconrec.catalogue import write_world
    from deconrec.experiments.compare import compare
    from deconrec.report.text import verdict

    data, methods, seeds, metrics = MEASURED[name]
    with tempfile.TemporaryDirectory() as folder:
        if data.endswith(".toml"):
            write_world(f"sim-pairs:confounding=2+{_WORLD}", {}, 0, Path(folder) / Path(data).parent)
            data = str(Path(folder) / data)
        asked = None if metrics is None else metrics.split(",")
        result = compare(data, methods.split(","), seeds=seeds, metrics=asked)
    record = {
        "command": command_of(name),
        "versions": {"python": result.environment["python"], **result.environment["versions"]},
        "world": result.protocol["world"],
        "seeds": result.protocol["seeds"],
        "metrics": result.metrics,
        "summary": [s.model_dump() for s in result.summary],
        "letters": result.letters,
        "unbiased_rows": {
            r.method: r.unbiased_rows for r in result.runs if r.seed == result.protocol["seeds"][0]
        },
        "verdict": " ".join(str(verdict(result)).split()),
    }
    RECORDS.mkdir(exist_ok=True)
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    (RECORDS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def results(name: str, *, command: bool = True) -> str:
    """A record as a table with its version and verdict, and its command before it."""
    from deconrec.experiments.results import higher_is_better

    record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    cells = {(s["method"], s["metric"]): s for s in record["summary"]}
    methods = list(dict.fromkeys(s["method"] for s in record["summary"]))
    headline = record["metrics"][0]
    sign = -1 if higher_is_better(headline) else 1
    methods.sort(key=lambda m: sign * cells[m, headline]["mean"])
    rows = []
    for method in methods:
        row = [f"`{method}`"]
        for metric in record["metrics"]:
            s, letters = cells[method, metric], record["letters"][metric].get(method, "")
            row.append(f"{s['mean']:.3f} ± {(s['high'] - s['low']) / 2:.3f} {letters}".rstrip())
        rows.append([*row, f"{record['unbiased_rows'][method]:,}"])
    versions = ", ".join(
        f"{k} {v}" for k, v in record["versions"].items() if k in ("deconrec", "torch", "numpy")
    )
    note = (
        f"Mean over {len(record['seeds'])} seeds ({record['world']}) ± half the 95 % interval; methods that share a "
        f"letter are not distinguishable; {versions}. Its verdict: “{record['verdict']}”"
    )
    head = ["method", *(f"`{m}`" for m in record["metrics"]), "randomised rows used"]
    return "\n\n".join([*([code(record["command"], "bash")] if command else []), table(head, rows), note])
