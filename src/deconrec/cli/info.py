"""`deconrec info [MODEL]`: environment, devices, data cache and versions; or what a saved model is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from deconrec.cli import output
from deconrec.cli.options import Json, Quiet, Root


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A saved model, to be described instead.")
    ] = None,
    root: Root = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Print versions, devices and where data are looked for: what a bug report needs. Or what a saved model is."""
    if model is not None:
        from deconrec.saving import read_about

        about = read_about(model)  # no array is read
        facts, record = described(about), about
    else:
        facts = record = environment_here(root)
    if json:
        output.write_json(record, json)
        return
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        table.add_row(name, ", ".join(text) if isinstance(text, list) else str(text))
    output.show(table)


def environment_here(root: str | None) -> dict[str, Any]:
    """Versions, devices, and folders of data."""
    from deconrec import __version__
    from deconrec.data.sources.locate import roots
    from deconrec.experiments.compare import environment

    return environment() | {
        "deconrec": __version__,
        "devices": devices(),
        "roots": [str(p) for p in roots(root)],
    }


def described(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `read_about` gives, for the screen."""
    spec, scale, history = about["spec"], about["scale"], about.get("history") or {}
    told = about.get("about") or {}
    data, protocol, features = (told.get(name) or {} for name in ("data", "protocol", "features"))
    kind = "0 or 1" if scale["binary"] else f"{scale['low']:g} to {scale['high']:g}"
    facts = {
        "model": about["class"],
        "from": f"{data.get('name', 'unknown data')}: {spec['n_users']:,} users x {spec['n_items']:,} items"
        + (f", {data['biased_rows']:,} biased rows" if "biased_rows" in data else "")
        + f", {about['unbiased_rows']:,} unbiased rows used",
        "fingerprint": f"{data.get('fingerprint') or about['fingerprint']}",
        "outcome": kind
        + (f" (rating >= {scale['threshold']:g})" if scale.get("threshold") is not None else ""),
        "protocol": {k: v for k, v in protocol.items() if v is not None},
        "features": {side: " ".join(found["names"]) for side, found in features.items() if found},
        "parameters": about["params"],
    }
    if history.get("epochs"):
        facts["training"] = (
            f"{len(history['epochs'])} epochs, best {history.get('best_epoch')}, stopped by {history.get('stopped')}"
        )
    if told.get("diagnosis"):
        facts["diagnosis"] = " ".join(told["diagnosis"]["answer"])
    facts["written by"] = f"deconrec {about['deconrec']}, format {about['format']}"
    facts["files"] = {name: f"{file['bytes']:,} bytes" for name, file in about.get("files", {}).items()}
    return facts | {"seal": about.get("seal", "none (format 1)")}


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
