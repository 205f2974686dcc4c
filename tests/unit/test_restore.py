"""Books restored from a backup: refused, until the owner merges the server's signed log (rule 18).

A run of two sums leaves two charges; a copy of the file taken after the first has forgotten one.
"""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_privacy import canonical
from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import IntArray
from kesit_privacy.hello import HelloRequest
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import Instruction, instruction_hash
from kesit_privacy.spending import LARGEST_COUNT, Spending, read_log, sign_log
from kesit_privacy.wire import RefusalCode, refusal
from kit import SERVER, Session, ask, begin, instruct, restarted, say_hello

PINNED = frozenset({SERVER.public})


def entry(session: Session, order: Instruction) -> Spending:
    """What an honest server's log says of an instruction."""
    (units,) = {
        charge.units
        for charge in charges(session.nodes[1])
        if charge.instruction == instruction_hash(order.encode())
    }
    return Spending(
        session.study.hash,
        session.study.purpose,
        order.run,
        order.step,
        order.attempt,
        instruction_hash(order.encode()).hex(),
        units,
        order.roster,
    )


def charges(node: Node) -> list[Any]:
    """All charges of a node, oldest first."""
    with node.store.transaction() as books:
        runs = books._db.execute("SELECT DISTINCT run FROM charge").fetchall()
        return [charge for (run,) in runs for charge in books.charges(run)]


class Past:
    """A node with two charges on disk, a backup that knows one, and the server's signed log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "books.sqlite"
        self.backup = folder / "backup.sqlite"
        self.session = begin(bins=32, books=self.path)
        self.me = self.session.nodes[0].me
        first = self.session.order
        assert self.answer(self.session.nodes[0], first)[0] is RefusalCode.OK
        self.answer(self.session.nodes[1], first)
        shutil.copyfile(self.path, self.backup)
        # The second attempt goes to a smaller roster, in which both of these nodes stand.
        keep = {self.me, self.session.nodes[1].me, self.session.nodes[2].me}
        self.second = instruct(
            self.session.study,
            self.session.transcript,
            "marginals",
            self.session.query,
            attempt=2,
            roster=tuple(sorted(keep)),
        )
        assert self.answer(self.session.nodes[0], self.second)[0] is RefusalCode.OK
        self.answer(self.session.nodes[1], self.second)
        self.spent = sum(charge.units for charge in charges(self.session.nodes[0]))
        self.entries = [entry(self.session, order) for order in (first, self.second)]
        self.log = folder / "log.json"
        self.log.write_bytes(sign_log(self.entries, SERVER))
        self.session.nodes[0].store.close()

    def answer(self, node: Node, order: Instruction) -> tuple[RefusalCode, bytes]:
        return ask(node, order, self.session.transcript)

    def node(self, path: Path | None = None) -> Node:
        """The first node over the books at `path`."""
        return restarted(self.session.nodes[0], path or self.path)

    def entries_read(self) -> tuple[Spending, ...]:
        return read_log(self.log, PINNED)


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


def over_it(past: Past) -> Path:
    """The backup is moved over the books: another inode."""
    os.replace(past.backup, past.path)
    return past.path


def in_place(past: Past) -> Path:
    """The backup's bytes are written into the books' own file: the same inode."""
    inode = past.path.stat().st_ino
    with past.path.open("r+b") as file:
        file.write(past.backup.read_bytes())
        file.truncate()
    assert past.path.stat().st_ino == inode
    return past.path


def elsewhere(past: Past) -> Path:
    """The whole folder is copied to another place, with its witness."""
    place = past.path.parent / "elsewhere"
    place.mkdir()
    shutil.copyfile(past.path, place / past.path.name)
    shutil.copyfile(f"{past.path}.witness", f"{place / past.path.name}.witness")
    return place / past.path.name


def without_witness(past: Past) -> Path:
    """The witness is deleted."""
    Path(f"{past.path}.witness").unlink()
    return past.path


def spoilt_witness(past: Past) -> Path:
    """The witness cannot be read."""
    Path(f"{past.path}.witness").write_text('{"head": Infinity}')
    return past.path


def emptied(past: Past) -> Path:
    """The books are truncated to nothing; the witness stays."""
    past.path.write_bytes(b"")
    return past.path


WAYS = [over_it, in_place, elsewhere, without_witness, spoilt_witness, emptied]
REFUSED = refusal(RefusalCode.RESTORED)


def test_books_that_were_not_restored_are_trusted(past: Past) -> None:
    node = past.node()
    assert node.store.restored is None
    assert past.answer(node, past.second)[0] is RefusalCode.OK


@pytest.mark.parametrize("way", WAYS)
def test_every_request_to_restored_books_is_refused(past: Past, way: Any) -> None:
    node = past.node(way(past))
    assert node.store.restored is not None
    encoded, request = past.session.transcript.encoded, past.session.transcript.request.encoded
    new_run = HelloRequest(past.session.study.hash, "f" * 32, SERVER.public).encoded
    for _ in range(2):  # and it stays so after a restart
        assert node.hello(request) == REFUSED
        assert node.hello(new_run) == REFUSED
        assert node.answer(past.session.order.encode(), encoded) == REFUSED
        assert node.answer(past.second.encode(), encoded) == REFUSED
        assert node.answer(b"nonsense", b"") == REFUSED
        assert node.end(request) == REFUSED
        node = restarted(node, way_path(node))


def way_path(node: Node) -> Path:
    """Where a node's books are."""
    path = node.store._path
    assert path is not None
    return path


