"""`deconrec effects MODEL`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Json, Pictures, Quiet, Report, Seed, check_pictures, threads


def effects(
    model: Annotated[
        str, typer.Argument(metavar="DIR", help="A saved model; without --outcomes, one over user rows.")
    ],
    outcomes: Annotated[
        str | None,
        typer.Option(
            "--outcomes",
            metavar="FILE",
            help="user_id, item_id, rating of all pairs, exposed or not (CSV or Parquet).",
        ),
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            "--outcome",
            metavar="MODEL",
            help="network = the model's own; linear; net (default: linear with --outcomes, else network).",
        ),
    ] = None,
    treatments: Annotated[
        str | None,
        typer.Option("--treatments", metavar="one|all", help="Exposures in one regression (default: one)."),
    ] = None,
    exposure: Annotated[
        str | None,
        typer.Option(
            "--exposure",
            metavar="NAME",
            help="Exposure model that gives z: factors (default), vae or poisson, with parameters as vae:epochs=20, or "
            "model = the method's own.",
        ),
    ] = None,
    features: Annotated[
        bool | None, typer.Option("--features/--no-features", help="Adjust for user features (default: yes).")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="UNIT", help="Of the model's own network: logit (default) or probability."
        ),
    ] = None,
    causes: Annotated[
        str | None,
        typer.Option(
            "--causes", metavar="IDS", help="Exposed items, ids separated by commas (default: all)."
        ),
    ] = None,
    items: Annotated[
        str | None,
        typer.Option("--items", metavar="IDS", help="Items whose outcome is looked at (default: all)."),
    ] = None,
    users: Annotated[
        str | None,
        typer.Option("--users", metavar="IDS", help="Users that the effect is averaged over (default: all)."),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="jacobian, or difference (exposed less not).")
    ] = "jacobian",
    at: Annotated[
        str, typer.Option("--at", metavar="POINT", help="mean over users, or zero (the paper's Jacobian).")
    ] = "mean",
    dims: Annotated[
        str | None,
        typer.Option("--dims", metavar="LIST", help="Dimensions of z to try, separated by commas."),
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            "--bootstrap", min=0, help="Refits over resampled users (default: 50 for linear, else 0)."
        ),
    ] = None,
    even_if_refused: Annotated[
        bool, typer.Option("--even-if-refused", help="Show what the fit says where a verdict refuses.")
    ] = False,
    report: Report = None,
    pictures: Pictures = None,
    seed: Seed = 0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Estimate effects of exposing items on outcomes, naive beside adjusted, with what they rest on.

    The pairs that the model was given are the exposures. Without --outcomes the Jacobian of its network is read, which
    verdicts refuse to call an effect.
    """
    check_pictures(pictures, report)
    from deconrec.saving import load_model

    numbers = None if dims is None else _whole(dims)
    chosen = {"treatments": treatments, "exposure": exposure, "features": features, "output": unit}
    options = {name: value for name, value in chosen.items() if value is not None}
    fitted = load_model(model)
    threads()
    found = fitted.effects(
        outcomes,
        outcome=outcome,
        causes=_ids(fitted, "items_", causes),
        items=_ids(fitted, "items_", items),
        users=_ids(fitted, "users_", users),
        kind=kind,
        at=at,
        dims=numbers,
        bootstrap=bootstrap,
        seed=seed,
        even_if_refused=even_if_refused,
        **options,
    )
    if json:
        output.write_json(found.to_json(), json)
    if report is not None:
        from deconrec.report.effects import write_effects

        write_effects(found.to_dict(), report, pictures=pictures)
        output.say(f"report: {report}")
    if json != "-":
        from rich.text import Text

        output.show(Text(str(found)))


def _whole(text: str) -> list[int]:
    """Whole numbers separated by commas.

    Raises
    ------
    ParameterError.
    """
    from deconrec.errors import ParameterError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ParameterError(f"--dims must be whole numbers separated by commas; got '{text}'.") from error


def _ids(model: object, side: str, text: str | None) -> list[str] | list[int] | None:
    """Ids separated by commas, as numbers where the model's ids are."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    vocabulary = getattr(model, side)
    if vocabulary.is_text or not all(p.lstrip("-").isdigit() for p in parts):
        return parts
    return [int(p) for p in parts]
