"""The server's rounds, with a stand-in for Opacus: the mean, retries, the statement."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kesit_client.ledger import pots
from kesit_privacy.errors import BudgetError
from kesit_privacy.model_file import ScoringModel
from kesit_privacy.network import WEIGHT
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.scorecard import CHANCE
from kesit_server.classification.classifier import Classifier
from kesit_server.classification.telling.card import model_card
from kesit_server.classification.training import neural
from kesit_server.classification.training.fitted import Fitted
from kesit_server.classification.training.fold import Fold
from kesit_server.pots import Spent
from kesit_server.statement import privacy_statement
from kesit_server.statement_text import as_text
from runs import Run
from trainingkit import coded, neural_study, stand_in

__all__ = ["stand_in"]  # a fixture

STUDY = neural_study()
CODES = coded(STUDY, 400)


def fitted(run: Run) -> Fitted:
    """Trained over the run, after its hello."""
    run.federation.hello()
    return neural.fit(*Fold.all_of(run.federation))


def rounds(run: Run) -> int:
    """Trainings that were averaged."""
    return sum(opened.step.startswith("train-") for opened in run.federation.sums)


def charged(run: Run, member: int) -> int:
    """Trainings in a member's pot."""
    with run.nodes[member].store.transaction() as books:
        return sum(pots.events(books, STUDY.hash).values())


def test_each_round_begins_with_the_mean_of_the_last(stand_in: list[TrainedWeights]) -> None:
    run = Run(STUDY, 5, codes=CODES)
    found = fitted(run)
    assert rounds(run) == 2
    starts = [query.model for query in stand_in]
    assert len(set(starts[:5])) == len(set(starts[5:])) == 1
    for before, after in ((starts[0], starts[5]), (starts[5], found.model)):
        moved = np.array(after.weights) - np.array(before.weights)
        assert 0 < np.abs(moved).max() <= 99  # as far as the stand-in goes, and no sum of five
    opened = run.federation.sums[1]
    assert (np.rint(opened.values / 5 * WEIGHT).astype(int) == np.array(starts[5].weights)).all()
    assert opened.sigma == 0


def test_books_of_both_sides_agree(stand_in: list[TrainedWeights]) -> None:
    run = Run(STUDY, 4, codes=CODES)
    fitted(run)
    entries = run.federation.spending
    assert [entry.units > 0 for entry in entries] == [True, False, False]
    assert sum(entry.trained is not None for entry in entries) == charged(run, 0) == 2
    spent = Spent.of(STUDY, entries)
    assert STUDY.pot is not None
    assert spent.trainings == pytest.approx(STUDY.pot.epsilon, rel=0.01)
    assert spent.epsilon <= STUDY.epsilon
    statement = privacy_statement(run.federation)
    assert statement["epsilon_spent"] == pytest.approx(spent.epsilon, abs=1e-4)
    parts = [pot["epsilon_spent"] for pot in statement["pots"]]
    assert sum(parts) == pytest.approx(spent.epsilon, abs=2e-4)
    assert sum(pot["delta"] for pot in statement["pots"]) == pytest.approx(STUDY.delta)
    alone = [row["epsilon_alone"] for row in statement["sums"]]
    assert all(value > 0 for value in alone)
    assert "two pots, whose ε and δ add up" in as_text(statement)


def test_a_failed_round_costs_the_last_one(stand_in: list[TrainedWeights]) -> None:
    """Attempts: labels, train-1 (one is silent), train-1 again; nothing is left for train-2."""
    run = Run(STUDY, 5, lambda attempt, place: (attempt, place) == (1, 4), codes=CODES)
    fitted(run)
    assert rounds(run) == 1
    assert [entry.attempt for entry in run.federation.spending] == [1, 1, 2]
    assert charged(run, 0) == 2
    assert charged(run, 4) <= 1
    assert any("train-2 is left out" in line for line in run.told)


def test_without_one_round_there_is_no_model(stand_in: list[TrainedWeights]) -> None:
    run = Run(STUDY, 6, lambda attempt, place: attempt + place == 6, codes=CODES)
    with pytest.raises(BudgetError):
        fitted(run)
    assert charged(run, 0) == 2


def test_the_first_network_knows_the_base_rate(stand_in: list[TrainedWeights]) -> None:
    run = Run(STUDY, 4, codes=CODES)
    found = fitted(run)
    start = neural.start(STUDY, found.labels)
    _, bias, _, last = start.layers
    shares = found.labels.shares
    assert not bias.any()
    assert last[0] / WEIGHT == pytest.approx(np.log(shares[1] / shares[0]), abs=1e-4)
    assert start == neural.start(STUDY, found.labels)


def test_a_network_is_told_and_scores_from_its_file(stand_in: list[TrainedWeights]) -> None:
    run = Run(STUDY, 4, codes=CODES)
    found = Classifier(STUDY, fitted(run), noisy=True)
    card = model_card(found)
    plain = {**json.loads(json.dumps(card.as_dict())), "releasable": False}
    assert set(card.importances) == {"tenure", "spending", "channel"}
    model = ScoringModel.from_dict(plain)
    codes = CODES[:50, : len(model.features)]
    assert (model.chances(codes) == found.fitted.model.chances(codes) / CHANCE).all()
    reasons = model.reasons(codes)
    assert reasons.shape == (50, 3, 1)
    assert model.cut is not None
    usual = np.tile(model.cut.usual, (1, 1))
    assert not model.reasons(usual).any()
