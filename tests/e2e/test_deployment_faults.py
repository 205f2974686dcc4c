"""Processes that die, freeze and come back in the middle of a study, on either side."""

from __future__ import annotations

import signal

import pytest

from federationkit import (
    NAMES,
    Acting,
    Background,
    agreed,
    all_online,
    books_agree,
    charges,
    command,
    eventually,
    holds_key,
    kept,
    log_of,
    refusals,
    result,
    runs_of,
    signal_all,
)
from kesit_cli import exits
from kesit_privacy.study_file import load_study
from kesit_server.deployment import studies
from kesit_server.errors import DeploymentError, FederationError
from kesit_simulations.deployed import Deployed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment-faults")]

SHORT = 10.0
"""Seconds that an attempt waits, where a member will be silent."""


def attempts(place: Deployed, run: str) -> list[tuple[str, int, int]]:
    """(step, attempt, members asked) by the signed log."""
    return [(entry.step, entry.attempt, len(entry.roster)) for entry in log_of(place, run)]


def state(place: Deployed, run: str) -> str:
    """What `kesit server status` says of a run."""
    shown = command("server", "status", "--home", place.coordinator.home)
    assert shown.returncode == exits.OK, shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith(run[:8])]
    return " ".join(line.split())


def test_a_killed_node_costs_one_attempt_and_the_others_finish(place: Deployed) -> None:
    path = agreed(place, "one-dies")
    acting = Acting({2: lambda: place.kill("Bursa")})
    ran = studies.start(place.coordinator, path, deadline=SHORT, watch=acting.watch)
    assert attempts(place, ran.run) == [
        ("grid", 1, 4),
        ("lloyd-1", 1, 4),
        ("lloyd-1", 2, 3),
        ("lloyd-2", 1, 3),
        ("evaluation", 1, 3),
    ]
    books_agree(place, ran.run, missed={"Bursa": 4 - 1 - 2})  # it had but one of its two
    for name in NAMES[:3]:
        assert not holds_key(place.home(name), ran.run)
    told = result(place, ran.run)
    assert (told["members"], told["members_left"], told["result"]) == (4, 3, True)
    assert any("1 of 4 members fell away" in caveat["en"] for caveat in told["caveats"])
    assert [row["opened"] for row in told["sums"]] == [True, False, True, True, True]


def test_a_frozen_node_s_late_answer_changes_nothing(place: Deployed) -> None:
    path = agreed(place, "one-freezes")
    acting = Acting(
        {
            2: lambda: signal_all(place, "Şişli", signal.SIGSTOP),
            4: lambda: signal_all(place, "Şişli", signal.SIGCONT),
        }
    )
    ran = studies.start(place.coordinator, path, deadline=SHORT, watch=acting.watch)
    assert [members for _, _, members in attempts(place, ran.run)] == [4, 4, 3, 3, 3]
    assert result(place, ran.run)["members_left"] == 3
    late = len(charges(place.home("Şişli"), ran.run))
    assert late in (1, 2)  # thawed, it may find what it was asked for while it was frozen
    books_agree(place, ran.run, missed={"Şişli": 2 - late})
    spent = {run: units(place, "Şişli", run) for run in runs_of(place)}
    again = agreed(place, "all-are-back")
    eventually(lambda: place.online() == set(NAMES))
    next_run = studies.start(place.coordinator, again, watch=Acting().watch)
    assert result(place, next_run.run)["members_left"] == 4
    books_agree(place, next_run.run)
    assert {run: units(place, "Şişli", run) for run in spent} == spent


def units(place: Deployed, name: str, run: str) -> int:
    """What a run cost a member, by its own books."""
    return sum(charge.units for charge in charges(place.home(name), run))


MOMENTS = (
    "members take part",
    "grid: 4 members are asked",
    "lloyd-2: 4 members are asked",
    "the cards are written",  # the members have deleted their keys by now
)


def test_a_coordinator_killed_again_and_again_ends_its_run_and_charges_nobody_twice(
    place: Deployed,
) -> None:
    path, home = agreed(place, "coordinator-dies"), place.coordinator.home
    opened: dict[str, object] = {}
    asked: dict[str, object] = {}
    begin = ("server", "run", path, "--home", home)
    for number, moment in enumerate(MOMENTS):
        with Background(place.folder / f"dies-{number}.out", *begin) as process:
            process.says(moment)
            process.kill()
        (run,) = runs_of(place, load_study(path))
        assert "interrupted: resume it" in state(place, run)
        book = kept(place, run)
        for earlier in (opened, asked):
            assert earlier.items() <= book.items()  # what was, is as it was
        opened = {key: value for key, value in book.items() if key.startswith("opened")}
        asked = {key: value for key, value in book.items() if key.startswith("asked")}
        begin = ("server", "resume", run[:10], "--home", home)
    assert len(opened) == len(load_study(path).plan)
    done = command(*begin)
    assert done.returncode == exits.OK, done.stderr
    book = kept(place, run)
    assert opened.items() <= book.items()
    assert asked.items() <= book.items()
    assert "finished" in state(place, run)
    assert attempts(place, run) == [(step.step, 1, 4) for step in load_study(path).plan]
    books_agree(place, run)
    told = result(place, run)
    assert (told["members_left"], told["releasable"]) == (4, True)
    assert not any(holds_key(place.home(name), run) for name in NAMES)


