"""Experiments that describe worlds: which are drawn, what is measured of them, and what the paper says of it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from deconrec.catalogue import is_simulated, open_parameters
from deconrec.errors import UnknownName
from deconrec.experiments.quantities import CURVES, QUANTITIES
from deconrec.experiments.spec import Claim, PaperPart, Scalar, Setting, expand

RATINGS = tuple(name for name in QUANTITIES if name.startswith(("observed/", "population/")))


class WorldQuick(BaseModel):
    """What --quick changes: few worlds, small ones perhaps, to see that everything runs."""

    model_config = Claim.model_config

    seeds: Annotated[int, Field(ge=1)] = 2
    worlds: list[str] = []
    set: Setting = {}
    sweep: list[dict[str, list[Scalar]]] = []


class WorldSpec(BaseModel):
    """An experiment that describes worlds and fits no method (`kind = "worlds"`).

    worlds: catalogue names, with parameters; one without a truth (real data) may stand among them. metrics: names of
    `quantities.QUANTITIES`. sweep: as in `Spec`; a dial is a parameter of the worlds that have it and leave it open in
    their text, and the others pass over it. set: further parameters, likewise. tolerance: by quantity. picture:
    "ratings" (their distribution before and after exposure), "popularity" (items sorted) or a quantity (over the
    settings).
    """

    model_config = Claim.model_config

    kind: Literal["worlds"]
    title: str
    says: str
    worlds: Annotated[list[str], Field(min_length=1)]
    set: Setting = {}
    seeds: Annotated[int, Field(ge=1)]
    first_seed: Annotated[int, Field(ge=0)] = 0
    metrics: Annotated[list[str], Field(min_length=1)]
    sweep: list[dict[str, list[Scalar]]] = []
    tolerance: dict[str, Annotated[float, Field(ge=0)]] = {}
    paper: PaperPart
    claims: list[Claim] = []
    picture: list[str] = []
    quick: WorldQuick = WorldQuick()

    @model_validator(mode="after")
    def _agree(self) -> WorldSpec:
        if len(set(self.worlds)) < len(self.worlds):
            raise ValueError("each world stands once in 'worlds'")
        had: set[str] = set()
        for world in self.worlds:
            had |= set(open_parameters(world))
            if re.search(r"[:+]seed=", world):
                raise ValueError(f"the world {world!r} sets its seed, but 'seeds' draws the worlds")
        swept = {name for block in [*self.sweep, *self.quick.sweep] for name in block}
        if unknown := sorted((swept | set(self.set) | set(self.quick.set)) - had):
            raise ValueError(f"{unknown[0]!r} is an open parameter of none of the worlds")
        named = {n for t in self.paper.tables for n in t.setting} | {n for c in self.claims for n in c.dials}
        if unknown := sorted(named - swept):
            raise ValueError(f"a setting names {unknown[0]!r}, which is none of the dials {sorted(swept)}")
        if unknown := sorted(set(self.quick.worlds) - set(self.worlds)):
            raise ValueError(f"'quick' names {unknown[0]!r}, which is none of the worlds")
        for what in (*self.metrics, *self.tolerance):
            if what not in QUANTITIES:
                raise UnknownName("quantity of a world", what, QUANTITIES)
        for claim in self.claims:
            if strangers := sorted({claim.a, *claim.b} - set(self.worlds)):
                raise ValueError(
                    f"the claim {claim.says!r} names {strangers[0]!r}, which is none of the worlds"
                )
            if absent := sorted(claim.metrics - set(self.metrics)):
                raise ValueError(f"the claim {claim.says!r} needs the quantity {absent[0]!r} among 'metrics'")
            claim.check_order([*self.sweep, *self.quick.sweep])
        for table in self.paper.tables:
            if strangers := sorted(set(table.values) - set(self.worlds)):
                raise ValueError(f"the paper's table names {strangers[0]!r}, which is none of the worlds")
            for metric in table.metrics:
                if metric not in self.metrics:
                    raise ValueError(f"the paper's quantity {metric!r} is none of 'metrics'")
                if metric not in self.tolerance:
                    raise ValueError(
                        f"'tolerance' says nothing of {metric!r}: it is declared before the runs"
                    )
        for name in self.picture:
            needed = {"ratings": RATINGS, "popularity": ()}.get(name, (name,))
            if absent := sorted(set(needed) - set(self.metrics)):
                raise ValueError(f"the picture {name!r} needs the quantity {absent[0]!r} among 'metrics'")
        return self

    @property
    def dataset(self) -> str:
        """The catalogue's names, without parameters."""
        return ", ".join(dict.fromkeys(world.partition(":")[0] for world in self.worlds))

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds."""
        return list(range(self.first_seed, self.first_seed + self.seeds))

    @property
    def settings(self) -> list[Setting]:
        """Every setting, in order; [{}] where nothing is swept."""
        return expand(self.sweep)

    @property
    def curves(self) -> list[str]:
        """The curves that its pictures need."""
        return [name for name in self.picture if name in CURVES]

    def effective(self, world: str, setting: Setting) -> Setting:
        """The part of a setting that a world has a dial for."""
        had = open_parameters(world)
        return {n: v for n, v in setting.items() if n in had}

    def methods_at(self, setting: Setting) -> list[str]:
        """The worlds: what stands where other experiments have methods."""
        return self.worlds

    def tolerance_of(self, metric: str) -> float:
        """The tolerance of a quantity."""
        return self.tolerance.get(metric, 0.0)

    @property
    def draws(self) -> int:
        """How many worlds there are to draw; real data count once."""
        places = {
            world: [s for at, s in enumerate(each) if s not in each[:at]]
            for world in self.worlds
            if (each := [self.effective(world, s) for s in self.settings])
        }
        return sum(len(each) * (self.seeds if is_simulated(w) else 1) for w, each in places.items())

    def quicker(self) -> WorldSpec:
        """The experiment as --quick runs it."""
        quick = self.quick
        worlds = quick.worlds or self.worlds
        return self.model_copy(
            update={
                "seeds": quick.seeds,
                "worlds": worlds,
                "set": self.set | quick.set,
                "sweep": quick.sweep or self.sweep,
                "claims": [c for c in self.claims if {c.a, *c.b} <= set(worlds)],
            }
        )
