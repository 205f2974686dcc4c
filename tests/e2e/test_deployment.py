"""Studies over real processes with TLS, by the real commands: what comes out, and both books."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import deploykit
from federationkit import (
    NAMES,
    Background,
    agreed,
    books_agree,
    charges,
    command,
    holds_key,
    kept,
    log_of,
    node_ids,
    refusals,
    result,
    runs_of,
)
from kesit_cli import exits
from kesit_client.app import make_app
from kesit_client.home import BOOKS
from kesit_privacy.study_file import load_study
from kesit_privacy.wire import REQUEST, SUM, TRANSCRIPT, RefusalCode
from kesit_server.app import Coordination, coordinate
from kesit_server.courier import Courier, Patience, Reply
from kesit_server.deployment.runs import POLL_SECONDS, on_superlink
from kesit_server.federation import Federation
from kesit_server.segmentation.segmenter import Segmentation
from kesit_simulations.deployed import Deployed
from kesit_simulations.grid import InProcessGrid
from kit import SERVER, query_for, small_study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment")]

RESULT = {
    *("segments.json", "privacy.json", "privacy.md", "privacy-tr.md"),
    *("study.json", "spending-log.json"),
}


def test_a_study_by_the_commands_is_released_and_paid_for_once(place: Deployed) -> None:
    path = agreed(place, "commands")
    home = place.coordinator.home
    done = command("server", "run", path, "--home", home)
    assert done.returncode == exits.OK, done.stderr
    (run,) = runs_of(place, load_study(path))
    (folder,) = (home / "results").glob(f"commands-{run[:8]}")
    assert str(folder) in "".join(done.stdout.split())
    assert {file.name for file in folder.iterdir()} == RESULT
    told = result(place, run)
    assert told["releasable"] is True
    assert told["members"] == told["members_left"] == len(NAMES)
    assert told["epsilon_spent"] <= 2.0
    assert (folder / "spending-log.json").read_bytes() == (
        home / "runs" / run / "spending-log.json"
    ).read_bytes()
    books_agree(place, run)
    assert not any(holds_key(place.home(name), run) for name in NAMES)

    status = command("server", "status", "--home", home)
    assert status.returncode == exits.OK, status.stderr
    assert status.stdout.count("online") == len(NAMES)
    assert [line.split()[2] for line in status.stdout.splitlines() if run[:8] in line] == [
        "finished"
    ]
    log = command("client", "log", "--home", place.home(NAMES[0]))
    assert log.returncode == exits.OK, log.stderr
    lines = [line for line in log.stdout.splitlines() if run[:8] in line]
    assert len(lines) == 1 + len(load_study(path).plan)  # the hello, and each sum once
    assert all(step.step in log.stdout for step in load_study(path).plan)
    budget = command("client", "budget", "--home", place.home(NAMES[0]))
    assert budget.returncode == exits.OK, budget.stderr
    again = command("server", "resume", run, "--home", home)
    assert again.returncode == exits.SETTINGS
    assert "is over (finished)" in " ".join(again.stderr.split())
    repeated = command("server", "run", path, "--home", home)  # its budget is used
    assert repeated.returncode == exits.FEDERATION
    assert "a budget of the node would be overdrawn" in " ".join(repeated.stderr.split())
    books_agree(place, run)


class Remembering(Courier):
    """Keeps what it has asked, and what came back."""

    def ask(
        self,
        kind: str,
        fields: Mapping[str, bytes],
        nodes: list[int],
        most_seconds: float = math.inf,
    ) -> dict[int, Reply]:
        replies = super().ask(kind, fields, nodes, most_seconds)
        if kind == SUM:
            self.asked, self.answered = dict(fields), replies
        return replies


def test_a_message_that_arrives_twice_has_one_answer_and_one_charge(place: Deployed) -> None:
    study = load_study(agreed(place, "twice"))
    query = query_for(study, "grid")
    identity = place.coordinator.identity()

    def twice(grid: deploykit.Grid) -> str:
        courier = Remembering(grid, Patience(60.0, poll_seconds=POLL_SECONDS))
        federation = Federation(courier, study, identity, enrolled=node_ids(place))
        federation.hello()
        federation.sum("grid", query)
        first, fields = courier.answered, courier.asked
        again = courier.ask(SUM, fields, list(first))
        assert {reply.code for reply in first.values()} == {RefusalCode.OK}
        assert again == first  # to the byte
        changed = fields[REQUEST].replace(b'"attempt":1', b'"attempt":2')
        assert changed != fields[REQUEST]
        refused = courier.ask(SUM, {**fields, REQUEST: changed}, list(first))
        assert {reply.code for reply in refused.values()} == {RefusalCode.ROSTER}
        broken = courier.ask(SUM, {**fields, TRANSCRIPT: b"{}"}, list(first))
        assert {reply.code for reply in broken.values()} == {RefusalCode.BAD_REQUEST}
        federation.end()
        over = courier.ask(SUM, fields, list(first))
        assert {reply.code for reply in over.values()} == {RefusalCode.BAD_REQUEST}
        assert {reply.payload for reply in over.values()} == {b""}
        return federation.run

    run = on_superlink(place.coordinator.superlink, twice)
    for name in NAMES:
        assert [(c.step, c.attempt) for c in charges(place.home(name), run)] == [("grid", 1)]


def test_two_runs_at_once_both_finish_and_their_costs_add_up(place: Deployed) -> None:
    paths = [agreed(place, name) for name in ("first-of-two", "second-of-two")]
    home = place.coordinator.home
    before = {name: len(charges(place.home(name))) for name in NAMES}
    with (
        Background(place.folder / "one.out", "server", "run", paths[0], "--home", home) as one,
        Background(place.folder / "two.out", "server", "run", paths[1], "--home", home) as two,
    ):
        assert one.wait() == exits.OK, one.text
        assert two.wait() == exits.OK, two.text
    runs = [run for path in paths for run in runs_of(place, load_study(path))]
    assert len(runs) == 2
    for run in runs:
        books_agree(place, run)
        assert result(place, run)["members_left"] == len(NAMES)
    asked = sum(len(log_of(place, run)) for run in runs)
    for name in NAMES:
        assert len(charges(place.home(name))) == before[name] + asked
        assert len({charge.run for charge in charges(place.home(name))} & set(runs)) == 2


def test_restored_books_answer_nothing_until_the_logs_are_merged(place: Deployed) -> None:
    """As docs/how-to/restore-a-backup.md says, by its commands."""
    who = NAMES[1]
    home, archive = place.home(who), place.folder / "backup.tar.gz"
    assert command("client", "backup", archive, "--home", home).returncode == exits.OK
    server = place.coordinator.home
    forgotten = agreed(place, "forgotten")
    assert command("server", "run", forgotten, "--home", server).returncode == exits.OK
    (run,) = runs_of(place, load_study(forgotten))
    spent = charges(home, run)
    assert len(spent) == len(load_study(forgotten).plan)

    place.kill(who)
    home.rename(home.with_name("lost"))
    home.mkdir(mode=0o700)
    with tarfile.open(archive) as kept_copy:
        kept_copy.extractall(home, filter="data")
    (home / "customers.parquet").write_bytes(
        (home.with_name("lost") / "customers.parquet").read_bytes()
    )
    checked = command("client", "check", "--home", home)
    assert checked.returncode == exits.DATA
    assert "restored" in checked.stdout
    place.start_member(who)
    after = agreed_by_others(place, "after-the-backup", who)
    first = command("server", "run", after, "--home", server)
    assert first.returncode == exits.OK, first.stderr
    (without,) = runs_of(place, load_study(after))
    assert result(place, without)["members"] == len(NAMES) - 1
    told = {(code, cause) for asked, code, cause in refusals(home) if asked == without}
    assert {code for code, _ in told} == {RefusalCode.RESTORED}
    assert charges(home, run) == []

    merged = command("client", "merge", server / "runs" / run / "spending-log.json", "--home", home)
    assert merged.returncode == exits.OK, merged.stderr + merged.stdout
    assert "the node answers again" in merged.stdout
    books = [(c.step, c.attempt, c.instruction, c.units) for c in charges(home, run)]
    assert books == [(c.step, c.attempt, c.instruction, c.units) for c in spent]
    assert command("client", "check", "--home", home).returncode == exits.OK
    final = agreed(place, "with-merged-books")
    done = command("server", "run", final, "--home", server)
    assert done.returncode == exits.OK, done.stderr
    (last,) = runs_of(place, load_study(final))
    assert result(place, last)["members"] == len(NAMES)
    books_agree(place, last)


def agreed_by_others(place: Deployed, name: str, but: str) -> Path:
    """A study of all members but one, whose books allow no approval now."""
    others = Deployed(place.folder, tuple(member for member in place.names if member != but))
    assert (place.home(but) / BOOKS).exists()
    return agreed(others, name)


def test_over_the_wire_the_segments_are_those_of_one_process(tmp_path: Path) -> None:
    """To the bit, for the same seeds: neither TLS, nor processes, nor Flower change a number."""
    study, ended = small_study(), list[tuple[Federation, Segmentation]]()
    plan = Coordination(
        study=study,
        identity=SERVER,
        finish=lambda federation, segments: ended.append((federation, segments)),
        patience=Patience(seconds=60.0, poll_seconds=POLL_SECONDS),
        simulated=True,
        seed=5,
    )
    nodes = deploykit.seeded_members()
    app = make_app(lambda context: nodes[int(str(context.node_config["partition-id"]))])
    grid = InProcessGrid(app, [2, 3, 4])
    with threadpool_limits(limits=1):
        coordinate(grid, plan)
    for node in nodes:
        node.store.close()
    with deploykit.federation(tmp_path) as place:
        place.superlink()
        names = [f"seeded-{number}" for number in range(deploykit.MEMBERS)]
        for name in names:
            place.admit(name)
            place.node(name, app=name)
        deploykit.eventually(lambda: place.online() == set(names))
        with threadpool_limits(limits=1):
            on_superlink(place.home, lambda wire: coordinate(wire, plan))
    (near, here), (far, there) = ended
    assert len(near.sums) == len(study.plan)
    for one, other in zip(near.sums, far.sums, strict=True):
        assert (one.step, one.attempt, one.sigma) == (other.step, other.attempt, other.sigma)
        np.testing.assert_array_equal(one.values, other.values)
    assert [order.params for order in near.orders] == [order.params for order in far.orders]
    assert [entry.units for entry in near.spending] == [entry.units for entry in far.spending]
    np.testing.assert_array_equal(here.centres, there.centres)
    np.testing.assert_array_equal(here.sizes, there.sizes)


def test_what_is_kept_of_a_run_holds_no_more_than_the_server_was_told(place: Deployed) -> None:
    for run in runs_of(place):
        for key in kept(place, run):
            assert key.split()[0] in {"start", "hello", "asked", "opened", "failed", "end"}