def test_a_file_replaced_under_a_running_node_is_noticed(past: Past) -> None:
    node = past.node()
    assert past.answer(node, past.second)[0] is RefusalCode.OK
    in_place(past)
    assert node.answer(past.second.encode(), past.session.transcript.encoded) == REFUSED
    witness = json.loads(Path(f"{past.path}.witness").read_text())
    assert witness["head"] == 4
    with node.store.transaction() as books:
        known = books.costs()
    assert len(witness["costs"]) == 2
    assert known.items() < witness["costs"].items()  # the file that came back knows one of them


def test_the_sign_outlives_the_deletion_of_the_witness(past: Past) -> None:
    """Once noted, a restoration is not forgotten because its evidence is."""
    assert past.node(in_place(past)).store.restored is not None
    Path(f"{past.path}.witness").unlink()
    assert past.node().store.restored is not None
    Path(f"{past.path}.witness").write_text('{"head": 1}')
    assert past.node().store.restored is not None


def test_charges_of_others_runs_do_not_stand_in_for_those_that_the_witness_saw(past: Past) -> None:
    node = past.node(in_place(past))
    strangers = [
        replace(entry, instruction=f"{number:064x}", step=f"refused-{number}")
        for number, entry in enumerate(past.entries_read())
    ]
    node.store.merge(strangers, past.me)
    assert "ask the coordinator" in str(node.store.restored)
    Path(f"{past.path}.witness").write_text('{"head": 4, "charges": 9}')  # of an earlier version
    node.store.merge(past.entries_read(), past.me)
    assert "5 charges" in str(node.store.restored)
    Path(f"{past.path}.witness").write_text('{"head": 4, "charges": 2}')
    node.store.merge(past.entries_read(), past.me)
    assert node.store.restored is None


def test_a_log_that_understates_a_charge_neither_lifts_nor_hides_it(past: Past) -> None:
    """The higher of two logs counts, whichever comes first."""
    node = past.node(in_place(past))
    node.store.merge([replace(entry, units=0) for entry in past.entries_read()], past.me)
    assert node.store.restored is not None
    node.store.merge(past.entries_read(), past.me)
    assert node.store.restored is None
    with node.store.transaction() as books:
        assert books.spent() == past.spent
    assert node.store.merge(past.entries_read(), past.me) == 0


def test_a_log_of_nobody_s_runs_lifts_nothing_without_a_witness(past: Past) -> None:
    node = past.node(in_place(past))
    Path(f"{past.path}.witness").unlink()
    others = [replace(entry, roster=("ab" * 32,)) for entry in past.entries_read()]
    assert node.store.merge(others, past.me) == 0
    assert node.store.restored is not None
    node.store.merge(past.entries_read(), past.me)
    assert node.store.restored is None


@pytest.mark.parametrize("way", WAYS)
def test_after_the_merge_all_charges_count_and_answers_are_allowed(past: Past, way: Any) -> None:
    node = past.node(way(past))
    node.approve(past.session.study)  # an emptied file has forgotten the owner's approval too
    known = len(charges(node))
    assert node.store.merge(past.entries_read(), past.me) == 2 - known
    assert node.store.restored is None
    study = past.session.study
    with node.store.transaction() as books:
        assert books.spent() == past.spent
        assert books.spent(study=study.hash) == past.spent
        assert books.spent(purpose=study.purpose) == past.spent
        assert books.spent(since=0) == past.spent
        merged = [charge.origin for charge in books.charges(past.second.run)]
    assert merged == ["own"] * known + ["merged"] * (2 - known)
    node = restarted(node, way_path(node))
    assert node.store.restored is None
    request = HelloRequest(study.hash, "f" * 32, SERVER.public)
    assert node.hello(request.encoded)[:1] == bytes([RefusalCode.OK])


