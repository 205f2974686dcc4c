"""DP-SGD with Opacus at a node: exact gradients, a clip that holds, and what a run of it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from classifierkit import churn_frame, customers, three_tables, trained
from kesit_client.neural import training
from kesit_privacy.features import GRID, CodeArray, IntArray
from kesit_privacy.network import LARGEST_WEIGHT, WEIGHT, Network
from kesit_privacy.noise import NoNoise, SecureNoise, SeededNoise
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.scorecard import CHANCE, LOGIT
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import Target
from kesit_privacy.wire import RefusalCode
from kesit_simulations.model_evaluation import evaluate_model
from kit import ask
from trainingkit import Trainings, coded, network, neural_study, start, training_query

pytest.importorskip("opacus", reason="training needs Opacus (kesit[neural])")
torch = pytest.importorskip("torch", reason="training needs torch (kesit[neural])")

from kesit_client.neural import dpsgd  # noqa: E402  (it needs Opacus: after the skip)

THREE = study_from_tables(
    three_tables(classification={"estimator": "neural", "training": {"hidden": 5, "steps": 2}})
)
STUDIES = {"two classes": neural_study(), "three classes": THREE}


def gradients(model: Network, codes: CodeArray, labels: IntArray) -> IntArray:
    """Each row's own gradient, (n, weights), as Opacus has it."""
    module = dpsgd.GradSampleModule(dpsgd._Module(model), loss_reduction="sum")
    dpsgd._backward(module, model.inputs.of(codes), labels)
    flat = [p.grad_sample.reshape(len(codes), -1).numpy() for p in module.parameters()]
    return np.concatenate(flat, axis=1)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("largest", [WEIGHT, LARGEST_WEIGHT])
def test_torch_computes_what_the_network_does(name: str, largest: int) -> None:
    study = STUDIES[name]
    model, codes = network(study, largest=largest), coded(study, 500)
    logits = dpsgd._Module(model)(torch.from_numpy(model.inputs.of(codes) / GRID))
    found = np.rint(logits.detach().numpy() * LOGIT).astype(np.int64)
    assert (found == model.points(codes)).all()


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("largest", [WEIGHT, LARGEST_WEIGHT])
def test_a_gradient_is_of_one_row_to_the_bit(name: str, largest: int) -> None:
    study = STUDIES[name]
    model, codes = network(study, largest=largest), coded(study, 200)
    labels = np.arange(200) % len(Target.of(study).classes)
    every = gradients(model, codes, labels)
    for rows in (slice(7, 8), slice(50, 113), slice(199, 200)):
        assert (gradients(model, codes[rows], labels[rows]) == every[rows]).all()


def test_the_gradient_is_that_of_the_cross_entropy() -> None:
    """Of the last layer by hand: (p - y), and (p - y) times the hidden units."""
    study = STUDIES["two classes"]
    model, codes = network(study), coded(study, 30)
    labels = np.arange(30) % 2
    found = gradients(model, codes, labels)
    residual = model.chances(codes)[:, 1] / CHANCE - labels
    first, bias, _, _ = model.layers
    hidden = np.floor((model.inputs.of(codes) @ first.T + bias * GRID) / WEIGHT).clip(0) / GRID
    assert (found[:, -1] == residual).all()
    assert (found[:, -1 - model.hidden : -1] == residual[:, None] * hidden).all()


