"""Trainings at a node: what is charged, when, and what a lying server gets.

Nothing here needs torch: a stand-in trains (see `trainingkit`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kesit_client import node as node_module
from kesit_client.ledger import pots
from kesit_client.ledger.store import Store
from kesit_client.neural import training
from kesit_client.node import Node
from kesit_client.owner import preflight
from kesit_client.owner.policy import Lifetime
from kesit_privacy.errors import ProtocolError
from kesit_privacy.hello import HelloRequest
from kesit_privacy.instruction import Canaries, Instruction, instruction_hash
from kesit_privacy.network import LARGEST_WEIGHT
from kesit_privacy.queries import LabelHistograms, TrainedWeights
from kesit_privacy.sides import BookSide
from kesit_privacy.spending import Spending, read_log, sign_log
from kesit_privacy.target import held_out
from kesit_privacy.wire import Refusal, RefusalCode, refusal
from kesit_server.classification.training.labels import labels_query
from kit import SERVER, ask, begin, instruct, opened, restarted, say_hello
from trainingkit import Trainings, network, neural_study, stand_in, start, training_query

__all__ = ["stand_in"]  # a fixture


def trainings(node: Node) -> int:
    """Trainings in the node's pot."""
    with node.store.transaction() as books:
        return sum(pots.events(books).values())


def cause(node: Node) -> str:
    """What the node's owner reads of the last refusal."""
    with node.store.transaction() as books:
        return books.refusals()[-1][2]


def test_masked_weights_open_to_their_sum_and_cost_no_units(
    stand_in: list[TrainedWeights],
) -> None:
    run = start(stand_in)
    order = run.order()
    replies = [ask(node, order, run.transcript) for node in run.nodes]
    assert {code for code, _ in replies} == {RefusalCode.OK}
    total = opened([payload for _, payload in replies], order)
    start_weights = np.array(training_query(run.study).model.weights)
    assert np.abs(total - len(run.nodes) * start_weights).max() <= 99 * len(run.nodes)
    with run.node.store.transaction() as books:
        assert books.spent() == 0
        assert len(books.charges(order.run)) == 1
    assert trainings(run.node) == 1


def test_asked_again_the_same_bytes_and_no_second_training(
    stand_in: list[TrainedWeights], tmp_path: Path
) -> None:
    run = start(stand_in, tmp_path / "books.sqlite")
    order = run.order()
    first = ask(run.node, order, run.transcript)
    assert ask(run.node, order, run.transcript) == first
    again = restarted(run.node, tmp_path / "books.sqlite")
    assert ask(again, order, run.transcript) == first
    assert len(stand_in) == 1
    assert trainings(again) == 1


