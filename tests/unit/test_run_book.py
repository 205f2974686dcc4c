"""A server that dies at any moment goes on where it was, and no member pays twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Message  # isort: skip

from kesit_client.app import make_app
from kesit_client.node import Node
from kesit_privacy import recipes
from kesit_privacy.hello import Transcript
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import Instruction
from kesit_privacy.spending import Spending, read_log
from kesit_privacy.study import Study
from kesit_privacy.wire import HELLO, SUM
from kesit_server.app import Coordination, coordinate
from kesit_server.courier import Courier, Patience
from kesit_server.errors import DeploymentError, FederationError, ResultError
from kesit_server.federation import Federation
from kesit_server.journal import Journal
from kesit_server.run_book import LOG, KeptRun, how_ended
from kesit_server.segmentation.segmenter import Segmentation, segment
from kesit_server.sums import NoisySum
from kesit_simulations.grid import InProcessGrid
from kit import SERVER, mixed_study, random_codes, small_nodes

STUDY = replace(mixed_study(), plan=recipes.CODEBOOK_PLAN)
CODES = random_codes(STUDY, 400)
CLIENTS = 4


class Crash(BaseException):
    """The process is gone."""


class Mortal(KeptRun):
    """A book whose process dies before or after its nth entry."""

    def __init__(self, folder: Path, dies: tuple[int, str] | None = None) -> None:
        super().__init__(folder, SERVER)
        self._dies, self._entries = dies, 0

    def _around(self, write: Callable[[], None]) -> None:
        here = self._entries
        self._entries += 1
        if self._dies == (here, "before"):
            raise Crash
        write()
        if self._dies == (here, "after"):
            raise Crash

    def begin(self, transcript: Transcript, nodes: Mapping[str, int]) -> None:
        self._around(lambda: KeptRun.begin(self, transcript, nodes))

    def asked(self, order: Instruction, spending: Sequence[Spending]) -> None:
        self._around(lambda: KeptRun.asked(self, order, spending))

    def opened(self, opened: NoisySum) -> None:
        self._around(lambda: KeptRun.opened(self, opened))

    def failed(self, step: str, attempt: int, left: Sequence[str]) -> None:
        self._around(lambda: KeptRun.failed(self, step, attempt, left))


class Members:
    """Nodes that outlive servers; node 5 misses the first message of one step."""

    def __init__(self, study: Study = STUDY, misses: int | None = None) -> None:
        self.study = study
        self.nodes: list[Node] = small_nodes(study, CODES, CLIENTS, noise="seeded")
        self.requests = 0
        app = make_app(lambda context: self.nodes[int(str(context.node_config["partition-id"]))])
        self.heard: set[int] = set()

        def silent(node: int, kind: str) -> bool:
            if kind == HELLO:
                self.requests += 1
            if node != 5 or kind != SUM or misses is None:
                return False
            self.heard.add(len(self.heard))
            return len(self.heard) - 1 == misses

        self.grid = InProcessGrid(app, [2, 3, 4, 5], silent=silent)

    def serve(self, folder: Path, dies: tuple[int, str] | None = None) -> Segmentation:
        """One server process: from the hello, or from where the book ends."""
        book = Mortal(folder, dies)
        try:
            if "start" not in book._records:
                book.start(self.study, seed=11)
            federation = Federation(
                Courier(self.grid, Patience(0, 1)),
                self.study,
                SERVER,
                simulated=True,
                book=book,
            )
            if book.has_begun:
                federation.resume()
            else:
                federation.hello()
            self.federation = federation
            return segment(federation, np.random.default_rng(book.seed))
        finally:
            book.close()

    def charges(self) -> list[list[tuple[str, int, int]]]:
        found = []
        for node in self.nodes:
            with node.store.transaction() as books:
                every = books.charges(self.federation.run)
            found.append([(charge.step, charge.attempt, charge.units) for charge in every])
        return found


ENTRIES = 1 + 2 * len(STUDY.plan)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("entry", range(1, ENTRIES))
def test_a_server_killed_at_any_entry_ends_with_the_same_segments(
    tmp_path: Path, entry: int, moment: str
) -> None:
    """To the bit, with noise on: what was in flight is answered with what members stored."""
    whole = Members()
    (tmp_path / "whole").mkdir()
    expected = whole.serve(tmp_path / "whole")
    broken = Members()
    (tmp_path / "run").mkdir()
    with pytest.raises(Crash):
        broken.serve(tmp_path / "run", (entry, moment))
    run = broken.federation.run
    found = broken.serve(tmp_path / "run")
    assert broken.federation.run == run
    assert broken.requests == CLIENTS  # one hello each
    np.testing.assert_array_equal(found.centres, expected.centres)
    np.testing.assert_array_equal(found.sizes, expected.sizes)
    for charges in broken.charges():
        assert [(step, attempt) for step, attempt, _ in charges] == [
            (step.step, 1) for step in STUDY.plan
        ]
        assert sum(units for _, _, units in charges) == broken.federation.spent_units


@pytest.mark.parametrize("misses", [0, 2, 5])
def test_a_failed_attempt_stays_failed(tmp_path: Path, misses: int) -> None:
    """After a crash at each entry: the roster stays smaller, and all attempts stay charged."""
    (tmp_path / "whole").mkdir()
    whole = Members(misses=misses)
    expected = whole.serve(tmp_path / "whole")
    spent = whole.federation.spent_units
    for entry in range(2 * misses + 1, 2 * misses + 3):
        folder = tmp_path / str(entry)
        folder.mkdir()
        members = Members(misses=misses)
        with pytest.raises(Crash):
            members.serve(folder, (entry, "after"))
        found = members.serve(folder)
        np.testing.assert_array_equal(found.centres, expected.centres)
        assert members.federation.spent_units == spent
        assert members.federation.members == whole.federation.members == CLIENTS - 1
        assert members.charges()[0] == whole.charges()[0]


def test_a_crash_before_the_hello_is_kept_has_cost_nothing(tmp_path: Path) -> None:
    members = Members()
    with pytest.raises(Crash):
        members.serve(tmp_path, (0, "before"))
    members.serve(tmp_path)
    assert members.requests == 2 * CLIENTS
    assert members.charges()[0]


def test_the_signed_log_holds_each_attempt_before_it_is_sent(tmp_path: Path) -> None:
    members = Members()
    with pytest.raises(Crash):
        members.serve(tmp_path, (5, "after"))  # hello, marginals, cells-1 asked and opened, cells-2
    entries = read_log(tmp_path / LOG, frozenset({SERVER.public}))
    assert [entry.step for entry in entries] == ["marginals", "cells-1", "cells-2"]
    assert members.charges()[0] != []
    assert len(members.charges()[0]) == 2  # nobody was asked for cells-2 yet


def test_the_book_is_one_process_s(tmp_path: Path) -> None:
    members = Members()
    members.serve(tmp_path)
    book = KeptRun(tmp_path, SERVER)
    with pytest.raises(ResultError, match="another process"):
        KeptRun(tmp_path, SERVER)
    book.close()


def test_a_book_is_not_taken_for_another_study_s(tmp_path: Path) -> None:
    Members().serve(tmp_path)
    other = replace(STUDY, name="another", plan=STUDY.plan)
    with pytest.raises(ResultError, match="another study"):
        Members(other).serve(tmp_path)


def test_another_question_than_the_kept_one_is_no_resumption(tmp_path: Path) -> None:
    """As after an upgrade that computes something else between two sums."""
    members = Members()
    with pytest.raises(Crash):
        members.serve(tmp_path, (4, "after"))
    book = KeptRun(tmp_path, SERVER)
    federation = Federation(
        Courier(members.grid, Patience(0, 1)), STUDY, SERVER, simulated=True, book=book
    )
    federation.resume()
    with pytest.raises(FederationError, match="another sum"):
        segment(federation, np.random.default_rng(book.seed + 1))
    book.close()


def test_a_server_process_that_went_away_is_no_end_of_a_run(tmp_path: Path) -> None:
    """Even if it is back at once: members keep their keys, so that the run can be gone on with."""
    members, ended = Members(), list[object]()

    class Failing(InProcessGrid):
        fails = 3  # after hello and the first sum

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            self.fails -= 1
            if self.fails == 0:
                raise DeploymentError("It went away.", remedy="Resume.")
            return super().push_messages(messages)

    app = make_app(lambda context: members.nodes[int(str(context.node_config["partition-id"]))])
    grid = Failing(app, [2, 3, 4, 5])
    book = KeptRun(tmp_path, SERVER)
    book.start(STUDY, seed=11)
    plan = Coordination(
        study=STUDY,
        identity=SERVER,
        finish=lambda *result: ended.append(result),
        on_failure=lambda *failure: pytest.fail("the run was ended"),
        patience=Patience(0, 1),
        simulated=True,
        seed=11,
        book=book,
    )
    with pytest.raises(DeploymentError, match="went away"):
        coordinate(grid, plan)
    coordinate(grid, replace(plan, resumed=True))
    book.close()
    assert len(ended) == 1
    for node in members.nodes:
        with node.store.transaction() as books:
            charged = books.charges(book.begun(STUDY)[0].request.run)
        assert [(c.step, c.attempt) for c in charged] == [(s.step, 1) for s in STUDY.plan]


def test_a_run_that_ended_says_so(tmp_path: Path) -> None:
    book = KeptRun(tmp_path, SERVER)
    assert book.ended is None
    with pytest.raises(ResultError, match="before its members said hello"):
        book.begun(STUDY)
    book.end("finished")
    book.close()
    assert how_ended(tmp_path) == "finished"


def test_a_stranger_s_hello_is_silence(tmp_path: Path) -> None:
    """Nor may a node answer in another member's name: only what was enrolled there counts."""
    members = Members()
    names = {place + 2: node.me for place, node in enumerate(members.nodes)}
    courier = Courier(members.grid, Patience(0, 1))

    def greeted(enrolled: dict[int, str]) -> tuple[str, ...]:
        federation = Federation(courier, STUDY, SERVER, simulated=True, enrolled=enrolled)
        federation.hello()
        return federation.greeted

    assert greeted(names) == tuple(sorted(names.values()))
    stranger = {node: name for node, name in names.items() if node != 5}
    assert greeted(stranger) == tuple(sorted(stranger.values()))
    swapped = {**names, 5: Identity.new().public}
    assert greeted(swapped) == tuple(sorted(stranger.values()))
    with pytest.raises(FederationError, match="0 members are left"):
        greeted({2: names[3], 3: names[2], 4: names[5], 5: names[4]})


def test_the_signed_log_is_never_behind_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two: a member's later merge must not lack a charge that was asked for."""
    add = Journal.add

    def dying(journal: Journal, key: str, record: dict[str, Any]) -> None:
        if key.startswith("asked"):
            raise Crash
        add(journal, key, record)

    monkeypatch.setattr(Journal, "add", dying)
    with pytest.raises(Crash):
        Members().serve(tmp_path)
    entries = read_log(tmp_path / LOG, frozenset({SERVER.public}))
    assert [entry.step for entry in entries] == ["marginals"]