def test_runs_are_closed_after_a_merge(past: Past) -> None:
    """What the forgotten part of a run answered is unknown, so nothing of it is answered again."""
    node = past.node(in_place(past))
    node.store.merge(past.entries_read(), past.me)
    for order in (past.session.order, past.second):
        assert past.answer(node, order)[0] is RefusalCode.BAD_REQUEST
    assert node.hello(past.session.transcript.request.encoded) == refusal(RefusalCode.BAD_REQUEST)
    with node.store.transaction() as books:
        run = books.run(past.second.run)
    assert run is not None
    assert run.ephemeral is None


def test_a_merged_charge_is_no_answer(past: Past) -> None:
    """A node that merged a charge never computes an answer for it, even if its run were open."""
    node = past.node(in_place(past))
    with node.store.transaction() as books:
        run = books.run(past.second.run)
    assert run is not None
    node.store.merge(past.entries_read(), past.me)
    node.store._db.execute("UPDATE run SET ephemeral = ?", (run.ephemeral,))
    assert past.answer(node, past.second)[0] is RefusalCode.REPEATED


def test_merging_twice_adds_nothing(past: Past) -> None:
    node = past.node(in_place(past))
    assert node.store.merge(past.entries_read(), past.me) == 1
    assert node.store.merge(past.entries_read(), past.me) == 0
    assert sum(charge.units for charge in charges(node)) == past.spent


def test_only_sums_in_which_this_client_stood_are_merged(past: Past) -> None:
    """The second roster lacks the fourth node; charges of others are not its own."""
    absent = past.session.nodes[3]
    assert absent.me not in past.second.roster
    assert absent.store.merge(past.entries_read(), absent.me) == 1
    assert [charge.attempt for charge in charges(absent)] == [1]


def test_the_higher_of_both_books_counts(past: Past) -> None:
    """A log that knows less than the books takes nothing from them."""
    past.log.write_bytes(sign_log(past.entries[:1], SERVER))
    node = past.node(without_witness(past))
    assert node.store.merge(past.entries_read(), past.me) == 0
    assert sum(charge.units for charge in charges(node)) == past.spent
    assert restarted(node, past.path).store.restored is None


def test_merged_charges_exhaust_the_study(past: Past) -> None:
    """A server that answers for much in its log leaves nothing to spend: never undercounting."""
    units = past.session.study.mu2_units - past.spent
    other = replace(past.entries[0], run="9" * 32, units=units)
    past.log.write_bytes(sign_log([*past.entries, other], SERVER))
    node = past.node(in_place(past))
    node.store.merge(past.entries_read(), past.me)
    session = begin(past.session.study, bins=32)
    session.nodes[0].store = node.store
    transcript = say_hello(session.study, session.nodes)
    order = instruct(session.study, transcript, "marginals", session.query)
    assert ask(session.nodes[0], order, transcript)[0] is RefusalCode.BUDGET
    assert ask(session.nodes[1], order, transcript)[0] is RefusalCode.OK


# The log itself.


def test_the_log_reads_back_as_it_was_signed(past: Past) -> None:
    assert list(past.entries_read()) == past.entries


def test_a_log_of_another_server_is_refused(past: Past) -> None:
    past.log.write_bytes(sign_log(past.entries, Identity.new()))
    with pytest.raises(ProtocolError, match="not signed by a server that the policy pins"):
        past.entries_read()


def test_a_forged_log_is_refused(past: Past) -> None:
    """A signature over other entries, a foreign signature under the server's name, another tag."""
    value = canonical.decode(past.log.read_bytes())
    other = canonical.decode(sign_log(past.entries[:1], SERVER))
    stranger = Identity.new()
    body = value["log"]
    forged = [
        {"log": body, "signature": other["signature"]},
        {"log": body, "signature": stranger.sign(canonical.encode(body))},
        {"log": body, "signature": "00" * 64},
        {"log": body, "signature": None},
        {"log": body, "signature": [1]},
        {
            "log": body | {"tag": "kesit hello v1"},
            "signature": SERVER.sign(canonical.encode(body | {"tag": "kesit hello v1"})),
        },
    ]
    cheaper = deepcopy(body)
    cheaper["entries"][0]["units"] -= 1
    forged.append({"log": cheaper, "signature": value["signature"]})
    for item in forged:
        past.log.write_bytes(canonical.encode(item))
        with pytest.raises(ProtocolError, match="not signed"):
            past.entries_read()