def test_a_node_killed_between_its_charge_and_its_answer_answers_after_all(
    place: Deployed,
) -> None:
    """Its supervisor starts it again, the same bytes are asked for again, and it has paid once."""
    place.kill("Ankara")
    mark = place.folder / "was-killed"
    path = agreed(place, "between-charge-and-answer")
    with Background(
        place.folder / "mortal.out",
        "mortal",
        place.home("Ankara"),
        mark,
        module="federationkit",
    ) as mortal:
        mortal.says("connected")
        eventually(lambda: place.online() == set(NAMES))
        ran = studies.start(place.coordinator, path, deadline=30.0, watch=Acting().watch)
        assert mark.exists()
        mortal.says("restarting: The node ended by signal 9")
        assert attempts(place, ran.run) == [(step.step, 1, 4) for step in ran.federation.study.plan]
        books_agree(place, ran.run)
        assert mortal.text.count("query.sum") == len(ran.federation.study.plan)


def test_a_server_process_that_was_killed_leaves_a_run_that_is_gone_on_with(
    place: Deployed,
) -> None:
    path, home = agreed(place, "server-dies"), place.coordinator.home
    waited = {name: place.log(name).count("waiting: ") for name in NAMES}
    with Background(place.folder / "orphan.out", "server", "run", path, "--home", home) as run_:
        run_.says("lloyd-1: 4 members are asked")
        place.kill("server")
        assert run_.wait() == exits.SETTINGS
        said = " ".join(run_.text.split())
    assert said.count("Error: The server process went away during the run.") == 1
    assert "kesit server resume" in said
    assert "Traceback" not in said
    (run,) = runs_of(place, load_study(path))
    assert "interrupted" in state(place, run)
    assert not list((home / "results").glob(f"*-{run[:8]}"))
    assert all(holds_key(place.home(name), run) for name in NAMES)
    other = command("server", "run", agreed(place, "nobody-serves"), "--home", home)
    assert other.returncode == exits.SETTINGS
    assert "kesit server start" in " ".join(other.stderr.split())
    assert runs_of(place, load_study(place.folder / "nobody-serves.toml")) == []

    place.start_server()
    eventually(lambda: place.online() == set(NAMES))
    for name in NAMES:
        assert place.processes[name].poll() is None
        assert place.log(name).count("waiting: ") > waited[name]
    done = command("server", "resume", run, "--home", home)
    assert done.returncode == exits.OK, done.stderr
    assert attempts(place, run) == [(step.step, 1, 4) for step in load_study(path).plan]
    books_agree(place, run)


def test_too_few_members_end_the_run_and_the_result_tells_what_was_spent(
    place: Deployed,
) -> None:
    path, home = agreed(place, "too-few"), place.coordinator.home
    command_line = ("server", "run", path, "--home", home, "--deadline", SHORT)
    with Background(place.folder / "few.out", *command_line) as process:
        process.says("4 of 4 members take part")
        signal_all(place, "Bursa", signal.SIGSTOP)
        signal_all(place, "İzmir", signal.SIGSTOP)
        assert process.wait() == exits.FEDERATION, process.text
    (run,) = runs_of(place, load_study(path))
    said = "".join(process.text.split())
    assert "2membersareleft,thestudyneeds3" in said
    (folder,) = (home / "results").glob(f"*-{run[:8]}")
    names = {file.name for file in folder.iterdir()}
    statements = {"privacy.json", "privacy.md", "privacy-tr.md"}
    assert names == statements | {"study.json", "spending-log.json"}
    told = result(place, run)
    assert (told["result"], told["members_left"]) == (False, 2)
    assert told["epsilon_spent"] > 0
    assert [(row["step"], row["opened"]) for row in told["sums"]][-1][1] is False
    assert "failed" in state(place, run)
    for name in ("Ankara", "Şişli"):
        assert not holds_key(place.home(name), run)
    for name in ("Bursa", "İzmir"):
        signal_all(place, name, signal.SIGCONT)
    eventually(lambda: place.online() == set(NAMES))
    frozen = {
        name: len(log_of(place, run)) - len(charges(place.home(name), run))
        for name in ("Bursa", "İzmir")
    }
    assert all(missed in (0, 1) for missed in frozen.values())
    books_agree(place, run, missed=frozen)
    over = command("server", "resume", run, "--home", home)
    assert over.returncode == exits.SETTINGS


def test_a_run_that_nobody_greets_is_told_so_and_costs_nothing(place: Deployed) -> None:
    for name in ("Bursa", "İzmir"):
        place.kill(name)
    path = agreed(place, "too-few-greet")
    with pytest.raises(FederationError, match="2 members are left, the study needs 3"):
        studies.start(place.coordinator, path, deadline=SHORT, watch=Acting().watch)
    (run,) = runs_of(place, load_study(path))
    assert all(charges(place.home(name), run) == [] for name in NAMES)
    all_online(place)
    done = studies.resume(place.coordinator, run, watch=Acting().watch)
    assert result(place, done.run)["members_left"] == 4
    books_agree(place, run)
    with pytest.raises(DeploymentError, match="is over"):
        studies.resume(place.coordinator, run)
    assert not any(asked == run for name in NAMES for asked, _, _ in refusals(place.home(name)))
