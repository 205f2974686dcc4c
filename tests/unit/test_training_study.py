"""Studies that train: what their table says, what it costs, and which are refused."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from classifierkit import churn_study, churn_tables
from kesit_privacy import accounting
from kesit_privacy.classifier_recipes import trainings
from kesit_privacy.errors import BudgetError, ProtocolError, StudyError
from kesit_privacy.study import PlanStep
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.training import Event, Training, least_noise
from kit import small_study
from trainingkit import neural_study


def test_other_studies_keep_their_hash() -> None:
    for study in (small_study(), churn_study()):
        assert b"training" not in study.canonical
        assert study.pot is None
        assert study.mu2_units == accounting.budget_units(study.epsilon, study.delta)
    assert small_study().hash.startswith("77fabcccebcdf141")


def test_settled_study_says_all_of_its_training() -> None:
    study = neural_study()
    said = json.loads(study.canonical)["classification"]["training"]
    assert None not in said.values()
    assert said["batch"] == round(0.5 * 4000 * 0.8 / 3)
    assert trainings(study) == ("train-1", "train-2")
    assert [step.share for step in study.plan if step.query == "trained-weights"] == [0, 0]


def test_every_field_of_a_training_is_under_the_hash() -> None:
    least = neural_study().training
    assert least is not None
    other = {
        "share": 0.7,
        "hidden": 4,
        "rounds": 3,
        "steps": 3,
        "rate": 0.25,
        "batch": 77,
        "clip": 2.0,
        "learning_rate": 0.125,
        "noise_multiplier": 50.0,
    }
    assert set(other) == {field.name for field in fields(Training)}
    hashes = {neural_study({name: value}).hash for name, value in other.items()}
    assert len(hashes | {neural_study().hash}) == len(other) + 1


def test_pots_share_epsilon_and_delta() -> None:
    study = neural_study({"share": 0.7})
    assert study.pot is not None
    assert study.pot.epsilon + study.sums_epsilon == pytest.approx(study.epsilon, rel=1e-12)
    assert study.pot.delta + study.sums_delta == pytest.approx(study.delta, rel=1e-12)
    assert study.mu2_units == accounting.budget_units(study.sums_epsilon, study.sums_delta)


def test_pot_pays_for_its_rounds_and_no_more() -> None:
    study = neural_study()
    assert study.pot is not None
    assert study.training is not None
    event, pot = study.training.event, study.pot
    for _ in range(study.training.rounds):
        pot = pot.charge(event.times(1))
    assert 0.99 * pot.epsilon < pot.spent() <= pot.epsilon
    with pytest.raises(BudgetError):
        pot.charge(event.times(1))


def test_noise_that_a_study_names_must_be_enough() -> None:
    least = neural_study().training
    assert least is not None
    assert least.noise_multiplier is not None
    more = neural_study({"noise_multiplier": least.noise_multiplier + 1})
    assert more.training is not None
    assert more.training.noise_multiplier == least.noise_multiplier + 1
    for noise in (least.noise_multiplier - 0.001, least.noise_multiplier + 0.0005):
        with pytest.raises(StudyError, match="noise_multiplier"):
            neural_study({"noise_multiplier": noise})


def test_least_noise_is_least() -> None:
    noise = round(least_noise(0.8, 1e-6, 0.25, 40) * 1000)
    rate = 1 << 30
    for thousandths, enough in ((noise, True), (noise - 1, False)):
        item = Event(rate, thousandths, 40).times(1)
        assert (accounting.RdpPot.open_for(0.8, 1e-6, item).spent(item) <= 0.8) is enough


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_clients_per_customer": 2}, "max_clients_per_customer"),
        ({"classification": {"estimator": "additive", "training": {}}}, "training"),
        ({"classification": {"estimator": "neural", "l1": 0.1}}, "l1"),
        ({"classification": {"estimator": "neural", "training": {"rate": 0.0}}}, "rate"),
        ({"classification": {"estimator": "neural", "training": {"steps": 0}}}, "steps"),
        ({"classification": {"estimator": "neural", "training": {"share": 1.0}}}, "share"),
        ({"classification": {"estimator": "neural", "training": {"clip": 0.0}}}, "clip"),
        ({"classification": {"estimator": "neural", "training": {"epochs": 1}}}, "epochs"),
    ],
)
def test_no_other_training_is_read(changes: dict[str, Any], field: str) -> None:
    base = {"classification": {"estimator": "neural"}}
    with pytest.raises(StudyError, match=field):
        study_from_tables(churn_tables(**(base | changes)))


def test_only_trainings_are_free_of_the_sums_budget() -> None:
    for query, share in (("residual-sums", 0.0), ("trained-weights", 0.1)):
        with pytest.raises(ValueError, match="must be 0 for trained-weights"):
            PlanStep("step", query, share)


@pytest.mark.parametrize(
    "value",
    [
        {"rate": 0, "noise": 1000, "steps": 1},
        {"rate": 1, "noise": 0, "steps": 1},
        {"rate": 1, "noise": 1000, "steps": 1.0},
        {"rate": 1, "noise": 1000},
        [1, 1000, 1],
    ],
)
def test_events_of_a_log_are_checked(value: Any) -> None:
    with pytest.raises(ProtocolError):
        Event.read(value)


def test_opacus_accountant_agrees() -> None:
    accountants = pytest.importorskip(
        "opacus.accountants", reason="training needs Opacus (kesit[neural])"
    )
    for rate, steps, noise, delta in (
        (1 << 31, 40, 16_000, 8e-6),
        (1 << 28, 200, 3_000, 1e-6),
        (1 << 26, 1000, 1_100, 1e-5),
        (1 << 32, 20, 10_000, 1e-5),
    ):
        item = Event(rate, noise, steps).times(1)
        ours = accounting.RdpPot.open_for(1.0, delta, item).spent(item)
        theirs = accountants.RDPAccountant()
        theirs.history = [(noise / 1000, rate / 2**32, steps)]
        assert ours == pytest.approx(theirs.get_epsilon(delta), rel=0.01)