def test_the_clip_holds_in_whole_numbers() -> None:
    rng = np.random.default_rng(0)
    wild = rng.normal(size=(300, 40)) * 10.0 ** rng.integers(-12, 12, (300, 1))
    found = dpsgd.lattice(wild, 0.3)
    assert (found == np.trunc(found)).all()
    assert ((found**2).sum(axis=1) <= dpsgd.CLIP_UNITS**2).all()
    small = np.linalg.norm(wild, axis=1) < 0.29
    unit = 0.3 / dpsgd.CLIP_UNITS
    assert np.abs(found[small] * unit - wild[small]).max() <= unit
    assert (dpsgd.lattice(wild[5:6], 0.3) == found[5:6]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_counts_as_nothing(bad: float) -> None:
    """Clipping leaves a NaN as it is, and one such customer would erase the noise of all."""
    rows = np.ones((3, 4))
    rows[1, 2] = bad
    found = dpsgd.lattice(rows, 1.0)
    assert not found[1].any()
    assert (found[[0, 2]] == dpsgd.lattice(rows[[0, 2]], 1.0)).all()
    assert np.isfinite(found).all()


def query(study: Study, **changes: float) -> TrainedWeights:
    """One round of the study from random weights, with changes to its training."""
    found = training_query(study)
    return replace(found, training=replace(found.training, **changes))


def test_weights_stay_on_their_grid_whatever_the_steps() -> None:
    wild = query(STUDIES["two classes"], learning_rate=1000.0)
    found = training.train(wild, coded(STUDIES["two classes"], 50), SeededNoise(1))
    assert found.dtype == np.int64
    assert np.abs(found).max() == LARGEST_WEIGHT


@pytest.mark.parametrize("rows", [0, 1])
def test_a_client_of_no_rows_trains_like_any_other(rows: int) -> None:
    study = STUDIES["two classes"]
    asked = query(study)
    found = training.train(asked, coded(study, 50)[:rows], SecureNoise())
    moved = found - np.array(asked.model.weights)
    assert found.shape == (asked.length,)
    assert np.count_nonzero(moved) > 0.9 * len(moved)


def test_what_is_asked_again_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    study = STUDIES["two classes"]
    asked, codes = query(study, rate=1.0), coded(study, 300)
    whole = training.train(asked, codes, SeededNoise(5))
    monkeypatch.setattr(dpsgd, "NUMBERS", 7 * asked.length)
    assert (training.train(asked, codes, SeededNoise(5)) == whole).all()
    backwards = training.train(asked, codes[::-1], SeededNoise(5))
    assert (backwards == whole).all()  # everybody is counted, and a sum is one in any order


class Recording(SeededNoise):
    """Seeded noise that keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__(3)
        self.asked: list[tuple[Fraction, int]] = []

    def sample(self, variance: Fraction, size: int) -> IntArray:
        self.asked.append((variance, size))
        return super().sample(variance, size)


def test_each_step_has_the_noise_that_is_charged() -> None:
    study = STUDIES["two classes"]
    asked, noise = query(study), Recording()
    training.train(asked, coded(study, 20), noise)
    charged = Fraction(asked.training.event.noise, 1000) * dpsgd.CLIP_UNITS
    assert noise.asked == [(charged**2, asked.length)] * asked.training.steps


def test_a_step_counts_customers_at_the_public_rate() -> None:
    study = STUDIES["two classes"]
    words = SeededNoise(1).words(200_000).astype(np.int64)
    rate = query(study, rate=0.25).training.event.rate
    assert rate == 1 << 30
    assert abs((words < rate).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 200_000)
    assert abs((SecureNoise().words(200_000) < rate).mean() - 0.25) < 0.005


def test_more_learning_and_no_noise_finds_the_truth() -> None:
    frame, table = churn_frame(3000), {"learning_rate": 8.0, "steps": 15, "rate": 1.0, "hidden": 4}
    study = neural_study(table)
    result = trained(study, frame, noise="off")
    told = evaluate_model(result.classifier, customers(study, frame).codes)
    assert told is not None
    assert told.auc > told.auc_pooled - 0.02


def test_a_run_says_what_it_spent_in_each_pot() -> None:
    study = neural_study()
    result = trained(study, churn_frame(1500))
    statement = result.files["privacy.json"].decode()
    assert '"pot": "trainings (DP-SGD)"' in statement
    assert "two pots, whose ε and δ add up" in result.files["privacy.md"].decode()
    spent = [entry.trained is not None for entry in result.federation.spending]
    assert spent == [False, True, True, False]
    assert study.pot is not None
    assert '"estimator": "neural"' in result.files["model.json"].decode()


def test_three_classes_train() -> None:
    frame = churn_frame(1500)
    result = trained(THREE, frame, noise="off")
    assert isinstance(result.classifier.fitted.model, Network)
    assert result.classifier.fitted.model.logits == 3


def test_a_node_trains_and_masks_what_came_out() -> None:
    run: Trainings = start([])
    replies: Sequence[tuple[RefusalCode, bytes]] = [
        ask(node, run.order(), run.transcript) for node in run.nodes
    ]
    assert {code for code, _ in replies} == {RefusalCode.OK}
    assert len({payload for _, payload in replies}) == len(run.nodes)


def test_noise_off_is_the_same_everywhere() -> None:
    study = STUDIES["two classes"]
    asked, codes = query(study), coded(study, 80)
    assert (
        training.train(asked, codes, NoNoise()) == training.train(asked, codes, NoNoise())
    ).all()
