"""The one-run audit: its bounds hold, and on real trainings it finds planted bugs and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from scipy import stats

from kesit_audits import one_run
from kesit_audits import training as auditing
from kesit_audits.empirical import Method, Verdict
from kesit_audits.errors import AuditError
from kesit_audits.one_run import OneRun, judge, lower_limit, pure_chance
from kesit_client.neural import training
from kesit_privacy import accounting
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.network import LARGEST_WEIGHT, WEIGHT
from kesit_privacy.noise import NoiseSource, SeededNoise
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS
from trainingkit import network, training_query

DELTA = 1e-5
METHODS: tuple[Method, Method] = ("gaussian", "clopper-pearson")


# The bounds, on mechanisms whose ε or μ is known.


def violations(limits: list[float], truth: float) -> int:
    return sum(limit > truth for limit in limits)


def allowed(runs: int, tail: float = 0.05) -> int:
    """Violations that so many runs exceed once in a thousand times."""
    return int(stats.binom.ppf(0.999, runs, tail))


@pytest.mark.parametrize("mu", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("guesses", [20, 100, 200])
def test_gaussian_limits_hold_on_independent_gaussians(mu: float, guesses: int) -> None:
    rng, found = np.random.default_rng(3), []
    truth = accounting.epsilon(int(mu**2 * accounting.UNITS_PER_MU2), DELTA)
    for _ in range(200):
        inside = rng.integers(0, 2, 200).astype(np.float64)
        scores = mu * inside + rng.normal(size=200)
        made = judge(scores, inside, guesses=guesses, claimed=truth, delta=DELTA)
        found.append(made.lower)
    assert violations(found, truth + 1e-9) <= allowed(200)
    assert mu == 0 or guesses == 20 or max(found) > 0.3 * truth  # and the limits are not idle


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_pure_limits_hold_on_randomised_response(epsilon: float) -> None:
    """The mechanism for which the theorem is tight."""
    rng, found = np.random.default_rng(4), []
    for _ in range(400):
        right = int(rng.binomial(300, 1 / (1 + np.exp(-epsilon))))
        found.append(lower_limit(300, 300, right, 0.0, "clopper-pearson"))
    assert violations(found, epsilon + 1e-9) <= allowed(400)
    assert epsilon == 0 or max(found) > 0.9 * epsilon


@pytest.mark.parametrize("canaries", [10, 300])
def test_what_tells_all_with_chance_delta_is_within_the_bound(canaries: int) -> None:
    """(0, δ)-DP, and all guesses are right with chance δ: canaries are far from independent."""
    for delta in (1e-3, 0.04):
        assert pure_chance(canaries, canaries, canaries, 0.0, delta) >= delta
    assert lower_limit(canaries, canaries, canaries, 0.06, "clopper-pearson") == 0


def test_of_one_canary_the_gaussian_bound_is_the_neyman_pearson_lemma() -> None:
    """One canary is guessed rightly with chance Φ(μ/2) at best."""
    for mu in (0.5, 1.0, 3.0):
        best = float(stats.norm.cdf(mu / 2))
        assert not one_run.gaussian_refuted(1, 1, 1, mu, best * 0.999)
        assert one_run.gaussian_refuted(1, 1, 1, mu, best * 1.001)


def test_more_right_guesses_prove_more() -> None:
    for method in METHODS:
        found = [lower_limit(500, 100, right, DELTA, method) for right in range(40, 101, 10)]
        assert found == sorted(found)
        assert found[0] == 0 < found[-1]
        surer = lower_limit(500, 100, 100, DELTA, method, confidence=0.999)
        assert surer < found[-1]


@pytest.mark.parametrize("guesses", [0, 3, 12])
def test_no_other_number_of_guesses(guesses: int) -> None:
    scores = np.arange(10.0)
    with pytest.raises(AuditError, match="guesses"):
        judge(scores, scores % 2, guesses=guesses, claimed=1, delta=DELTA)


def test_no_scores_that_are_no_numbers() -> None:
    scores = np.arange(10.0)
    for bad in (scores[:9], np.where(scores == 3, np.nan, scores)):
        with pytest.raises(AuditError, match="finite score"):
            judge(bad, scores % 2, guesses=4, claimed=1, delta=DELTA)


# Trainings by the client's own code.

opacus = pytest.importorskip("opacus", reason="training needs Opacus (kesit[neural])")

from kesit_client.neural import dpsgd  # noqa: E402  (it needs Opacus: after the skip)

CANARIES, LISTS, GUESSES = 600, 4, 200


@dataclass(frozen=True)
class Setting:
    """A training whose canaries have a level each of their own in every list, and no other rows.

    The start is an adversary's: one open unit of a small value and a steep way out, so that a
    gradient lies almost wholly on the weights of the canary's own levels (and of the unit's bias,
    which all share). Steps are small, so that a second one finds nearly the same gradients.
    """

    query: TrainedWeights
    canaries: CodeArray

    @property
    def claimed(self) -> float:
        """ε at `DELTA` that the ledger charges."""
        item = self.query.training.event.times(1)
        return accounting.RdpPot.open_for(1.0, DELTA, item).spent(item)

    def train(self, codes: CodeArray, noise: NoiseSource) -> IntArray:
        """One training."""
        return training.train(self.query, codes, noise)


@cache
def setting(steps: int, rate: float, noise: float) -> Setting:
    lists = [
        {
            "kind": "categorical",
            "name": f"list {k}",
            "levels": [f"v{level}" for level in range(CANARIES)],
        }
        for k in range(LISTS)
    ]
    target = {"kind": "categorical", "name": "left", "levels": ["no", "yes"]}
    study = study_from_tables(
        {
            "name": "many canaries",
            "purpose": "churn-prediction",
            "legal_basis": "explicit-consent",
            "epsilon": 8.0,
            "delta": 1e-6,
            "declared_customers": 100_000,
            "target": "left",
            "features": [*lists, target],
            "classification": {"estimator": "neural", "training": {"hidden": 1}},
        }
    )
    model = network(study, largest=1)
    weights = np.zeros(len(model.weights), dtype=np.int64)
    weights[-3:] = WEIGHT, LARGEST_WEIGHT, -LARGEST_WEIGHT  # the unit's bias, its way out, the last
    query = training_query(study, replace(model, weights=tuple(weights.tolist())))
    changed = replace(
        query.training,
        **{"steps": steps, "rate": rate, "noise_multiplier": noise},
        **{"clip": 0.05, "batch": 1, "learning_rate": min(0.02, 20 / noise)},
    )
    rows = np.zeros((CANARIES, LISTS + 2), dtype=np.int16)
    rows[:, :LISTS] = np.arange(CANARIES)[:, None]
    rows[::2, LISTS], rows[:, -1] = 1, PARTS - 1  # of both classes, so that what they share stays
    return Setting(replace(query, training=changed), rows)


@cache
def honest_ways(steps: int, rate: float, noise: float) -> FloatArray:
    """The canaries' ways where no bug is planted."""
    asked = setting(steps, rate, noise)
    return auditing.directions(asked.train, asked.canaries[:0], asked.canaries)


