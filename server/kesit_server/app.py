"""One run of a study, from hello to the files of a result folder; and the Flower ServerApp."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Context  # isort: skip
from flwr.serverapp import Grid, ServerApp  # isort: skip

from kesit_privacy import recipes
from kesit_privacy.errors import KesitError
from kesit_privacy.identity import Identity
from kesit_privacy.study import Study
from kesit_server import results
from kesit_server.analysis import Finding, Told, analyse
from kesit_server.classification.judging.released import Released, require
from kesit_server.courier import Courier, Patience
from kesit_server.errors import DeploymentError, FederationError
from kesit_server.federation import Federation
from kesit_server.run_book import RunBook
from kesit_server.statement import statement_files


@dataclass(frozen=True)
class Coordination:
    """What the server needs for one run.

    Attributes:
        seed: of restarts and synthetic points (released values only); None draws one.
        book: keeps the run; None if it ends with this process.
        resumed: whether the book holds the beginning of this run.
        enrolled: the identity of each Flower node; None in simulations.
        run: the run's id; None draws one. names: what people call the members, by identity.
        released: the model that the study evaluates (`released.released_model`), if it trains none.
        on_event: gets a line of text at each notable event; on_reply gets (answered, asked).
        finish: gets the federation and what was found when the run is over; on_failure gets the
            federation and the error if it cannot be finished.
    """

    study: Study
    identity: Identity
    finish: Callable[[Federation, Finding], None]
    patience: Patience = field(default_factory=Patience)
    simulated: bool = False
    seed: int | None = None
    book: RunBook | None = None
    resumed: bool = False
    enrolled: Mapping[int, str] | None = None
    run: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    released: Released | None = None
    on_event: Callable[[str], None] = field(default=lambda text: None)
    on_reply: Callable[[int, int], None] = field(default=lambda answered, asked: None)
    on_failure: Callable[[Federation, KesitError], None] = field(
        default=lambda federation, error: None
    )


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
        DeploymentError: the grid failed; a run that is kept can be gone on with.
        KesitError: the budget is too small, a model is missing, or too few members answered;
            nothing is written.
    """
    recipes.check_budget(plan.study)
    require(plan.study, plan.released)
    if plan.released is not None and plan.released.notice:
        plan.on_event(f"note: {plan.released.notice}")
    federation = Federation(
        Courier(grid, plan.patience, plan.on_reply),
        plan.study,
        plan.identity,
        simulated=plan.simulated,
        on_event=plan.on_event,
        book=plan.book,
        enrolled=plan.enrolled,
        run=plan.run,
        names=plan.names,
    )
    if plan.resumed:
        federation.resume()
    else:
        federation.hello()
    seed = secrets.randbits(63) if plan.seed is None else plan.seed
    try:
        found = analyse(federation, np.random.default_rng(seed), plan.released)
    except DeploymentError:
        raise  # the server process is away or was restarted: the run can be gone on with
    except KesitError as error:
        federation.end()  # what else stops a run may be gone on with: members keep their keys
        plan.on_failure(federation, error)
        raise
    federation.end()
    plan.finish(federation, found)


def result_files(federation: Federation, presented: Told, identity: Identity) -> dict[str, bytes]:
    """The files of a result folder."""
    files = statement_files(federation, identity)
    statement = json.loads(files[results.PRIVACY])
    told = {name: statement[name] for name in _TOLD}
    return {presented.file: results.as_json({**told, **presented.as_dict()}), **files}


_TOLD = (
    *("study", "study_hash", "run", "releasable", "members", "members_left"),
    *("epsilon_spent", "delta", "caveats"),
)
"""What the finding's own file says of its run, as the privacy statement has it."""


def _started_by_flower(context: Context) -> Coordination:
    """Where Flower itself would run this app: Kesit runs studies in a process of its own."""
    raise FederationError(
        "Flower started the ServerApp by itself.", remedy="Run studies with `kesit server run`."
    )


app = make_app(_started_by_flower)
"""What the Flower bundle points at. Simulations and `kesit server run` call `coordinate`."""
