"""DP-SGD as its proof assumes it: what one customer changes in a step, who is counted, the noise.

An adversary chooses the weights from which a training begins; the bounds hold for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from dp_accounting import pld

from classifierkit import three_tables
from kesit_client.neural import training
from kesit_privacy import accounting
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.network import LARGEST_WEIGHT, Inputs, Network
from kesit_privacy.noise import NoNoise, SecureNoise, SeededNoise, WordArray
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS, Target
from kesit_privacy.training import Event
from trainingkit import coded, network, neural_study, training_query

pytest.importorskip("opacus", reason="training needs Opacus (kesit[neural])")

from kesit_client.neural import dpsgd

THREE = study_from_tables(
    three_tables(classification={"estimator": "neural", "training": {"hidden": 5, "steps": 2}})
)
STUDIES = {"two classes": neural_study(), "three classes": THREE}


def query(study: Study, model: Network | None = None, **changes: float) -> TrainedWeights:
    """One training, with changes to what the study says of it."""
    found = training_query(study, model)
    return replace(found, training=replace(found.training, **changes))


class Everybody(NoNoise):
    """Every step counts all rows."""

    def words(self, size: int) -> WordArray:
        return np.zeros(size, dtype=np.uint32)


@contextmanager
def summed(patch: pytest.MonkeyPatch) -> Iterator[list[FloatArray]]:
    """What each step adds noise to, (weights,), in lattice units."""
    found: list[FloatArray] = []
    inner = dpsgd._Optimizer.add_noise

    def add_noise(self: dpsgd._Optimizer) -> None:
        parts = [p.summed_grad.numpy().ravel().copy() for p in self.params]
        found.append(np.concatenate(parts))
        inner(self)

    with patch.context() as inside:
        inside.setattr(dpsgd._Optimizer, "add_noise", add_noise)
        yield found


def trapping(study: Study) -> Network:
    """A start that answers one customer alone: a unit that only the first row's value opens."""
    model = network(study, largest=LARGEST_WEIGHT)
    weights = np.zeros(len(model.weights), dtype=np.int64)
    weights[: model.hidden * model.inputs.count] = -LARGEST_WEIGHT
    weights[0] = LARGEST_WEIGHT
    weights[-model.hidden * model.logits :] = LARGEST_WEIGHT
    return replace(model, weights=tuple(weights.tolist()))


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("start", ["small", "largest", "trap"])
@pytest.mark.parametrize("clip", [2**-10, 1.0, 2.0**10])
def test_one_customer_moves_a_step_by_one_clip_to_the_bit(
    name: str, start: str, clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Δ of the sum, not of a mean: with and without a row it differs by that row's own part."""
    study = STUDIES[name]
    model = trapping(study) if start == "trap" else None
    if start == "largest":
        model = network(study, largest=LARGEST_WEIGHT)
    asked = query(study, model, steps=1, rate=1.0, clip=clip)
    codes = coded(study, 40)
    rows, labels = asked.side.counted(codes, asked.target)
    with summed(monkeypatch) as sums:
        for kept in (np.delete(np.arange(len(rows)), k) for k in range(len(rows))):
            dpsgd.trained(asked.model, asked.training, rows[kept], labels[kept], Everybody())
        for one in range(len(rows)):
            own = slice(one, one + 1)
            dpsgd.trained(asked.model, asked.training, rows[own], labels[own], Everybody())
        dpsgd.trained(asked.model, asked.training, rows, labels, Everybody())
    without, alone, whole = sums[: len(rows)], sums[len(rows) : -1], sums[-1]
    for one in range(len(rows)):
        assert (whole - without[one] == alone[one]).all()
        assert (alone[one] == np.trunc(alone[one])).all()
        assert (alone[one] ** 2).sum() <= dpsgd.CLIP_UNITS**2
    largest = max((part**2).sum() for part in alone) / dpsgd.CLIP_UNITS**2
    assert largest > 0.99 or clip > 1 or start != "small"  # the bound is not idle


def test_each_customer_is_counted_by_a_coin_of_its_own_in_each_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rates, and correlations between customers and between steps, of the operating system's words.

    A shuffled batch, a batch of fixed size, or one draw for all steps would show in each of them.
    """
    study, steps, rate = STUDIES["two classes"], 400, 0.25
    asked = query(study, steps=steps, rate=rate)
    codes = coded(study, 30)
    codes[:, 0] = np.arange(30)  # whom a batch holds is read from its first feature
    codes[:, -1] = PARTS - 1
    codes[:, asked.target.column] = 0
    batches: list[IntArray] = []
    inner = Inputs.of

    def spied(self: Inputs, rows: CodeArray) -> FloatArray:
        batches.append(rows[:, 0].astype(np.int64))
        return inner(self, rows)

    monkeypatch.setattr(Inputs, "of", spied)
    training.train(asked, codes, SecureNoise())
    assert len(batches) == steps  # one small batch a step
    counted = np.zeros((steps, 30))
    for step, batch in enumerate(batches):
        assert len(set(batch.tolist())) == len(batch)
        counted[step, batch] = 1
    moved = (counted - rate) / np.sqrt(rate * (1 - rate))
    assert abs(moved.mean()) < 5 / np.sqrt(moved.size)
    customers = moved.T @ moved / np.sqrt(steps)
    others = customers[~np.eye(30, dtype=bool)]
    assert np.abs(others).max() < 6
    assert abs((others**2).mean() - 1) < 0.3  # of independent coins: 1
    later = (moved[1:] * moved[:-1]).sum() / np.sqrt(moved[1:].size)
    assert abs(later) < 5
    sizes = counted.sum(axis=1)
    assert abs(sizes.var() / (30 * rate * (1 - rate)) - 1) < 0.4


class Fixed(SeededNoise):
    """The same noise whoever is there, and everybody is counted."""

    def __init__(self) -> None:
        super().__init__(0)
        self.draws = np.random.default_rng(5)

    def words(self, size: int) -> WordArray:
        return np.zeros(size, dtype=np.uint32)

    def sample(self, variance: Fraction, size: int) -> IntArray:
        return np.rint(self.draws.normal(0, float(variance) ** 0.5, size)).astype(np.int64)


def test_noise_does_not_shrink_with_the_customers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's length comes from the study's batch: divided by the rows, noise would tell them."""
    study = STUDIES["two classes"]
    monkeypatch.setattr(dpsgd, "lattice", lambda gradients, largest: np.zeros_like(gradients))
    asked = query(study)
    found = [training.train(asked, coded(study, rows), Fixed()) for rows in (0, 1, 10, 500)]
    assert all((other == found[0]).all() for other in found)
    assert (found[0] != np.array(asked.model.weights)).any()


def test_memory_does_not_grow_with_the_customers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs are wide (one a level): made for all at once, a large client's node would fall."""
    study = STUDIES["two classes"]
    asked, seen = query(study, rate=1.0), []
    monkeypatch.setattr(dpsgd, "NUMBERS", 20 * asked.length)
    inner = Inputs.of

    def spied(self: Inputs, rows: CodeArray) -> FloatArray:
        seen.append(len(rows))
        return inner(self, rows)

    monkeypatch.setattr(Inputs, "of", spied)
    training.train(asked, coded(study, 500), SeededNoise(1))
    assert max(seen) <= 20
    assert sum(seen) > 100 * asked.training.steps


@pytest.mark.parametrize(
    ("rate", "noise", "steps"),
    [(1.0, 10.0, 20), (0.5, 4.0, 40), (0.1, 1.5, 100), (0.02, 0.8, 300), (0.01, 0.6, 50)],
)
def test_the_ledger_charges_no_less_than_the_exact_privacy_loss(
    rate: float, noise: float, steps: int
) -> None:
    """Another accountant, of the whole privacy loss distribution: exact up to its grid."""
    event = Event(int(rate * 2**32), int(noise * 1000), steps).times(1)
    for delta in (1e-5, 1e-8):
        charged = accounting.RdpPot.open_for(1.0, delta, event).spent(event)
        exact = pld.PLDAccountant()
        exact.compose(event)
        assert 0.6 * charged < exact.get_epsilon(delta) < charged * 1.0001


@pytest.mark.parametrize("count", [2, 3])
def test_several_trainings_cost_no_less_than_all_their_steps(count: int) -> None:
    """Rounds compose: of the pot's one order the sum is that of as many steps in one training."""
    rate, noise, steps = 1 << 31, 4000, 10
    whole = Event(rate, noise, steps * count).times(1)
    pot = accounting.RdpPot.open_for(5.0, 1e-6, whole)
    expected = pot.spent(whole)
    for _ in range(count):
        pot = pot.charge(Event(rate, noise, steps).times(1))
    assert pot.spent() == pytest.approx(expected, rel=1e-9)


def test_a_label_that_is_not_known_is_in_no_batch() -> None:
    study = STUDIES["two classes"]
    asked, codes = query(study), coded(study, 60)
    target = Target.of(study)
    codes[::2, target.column] = target.feature.missing
    codes[1::4, target.column] = target.feature.unknown
    rows, labels = asked.side.counted(codes, target)
    assert len(rows) <= 15
    assert set(labels.tolist()) <= {0, 1}
