"""White-box audits of DP-SGD: a training repeated with and without a canary, or once with many.

The adversary knows every other customer, the weights before and after, and all public numbers; it
does not know who was counted in a step, nor the noise. It looks along one direction: how the
canary moves the weights when there is no noise. For one step that counts everybody this is the most
powerful test (Neyman and Pearson, the noise being Gaussian); for more it sees the last weights
alone, and finds less than what was charged. As everywhere, a bug shows as more than was charged.
(Nasr et al. 2021 audit DP-SGD so.)

`audit_once` runs one training with many canaries at a time, each in or out by a coin (`one_run`),
and tells them apart by the part of each one's way that no other shares. It needs no repetition,
sees whatever adds up over customers, and proves less.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kesit_audits import one_run
from kesit_audits.empirical import EmpiricalEpsilon, empirical_epsilon
from kesit_audits.errors import AuditError
from kesit_audits.one_run import OneRun
from kesit_audits.whitebox import Scores
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.noise import NoiseSource, NoNoise, WordArray

REPLAYS = 1000

Trainer = Callable[[CodeArray, NoiseSource], IntArray]
"""One training over rows of codes, (n, columns): its weights."""


def replay(
    train: Trainer,
    codes: CodeArray,
    canary: CodeArray,
    *,
    source: NoiseSource,
    replays: int = REPLAYS,
) -> Scores:
    """Score `replays` trainings of either world along the canary's own direction.

    Args:
        train: the production training of one member, with everything public already chosen.
        codes: (n, columns) the customers whom the adversary knows; canary: (columns,).

    Raises:
        AuditError: the canary moves nothing, so there is nothing to see.
    """
    both = np.concatenate([codes, canary[None]])
    plain, moved = (train(rows, _Everybody()).astype(np.float64) for rows in (codes, both))
    direction = moved - plain
    if not direction.any():
        raise AuditError(
            "The canary moves no weight.", remedy="Choose one that training counts, with a label."
        )

    def scored(rows: CodeArray) -> FloatArray:
        return np.array([float((train(rows, source) - plain) @ direction) for _ in range(replays)])

    return Scores(scored(codes), scored(both))


class _Everybody(NoNoise):
    """No noise, and every step counts all rows: so the canary's own way is seen."""

    def words(self, size: int) -> WordArray:
        return np.zeros(size, dtype=np.uint32)


def audit(
    train: Trainer,
    codes: CodeArray,
    canary: CodeArray,
    *,
    claimed: float,
    delta: float,
    source: NoiseSource,
    replays: int = REPLAYS,
    confidence: float = 0.95,
) -> tuple[EmpiricalEpsilon, EmpiricalEpsilon]:
    """Replay a training and bound ε: by Gaussian DP, and by Clopper-Pearson alone.

    Args:
        claimed: ε at `delta` that the ledger charges for one training. See `replay`.
    """
    scores = replay(train, codes, canary, source=source, replays=replays)
    gaussian, pure = (
        empirical_epsilon(
            scores.without,
            scores.canary,
            claimed=claimed,
            delta=delta,
            method=method,
            confidence=confidence,
        )
        for method in ("gaussian", "clopper-pearson")
    )
    return gaussian, pure


def directions(train: Trainer, codes: CodeArray, canaries: CodeArray) -> FloatArray:
    """How each canary alone moves the weights without noise, shape (m, weights).

    Raises:
        AuditError: they cannot be told apart: one moves nothing, or only as others together do.
    """
    plain = train(codes, _Everybody()).astype(np.float64)
    found = np.stack(
        [train(np.concatenate([codes, one[None]]), _Everybody()) - plain for one in canaries]
    )
    if np.linalg.matrix_rank(found) < len(found):
        raise AuditError(
            "The canaries cannot be told apart by how they move the weights.",
            remedy="Give each a value that no other has, and fewer of them than there are weights.",
        )
    return found


def audit_once(
    train: Trainer,
    codes: CodeArray,
    canaries: CodeArray,
    ways: FloatArray,
    *,
    guesses: int,
    claimed: float,
    delta: float,
    source: NoiseSource,
    coins: np.random.Generator,
    confidence: float = 0.95,
) -> tuple[OneRun, OneRun]:
    """Train once, with each canary in or out, and bound ε: by Gaussian DP, and by (ε, δ) alone.

    A canary's score is its coefficient where least squares explain the move of the weights by all
    ways: what others share with it is taken out, and its own noise is left.

    Args:
        canaries: (m, columns); ways: their `directions`.
        guesses: how many of them are guessed; the others are not told.
        claimed: ε at `delta` that the ledger charges for one training.
    """
    plain = train(codes, _Everybody()).astype(np.float64)
    inside = coins.integers(0, 2, len(canaries)).astype(np.float64)
    moved = train(np.concatenate([codes, canaries[inside == 1]]), source) - plain
    scores: FloatArray = np.linalg.solve(ways @ ways.T, ways @ moved).astype(np.float64)
    gaussian, pure = (
        one_run.judge(
            scores,
            inside,
            guesses=guesses,
            claimed=claimed,
            delta=delta,
            method=method,
            confidence=confidence,
        )
        for method in ("gaussian", "clopper-pearson")
    )
    return gaussian, pure
