"""The white-box audit of DP-SGD: what is charged holds, and planted bugs are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from kesit_audits import training as auditing
from kesit_audits.empirical import EmpiricalEpsilon, Verdict
from kesit_audits.errors import AuditError
from kesit_client.neural import training
from kesit_privacy import accounting
from kesit_privacy.features import GRID, CodeArray, FloatArray, IntArray
from kesit_privacy.noise import NoiseSource, SeededNoise
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.target import PARTS
from kesit_privacy.training import Event
from trainingkit import coded, neural_study, training_query

pytest.importorskip("opacus", reason="training needs Opacus (kesit[neural])")

from kesit_client.neural import dpsgd

DELTA = 1e-5
STUDY = neural_study()


def asked(steps: int, rate: float, noise: float) -> TrainedWeights:
    """A training of less than ε = 3, of a clip far below the canary's gradient."""
    query = training_query(STUDY)
    changed = replace(
        query.training, steps=steps, rate=rate, noise_multiplier=noise, clip=0.05, batch=1
    )
    return replace(query, training=replace(changed, learning_rate=0.1))


ONE = asked(1, 1.0, 2.0)
MORE = asked(6, 0.5, 3.0)


def canary(query: TrainedWeights) -> CodeArray:
    """A corner of the space that training counts."""
    row = np.array([GRID, GRID, 3, 0, PARTS - 1], dtype=np.int16)
    rows, _ = query.side.counted(row[None], query.target)
    assert len(rows) == 1
    return row


def audit(
    query: TrainedWeights, source: NoiseSource | None = None, replays: int = 1500
) -> tuple[EmpiricalEpsilon, EmpiricalEpsilon]:
    """Of one training, against what the ledger charges for it."""
    event: Event = query.training.event
    item = event.times(1)
    claimed = accounting.RdpPot.open_for(1.0, DELTA, item).spent(item)
    return auditing.audit(
        lambda codes, noise: training.train(query, codes, noise),
        coded(STUDY, 12),
        canary(query),
        claimed=claimed,
        delta=DELTA,
        source=source or SeededNoise(8),
        replays=replays,
    )


@pytest.mark.slow
def test_one_step_spends_what_is_charged() -> None:
    gaussian, pure = audit(ONE)
    assert gaussian.verdict is Verdict.PASS
    assert gaussian.estimate > 0.7 * gaussian.claimed
    assert pure.lower <= pure.claimed


@pytest.mark.slow
def test_more_steps_spend_no_more_than_is_charged() -> None:
    for found in audit(MORE):
        assert found.lower <= found.claimed


class Weak(SeededNoise):
    """Noise that is ten times too small."""

    def sample(self, variance: Fraction, size: int) -> IntArray:
        return super().sample(variance / 100, size)


def unclipped(gradients: FloatArray, largest: float) -> FloatArray:
    """A lattice without a clip."""
    return np.trunc(gradients / largest * dpsgd.CLIP_UNITS)


def per_coordinate(gradients: FloatArray, largest: float) -> FloatArray:
    """A clip of each coordinate, which lets through √d times as much."""
    return np.trunc(np.clip(gradients / largest, -1, 1) * dpsgd.CLIP_UNITS)


@pytest.mark.slow
@pytest.mark.parametrize("query", [ONE, MORE], ids=["one step", "more steps"])
def test_noise_too_small_is_caught(query: TrainedWeights) -> None:
    for found in audit(query, Weak(8), replays=600):
        assert found.verdict is Verdict.FAIL


@pytest.mark.slow
@pytest.mark.parametrize("query", [ONE, MORE], ids=["one step", "more steps"])
@pytest.mark.parametrize("clip", [unclipped, per_coordinate])
def test_a_missing_clip_is_caught(
    query: TrainedWeights,
    clip: Callable[[FloatArray, float], FloatArray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dpsgd, "lattice", clip)
    gaussian, _ = audit(query, replays=600)
    assert gaussian.verdict is Verdict.FAIL


def test_a_canary_that_is_held_out_shows_nothing() -> None:
    row = canary(ONE)
    row[-1] = 0
    with pytest.raises(AuditError, match="moves no weight"):
        auditing.replay(
            lambda codes, noise: training.train(ONE, codes, noise),
            coded(STUDY, 12),
            row,
            source=SeededNoise(1),
            replays=4,
        )
