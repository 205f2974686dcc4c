"""One answer a (run, step, attempt); rosters that only shrink; nothing to combine.

Noise is off, so whatever opens, opens exactly, and a server that combines answers has the best of
chances.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kesit_client.errors import SourceError
from kesit_client.ledger.books import Charge
from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_client.rows.cache import Rows
from kesit_privacy.hello import Transcript
from kesit_privacy.instruction import Instruction
from kesit_privacy.masking import connectivity
from kesit_privacy.study import Study
from kesit_privacy.wire import RefusalCode
from kit import Session, ask, attempt, begin, mixed_study, say_hello


@pytest.fixture
def session() -> Session:
    return begin()


@pytest.fixture
def node(session: Session) -> Node:
    return session.by_identity(session.order.roster[1])


def charges(node: Node, run: str) -> list[Charge]:
    with node.store.transaction() as books:
        return books.charges(run)


def refusals(node: Node) -> list[tuple[str, int, str]]:
    with node.store.transaction() as books:
        return books.refusals()


def next_step(order: Instruction, roster: tuple[str, ...]) -> Instruction:
    """The codebook step of the same run, with one centre."""
    dimensions = 9  # of `mixed_study`: four numbers, three levels, unknown and missing
    return replace(
        order,
        step="cells-1",
        query="cluster-sums",
        params={
            "centres": [[0] * dimensions],
            "radii": [9],
            "fill": [0] * 5,
            "count_share": 5,
        },
        delta_sq=1 << (2 * order.scale_bits),
        length=1 + dimensions,
        roster=roster,
    )


# --- one answer ----------------------------------------------------------------------------------


def test_the_same_instruction_again_has_the_same_answer_and_one_charge(
    session: Session, node: Node
) -> None:
    replies = {ask(node, session.order, session.transcript) for _ in range(5)}
    assert len(replies) == 1
    assert [charge.attempt for charge in charges(node, session.order.run)] == [1]
    # Other answers in between change nothing.
    later = attempt(session.order, 2, session.order.roster[:3])
    assert ask(node, later, session.transcript)[0] is RefusalCode.OK
    assert ask(node, session.order, session.transcript) in replies
    assert len(charges(node, session.order.run)) == 2


def test_an_answer_that_stands_is_given_without_the_rows(session: Session, node: Node) -> None:
    first = ask(node, session.order, session.transcript)

    def gone(study: Study) -> Rows:
        raise SourceError("The source is gone.", remedy="Bring it back.")

    node.rows = gone
    assert ask(node, session.order, session.transcript) == first
    later = attempt(session.order, 2, session.order.roster[:3])
    assert ask(node, later, session.transcript) == (RefusalCode.UNAVAILABLE, b"")


class OnFile:
    """A run in which one member's books are a file, and processes that share it. With noise on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session = begin(noise="seeded")
        first = self.process()
        transcript = say_hello(self.session.study, [first, *self.session.nodes[1:]])
        self.order = replace(
            self.session.order, run=transcript.request.run, transcript=transcript.hash
        )
        self.transcript = transcript

    def process(self) -> Node:
        fresh = replace(self.session.nodes[0], store=Store.open(self.path), _secrets={})
        fresh.approve(self.session.study)
        return fresh

    def ask_at_once(self, asked: list[tuple[Node, Instruction]]) -> list[tuple[RefusalCode, bytes]]:
        """Each of these nodes' replies, all asked in the same moment."""
        ready = threading.Barrier(len(asked))
        replies: list[tuple[RefusalCode, bytes]] = []

        def work(asker: Node, order: Instruction) -> None:
            ready.wait()
            replies.append(ask(asker, order, self.transcript))

        threads = [threading.Thread(target=work, args=pair) for pair in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(replies) == len(asked)
        return replies


def test_after_a_restart_and_in_another_process_the_answer_is_the_same(tmp_path: Path) -> None:
    """With noise on, a second computation would be a second draw."""
    run = OnFile(tmp_path / "books")
    processes = [run.process(), run.process()]
    [answer] = {ask(process, run.order, run.transcript) for process in processes}
    assert answer[0] is RefusalCode.OK
    for process in processes:
        process.store.close()
    again = run.process()
    assert ask(again, run.order, run.transcript) == answer
    assert len(charges(again, run.order.run)) == 1


@pytest.mark.parametrize("one_process", [True, False])
def test_asked_by_many_at_once_there_is_one_answer_and_one_charge(
    tmp_path: Path, one_process: bool
) -> None:
    """Threads of one process, on one connection, and processes that share the file."""
    run = OnFile(tmp_path / "books")
    first = run.process()
    askers = [first if one_process else run.process() for _ in range(6)]
    replies = run.ask_at_once([(asker, run.order) for asker in askers])
    [(code, _)] = set(replies)
    assert code is RefusalCode.OK
    assert len(charges(first, run.order.run)) == 1
    assert not refusals(first)


@pytest.mark.parametrize("one_process", [True, False])
def test_of_several_instructions_at_once_one_is_answered(tmp_path: Path, one_process: bool) -> None:
    """Six that differ in their noise race for one attempt: one answer and one charge."""
    run = OnFile(tmp_path / "books")
    first = run.process()
    askers = [first if one_process else run.process() for _ in range(6)]
    orders = [replace(run.order, variance=(run.order.variance[0] + more, 1)) for more in range(6)]
    replies = run.ask_at_once(list(zip(askers, orders, strict=True)))
    codes = sorted(code for code, _ in replies)
    assert codes == [RefusalCode.OK] + [RefusalCode.REPEATED] * 5
    assert len(charges(first, run.order.run)) == 1
    assert len(refusals(first)) == 5


SECONDS: dict[str, dict[str, Any]] = {
    "more noise": {"variance": (10**30, 1)},
    "other parameters": {"params": {"bins": 255}, "length": 255 * 4 + 4 + 5},
    "a smaller roster": {},
}


@pytest.mark.parametrize("name", SECONDS)
def test_a_second_instruction_for_an_attempt_is_refused_and_logged(
    session: Session, node: Node, name: str
) -> None:
    first = ask(node, session.order, session.transcript)
    second = replace(session.order, **SECONDS[name])
    if name == "a smaller roster":
        second = attempt(session.order, 1, session.order.roster[:3])
    assert ask(node, second, session.transcript) == (RefusalCode.REPEATED, b"")
    assert [charge.attempt for charge in charges(node, session.order.run)] == [1]
    [(run, code, cause)] = refusals(node)
    assert (run, code) == (session.order.run, RefusalCode.REPEATED)
    assert "attempt 1" in cause
    # The first one still stands, and another attempt is still possible.
    assert ask(node, session.order, session.transcript) == first
    later = attempt(session.order, 2, session.order.roster[:3])
    assert ask(node, later, session.transcript)[0] is RefusalCode.OK


def test_a_second_instruction_is_acceptable_where_none_was_answered(
    session: Session, node: Node
) -> None:
    """The control: each of the second instructions above would be answered as the first."""
    for name, changes in SECONDS.items():
        session = begin()
        node = session.by_identity(session.order.roster[1])
        order = replace(session.order, **changes)
        if name == "a smaller roster":
            order = attempt(session.order, 1, session.order.roster[:3])
        assert ask(node, order, session.transcript)[0] is RefusalCode.OK


# --- attempts and rosters ------------------------------------------------------------------------


def test_rosters_shrink_strictly_from_attempt_to_attempt() -> None:
    session = begin(clients=6)
    node = session.by_identity(session.order.roster[0])
    roster, transcript = session.order.roster, session.transcript
    assert ask(node, attempt(session.order, 1, roster[:5]), transcript)[0] is RefusalCode.OK
    for bad in (roster[:5], roster, (*roster[:4], roster[5]), (roster[0], *roster[2:6])):
        code, _ = ask(node, attempt(session.order, 2, bad), transcript)
        assert code is RefusalCode.ROSTER
    assert ask(node, attempt(session.order, 2, roster[:4]), transcript)[0] is RefusalCode.OK
    # Back to a subset of the first roster that is none of the second.
    for bad in (roster[:5], (*roster[:3], roster[4]), roster[:4]):
        code, _ = ask(node, attempt(session.order, 3, bad), transcript)
        assert code is RefusalCode.ROSTER
    assert ask(node, attempt(session.order, 3, roster[:3]), transcript)[0] is RefusalCode.OK
    assert [charge.attempt for charge in charges(node, session.order.run)] == [1, 2, 3]


def test_there_are_three_attempts_and_no_fourth() -> None:
    session = begin(clients=8)
    node = session.by_identity(session.order.roster[0])
    for number in (1, 2, 3):
        order = attempt(session.order, number, session.order.roster[: 8 - number])
        assert ask(node, order, session.transcript)[0] is RefusalCode.OK
    for number in (0, 4, 5):
        order = attempt(session.order, number, session.order.roster[:4])
        assert ask(node, order, session.transcript)[0] is RefusalCode.BAD_REQUEST
    assert len(charges(node, session.order.run)) == 3


def test_attempts_do_not_go_back(session: Session, node: Node) -> None:
    second = attempt(session.order, 2, session.order.roster)
    assert ask(node, second, session.transcript)[0] is RefusalCode.OK
    for roster in (session.order.roster, session.order.roster[:3]):
        first = attempt(session.order, 1, roster)
        assert ask(node, first, session.transcript) == (RefusalCode.ROSTER, b"")
    assert len(charges(node, session.order.run)) == 1


def test_who_left_the_roster_stays_out_of_the_run(session: Session, node: Node) -> None:
    small = attempt(session.order, 1, session.order.roster[:3])
    assert ask(node, small, session.transcript)[0] is RefusalCode.OK
    larger = next_step(session.order, session.order.roster)
    assert ask(node, larger, session.transcript) == (RefusalCode.ROSTER, b"")
    other = next_step(session.order, session.order.roster[1:])
    assert ask(node, other, session.transcript) == (RefusalCode.ROSTER, b"")
    # The same roster may go on to the next step.
    same = next_step(session.order, session.order.roster[:3])
    assert ask(node, same, session.transcript)[0] is RefusalCode.OK


def test_a_refused_instruction_leaves_no_trace_in_the_run(session: Session, node: Node) -> None:
    bad = attempt(session.order, 1, session.order.roster[:3], delta_sq=1)
    assert ask(node, bad, session.transcript)[0] is RefusalCode.NOT_IN_PLAN
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK


def test_the_roster_must_hold_me_and_only_who_said_hello(session: Session, node: Node) -> None:
    without_me = [member for member in session.order.roster if member != node.me]
    order = attempt(session.order, 1, without_me)
    assert ask(node, order, session.transcript) == (RefusalCode.ROSTER, b"")
    # A pinned peer that said no hello in this run.
    absent = next(other for other in session.nodes if other.me != node.me)
    hellos = tuple(h for h in session.transcript.hellos if h.identity != absent.me)
    fewer = Transcript(session.transcript.request, hellos)
    order = replace(session.order, transcript=fewer.hash)
    assert absent.me in node.policy.pinned
    assert ask(node, order, fewer) == (RefusalCode.ROSTER, b"")
    assert not charges(node, session.order.run)


@pytest.mark.parametrize(("by_study", "by_policy"), [(4, 2), (3, 4), (4, 4)])
def test_a_roster_smaller_than_the_study_s_or_the_policy_s_is_refused(
    by_study: int, by_policy: int
) -> None:
    session = begin(mixed_study(roster={"min_size": by_study}), clients=6)
    node = session.by_identity(session.order.roster[0])
    node.policy = replace(node.policy, min_roster=by_policy)
    for size in (1, 2, 3):
        order = attempt(session.order, 1, session.order.roster[:size])
        assert ask(node, order, session.transcript) == (RefusalCode.ROSTER, b"")
    order = attempt(session.order, 1, session.order.roster[:4])
    assert ask(node, order, session.transcript)[0] is RefusalCode.OK


def test_a_roster_of_c_plus_one_is_refused() -> None:
    """Even by a client whose copy of the study says otherwise, which no study file can."""
    study = mixed_study(roster={"min_size": 5, "max_colluders": 3})
    session = begin(study, clients=6)
    node = session.by_identity(session.order.roster[0])
    object.__setattr__(study.roster, "min_size", 2)
    object.__setattr__(node.policy, "min_roster", 2)
    order = attempt(session.order, 1, session.order.roster[:4])
    assert ask(node, order, session.transcript) == (RefusalCode.ROSTER, b"")
    order = attempt(session.order, 1, session.order.roster[:5])
    assert ask(node, order, session.transcript)[0] is RefusalCode.OK


def test_more_colluders_than_the_masking_graph_bears_are_refused() -> None:
    """40 members mask with everyone; 41 with 38, so that 38 colluders could split them."""
    study = mixed_study(roster={"min_size": 40, "max_colluders": 38}, epsilon=10.0)
    session = begin(study, clients=41, rows=82)
    node = session.by_identity(session.order.roster[0])
    assert connectivity(41) == 38
    assert ask(node, session.order, session.transcript) == (RefusalCode.ROSTER, b"")
    order = attempt(session.order, 1, session.order.roster[:40])
    assert ask(node, order, session.transcript)[0] is RefusalCode.OK


# --- transcripts ---------------------------------------------------------------------------------


def test_the_transcript_cannot_change_within_a_run(session: Session, node: Node) -> None:
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK
    dropped = next(h for h in session.transcript.hellos if h.identity != node.me)
    hellos = tuple(h for h in session.transcript.hellos if h is not dropped)
    swapped = Transcript(session.transcript.request, hellos)
    roster = [hello.identity for hello in hellos]
    order = attempt(session.order, 2, roster, transcript=swapped.hash)
    assert ask(node, order, swapped) == (RefusalCode.BAD_REQUEST, b"")
    # Nor can an instruction name one transcript and come with the other.
    order = attempt(session.order, 2, roster)
    assert ask(node, order, swapped) == (RefusalCode.BAD_REQUEST, b"")
    order = attempt(session.order, 2, roster, transcript=swapped.hash)
    assert ask(node, order, session.transcript) == (RefusalCode.BAD_REQUEST, b"")
    # The control: with its own transcript, that attempt is answered.
    assert ask(node, attempt(session.order, 2, roster), session.transcript)[0] is RefusalCode.OK


def test_runs_do_not_mix(session: Session, node: Node) -> None:
    other = say_hello(session.study, session.nodes)
    for changes in ({"run": other.request.run}, {"transcript": other.hash}):
        order = replace(session.order, **changes)
        for transcript in (session.transcript, other):
            assert ask(node, order, transcript) == (RefusalCode.BAD_REQUEST, b"")
    order = replace(session.order, run=other.request.run, transcript=other.hash)
    assert ask(node, order, session.transcript) == (RefusalCode.BAD_REQUEST, b"")
    assert ask(node, session.order, other) == (RefusalCode.BAD_REQUEST, b"")
    assert ask(node, order, other)[0] is RefusalCode.OK
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK


def test_a_run_to_which_i_said_no_hello_is_refused(session: Session, node: Node) -> None:
    others = [other for other in session.nodes if other is not node]
    transcript = say_hello(session.study, others)
    roster = tuple(sorted([*transcript.by_identity, node.me]))
    order = replace(
        session.order, run=transcript.request.run, transcript=transcript.hash, roster=roster
    )
    assert ask(node, order, transcript) == (RefusalCode.BAD_REQUEST, b"")
