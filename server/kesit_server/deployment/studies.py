"""Runs of studies by a coordinator: started, resumed, and looked at.

A run is a folder `runs/<run id>` with the study, the run's book and the signed spending log. What
ends it, well or not, leaves a result folder: what was found with a statement, or the statement of
what was spent. Between two sums the server computes on one thread, so that a resumed run comes to
the same numbers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from kesit_privacy import recipes
from kesit_privacy.errors import KesitError
from kesit_privacy.files import slug
from kesit_privacy.keyfiles import Unlock, from_environment
from kesit_privacy.model_file import MODEL
from kesit_privacy.spending import read_log
from kesit_privacy.study import Study
from kesit_privacy.study_file import load_study
from kesit_server import results, run_book
from kesit_server.analysis import Finding, present
from kesit_server.app import Coordination, coordinate, result_files
from kesit_server.classification.judging.released import released_model
from kesit_server.courier import Patience
from kesit_server.deployment.door import Door
from kesit_server.deployment.home import RESULTS, RUNS, Coordinator
from kesit_server.deployment.registration import member_nodes, reconcile
from kesit_server.deployment.runs import POLL_SECONDS, on_superlink
from kesit_server.errors import DeploymentError, ResultError
from kesit_server.federation import Federation
from kesit_server.pots import Spent
from kesit_server.run_book import KeptRun
from kesit_server.statement import statement_files

STUDY = "study.toml"
DEADLINE_SECONDS = 90.0
"""How long one attempt waits for all members, by default."""

FINISHED, FAILED = "finished", "failed"
RUNNING, INTERRUPTED = "running", "interrupted"


@dataclass(frozen=True)
class Watch:
    """Who is told what happens: lines of text, and (answered, asked) of each message round."""

    on_event: Callable[[str], None] = field(default=lambda text: None)
    on_reply: Callable[[int, int], None] = field(default=lambda answered, asked: None)


@dataclass(frozen=True)
class Ran:
    """A finished run: its id, its result folder, and what was computed."""

    run: str
    folder: Path
    federation: Federation
    found: Finding


@dataclass(frozen=True)
class RunState:
    """A run as the disk shows it.

    Attributes:
        state: running, interrupted (it can be resumed), finished or failed.
        attempts: that were asked for; epsilon: that they cost, of all pots together.
    """

    run: str
    study: Study
    state: str
    attempts: int
    epsilon: float


def start(
    coordinator: Coordinator,
    study_file: Path,
    *,
    without: Sequence[str] = (),
    model: Path | None = None,
    unlock: Unlock = from_environment,
    deadline: float = DEADLINE_SECONDS,
    watch: Watch | None = None,
) -> Ran:
    """Run a study with the members that are online.

    Args:
        without: names of members that are not asked: those whom the others have not pinned yet.
        model: result folder of the model that is evaluated, for a study that trains none.

    Raises:
        KesitError: the study, the budget, too few members, or no server runs. A result folder tells
            what was spent, if anything was.
    """
    study = load_study(study_file)
    recipes.check_budget(study)
    released = released_model(study, model)
    _check_names(coordinator, without)
    member_nodes(coordinator.members, Door.read(coordinator.superlink))  # before all writing
    identity = coordinator.identity(unlock)
    run = secrets.token_hex(16)
    folder = coordinator.home / RUNS / run
    folder.mkdir(parents=True, mode=0o700)  # its sums are for the members, not for everyone
    results.replace_file(folder / STUDY, study_file.read_bytes())
    if released is not None:
        results.replace_file(folder / MODEL, released.data)  # a resumed run reads it from there
    with closing(KeptRun(folder, identity)) as book:
        book.start(study, secrets.randbits(63), without)
        return _go_on(coordinator, study, book, unlock, deadline, watch or Watch())


def resume(
    coordinator: Coordinator,
    run: str,
    *,
    unlock: Unlock = from_environment,
    deadline: float = DEADLINE_SECONDS,
    watch: Watch | None = None,
) -> Ran:
    """Go on with a run whose process died, from its last finished sum.

    Args:
        run: its id, or the beginning of it.

    Raises:
        KesitError: no such run, one that is over or at work, or as `start`.
    """
    folder = find(coordinator, run)
    study = load_study(folder / STUDY)
    with closing(KeptRun(folder, coordinator.identity(unlock))) as book:
        if book.ended is not None:
            raise DeploymentError(
                f"The run {folder.name[:8]} is over ({book.ended}).",
                remedy="Its result folder says how; start the study again if its budget allows.",
            )
        return _go_on(coordinator, study, book, unlock, deadline, watch or Watch())


def find(coordinator: Coordinator, run: str) -> Path:
    """The folder of the run whose id begins so.

    Raises:
        DeploymentError: none, or several.
    """
    known = [path for path in _folders(coordinator) if path.name.startswith(run)] if run else []
    if len(known) != 1:
        raise DeploymentError(
            f"{len(known) or 'No'} runs begin with {run!r}.",
            remedy="`kesit server status` lists them; give enough of the id to tell one.",
        )
    return known[0]


def states(coordinator: Coordinator) -> tuple[RunState, ...]:
    """All runs, the newest first."""
    paths = sorted(_folders(coordinator), key=lambda path: -(path / STUDY).stat().st_mtime)
    return tuple(_state(coordinator, path) for path in paths)


def _go_on(
    coordinator: Coordinator,
    study: Study,
    book: KeptRun,
    unlock: Unlock,
    deadline: float,
    watch: Watch,
) -> Ran:
    trains = study.classification is None or study.classification.trains
    released = released_model(study, None if trains else book.folder)
    door = Door.read(coordinator.superlink)
    reconcile(coordinator.members, door)
    nodes = [
        node
        for node in member_nodes(coordinator.members, door)
        if node.member.name not in book.without
    ]
    identity, run = coordinator.identity(unlock), book.folder.name
    place = coordinator.home / RESULTS / f"{slug(study.name)}-{run[:8]}"
    results.check_free(place)
    found: list[Ran] = []

    def finish(federation: Federation, finding: Finding) -> None:
        watch.on_event("the cards are written")
        told = present(finding, np.random.default_rng([book.seed, 4]))
        results.write_folder(place, result_files(federation, told, identity))
        book.end(FINISHED)
        found.append(Ran(run, place, federation, finding))

    def fail(federation: Federation, error: KesitError) -> None:
        results.write_folder(place, statement_files(federation, identity, error))
        book.end(FAILED)
        watch.on_event(f"what was spent stands in {place}")

    plan = Coordination(
        study=study,
        identity=identity,
        finish=finish,
        on_failure=fail,
        patience=Patience(seconds=deadline, poll_seconds=POLL_SECONDS),
        seed=book.seed,
        book=book,
        resumed=book.has_begun,
        enrolled={node.node_id: node.member.identity for node in nodes},
        run=run,
        names={node.member.identity: node.member.name for node in nodes},
        released=released,
        on_event=watch.on_event,
        on_reply=watch.on_reply,
    )
    with threadpool_limits(limits=1):
        on_superlink(coordinator.superlink, lambda grid: coordinate(grid, plan))
    return found[0]


def _check_names(coordinator: Coordinator, names: Sequence[str]) -> None:
    known = {member.name for member in coordinator.members.active}
    unknown = sorted(set(names) - known)
    if unknown:
        raise DeploymentError(
            f"There is no active member {unknown[0]!r}.",
            remedy=f"The members are: {', '.join(sorted(known)) or 'none yet'}.",
        )


def _state(coordinator: Coordinator, folder: Path) -> RunState:
    """Read without disturbing: a run at work holds its book, and leaves its spending log."""
    study = load_study(folder / STUDY)
    log = folder / run_book.LOG
    spent = read_log(log, frozenset({coordinator.members.coordinator})) if log.exists() else ()
    epsilon = Spent.of(study, spent).epsilon
    return RunState(folder.name, study, _how(folder), len(spent), epsilon)


def _how(folder: Path) -> str:
    try:
        return run_book.how_ended(folder) or INTERRUPTED
    except ResultError:
        return RUNNING


def _folders(coordinator: Coordinator) -> list[Path]:
    place = coordinator.home / RUNS
    return [path for path in place.iterdir() if (path / STUDY).is_file()]
