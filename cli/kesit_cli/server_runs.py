"""`kesit server start|run|resume|status`: the coordinator's process, and its runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import keys, models, show
from kesit_cli.keys import Home
from kesit_cli.progress import Progress

if TYPE_CHECKING:
    from kesit_server.deployment.home import Coordinator
    from kesit_server.deployment.studies import Ran, RunState, Watch

Deadline = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=1.0, help="How long an attempt at a sum waits for all members."
    ),
]


def start(
    home: Home,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address of this machine to listen on.")
    ] = "0.0.0.0",  # noqa: S104  (members come from outside; only Fleet is served there)
) -> None:
    """Run the server process until it is stopped: members' nodes connect to it.

    Only the members' interface listens on ADDRESS, with TLS; everything else of Flower on loopback.

    \b
    Examples:
      kesit server start --home coordinator
      kesit server start --home coordinator --host 10.0.0.5
    """
    from kesit_server.deployment import superlink
    from kesit_server.deployment.home import open_coordinator

    coordinator = open_coordinator(home)
    _, certificate, key = coordinator.tls
    place = superlink.Place(
        coordinator.superlink, host, coordinator.settings.port, certificate, key
    )

    def ready(port: int) -> None:
        typer.echo(f"listening on {host}:{port}; stop with Ctrl-C")

    superlink.serve(place, ready, prepare=lambda: _reconcile_or_tell(home))
    typer.echo("stopped")


def run(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", hidden=True)],
    home: Home,
    deadline: Deadline = 90.0,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Do not ask this member; may be repeated."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help='Result of the model that estimator = "released" evaluates.'
        ),
    ] = None,
) -> None:
    """Run a study with the members that are online; the result is a folder in results/.

    The server process must run. Each member answers by its own copy of the study and its own
    policy. If this command dies, `kesit server resume` goes on where it was. Members refuse a run
    with anyone whom they have not pinned: leave a new member out until all have pinned it.

    \b
    Examples:
      kesit server run study.toml --home coordinator
      kesit server run study.toml --home coordinator --deadline 300 --without Bursa
    """
    from kesit_server.deployment import studies

    def work(place: Coordinator, watch: Watch) -> Ran:
        return studies.start(
            place,
            study_file,
            without=without or (),
            model=model,
            unlock=keys.unlock,
            deadline=deadline,
            watch=watch,
        )

    _do(home, work, f"reading {study_file}")


def resume(
    run_id: Annotated[str, typer.Argument(metavar="RUN", hidden=True)],
    home: Home,
    deadline: Deadline = 90.0,
) -> None:
    """Go on with a run whose process died, from its last finished sum.

    RUN is its id, or enough of the beginning. No member is charged for a sum twice.

    \b
    Example:
      kesit server resume 4f21a9 --home coordinator
    """
    from kesit_server.deployment import studies

    def work(place: Coordinator, watch: Watch) -> Ran:
        return studies.resume(place, run_id, unlock=keys.unlock, deadline=deadline, watch=watch)

    _do(home, work, f"taking up run {run_id}")


def status(home: Home) -> None:
    """Show whether the server process runs, which members are online, and all runs.

    \b
    Example:
      kesit server status --home coordinator
    """
    from kesit_privacy.identity import fingerprint
    from kesit_server.deployment import studies
    from kesit_server.deployment.home import open_coordinator

    coordinator = open_coordinator(home)
    members, screen = coordinator.members, show.console()
    online = _online(coordinator)
    running = "does not run" if online is None else "runs"
    show.print_facts(screen, [("Server", f"{running}; members use {members.host}:{members.port}")])
    table = show.new_table("member", "node", "fingerprint")
    for member in members.active:
        state = "-" if online is None else online.get(member.identity, "not registered")
        table.add_row(member.name, state, fingerprint(member.identity))
    screen.print()
    show.put(screen, table)
    runs = studies.states(coordinator)
    if runs:
        screen.print()
        _print_runs(runs)


def _print_runs(runs: tuple[RunState, ...]) -> None:
    from kesit_server.deployment.studies import INTERRUPTED
    from kesit_server.statement import round_up

    table = show.new_table("run", "study", "state", "sums asked for", "ε at most", right=(3, 4))
    for run in runs:
        spent = round_up(run.epsilon) if run.attempts else 0.0
        asked = f"{run.attempts} (plan: {len(run.study.plan)})"
        state = run.state
        if run.state == INTERRUPTED:
            state += ": resume it" if run.attempts else ": nothing was asked; start anew"
        table.add_row(run.run[:8], run.study.name, state, asked, f"{spent:g}")
    show.put(show.console(), table)


def _do(home: Path, work: Callable[[Coordinator, Watch], Ran], first: str) -> None:
    with Progress(first) as progress:
        from kesit_server.deployment.home import open_coordinator
        from kesit_server.deployment.studies import Watch

        coordinator = open_coordinator(home)
        ran = work(coordinator, Watch(progress.event, progress.reply))
    from kesit_server.classification.classifier import Classifier
    from kesit_server.portrait.telling import read
    from kesit_server.segmentation.segmenter import Segmentation

    segments = isinstance(ran.found, Segmentation)
    drawn = segments or isinstance(ran.found, Classifier)
    what = f"{'segments' if segments else 'model'} {'draw' if drawn else 'show'}"
    screen = show.console()
    typer.echo(read(ran.folder).text("en") if segments else models.text_of(ran.folder))
    screen.print()
    show.print_facts(
        screen,
        [
            ("Result", str(ran.folder)),
            ("Run", ran.run),
            ("Next", f"kesit {what} {ran.folder}"),
        ],
    )


def _online(coordinator: Coordinator) -> dict[str, str] | None:
    """What the SuperLink says of each identity's node; None if it does not run."""
    from kesit_server.deployment.door import Door
    from kesit_server.deployment.registration import member_nodes
    from kesit_server.errors import DeploymentError

    try:
        door = Door.read(coordinator.superlink)
        known = member_nodes(coordinator.members, door)
    except DeploymentError:
        return None
    return {node.member.identity: node.status for node in known}


def reconcile_if_running(home: Path) -> None:
    """Let new members' nodes in and put others out at once, if the server process runs."""
    from kesit_server.deployment.door import Door
    from kesit_server.deployment.home import open_coordinator
    from kesit_server.errors import DeploymentError

    try:
        Door.read(open_coordinator(home).superlink)
    except DeploymentError:
        return
    _reconcile(home)


def _reconcile_or_tell(home: Path) -> None:
    """A key that is refused keeps its own node out, not the server from serving the others."""
    from kesit_privacy.errors import KesitError

    try:
        _reconcile(home)
    except KesitError as error:
        typer.echo(f"Warning: {error}", err=True)


def _reconcile(home: Path) -> None:
    from kesit_server.deployment.door import Door
    from kesit_server.deployment.home import open_coordinator
    from kesit_server.deployment.registration import reconcile

    coordinator = open_coordinator(home)
    done = reconcile(coordinator.members, Door.read(coordinator.superlink))
    for names, what in ((done.registered, "may connect now"), (done.unregistered, "was put out")):
        for name in names:
            typer.echo(f"{name} {what}")