def signed(body: Any) -> bytes:
    """Any body, under the server's own good signature."""
    return canonical.encode({"log": body, "signature": SERVER.sign(canonical.encode(body))})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("units", -1),
        ("units", True),
        ("units", "10"),
        ("units", LARGEST_COUNT + 1),
        ("attempt", -1),
        ("attempt", 1 << 80),
        ("run", "xy" * 16),
        ("run", 7),
        ("instruction", "ab"),
        ("study", "ab"),
        ("study", None),
        ("step", 5),
        ("purpose", ["p"]),
        ("roster", ["ab"]),
        ("roster", "ab"),
        ("roster", 5),
        ("roster", [5]),
        ("extra", 1),
        (None, None),
    ],
)
def test_a_malformed_entry_is_refused(past: Past, field: str | None, value: Any) -> None:
    body = canonical.decode(past.log.read_bytes())["log"]
    if field is None:
        body["entries"][0] = "entry"
    else:
        body["entries"][0][field] = value
    past.log.write_bytes(signed(body))
    with pytest.raises(ProtocolError, match="is not a spending log"):
        past.entries_read()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{}",
        b"[]",
        b'"log"',
        b'{"log":{},"signature":""}',
        b'{"log": {}}',
        b'{"log":[],"signature":""}',
        signed({"tag": "kesit spending log v1", "server": [], "entries": []}),
        signed({"tag": "kesit spending log v1", "server": 1, "entries": []}),
        signed({"tag": "kesit spending log v1", "server": SERVER.public, "entries": 5}),
        signed({"tag": "kesit spending log v1", "server": SERVER.public}),
    ],
)
def test_what_is_no_log_is_refused(past: Past, data: bytes) -> None:
    past.log.write_bytes(data)
    with pytest.raises(ProtocolError, match="is not a spending log"):
        past.entries_read()


def test_a_log_that_is_not_there(past: Past) -> None:
    past.log.unlink()
    with pytest.raises(ProtocolError, match=r"log\.json: is not a spending log"):
        past.entries_read()


def test_a_merge_that_fails_leaves_the_books_restored(past: Past) -> None:
    node = past.node(in_place(past))
    bad = replace(past.entries[1], units=-1)
    with pytest.raises(Exception, match="CHECK"):
        node.store.merge([past.entries[0], bad], past.me)
    assert node.store.restored is not None
    assert len(charges(node)) == 1
    assert Store.open(past.path).restored is not None


class BackedUp:
    """No noise; while the vector is made, someone copies the books."""

    mode = "off"

    def __init__(self, books: Path, backup: Path) -> None:
        self.books, self.backup = books, backup

    def sample(self, variance: Fraction, size: int) -> IntArray:
        shutil.copyfile(self.books, self.backup)
        return np.zeros(size, dtype=np.int64)


def test_a_backup_between_charge_and_answer_is_noticed(tmp_path: Path) -> None:
    """Else the node would answer the same instruction again, with other noise, for one charge."""
    path, backup = tmp_path / "books.sqlite", tmp_path / "backup.sqlite"
    session = begin(books=path)
    node = session.nodes[0]
    node.noise = BackedUp(path, backup)
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK
    node.store.close()
    path.write_bytes(backup.read_bytes())  # in place: the inode stays
    again = restarted(node, path)
    with again.store.transaction() as books:
        assert len(books.charges(session.order.run)) == 1
    assert ask(again, session.order, session.transcript) == (RefusalCode.RESTORED, b"")


def test_a_log_that_lacks_what_the_witness_saw_lifts_nothing(past: Past) -> None:
    """An old, an empty or another server's log would else undo the refusal."""
    node = past.node(in_place(past))
    past.log.write_bytes(sign_log(past.entries[:1], SERVER))
    assert node.store.merge(past.entries_read(), past.me) == 0
    assert node.store.merge([], past.me) == 0
    assert past.answer(node, past.second) == (RefusalCode.RESTORED, b"")
    past.log.write_bytes(sign_log(past.entries, SERVER))
    assert node.store.merge(past.entries_read(), past.me) == 1
    assert node.store.restored is None


def test_two_instructions_at_one_place_both_count(past: Past) -> None:
    """Books and log may know different instructions of an attempt: both were answered."""
    node = past.node()
    other = replace(past.entries[0], instruction="ab" * 32)
    before = sum(charge.units for charge in charges(node))
    assert node.store.merge([*past.entries, other], past.me) == 1
    assert node.store.merge([*past.entries, other], past.me) == 0
    assert sum(charge.units for charge in charges(node)) == before + other.units
