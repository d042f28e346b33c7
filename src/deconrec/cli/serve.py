"""`deconrec serve DIR` and `deconrec served DIR --outcomes FILE --out FILE`."""

from __future__ import annotations

from typing import Annotated

import typer

from deconrec.cli import output
from deconrec.cli.options import Quiet


def serve(
    model: Annotated[str, typer.Argument(metavar="DIR", help="A saved model.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="DECONREC_TOKEN",
            show_envvar=True,
            help="What clients must send as 'Authorization: Bearer TOKEN'.",
        ),
    ] = None,
    anybody: Annotated[bool, typer.Option("--anybody", help="Serve other machines without a token.")] = False,
    explore: Annotated[
        str | None,
        typer.Option(
            "--explore",
            metavar="POLICY",
            help="Draw lists at random: epsilon-greedy, plackett-luce, or posterior (grounded-gp).",
        ),
    ] = None,
    epsilon: Annotated[
        float, typer.Option("--epsilon", help="Share of places that epsilon-greedy fills at random.")
    ] = 0.1,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of plackett-luce, in the outcome's unit.")
    ] = 0.1,
    log: Annotated[
        str | None,
        typer.Option("--log", metavar="DIR", help="Log every list that is served, with its propensities."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Seed of exploring draws (default: another one each start)."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Serve a model over HTTP: /recommend, /score, /health, /model, /metrics, /reload, /openapi.json.

    Stops on SIGTERM or Ctrl-C once requests in flight are answered; SIGHUP loads the model's folder anew.
    """
    from deconrec.errors import MissingExtra, ParameterError

    try:
        from deconrec.serving.run import bound, is_loopback, run
    except ImportError as error:
        raise MissingExtra(error.name or "fastapi", "serve", "`deconrec serve`") from error
    from deconrec.serving.holder import Holder
    from deconrec.serving.log import ListLog
    from deconrec.serving.ranker import Policy
    from deconrec.serving.service import Service

    if token is not None and (len(token) < 8 or not token.isascii() or not token.isprintable()):
        raise ParameterError("--token must have at least 8 printable characters of ASCII.")
    if not is_loopback(host):
        if token is None and not anybody:
            raise ParameterError(
                f"--host {host} lets other machines ask and reload the model: give a --token (or DECONREC_TOKEN), or "
                "say --anybody."
            )
        who = "who bear the token" if token else "without a token"
        output.warning_line(
            f"--host {host}: other machines can ask, {who}, over plain HTTP. Put TLS before it."
        )
    policy = Policy(explore, epsilon, temperature)
    listening = bound(host, port)
    with listening:
        holder = Holder(model, policy)
        _one_thread()
        service = Service(holder, None if log is None else ListLog(log), token=token, seed=seed)
        if explore is not None and log is None:
            output.warning_line(
                "lists are drawn at random and nothing is logged: give --log to learn from them."
            )
        where = f"[{host}]" if ":" in host else host
        output.say(f"model {service.holder.ranker.name} on http://{where}:{listening.getsockname()[1]}")
        run(service, listening)


def served(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder of `deconrec serve --log`.")],
    outcomes: Annotated[
        str,
        typer.Option("--outcomes", metavar="FILE", help="CSV or Parquet with user_id, item_id, rating."),
    ],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Parquet or CSV to write.")],
    unrated: Annotated[
        float | None,
        typer.Option(
            "--unrated",
            help="Rating of a shown pair without an outcome, as 0 for no click (default: left out).",
        ),
    ] = None,
    lists: Annotated[
        str,
        typer.Option("--lists", help="first: one list a user; all: all lists like a user's first."),
    ] = "first",
    quiet: Quiet = False,
) -> None:
    """Join served lists with what came of them: user_id, item_id, rating, propensity, as `evaluate` reads them."""
    import io

    from deconrec.batch import check_output
    from deconrec.data.writing import write_file
    from deconrec.serving.served import served_log

    check_output(out)
    found = served_log(folder, outcomes, unrated=unrated, lists=lists)  # type: ignore[arg-type]  # refuses other words
    buffer = io.BytesIO()
    found.table.write_csv(buffer) if out.endswith(".csv") else found.table.write_parquet(buffer)
    write_file(out, buffer.getvalue())
    output.say(
        f"{len(found.table):,} rows of {found.kept_lists:,} of {found.lists:,} lists in {out}; left out: "
        f"{found.unexplored:,} lists without exploration, {found.later:,} later ones, {found.other:,} unlike the "
        f"user's first, {found.torn:,} torn lines; {found.unrated:,} pairs had no outcome."
    )


def _one_thread() -> None:
    """One thread for a request's arithmetic; torch is not loaded for a model that does without."""
    import sys

    from deconrec.cli.options import threads

    if "torch" in sys.modules:
        threads()
