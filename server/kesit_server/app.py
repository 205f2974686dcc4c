"""The ServerApp: one Flower run is one run of a study, from hello to a result folder."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Context  # isort: skip
from flwr.serverapp import Grid, ServerApp  # isort: skip

from kesit_privacy import recipes
from kesit_privacy.identity import Identity
from kesit_privacy.spending import sign_log
from kesit_privacy.study import Study
from kesit_privacy.study_file import load_study
from kesit_server import results
from kesit_server.courier import Courier, Patience
from kesit_server.federation import Federation
from kesit_server.portrait import Portrait, portray
from kesit_server.segmentation import Segmentation, segment
from kesit_server.statement import as_text, caveats, privacy_statement


@dataclass(frozen=True)
class Coordination:
    """What the server needs for one run.

    Attributes:
        seed: of restarts and synthetic points (released values only); None draws one.
        on_charge: keeps the spending log, before each attempt is sent.
        on_event: gets a line of text at each notable event; on_reply gets (answered, asked).
        finish: gets the federation and the segments when the run is over.
    """

    study: Study
    identity: Identity
    finish: Callable[[Federation, Segmentation], None]
    patience: Patience = field(default_factory=Patience)
    simulated: bool = False
    seed: int | None = None
    on_event: Callable[[str], None] = field(default=lambda text: None)
    on_charge: Callable[[Federation], None] = field(default=lambda federation: None)
    on_reply: Callable[[int, int], None] = field(default=lambda answered, asked: None)


def make_app(prepare: Callable[[Context], Coordination]) -> ServerApp:
    """The ServerApp that coordinates what `prepare` yields. One for production and simulation."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        coordinate(grid, prepare(context))

    return app


def coordinate(grid: Grid, plan: Coordination) -> None:
    """Run a study over a grid.

    Raises:
        KesitError: the budget is too small, or too few members answered; nothing is written.
    """
    recipes.check_budget(plan.study)
    courier = Courier(grid, plan.patience, plan.on_reply)
    federation = Federation(
        courier,
        plan.study,
        plan.identity,
        simulated=plan.simulated,
        on_event=plan.on_event,
        on_charge=plan.on_charge,
    )
    federation.hello()
    seed = secrets.randbits(63) if plan.seed is None else plan.seed
    try:
        segments = segment(federation, np.random.default_rng(seed))
    finally:
        federation.end()
    plan.finish(federation, segments)


def result_files(
    federation: Federation, portrait: Portrait, identity: Identity
) -> dict[str, bytes]:
    """The files of a result folder."""
    statement = privacy_statement(federation)
    told: dict[str, object] = {name: statement[name] for name in _TOLD}
    told["caveats"] = [words.as_dict() for words in caveats(federation)]
    return {
        results.SEGMENTS: results.as_json({**told, **portrait.as_dict()}),
        results.PRIVACY: results.as_json(statement),
        results.STATEMENT: as_text(statement).encode(),
        results.STUDY: federation.study.canonical,
        results.SPENDING: sign_log(federation.spending, identity),
    }


_TOLD = (
    *("study", "study_hash", "run", "releasable", "members", "members_left"),
    *("epsilon_spent", "delta"),
)
"""What segments.json says of its run, as the privacy statement has it."""


def _from_run_config(context: Context) -> Coordination:
    """Production: the run's configuration names the study, the server's key, a folder for the
    result and one for spending logs."""
    place = {name: Path(str(context.run_config[f"kesit-{name}"])) for name in _PATHS}
    identity = Identity.load(place["key"])
    results.check_free(place["out"])
    return Coordination(
        study=load_study(place["study"]),
        identity=identity,
        finish=lambda federation, segments: results.write_folder(
            place["out"],
            result_files(federation, portray(segments, np.random.default_rng()), identity),
        ),
        on_charge=lambda federation: results.replace_file(
            place["log"] / f"{federation.run}.json", sign_log(federation.spending, identity)
        ),
        on_event=print,
    )


_PATHS = ("study", "key", "out", "log")

app = make_app(_from_run_config)