def once(
    asked: Setting, ways: FloatArray, source: NoiseSource, seed: int, confidence: float
) -> tuple[OneRun, OneRun]:
    return auditing.audit_once(
        asked.train,
        asked.canaries[:0],
        asked.canaries,
        ways,
        guesses=GUESSES,
        claimed=asked.claimed,
        delta=DELTA,
        source=source,
        coins=np.random.default_rng(seed),
        confidence=confidence,
    )


ONE = (1, 1.0, 2.0)
MORE = (4, 0.5, 3.0)


@pytest.mark.slow
def test_without_epsilon_no_run_of_forty_proves_any() -> None:
    """Noise of ten thousand clips: coins are guessed by coins."""
    asked = setting(1, 1.0, 10_000.0)
    assert asked.claimed < 0.03
    ways = honest_ways(1, 1.0, 10_000.0)
    runs = [once(asked, ways, SeededNoise(seed), seed, 0.9995) for seed in range(40)]
    assert all(found.verdict is not Verdict.FAIL for pair in runs for found in pair)
    right = sum(pair[0].right for pair in runs)
    assert abs(right / (40 * GUESSES) - 0.5) < 5 * 0.5 / np.sqrt(40 * GUESSES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ONE, MORE], ids=["one step", "more steps"])
def test_trainings_never_spend_more_than_is_charged(kind: tuple[int, float, float]) -> None:
    asked, ways = setting(*kind), honest_ways(*kind)
    runs = [once(asked, ways, SeededNoise(9, seed), seed, 0.95) for seed in range(10)]
    for pair in runs:
        for found in pair:
            assert found.lower <= found.claimed
            assert found.attainable > found.claimed  # it could have been refuted


class Weak(SeededNoise):
    """Noise that is ten times too small."""

    def sample(self, variance: Fraction, size: int) -> IntArray:
        return super().sample(variance / 100, size)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ONE, MORE], ids=["one step", "more steps"])
def test_noise_too_small_is_caught(kind: tuple[int, float, float]) -> None:
    for found in once(setting(*kind), honest_ways(*kind), Weak(8), 0, 0.95):
        assert found.verdict is Verdict.FAIL


def unclipped(gradients: FloatArray, largest: float) -> FloatArray:
    """A lattice without a clip."""
    return np.trunc(gradients / largest * dpsgd.CLIP_UNITS)


def many_times(gradients: FloatArray, largest: float) -> FloatArray:
    """Each customer counts twenty times."""
    return 20 * INNER(gradients, largest)


INNER = dpsgd.lattice


@pytest.mark.slow
@pytest.mark.parametrize("clip", [unclipped, many_times])
def test_a_missing_clip_is_caught(
    clip: Callable[[FloatArray, float], FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpsgd, "lattice", clip)
    asked = setting(*ONE)
    ways = auditing.directions(asked.train, asked.canaries[:0], asked.canaries)  # as the bug has it
    for found in once(asked, ways, SeededNoise(0), 0, 0.95):
        assert found.verdict is Verdict.FAIL


def test_canaries_that_move_alike_cannot_be_told_apart() -> None:
    asked = setting(*ONE)
    with pytest.raises(AuditError, match="told apart"):
        auditing.directions(asked.train, asked.canaries[:0], asked.canaries[[1, 2, 1]])
