"""`kill -9` at every statement: the books survive without undercounting, and answers stay one.

A subprocess says hello and answers one instruction with books on disk, and is killed at its N-th
event (an SQL statement, a write or a move of a file), for every N until it gets to its end. After
each death the node is opened again and asked the same, as a server would.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from crashing_node import CODES, QUERY, STEP, STUDY

import kit
from kesit_client.ledger.books import Charge
from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_privacy import accounting, canonical
from kesit_privacy import hello as hello_form
from kesit_privacy.hello import Hello, HelloRequest
from kesit_privacy.instruction import Instruction
from kesit_privacy.wire import RefusalCode, read_reply

Command = Callable[..., str]


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    """Sends a command to the other process, and returns what it says."""
    script = Path(__file__).with_name("crashing_node.py")
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def send(*words: object) -> str:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write(" ".join(str(word) for word in words) + "\n")
            other.stdin.flush()
            return other.stdout.readline().strip()

        yield send
        other.stdin.close()


@dataclass(frozen=True)
class Scene:
    """One death: where the books are, the other members, and what they said."""

    folder: Path
    nodes: list[Node]
    request: HelloRequest
    hellos: list[Hello]

    @classmethod
    def set(cls, folder: Path) -> Scene:
        """Fresh members, of whom all but the first say hello here; the first is to die."""
        folder.mkdir()
        nodes = kit.small_nodes(STUDY, CODES)
        request = HelloRequest(STUDY.hash, secrets.token_hex(16), kit.SERVER.public)
        replies = [read_reply(node.hello(request.encoded))[1] for node in nodes[1:]]
        values = [canonical.decode(request.encoded), *map(canonical.decode, replies)]
        (folder / "peers").write_bytes(canonical.encode(values))
        return cls(folder, nodes, request, [Hello.from_value(value) for value in values[1:]])

    def reopened(self) -> Node:
        """The first member, as its owner finds it after a restart."""
        node = self.nodes[0]
        kit.keep_books(node, self.folder / "books.sqlite")
        return node

    def saved(self, name: str) -> bytes | None:
        """What the process wrote before it died."""
        path = self.folder / name
        return path.read_bytes() if path.exists() else None


def in_books(node: Node, order: Instruction) -> tuple[list[Charge], bytes | None]:
    """Charges of the run, and the stored answer."""
    with node.store.transaction() as books:
        return books.charges(order.run), books.answer(order.run, order.step, order.attempt)


def cost_of(order: Instruction) -> int:
    """The one charge that is right."""
    return accounting.charge_units(
        delta_sq=QUERY.delta_sq,
        multiplicity=1,
        share_variance=kit.variance(order),
        roster=len(order.roster),
        colluders=STUDY.roster.max_colluders,
    )


def check_survival(scene: Scene) -> None:
    """After a death, all is as it was or as if never asked: one charge, one answer."""
    node = scene.reopened()
    code, payload = read_reply(node.hello(scene.request.encoded))
    assert code is RefusalCode.OK
    assert scene.saved("hello") in (None, payload)

    hellos = [Hello.from_value(canonical.decode(payload)), *scene.hellos]
    transcript = hello_form.gather(scene.request, hellos)
    order = kit.instruct(STUDY, transcript, STEP, QUERY)
    charges, stored = in_books(node, order)
    assert len(charges) <= 1
    if stored is not None:
        assert len(charges) == 1
    if scene.saved("answer") is not None:
        assert scene.saved("answer") == stored

    code, answer = kit.ask(node, order, transcript)
    assert code is RefusalCode.OK
    assert stored in (None, answer)
    assert kit.ask(node, order, transcript) == (RefusalCode.OK, answer)
    after, stored = in_books(node, order)
    assert [charge.units for charge in after] == [cost_of(order)]
    assert stored == answer
    assert charges in ([], after)

    others = [kit.ask(peer, order, transcript) for peer in scene.nodes[1:]]
    assert {code for code, _ in others} == {RefusalCode.OK}
    opened = kit.opened([answer, *(payload for _, payload in others)], order)
    assert (opened == QUERY.sum(CODES)).all()
    # What was charged is witnessed, so a later restoration of the file cannot hide it.
    witness = json.loads((scene.folder / "books.sqlite.witness").read_text())
    assert (witness["head"], len(witness["costs"])) == (2, 1)  # a charge and an answer
    node.store.close()


@pytest.mark.slow
def test_a_kill_at_every_statement_loses_no_charge(command: Command, tmp_path: Path) -> None:
    deaths = []
    for number in range(1, 1000):
        scene = Scene.set(tmp_path / str(number))
        outcome = command("crash", scene.folder, number)
        assert outcome in ("killed", "done")
        deaths.append((scene.folder / "events").read_text().splitlines()[-1])
        check_survival(scene)
        if outcome == "done":
            break
    else:
        pytest.fail("the process never got to its end")
    assert len(deaths) == number  # one death an event: none was skipped
    for place in (
        "CREATE TABLE charge",
        "INSERT INTO run",
        "INSERT INTO charge",
        "UPDATE run",
        "INSERT INTO answer",
        "SELECT reply",
        "COMMIT",
        "fsync",
        "move",
        "moved",
    ):
        assert any(death.startswith(place) for death in deaths), place


def test_a_process_that_lives_makes_the_same_events(command: Command, tmp_path: Path) -> None:
    """The last command of the loop above: nothing of the story happens after its last event."""
    scene = Scene.set(tmp_path / "whole")
    assert command("crash", scene.folder, 10_000) == "done"
    events = (scene.folder / "events").read_text().splitlines()
    story = [
        next(i for i, event in enumerate(events) if event.startswith(start))
        for start in ("INSERT INTO run", "INSERT INTO charge", "INSERT INTO answer")
    ]
    assert story == sorted(story)
    charged, answered = story[1:]
    # Between the two: the charge is committed, then witnessed, then comes the computation.
    between = events[charged:answered]
    assert between.index("COMMIT") < between.index("fsync") < between.index("moved")


def test_two_processes_with_one_instruction(command: Command, tmp_path: Path) -> None:
    """Both compute, with noise of their own; one charge, and the same bytes from both."""
    winners = []
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        session = kit.begin(bins=32, books=folder / "books.sqlite")
        order = session.order
        (folder / "order").write_bytes(order.encode())
        (folder / "transcript").write_bytes(session.transcript.encoded)
        session.nodes[0].store.close()
        assert command("race", folder) == "done done"
        replies = [read_reply((folder / f"reply-{n}").read_bytes()) for n in (1, 2)]
        assert replies[0] == replies[1]
        assert replies[0][0] is RefusalCode.OK
        session.nodes[0].store = Store.open(folder / "books.sqlite")
        charges, stored = in_books(session.nodes[0], order)
        assert len(charges) == 1
        assert stored == replies[0][1]
        added = set(kit.opened(session.answers(order), order) - session.exact())
        assert len(added) == 1
        winners.append(added.pop())
    assert set(winners) <= {1, 2}
