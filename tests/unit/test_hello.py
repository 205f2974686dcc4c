"""Hello and the transcript: who may stand in a run, and with which keys.

The server of these tests lies: it builds transcripts that `gather` would refuse, and sends them
anyway. A refusal must come before any charge.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_privacy import canonical
from kesit_privacy import hello as hello_form
from kesit_privacy.errors import ProtocolError
from kesit_privacy.hello import Hello, HelloRequest, Transcript
from kesit_privacy.identity import Identity
from kesit_privacy.masking import SharedSecrets, new_ephemeral
from kesit_privacy.noise import SecureNoise
from kesit_privacy.wire import RefusalCode, read_reply
from kit import SERVER, Session, ask, begin, opened, say_hello

P = 2**255 - 19
SEED_HASH = "5a" * 32


@pytest.fixture
def session() -> Session:
    return begin()


def sign(session: Session, identity: Identity, **changes: Any) -> Hello:
    """A hello to the session's run, by any identity, with any content."""
    mode = session.transcript.hellos[0].mode
    content = {"ephemeral": new_ephemeral()[1], "mode": mode, "canary": SEED_HASH} | changes
    return Hello.sign(session.transcript.request, identity, **content)


def shown(session: Session, *hellos: Hello) -> Session:
    """The session with a transcript in which `hellos` replace, or join, the honest ones.

    The roster is all identities; the noise is as before (so no larger charge than planned).
    """
    names = {hello.identity for hello in hellos}
    kept = [hello for hello in session.transcript.hellos if hello.identity not in names]
    ordered = tuple(sorted([*kept, *hellos], key=lambda hello: hello.identity))
    transcript = Transcript(session.transcript.request, ordered)
    roster = tuple(sorted({hello.identity for hello in ordered}))
    order = replace(session.order, transcript=transcript.hash, roster=roster)
    return replace(session, transcript=transcript, order=order)


def honest_code(session: Session, rogue: Node | None) -> RefusalCode:
    """The code with which every honest member answers; a refusal must not have been charged."""
    codes = set()
    for node in session.nodes:
        if node is rogue:
            continue
        code, _ = ask(node, session.order, session.transcript)
        codes.add(code)
        with node.store.transaction() as books:
            assert bool(books.charges(session.order.run)) == (code is RefusalCode.OK)
    assert len(codes) == 1
    return codes.pop()


def test_a_member_that_signs_an_ordinary_hello_is_answered(session: Session) -> None:
    """The control of the tests below: the way in which they build transcripts is acceptable."""
    rogue = session.nodes[0]
    assert honest_code(shown(session, sign(session, rogue.identity)), rogue) is RefusalCode.OK


def encode_u(u: int, *, high_bit: bool = False) -> str:
    return (u | (high_bit << 255)).to_bytes(32, "little").hex()


def _u(key: str) -> int:
    return int.from_bytes(bytes.fromhex(key), "little") % 2**255