def test_charged_before_it_trains(
    stand_in: list[TrainedWeights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(stand_in, tmp_path / "books.sqlite")

    def dying(*_: Any) -> Any:
        assert trainings(run.node) == 1
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(node_module, "train", dying)
        assert ask(run.node, run.order(), run.transcript) == (RefusalCode.INTERNAL, b"")
    again = restarted(run.node, tmp_path / "books.sqlite")
    assert ask(again, run.order(), run.transcript)[0] is RefusalCode.OK
    assert trainings(again) == 1


def test_other_weights_for_the_same_round_are_refused(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    assert ask(run.node, run.order(), run.transcript)[0] is RefusalCode.OK
    other = training_query(run.study, network(run.study, seed=1))
    order = run.order(params=other.params())
    assert ask(run.node, order, run.transcript) == (RefusalCode.REPEATED, b"")
    assert (len(stand_in), trainings(run.node)) == (1, 1)


def test_a_retry_is_paid_from_the_same_pot(stand_in: list[TrainedWeights]) -> None:
    """The pot pays for two trainings: a failed attempt leaves one, and a third is refused."""
    run = start(stand_in)
    node, roster = run.node, run.order().roster
    others = [member for member in roster if member != node.me]
    smaller = tuple(sorted([node.me, *others[:2]]))
    assert ask(node, run.order(), run.transcript)[0] is RefusalCode.OK
    assert ask(node, run.order(attempt=2, roster=smaller), run.transcript)[0] is RefusalCode.OK
    last = run.order("train-2", roster=smaller)
    assert ask(node, last, run.transcript) == (RefusalCode.BUDGET, b"")
    assert "study's pot" in cause(node)
    assert (len(stand_in), trainings(node)) == (2, 2)


def test_another_run_of_the_study_has_the_same_pot(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    for step in ("train-1", "train-2"):
        assert ask(run.node, run.order(step), run.transcript)[0] is RefusalCode.OK
    second = replace(run, transcript=say_hello(run.study, run.nodes))
    assert ask(run.node, second.order(), second.transcript) == (RefusalCode.BUDGET, b"")


def lifetime(epsilon: float | None) -> Callable[[Node], None]:
    """A policy with this much for trainings."""

    def change(node: Node) -> None:
        node.policy = replace(node.policy, lifetime=Lifetime(100.0, 1e-5, epsilon))

    return change


def test_lifetime_pot_counts_all_studies(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in, change=lifetime(2.0))
    other = neural_study(name="another")
    for node in run.nodes:
        node.approve(other)
    for step in ("train-1", "train-2"):
        assert ask(run.node, run.order(step), run.transcript)[0] is RefusalCode.OK
    more = Trainings(other, run.nodes, say_hello(other, run.nodes), stand_in)
    codes = [ask(run.node, more.order(step), more.transcript)[0] for step in ("train-1", "train-2")]
    assert RefusalCode.BUDGET in codes
    assert "lifetime pot" in cause(run.node)
    with run.node.store.transaction() as books:
        cap, spent = pots.standing(run.node.policy, books)
    assert 1.6 <= spent <= cap == 2.0


def test_no_trainings_without_a_pot(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    lifetime(None)(run.node)
    request = HelloRequest(run.study.hash, "ab" * 16, SERVER.public)
    assert run.node.hello(request.encoded) == refusal(RefusalCode.POLICY)
    assert "neural_epsilon" in cause(run.node)
    assert ask(run.node, run.order(), run.transcript) == (RefusalCode.POLICY, b"")
    assert trainings(run.node) == 0


def test_max_epsilon_counts_both_pots(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    for most, code in ((1.9, RefusalCode.POLICY), (2.1, RefusalCode.OK)):
        run.node.policy = replace(run.node.policy, max_epsilon=most)
        assert ask(run.node, run.order(), run.transcript)[0] is code


def test_a_forecast_looks_into_the_pots(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    preflight.forecast(run.study, run.node.policy, run.node.store)
    assert ask(run.node, run.order(), run.transcript)[0] is RefusalCode.OK
    with pytest.raises(Refusal, match="study's pot"):
        preflight.forecast(run.study, run.node.policy, run.node.store)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"variance": (1 << 40, 1)}, RefusalCode.BAD_REQUEST),
        ({"delta_sq": 1}, RefusalCode.BAD_REQUEST),
        ({"multiplicity": 2}, RefusalCode.NOT_IN_PLAN),
        ({"scale_bits": 17}, RefusalCode.BAD_REQUEST),
        ({"length": 1}, RefusalCode.BAD_REQUEST),
        ({"step": "train-3"}, RefusalCode.NOT_IN_PLAN),
        ({"step": "labels"}, RefusalCode.NOT_IN_PLAN),
    ],
)
def test_no_other_instruction_trains(
    stand_in: list[TrainedWeights], change: dict[str, Any], code: RefusalCode
) -> None:
    run = start(stand_in)
    assert ask(run.node, run.order(**change), run.transcript) == (code, b"")
    assert (len(stand_in), trainings(run.node)) == (0, 0)


def test_canaries_are_not_told_in_the_clear(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    plain = run.order()
    order = replace(plain, canaries=Canaries(4, run.node.me, 1000), length=plain.length + 4)
    assert ask(run.node, order, run.transcript) == (RefusalCode.NOT_IN_PLAN, b"")


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 1000},
        {"model": {"steps": 1000}},
        {"held": [0, 1001]},
        {"weights": LARGEST_WEIGHT + 1},
        {"weights": 1 << 70},
    ],
)
def test_no_other_parameters_train(stand_in: list[TrainedWeights], change: dict[str, Any]) -> None:
    """The steps are the study's, whatever an instruction says; weights stay on their grid."""
    run = start(stand_in)
    params = training_query(run.study).params()
    weight = change.pop("weights", None)
    if weight is not None:
        params["model"]["weights"][0] = weight
    params["model"] |= change.pop("model", {})
    order = run.order(params=params | change)
    assert ask(run.node, order, run.transcript) == (RefusalCode.BAD_REQUEST, b"")
    assert len(stand_in) == 0


def test_nan_weights_have_no_way_in(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    data = run.order().encode()
    first = training_query(run.study).model.weights[0]
    head = b'"weights":['
    crafted = data.replace(head + str(first).encode(), head + b"NaN", 1)
    assert crafted != data
    assert ask(run.node, crafted, run.transcript) == (RefusalCode.BAD_REQUEST, b"")


def test_no_other_query_goes_without_noise(stand_in: list[TrainedWeights]) -> None:
    run = start(stand_in)
    query = labels_query(run.study, list(held_out(run.study)))
    assert isinstance(query, LabelHistograms)
    order = instruct(run.study, run.transcript, "labels", query)
    silent = replace(order, variance=(0, 1))
    assert ask(run.node, silent, run.transcript) == (RefusalCode.BAD_REQUEST, b"")
    unproven = replace(silent, delta_sq=0)
    assert ask(run.node, unproven, run.transcript) == (RefusalCode.BAD_REQUEST, b"")
    assert ask(run.node, order, run.transcript)[0] is RefusalCode.OK


def test_a_study_without_training_answers_none(stand_in: list[TrainedWeights]) -> None:
    session = begin()
    order = replace(
        session.order,
        query="trained-weights",
        params=training_query(neural_study()).params(),
        variance=(0, 1),
        delta_sq=0,
    )
    assert ask(session.nodes[0], order, session.transcript) == (RefusalCode.NOT_IN_PLAN, b"")


def test_without_opacus_no_hello(
    stand_in: list[TrainedWeights], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(stand_in)
    monkeypatch.setattr(training, "NEEDED", ("torch_is_not_here",))
    request = HelloRequest(run.study.hash, "ab" * 16, SERVER.public)
    assert run.node.hello(request.encoded) == refusal(RefusalCode.UNAVAILABLE)
    assert "torch_is_not_here cannot be imported" in cause(run.node)
    with pytest.raises(Refusal, match="kesit\\[neural\\]"):
        preflight.forecast(run.study, run.node.policy, run.node.store)


def logged(run: Trainings, order: Instruction) -> Spending:
    """What an honest server's log says of an instruction to train."""
    assert run.study.training is not None
    return Spending(
        run.study.hash,
        run.study.purpose,
        order.run,
        order.step,
        order.attempt,
        instruction_hash(order.encode()).hex(),
        0,
        order.roster,
        BookSide.TRAIN,
        run.study.training.event,
    )


def test_restored_books_learn_of_trainings_from_the_log(
    stand_in: list[TrainedWeights], tmp_path: Path
) -> None:
    path = tmp_path / "books.sqlite"
    run = start(stand_in, path)
    shutil.copyfile(path, tmp_path / "backup.sqlite")
    order = run.order()
    assert ask(run.node, order, run.transcript)[0] is RefusalCode.OK
    run.node.store.close()
    shutil.copyfile(tmp_path / "backup.sqlite", path)
    store = Store.open(path)
    assert store.restored is not None
    store.merge([replace(logged(run, order), instruction="ab" * 32)], run.node.me)
    assert store.restored is not None  # the one that the witness saw is still not known
    log = tmp_path / "log.json"
    log.write_bytes(sign_log([logged(run, order)], SERVER))
    store.merge(read_log(log, frozenset({SERVER.public})), run.node.me)
    assert store.restored is None
    node = replace(run.node, store=store)
    assert trainings(node) == 2
    with store.transaction() as books, pytest.raises(Refusal, match="study's pot"):
        pots.check(run.study, node.policy, books)


def test_a_log_that_makes_a_training_cheaper_lifts_nothing(
    stand_in: list[TrainedWeights], tmp_path: Path
) -> None:
    """Or leaves out that it was one: its charge is of 0 units, and says nothing of its cost."""
    path = tmp_path / "books.sqlite"
    run = start(stand_in, path)
    shutil.copyfile(path, tmp_path / "backup.sqlite")
    order = run.order()
    assert ask(run.node, order, run.transcript)[0] is RefusalCode.OK
    run.node.store.close()
    shutil.copyfile(tmp_path / "backup.sqlite", path)
    store = Store.open(path)
    truth = logged(run, order)
    assert truth.trained is not None
    for lie in (None, replace(truth.trained, rate=1), replace(truth.trained, noise=10**6)):
        store.merge([replace(truth, trained=lie)], run.node.me)
        assert store.restored is not None
    store.merge([truth], run.node.me)
    assert store.restored is None
    assert trainings(replace(run.node, store=store)) == 3  # two lies count beside the truth
    assert store.merge([truth], run.node.me) == 0


def test_logs_of_sums_are_as_they_were(stand_in: list[TrainedWeights], tmp_path: Path) -> None:
    run = start(stand_in)
    entry = replace(logged(run, run.order()), trained=None)
    assert "trained" not in json.loads(sign_log([entry], SERVER))["log"]["entries"][0]
    broken = json.loads(sign_log([logged(run, run.order())], SERVER))
    assert broken["log"]["entries"][0]["trained"] == {
        "rate": 1 << 31,
        "noise": run.study.training.event.noise if run.study.training else 0,
        "steps": 2,
    }
    file = tmp_path / "log.json"
    broken["log"]["entries"][0]["trained"]["steps"] = -1
    file.write_text(json.dumps(broken))
    with pytest.raises(ProtocolError):
        read_log(file, frozenset({SERVER.public}))
