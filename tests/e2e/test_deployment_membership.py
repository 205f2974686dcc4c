"""Who may take part, over real processes: members put out, strangers, impostors, clocks, cables."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploykit import free_port
from federationkit import (
    NAMES,
    Acting,
    Background,
    agreed,
    all_online,
    books_agree,
    charges,
    command,
    deployed,
    eventually,
    refusals,
    result,
    runs_of,
    tables,
)
from kesit_cli import exits
from kesit_client import home
from kesit_client.owner import approvals, onboarding, pins
from kesit_client.owner.inspection import FAIL, inspect
from kesit_privacy import canonical
from kesit_privacy.enrolment import read_request
from kesit_privacy.identity import Identity, fingerprint
from kesit_privacy.study_file import load_study
from kesit_privacy.wire import RefusalCode
from kesit_server.deployment import authority, members, studies
from kesit_server.deployment import home as server_home
from kesit_server.errors import FederationError
from kesit_simulations.deployed import LOOPBACK, Deployed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment-membership")]

DAY = 86_400


def admit_stranger(place: Deployed, name: str) -> None:
    """A member that the coordinator admits and that nobody pins; it pins everyone."""
    made = place.home(name)
    onboarding.create_client(made, name)
    for part in (home.POLICY, home.SOURCE, "customers.parquet"):
        shutil.copy(place.home(NAMES[0]) / part, made / part)
    request = read_request(made / home.REQUEST)
    shown = ("--yes", "--fingerprint", fingerprint(request.identity))
    admitted = command("server", "admit", made / home.REQUEST, "--home", server(place), *shown)
    assert admitted.returncode == exits.OK, admitted.stderr
    assert f"{name} may connect now" in admitted.stdout
    listed = place.coordinator.members
    onboarding.join(made, server(place) / server_home.MEMBERS, fingerprint(listed.coordinator))
    first = listed.current(NAMES[0])
    assert first is not None
    pins.pin(made, first.name, fingerprint(first.identity))


def server(place: Deployed) -> Path:
    """The coordinator's folder."""
    return place.coordinator.home


def test_a_stranger_stops_a_run_with_a_clear_refusal_and_goes_when_it_is_revoked(
    place: Deployed,
) -> None:
    """Whoever a coordinator admits, the members answer only with peers that they pinned."""
    admit_stranger(place, "Stranger")
    path = agreed(place, "with-a-stranger")
    approvals.approve(place.home("Stranger"), path, load_study(path).hash)
    place.start_member("Stranger")
    with pytest.raises(FederationError) as caught:
        studies.start(place.coordinator, path, deadline=30.0, watch=Acting().watch)
    assert "does not pin" in caught.value.cause
    (run,) = runs_of(place, load_study(path))
    assert result(place, run)["result"] is False
    for name in NAMES:
        assert charges(place.home(name), run) == []  # refused before anything was spent
        assert [(r, code) for r, code, _ in refusals(place.home(name)) if r == run] == [
            (run, RefusalCode.NOT_PINNED)
        ]

    revoked = command("server", "revoke", "Stranger", "--yes", "--home", server(place))
    assert revoked.returncode == exits.OK, revoked.stderr
    assert "Stranger was put out" in revoked.stdout
    assert place.processes["Stranger"].wait(60) == exits.SETTINGS
    again = studies.start(place.coordinator, path, watch=Acting().watch)
    assert result(place, again.run)["members_left"] == len(NAMES)
    books_agree(place, again.run)


def test_a_revoked_member_is_put_out_at_once_and_stays_out(place: Deployed) -> None:
    """Also in the middle of a run: what is asked of it fails like the silence of any member."""
    path = agreed(place, "one-is-revoked")

    def revoke() -> None:
        done = command("server", "revoke", "Bursa", "--yes", "--home", server(place))
        assert done.returncode == exits.OK, done.stderr
        assert "Bursa was put out" in done.stdout
        assert place.processes["Bursa"].wait(60) == exits.SETTINGS

    acting = Acting({2: revoke})
    ran = studies.start(place.coordinator, path, deadline=10.0, watch=acting.watch)
    told = result(place, ran.run)
    assert (told["members"], told["members_left"]) == (4, 3)
    assert "does not admit this node's key" in " ".join(place.log("Bursa").split())
    place.kill("Bursa")
    with Background(
        place.folder / "again.out", "client", "start", "--home", place.home("Bursa")
    ) as back:
        assert back.wait(60) == exits.SETTINGS
        assert "does not admit this node's key" in " ".join(back.text.split())
    request = place.home("Bursa") / home.REQUEST
    shown = ("--yes", "--fingerprint", fingerprint(read_request(request).identity))
    readmitted = command("server", "admit", request, "--home", server(place), *shown)
    assert readmitted.returncode == exits.SETTINGS
    status = command("server", "status", "--home", server(place))
    assert "Bursa" not in status.stdout
    place.names = NAMES[:3]  # for the tests that follow
    books_agree(place, ran.run)


