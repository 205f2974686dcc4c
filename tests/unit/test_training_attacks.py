"""What a coordinator, a member or a crash could make of trainings, tried as code.

An averaging attack needs two trainings of one round for one charge; each test here tries to get a
second one, or other customers, or another roster, in another way. A stand-in trains.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kesit_client import node as node_module
from kesit_client.ledger import pots
from kesit_client.ledger.books import Books
from kesit_client.ledger.store import Store
from kesit_client.neural import training
from kesit_client.node import Node
from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.hello import HelloRequest
from kesit_privacy.instruction import Instruction, instruction_hash
from kesit_privacy.network import LARGEST_WEIGHT
from kesit_privacy.noise import NoiseSource
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.target import PARTS
from kesit_privacy.training import Event
from kesit_privacy.wire import RefusalCode, pack_words, refusal, reply
from kesit_server.classification.training import neural
from kesit_server.classification.training.fold import Fold
from kit import SERVER, ask, restarted
from runs import Run
from trainingkit import Trainings, coded, neural_study, stand_in, start, training_query

__all__ = ["stand_in"]  # a fixture


def events(node: Node) -> int:
    """Trainings in the node's pot."""
    with node.store.transaction() as books:
        return sum(pots.events(books).values())


def end(run: Trainings) -> bytes:
    """The first node's reply to the end of the run."""
    request = HelloRequest(run.study.hash, run.transcript.request.run, SERVER.public)
    return run.node.end(request.encoded)


