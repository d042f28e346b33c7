"""The commands by name: what each file gives to the application."""

from __future__ import annotations

import typer

from deconrec.cli import (
    compare,
    data,
    demo,
    diagnose,
    effects,
    evaluate,
    fit,
    info,
    methods,
    predict,
    recommend,
    report,
    reproduce,
    sensitivity,
    serve,
    simulate,
    tune,
    value,
)


def register(app: typer.Typer) -> None:
    """Add every command to the application."""
    app.command("methods")(methods.methods)
    app.add_typer(data.app, name="data")
    app.command("fit")(fit.fit)
    app.command("predict")(predict.predict)
    app.command("recommend")(recommend.recommend)
    app.command("serve")(serve.serve)
    app.command("served")(serve.served)
    app.command("tune")(tune.tune)
    app.command("compare")(compare.compare)
    app.command("reproduce")(reproduce.reproduce)
    app.command("evaluate")(evaluate.evaluate)
    app.command("sensitivity")(sensitivity.sensitivity)
    app.command("value")(value.value)
    app.command("diagnose")(diagnose.diagnose)
    app.command("effects")(effects.effects)
    app.command("report")(report.report)
    app.command("simulate")(simulate.simulate)
    app.command("demo")(demo.demo)
    app.command("info")(info.info)