def test_a_node_with_another_member_s_identity_is_silence(place: Deployed) -> None:
    """A copied key file makes nobody a member twice, and stops nobody else's run."""
    if len(place.names) < 4:
        admit_stranger(place, "Konya")
        place.names = (*place.names, "Konya")
        pin_each_other(place)
    victim, impostor = place.names[0], place.names[-1]
    all_online(place)
    path = agreed(place, "an-impostor")
    own = (place.home(impostor) / home.IDENTITY).read_bytes()
    place.kill(impostor)
    shutil.copy(place.home(victim) / home.IDENTITY, place.home(impostor) / home.IDENTITY)
    checked = command("client", "check", "--home", place.home(impostor))
    assert checked.returncode != exits.OK
    place.start_member(impostor)
    ran = studies.start(place.coordinator, path, deadline=30.0, watch=Acting().watch)
    told = result(place, ran.run)
    assert (told["members"], told["members_left"]) == (3, 3)
    assert charges(place.home(impostor), ran.run) == []
    assert ran.federation.greeted == tuple(
        sorted(read_request(place.home(n) / home.REQUEST).identity for n in place.names[:-1])
    )
    books_agree(place, ran.run)
    place.kill(impostor)
    (place.home(impostor) / home.IDENTITY).write_bytes(own)


def pin_each_other(place: Deployed) -> None:
    """Everyone takes the newest list and pins whom it has not pinned."""
    listed = place.coordinator.members
    for name in place.names:
        onboarding.join(place.home(name), server(place) / server_home.MEMBERS)
        pinned = {pin.identity for pin in pins.pins(place.home(name))}
        for member in listed.active:
            if member.name != name and member.identity not in pinned:
                pins.pin(place.home(name), member.name, fingerprint(member.identity))
        if not any(pin.name == pins.COORDINATOR for pin in pins.pins(place.home(name))):
            pins.pin(place.home(name), pins.COORDINATOR, fingerprint(listed.coordinator))


def test_a_list_that_was_tampered_with_or_is_another_s_is_not_joined(
    place: Deployed, tmp_path: Path
) -> None:
    honest = server(place) / server_home.MEMBERS
    new = tmp_path / "new"
    onboarding.create_client(new, "New")
    told = fingerprint(place.coordinator.members.coordinator)
    wrong = command("client", "join", honest, "--home", new, "--coordinator", fingerprint("0" * 64))
    assert wrong.returncode == exits.FEDERATION
    assert not (new / home.MEMBERS).exists()
    value = canonical.decode(honest.read_bytes())
    body = next(part for part in value.values() if isinstance(part, dict))
    entry = body["members"][0]
    entry["identity"] = Identity.new().public
    tampered = tmp_path / "members.json"
    tampered.write_bytes(canonical.encode(value))
    for place_to_join, more in ((new, ("--coordinator", told)), (place.home(NAMES[0]), ())):
        held = place_to_join / home.MEMBERS
        before = held.read_bytes() if held.exists() else None
        done = command("client", "join", tampered, "--home", place_to_join, *more)
        assert done.returncode == exits.FEDERATION, done.stdout
        assert (held.read_bytes() if held.exists() else None) == before
    joined = command("client", "join", honest, "--home", new, "--coordinator", told)
    assert joined.returncode == exits.OK, joined.stderr