def test_no_training_after_the_end(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    assert ask(run.node, run.order(), run.transcript)[0] is RefusalCode.OK
    assert end(run) == reply(b"")
    for step in ("train-1", "train-2"):
        assert ask(run.node, run.order(step), run.transcript) == (RefusalCode.BAD_REQUEST, b"")
    assert (len(stand_in), events(run.node)) == (1, 1)


def test_an_end_while_it_trains_keeps_the_weights_back(
    stand_in: list[TrainedWeights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the charge stands: who asked may know how long it took."""
    run = start(stand_in)
    inner = node_module.train

    def ending(query: TrainedWeights, codes: CodeArray, noise: NoiseSource) -> IntArray:
        end(run)
        return inner(query, codes, noise)

    monkeypatch.setattr(node_module, "train", ending)
    assert ask(run.node, run.order(), run.transcript) == (RefusalCode.BAD_REQUEST, b"")
    assert events(run.node) == 1
    with run.node.store.transaction() as books:
        assert books.answer(run.order().run, "train-1", 1) is None


def test_trainings_that_die_before_they_are_stored_leave_one_answer(
    stand_in: list[TrainedWeights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five times trained, with fresh noise each time, and killed: not one of the five is seen."""
    run = start(stand_in, tmp_path / "books.sqlite")
    order, node = run.order(), run.node

    def dying(*_: Any) -> None:
        raise OSError("the machine stops here")

    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(Books, "add_answer", dying)
            assert ask(node, order, run.transcript) == (RefusalCode.INTERNAL, b"")
        node = restarted(node, tmp_path / "books.sqlite")
    replies = {ask(node, order, run.transcript) for _ in range(3)}
    [(code, _)] = replies
    assert code is RefusalCode.OK
    assert (len(stand_in), events(node)) == (6, 1)


@pytest.mark.parametrize("one_process", [True, False])
def test_asked_by_many_at_once_there_is_one_answer(
    stand_in: list[TrainedWeights], tmp_path: Path, one_process: bool
) -> None:
    path = tmp_path / "books.sqlite"
    run = start(stand_in, path)
    nodes = [
        run.node if one_process else replace(run.node, store=Store.open(path), _secrets={})
        for _ in range(5)
    ]
    ready, replies = threading.Barrier(len(nodes)), []

    def work(node: Node) -> None:
        ready.wait()
        replies.append(ask(node, run.order(), run.transcript))

    threads = [threading.Thread(target=work, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [(code, _)] = set(replies)
    assert code is RefusalCode.OK
    assert len(replies) == 5
    assert events(run.node) == 1


def test_books_of_between_the_charge_and_the_answer_are_restored_books(
    stand_in: list[TrainedWeights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They know the charge, and would train again without another."""
    path, copy = tmp_path / "books.sqlite", tmp_path / "copy.sqlite"
    run = start(stand_in, path)
    inner = node_module.train

    def copying(query: TrainedWeights, codes: CodeArray, noise: NoiseSource) -> IntArray:
        shutil.copyfile(path, copy)
        return inner(query, codes, noise)

    monkeypatch.setattr(node_module, "train", copying)
    assert ask(run.node, run.order(), run.transcript)[0] is RefusalCode.OK
    run.node.store.close()
    path.write_bytes(copy.read_bytes())  # in place: the same inode
    again = replace(run.node, store=Store.open(path), _secrets={})
    assert events(again) == 1
    assert ask(again, run.order(), run.transcript) == (RefusalCode.RESTORED, b"")
    assert len(stand_in) == 1


def fill(node: Node) -> None:
    """Forbid the books to grow beyond the pages that they have."""
    (pages,) = node.store._db.execute("PRAGMA page_count").fetchone()
    node.store._db.execute(f"PRAGMA max_page_count = {pages}")


@pytest.mark.parametrize("full", ["at the charge", "at the answer"])
def test_a_disk_that_is_full_stops_a_training_or_its_answer(
    stand_in: list[TrainedWeights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    run = start(stand_in, tmp_path / "books.sqlite", neural_study({"hidden": 100}))
    inner = node_module.train

    def filling(query: TrainedWeights, codes: CodeArray, noise: NoiseSource) -> IntArray:
        fill(run.node)
        return inner(query, codes, noise)

    if full == "at the charge":
        fill(run.node)
    else:
        monkeypatch.setattr(node_module, "train", filling)
    for _ in range(3):
        assert ask(run.node, run.order(), run.transcript) == (RefusalCode.INTERNAL, b"")
    # Nothing is trained that is not charged, and what is charged once is charged once.
    assert (len(stand_in), events(run.node)) == ((0, 0) if full == "at the charge" else (3, 1))
    monkeypatch.setattr(node_module, "train", inner)
    run.node.store._db.execute("PRAGMA max_page_count = 1000000")
    assert len({ask(run.node, run.order(), run.transcript) for _ in range(2)}) == 1
    assert events(run.node) == 1


def same_roster(run: Trainings, roster: tuple[str, ...]) -> Instruction:
    return run.order(attempt=2)


def first_attempt_late(run: Trainings, roster: tuple[str, ...]) -> Instruction:
    ask(run.node, run.order(attempt=3, roster=roster), run.transcript)
    return run.order(attempt=2, roster=roster)


def grown_roster(run: Trainings, roster: tuple[str, ...]) -> Instruction:
    ask(run.node, run.order(attempt=2, roster=roster), run.transcript)
    return run.order("train-2")


def other_run(run: Trainings, roster: tuple[str, ...]) -> Instruction:
    return run.order("train-2", run="ab" * 16)


def stranger(run: Trainings, roster: tuple[str, ...]) -> Instruction:
    return run.order("train-2", roster=tuple(sorted([*roster, "ab" * 32])))


def without_me(run: Trainings, roster: tuple[str, ...]) -> Instruction:
    others = [member for member in run.order().roster if member != run.node.me]
    return run.order("train-2", roster=tuple(others))


@pytest.mark.parametrize(
    "second", [same_roster, first_attempt_late, grown_roster, other_run, stranger, without_me]
)
def test_no_round_is_asked_again_in_another_guise(
    stand_in: list[TrainedWeights], second: Callable[[Trainings, tuple[str, ...]], Instruction]
) -> None:
    run = start(stand_in)
    assert ask(run.node, run.order(), run.transcript)[0] is RefusalCode.OK
    others = [member for member in run.order().roster if member != run.node.me]
    smaller = tuple(sorted([run.node.me, *others[:2]]))
    order = second(run, smaller)
    before = len(stand_in)
    code, payload = ask(run.node, order, run.transcript)
    assert code in (RefusalCode.ROSTER, RefusalCode.BAD_REQUEST)
    assert payload == b""
    assert len(stand_in) == before == events(run.node)


@pytest.mark.parametrize("held", [[0, 100], [100, 200], [0, 0], [300, 1000]])
def test_nobody_who_is_held_out_is_trained_on(
    stand_in: list[TrainedWeights], held: list[int]
) -> None:
    """The evaluation prices the first 200 parts; a training of them would be free there."""
    run = start(stand_in)
    params = training_query(run.study).params() | {"held": held}
    answer = ask(run.node, run.order(params=params), run.transcript)
    assert answer == (RefusalCode.NOT_IN_PLAN, b"")
    assert (len(stand_in), events(run.node)) == (0, 0)


def test_a_training_of_one_part_alone_is_charged_as_any_other(
    stand_in: list[TrainedWeights],
) -> None:
    """Who counts may be narrowed to one customer: it is for that that the noise is there."""
    run = start(stand_in)
    params = training_query(run.study).params() | {"held": [0, PARTS - 1]}
    assert ask(run.node, run.order(params=params), run.transcript)[0] is RefusalCode.OK
    assert events(run.node) == 1


def test_a_log_that_named_the_instruction_before_makes_it_no_cheaper(
    stand_in: list[TrainedWeights],
) -> None:
    """A server that could foretell its own instruction has a price of nothing for it merged."""
    run = start(stand_in)
    digest = instruction_hash(run.order().encode())
    with run.node.store.transaction() as books:
        books.add_training(digest, run.study.hash, run.study.purpose, Event(1, 10**6, 1))
    assert ask(run.node, run.order(), run.transcript)[0] is RefusalCode.OK
    assert run.study.training is not None
    with run.node.store.transaction() as books:
        assert pots.events(books)[run.study.training.event] == 1


def test_packages_that_do_not_load_are_found_before_hello(
    stand_in: list[TrainedWeights], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Found in a round, they would have cost the round."""
    (tmp_path / "half_installed.py").write_text("raise OSError('libsomething.so: cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = start(stand_in)
    monkeypatch.setattr(training, "NEEDED", ("half_installed",))
    request = HelloRequest(run.study.hash, "ab" * 16, SERVER.public)
    assert run.node.hello(request.encoded) == refusal(RefusalCode.UNAVAILABLE)
    with run.node.store.transaction() as books:
        assert "does not load (libsomething.so" in books.refusals()[-1][2]
    assert ask(run.node, run.order(), run.transcript) == (RefusalCode.UNAVAILABLE, b"")
    assert events(run.node) == 0


# A member against the others.


@pytest.mark.parametrize("weight", [1 << 62, -(1 << 62), (1 << 63) - 1, LARGEST_WEIGHT + 1])
def test_weights_of_a_lying_member_stay_on_the_grid(
    stand_in: list[TrainedWeights], monkeypatch: pytest.MonkeyPatch, weight: int
) -> None:
    """It spoils the model, as a lying member may spoil any sum; but it breaks nothing."""
    study, calls = neural_study(), 0

    def poisoned(query: TrainedWeights, codes: CodeArray, noise: NoiseSource) -> IntArray:
        nonlocal calls
        calls += 1
        found = np.array(query.model.weights, dtype=np.int64)
        return np.full_like(found, weight) if calls % 4 == 0 else found

    monkeypatch.setattr(node_module, "train", poisoned)
    run = Run(study, 4, codes=coded(study, 200))
    run.federation.hello()
    model = neural.fit(*Fold.all_of(run.federation)).model
    weights = np.array(model.params()["weights"])
    assert calls == 8
    assert np.abs(weights).max() <= LARGEST_WEIGHT
    assert model.chances(coded(study, 20)).min() >= 0


def test_an_answer_of_another_length_is_no_answer(
    stand_in: list[TrainedWeights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round is asked again without its sender, who can take no second one with it."""
    study = neural_study({"rounds": 3})
    run = Run(study, 5, codes=coded(study, 200))
    inner = type(run.nodes[4])._masked

    def short(self: Node, order: Instruction, *rest: Any) -> bytes:
        words = inner(self, order, *rest)
        lying = self.me == run.nodes[4].me and order.query == "trained-weights"
        return pack_words(np.zeros(1, dtype=np.uint64)) if lying else words

    monkeypatch.setattr(Node, "_masked", short)
    run.federation.hello()
    neural.fit(*Fold.all_of(run.federation))
    steps = [(entry.step, entry.attempt, len(entry.roster)) for entry in run.federation.spending]
    assert steps[1:] == [("train-1", 1, 5), ("train-1", 2, 4), ("train-2", 1, 4)]


def test_instructions_to_train_are_read_like_any_other(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    data = run.order().encode()
    for broken in (data[:-1], data.replace(b'"step"', b'"stop"'), b"{}", b""):
        assert ask(run.node, broken, run.transcript) == (RefusalCode.BAD_REQUEST, b"")
    with pytest.raises(ProtocolError):
        TrainedWeights.bind(run.study, {"model": {}}, 16)