COPIES: dict[str, Callable[[str], str]] = {
    "the same bytes": lambda key: key,
    "with the ignored bit set": lambda key: encode_u(_u(key), high_bit=True),
    "shifted by the point of order two": lambda key: encode_u(pow(_u(key), -1, P)),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copied_ephemeral_key_is_refused(session: Session, name: str) -> None:
    """All of these give the same X25519 secrets as the key that they copy."""
    rogue, victim = session.nodes[:2]
    original = session.transcript.by_identity[victim.me].ephemeral
    copy = COPIES[name](original)
    anyone = SharedSecrets(bytes(range(32)))
    assert anyone(copy) == anyone(original)
    hello = sign(session, rogue.identity, ephemeral=copy)
    others = [other for other in session.transcript.hellos if other.identity != rogue.me]
    with pytest.raises(ProtocolError, match="ephemeral"):
        hello_form.gather(session.transcript.request, [hello, *others])
    assert honest_code(shown(session, hello), rogue) is RefusalCode.BAD_REQUEST


LOW_ORDER = [
    0,
    1,
    P - 1,
    P,
    P + 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]


@pytest.mark.parametrize("high_bit", [False, True])
@pytest.mark.parametrize("u", LOW_ORDER)
def test_a_point_of_low_order_is_refused_before_any_charge(
    session: Session, u: int, high_bit: bool
) -> None:
    rogue = session.nodes[0]
    hello = sign(session, rogue.identity, ephemeral=encode_u(u, high_bit=high_bit))
    assert honest_code(shown(session, hello), rogue) is RefusalCode.BAD_REQUEST


def _for(request: HelloRequest, **changes: Any) -> Callable[[Identity, Hello], Hello]:
    return lambda identity, honest: Hello.sign(
        replace(request, **changes),
        identity,
        ephemeral=honest.ephemeral,
        mode=honest.mode,
        canary=honest.canary,
    )


FORGED: dict[str, Callable[[HelloRequest, Identity, Hello], Hello]] = {
    "of another run": lambda request, i, h: _for(request, run="00" * 16)(i, h),
    "of another study": lambda request, i, h: _for(request, study="00" * 32)(i, h),
    "of another server": lambda request, i, h: _for(request, server="00" * 32)(i, h),
    "of another protocol": lambda request, i, h: _for(request, protocol=2)(i, h),
    "signed by someone else": lambda request, i, h: replace(
        _for(request)(SERVER, h), identity=h.identity
    ),
    "with another key than was signed": lambda r, i, h: replace(h, ephemeral=new_ephemeral()[1]),
    "with another commitment": lambda r, i, h: replace(h, canary="00" * 32),
    "with another mode": lambda r, i, h: replace(h, mode="secure"),
    "with a bit of the signature flipped": lambda r, i, h: replace(
        h, signature=f"{int(h.signature, 16) ^ 1:0128x}"
    ),
    "with an empty signature": lambda r, i, h: replace(h, signature=""),
    "with zeros for a signature": lambda r, i, h: replace(h, signature="00" * 64),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_hello_that_its_identity_did_not_sign_for_this_run_is_refused(
    session: Session, name: str
) -> None:
    rogue = session.nodes[0]
    honest = session.transcript.by_identity[rogue.me]
    hello = FORGED[name](session.transcript.request, rogue.identity, honest)
    assert hello != honest
    assert honest_code(shown(session, hello), rogue) is RefusalCode.BAD_REQUEST


def test_one_identity_twice_is_refused(session: Session) -> None:
    rogue = session.nodes[0]
    twice = shown(session, sign(session, rogue.identity), sign(session, rogue.identity))
    assert len(twice.transcript.hellos) == 5
    assert honest_code(twice, rogue) is RefusalCode.BAD_REQUEST


def test_a_transcript_out_of_order_is_refused(session: Session) -> None:
    reordered = Transcript(session.transcript.request, session.transcript.hellos[::-1])
    with pytest.raises(ProtocolError):
        hello_form.read(reordered.encoded)
    assert hello_form.read(session.transcript.encoded) == session.transcript
    order = replace(session.order, transcript=reordered.hash)
    unsorted = replace(session, transcript=reordered, order=order)
    assert honest_code(unsorted, None) is RefusalCode.BAD_REQUEST


def test_someone_whom_only_the_server_admits_is_refused(session: Session) -> None:
    """Validly signed and in the transcript, but not pinned: not in the roster, whoever says so."""
    stranger = Identity.new()
    admitted = shown(session, sign(session, stranger))
    assert stranger.public in admitted.order.roster
    assert honest_code(admitted, None) is RefusalCode.NOT_PINNED
    # The server itself is a pinned server, and so no member.
    assert honest_code(shown(session, sign(session, SERVER)), None) is RefusalCode.NOT_PINNED
    assert all(stranger.public not in node.policy.pinned for node in session.nodes)


def test_a_stranger_outside_the_roster_changes_nothing(session: Session) -> None:
    admitted = shown(session, sign(session, Identity.new()))
    order = replace(admitted.order, roster=session.order.roster)
    total = opened(replace(admitted, order=order).answers(order), order)
    assert (total == session.exact()).all()


def test_a_peer_that_the_owner_did_not_pin_is_refused(session: Session) -> None:
    node, unpinned = session.nodes[:2]
    peers = {name: key for name, key in node.policy.peers.items() if key != unpinned.me}
    node.policy = replace(node.policy, peers=peers)
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.NOT_PINNED
    smaller = tuple(member for member in session.order.roster if member != unpinned.me)
    variance = (2 * session.order.variance[0], 1)
    order = replace(session.order, roster=smaller, variance=variance)
    assert ask(node, order, session.transcript)[0] is RefusalCode.OK


def test_a_hello_of_my_own_that_I_did_not_send_is_refused(session: Session) -> None:
    """A second machine with my identity took part: validly signed, but its key is not mine."""
    node = session.nodes[0]
    twin = replace(node, store=Store.in_memory(), _secrets={})
    twin.approve(session.study)
    nodes = [twin, *session.nodes[1:]]
    transcript = say_hello(session.study, nodes, session.transcript.request.run)
    order = replace(session.order, transcript=transcript.hash)
    assert ask(node, order, transcript) == (RefusalCode.BAD_REQUEST, b"")
    assert ask(twin, order, transcript)[0] is RefusalCode.OK


# --- ways of making noise ------------------------------------------------------------------------


def real(node: Node, **changes: Any) -> Node:
    """The node as it would run outside a simulation."""
    fields: dict[str, Any] = {"simulated": False, "noise": SecureNoise(), "_secrets": {}}
    return replace(node, **fields | changes)


def real_session(rogue: Callable[[Node], Node]) -> Session:
    """Real nodes, and one whose hello says what `rogue` makes of it."""
    session = begin()
    nodes = [rogue(session.nodes[0]), *map(real, session.nodes[1:])]
    transcript = say_hello(session.study, nodes)
    order = replace(session.order, run=transcript.request.run, transcript=transcript.hash)
    return replace(session, nodes=nodes, transcript=transcript, order=order)


ROGUES: dict[str, Callable[[Node], Node]] = {
    "simulated-off": lambda node: node,
    "simulated-secure": lambda node: replace(node, noise=SecureNoise()),
    "simulated-secure-unmasked": lambda node: real(node, masked=False),
}


@pytest.mark.parametrize("mode", ROGUES)
def test_a_real_node_refuses_a_run_with_simulated_noise(mode: str) -> None:
    session = real_session(ROGUES[mode])
    assert session.transcript.modes == {"secure", mode}
    assert honest_code(session, session.nodes[0]) is RefusalCode.NOT_PINNED
    # Nor may such a hello stand beside the roster.
    roster = tuple(member for member in session.order.roster if member != session.nodes[0].me)
    aside = replace(session, order=replace(session.order, roster=roster))
    assert honest_code(aside, session.nodes[0]) is RefusalCode.NOT_PINNED


def test_a_simulated_node_refuses_a_run_with_a_real_one() -> None:
    session = real_session(ROGUES["simulated-off"])
    code, _ = ask(session.nodes[0], session.order, session.transcript)
    assert code is RefusalCode.NOT_PINNED


def test_real_nodes_answer_each_other() -> None:
    """The control: the same run without the rogue opens, with OpenDP's noise."""
    session = real_session(real)
    assert session.transcript.modes == {"secure"}
    noise = opened(session.answers(session.order), session.order) - session.exact()
    assert noise.any()
    # 4 shares; |noise| > 10σ anywhere has a probability below 1e-18.
    assert (noise.astype(float) ** 2 < 100 * 4 * session.order.variance[0]).all()


# --- asked twice, after a restart, and after the end ---------------------------------------------


def on_file(session: Session, path: Path, place: int = 0) -> Node:
    """A process that has the session's node `place` with its books in a file."""
    node = replace(session.nodes[place], store=Store.open(path), _secrets={})
    node.approve(session.study)
    return node


def with_node(session: Session, node: Node) -> Session:
    """A new run of the session in which `node` takes part with its own books."""
    nodes = [node if other.me == node.me else other for other in session.nodes]
    transcript = say_hello(session.study, nodes)
    order = replace(session.order, run=transcript.request.run, transcript=transcript.hash)
    return replace(session, nodes=nodes, transcript=transcript, order=order)


def test_hello_is_the_same_when_asked_again_and_after_a_restart(
    session: Session, tmp_path: Path
) -> None:
    request = replace(session.transcript.request, run="0f" * 16).encoded
    node = on_file(session, tmp_path / "books")
    first = node.hello(request)
    assert node.hello(request) == first
    beside = on_file(session, tmp_path / "books")
    assert beside.hello(request) == first
    for process in (node, beside):
        process.store.close()
    assert on_file(session, tmp_path / "books").hello(request) == first
    assert on_file(session, tmp_path / "other").hello(request) != first


def test_the_ephemeral_key_survives_a_restart(session: Session, tmp_path: Path) -> None:
    """The run goes on after the node's process was replaced: the sum still opens."""
    session = with_node(session, on_file(session, tmp_path / "books"))
    session.nodes[0].store.close()
    again = on_file(session, tmp_path / "books")
    restarted = replace(session, nodes=[again, *session.nodes[1:]])
    assert (opened(restarted.answers(session.order), session.order) == session.exact()).all()


def _private_key(path: Path, run: str) -> bytes | None:
    connection = sqlite3.connect(path)
    row = connection.execute("SELECT ephemeral FROM run WHERE run = ?", (run,)).fetchone()
    connection.close()
    key: bytes | None = row[0]
    return key


def test_the_end_deletes_the_key_and_nothing_is_answered_after(
    session: Session, tmp_path: Path
) -> None:
    path = tmp_path / "books"
    session = with_node(session, on_file(session, path))
    node, request = session.nodes[0], session.transcript.request
    session.answers(session.order)
    private = _private_key(path, request.run)
    assert private is not None
    assert private in path.read_bytes()

    assert node.end(request.encoded) == bytes([RefusalCode.OK])
    assert _private_key(path, request.run) is None
    assert not any(private in file.read_bytes() for file in tmp_path.iterdir())

    later = replace(session.order, attempt=2)
    node.store.close()
    for process in (node, on_file(session, path)):
        if process is node:
            process.store = Store.open(path)
        for order in (session.order, later):
            assert ask(process, order, session.transcript)[0] is RefusalCode.BAD_REQUEST
        assert read_reply(process.hello(request.encoded))[0] is RefusalCode.BAD_REQUEST
        assert process.end(request.encoded) == bytes([RefusalCode.OK])
    assert request.run not in node._secrets


def test_the_end_of_one_run_is_not_the_end_of_another(session: Session) -> None:
    node = session.nodes[0]
    other = say_hello(session.study, session.nodes)
    assert node.end(other.request.encoded) == bytes([RefusalCode.OK])
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK


@pytest.mark.parametrize("field", ["server", "study"])
def test_only_the_run_s_own_server_ends_it(session: Session, field: str) -> None:
    node = session.nodes[0]
    request = replace(session.transcript.request, **{field: "00" * 32})
    assert read_reply(node.end(request.encoded)) == (RefusalCode.BAD_REQUEST, b"")
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK


def test_a_run_id_serves_one_study_and_one_server(session: Session) -> None:
    node, request = session.nodes[0], session.transcript.request
    second = Identity.from_seed(bytes([1]) * 32).public
    node.policy = replace(node.policy, servers=(*node.policy.servers, second))
    reply = node.hello(replace(request, server=second).encoded)
    assert read_reply(reply) == (RefusalCode.BAD_REQUEST, b"")


def test_each_run_has_keys_of_its_own(session: Session) -> None:
    runs = [say_hello(session.study, session.nodes) for _ in range(3)]
    hellos = [hello for transcript in runs for hello in transcript.hellos]
    for field in ("ephemeral", "canary", "signature"):
        assert len({getattr(hello, field) for hello in hellos}) == len(hellos)


# --- form ----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
SAMPLE = begin(rows=4)


@given(st.sampled_from(["study", "run", "server", "protocol", "more"]), JSON)
@settings(max_examples=100, deadline=None)
def test_any_hello_request_is_accepted_or_refused(name: str, other: Any) -> None:
    value = canonical.decode(SAMPLE.transcript.request.encoded) | {name: other}
    try:
        data = canonical.encode(value)
    except ProtocolError:
        return
    try:
        assert HelloRequest.parse(data).encoded == data
    except ProtocolError:
        assert data != SAMPLE.transcript.request.encoded


@given(
    st.sampled_from(["identity", "ephemeral", "mode", "canary", "signature", "more"]),
    st.integers(0, 3),
    JSON,
)
@settings(max_examples=100, deadline=None)
def test_any_transcript_is_accepted_or_refused(name: str, place: int, other: Any) -> None:
    """And accepted only as it was: every field of a hello is under a signature, or is one."""
    value = canonical.decode(SAMPLE.transcript.encoded)
    value["hellos"][place][name] = other
    try:
        data = canonical.encode(value)
    except ProtocolError:
        return
    try:
        assert hello_form.read(data) == SAMPLE.transcript
    except ProtocolError:
        assert data != SAMPLE.transcript.encoded