@pytest.mark.parametrize(
    ("days", "node_says", "check_says"),
    [
        (400, "is not valid yet", "This machine's clock is behind"),
        (-3700, "has expired", "CA certificate expired"),
    ],
)
def test_a_certificate_of_another_time_is_a_clear_error_at_the_node(
    tmp_path: Path, days: int, node_says: str, check_says: str
) -> None:
    """As a member sees it whose clock is wrong, or whose coordinator renewed nothing."""
    place = Deployed(tmp_path, ("Ankara",))
    then = time.time() + days * DAY
    server_home.create(server_folder(place), [LOOPBACK], port=free_port(), now=then)
    onboarding.create_client(place.home("Ankara"), "Ankara")
    (place.home("Ankara") / home.SOURCE).write_text('path = "c.parquet"\nid_column = "no"\n')
    tables(("Ankara",))["Ankara"].write_parquet(place.home("Ankara") / "c.parquet")
    policy = place.home("Ankara") / home.POLICY
    policy.write_text(policy.read_text().replace('consent = "required"', 'consent = "not-kept"'))
    request = read_request(place.home("Ankara") / home.REQUEST)
    members.admit(server_folder(place), request, fingerprint(request.identity), now=None)
    listed = place.coordinator.members
    onboarding.join(
        place.home("Ankara"),
        server_folder(place) / server_home.MEMBERS,
        fingerprint(listed.coordinator),
    )
    with place:
        place.start_server()
        place.start_member("Ankara", wait=False)
        assert place.processes["Ankara"].wait(60) == exits.SETTINGS
        said = " ".join(place.log("Ankara").split())
        assert node_says in said
        assert "clock" in said
        assert "Traceback" not in said
    checked = command("client", "check", "--home", place.home("Ankara"))
    assert checked.returncode == exits.SETTINGS
    failed = [found for found in inspect(place.home("Ankara")) if found.level == FAIL]
    assert [found.subject for found in failed] == ["certificate"]
    assert check_says in failed[0].detail


def server_folder(place: Deployed) -> Path:
    """Where the coordinator's folder is, or will be."""
    return place.folder / "coordinator"


def test_an_expired_server_certificate_is_renewed_and_the_members_notice_nothing(
    place: Deployed,
) -> None:
    folder, name = server(place), place.names[0]
    ca, key = authority.load_authority(folder / server_home.CA, folder / server_home.CA_KEY)
    for running in (name, "server"):
        place.kill(running)
    leaf_file = folder / server_home.LEAF
    good = leaf_file.read_bytes(), (folder / server_home.LEAF_KEY).read_bytes()
    past = ca.not_valid_before_utc - authority.datetime.timedelta(days=400)
    leaf, leaf_key = authority.new_leaf(ca, key, [LOOPBACK], past)
    leaf_file.write_bytes(authority.as_pem(leaf))
    (folder / server_home.LEAF_KEY).write_bytes(server_home.to_pem(leaf_key, None))
    place.start_server()
    place.start_member(name, wait=False)
    assert place.processes[name].wait(60) == exits.SETTINGS
    assert "certificate has expired" in " ".join(place.log(name).split())
    place.kill("server")
    renewed = command("server", "renew-certificate", "--home", folder)
    assert renewed.returncode == exits.OK, renewed.stderr
    assert leaf_file.read_bytes() != good[0]
    all_online(place)


def ip(*arguments: str) -> None:
    """One call of `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A network namespace behind a cable: its name, our end of the cable, and our address."""
    name = f"kesit{free_port()}"
    ours, address = f"k{name[5:]}a", f"10.213.{free_port() % 250}"
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` to make a network namespace with")
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{address}.1/30", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", name, "addr", "add", f"{address}.2/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name, ours, f"{address}.1"
    finally:
        ip("netns", "del", name)


def test_a_node_whose_cable_was_pulled_comes_back_by_itself(
    tmp_path: Path, cable: tuple[str, str, str]
) -> None:
    """No packet says goodbye: the server notices by the deadline, the node by its own timeout."""
    namespace, device, address = cable
    with deployed(tmp_path / "federation") as place:
        settings = server(place) / server_home.SETTINGS
        settings.write_text(settings.read_text().replace(LOOPBACK, address))
        renewed = command("server", "renew-certificate", "--home", server(place))
        assert renewed.returncode == exits.OK, renewed.stderr
        pin_each_other(place)
        place._spawn("server", "server", "start", "--home", str(server(place)), "--host", address)
        place._await("server", place._listens)
        far = NAMES[-1]
        for name in NAMES[:-1]:
            place.start_member(name, wait=False)
        log = place.folder / "far.out"
        start = ("client", "start", "--home", place.home(far))
        with Background(log, *start, inside=namespace) as node:
            eventually(lambda: place.online() == set(NAMES))
            path = agreed(place, "cable-pulled")
            acting = Acting({2: lambda: ip("link", "set", device, "down")})
            ran = studies.start(place.coordinator, path, deadline=10.0, watch=acting.watch)
            assert result(place, ran.run)["members_left"] == 3
            assert len(charges(place.home(far), ran.run)) == 1
            books_agree(place, ran.run, missed={far: 1})
            node.says("waiting: ")
            ip("link", "set", device, "up")
            node.says("connected: ", 2)
            eventually(lambda: place.online() == set(NAMES))
            again = agreed(place, "cable-mended")
            whole = studies.start(place.coordinator, again, watch=Acting().watch)
            assert result(place, whole.run)["members_left"] == 4
            books_agree(place, whole.run)
