"""`deconrec info`: environment, device, data cache, versions."""

from __future__ import annotations

from deconrec.cli import output
from deconrec.cli.options import Json, Quiet, Root


def info(root: Root = None, json: Json = None, quiet: Quiet = False) -> None:
    """Print versions, devices and where data are looked for: what a bug report needs."""
    from deconrec import __version__
    from deconrec.data.sources.locate import roots
    from deconrec.experiments.compare import environment

    facts = environment() | {
        "deconrec": __version__,
        "devices": devices(),
        "roots": [str(p) for p in roots(root)],
    }
    if json:
        output.write_json(facts, json)
        return
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        table.add_row(name, ", ".join(text) if isinstance(text, list) else str(text))
    output.show(table)


def devices() -> list[str]:
    """The torch devices of this machine; empty without torch."""
    try:
        import torch
    except ModuleNotFoundError:
        return []
    found = ["cpu"]
    found += [f"cuda:{k} ({torch.cuda.get_device_name(k)})" for k in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found
