"""The second sum of a classifier: how the features' scores go together, and with the classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_privacy.queries import ScoreMoments
from kesit_privacy.queries.moments import (
    FACTOR_BITS,
    LARGEST_FACTOR,
    LARGEST_RADIUS,
    LARGEST_SCORE,
    SCORE_BITS,
)
from kesit_privacy.study import Study
from kesit_server.classification.training import picture
from kesit_server.classification.training.labels import SCALE, Labels
from kesit_server.sums import NoisySum

SHARE = 50
"""Of Δ², in percent, for the second moments; the rest is for the classes' means."""

RADIUS = 1.5
"""Longest row of scores that is counted whole, in standard deviations of independent features."""

MOST_UNEVEN = 4.0
"""Longest row of a class's own scores, in the radius: rare classes have long ones."""

NAIVE = 0.3
"""Slope towards which features of weak signal are drawn: 1 is naive Bayes, 0 leaves them out."""


@dataclass(frozen=True)
class Scores:
    """One score a feature: its log odds of each class, as the first sum tells them.

    Attributes:
        odds: for each feature (cells, classes), centred: log odds of a class against the others.
        variances: (features, classes) of these.
    """

    labels: Labels
    odds: list[FloatArray]
    variances: FloatArray

    @classmethod
    def of(cls, labels: Labels, odds: list[FloatArray]) -> Scores:
        """The scores of these odds."""
        variances = [
            [labels.variance(k, column) for column in values.T] for k, values in enumerate(odds)
        ]
        return cls(labels, odds, np.maximum(np.array(variances), 1e-9))

    @property
    def logits(self) -> list[FloatArray]:
        """Scores s_kc as logits, for each feature (cells, classes), with Σ_c share_c·s_kc = 0."""
        shares = self.labels.shares
        return [(own := values * (1 - shares)) - (own @ shares)[:, None] for values in self.odds]

    def query(self, study: Study, held: list[int]) -> ScoreMoments:
        """The moments' query: u = √share·s, so that ‖U‖² is the curvature of a softmax at 0.

        Args:
            held: parts of customers who are not counted.
        """
        shares = self.labels.shares
        tables = [
            np.clip(np.rint(np.sqrt(shares) * own * 2**SCORE_BITS), -LARGEST_SCORE, LARGEST_SCORE)
            for own in self.logits
        ]
        total = sum(
            self.labels.variance(k, column) for k, table in enumerate(tables) for column in table.T
        )
        radius = int(np.clip(math.ceil(RADIUS * math.sqrt(total)), 1, LARGEST_RADIUS))
        uneven = min(MOST_UNEVEN, float(np.sqrt((1 - shares) / shares).max()))
        factors = np.clip(np.rint(2**FACTOR_BITS / np.sqrt(shares)), 1, LARGEST_FACTOR)
        params = {
            "held": held,
            "scores": [table.astype(int).tolist() for table in tables],
            "factors": factors.astype(int).tolist(),
            "radii": [radius, math.ceil(radius * uneven)],
            "share": SHARE,
        }
        return ScoreMoments.bind(study, params, scale_bits=SCALE)


@dataclass(frozen=True)
class Slopes:
    """What the moments say of the scores.

    Attributes:
        values: (features,) how much each feature's score counts beside the others.
        alike: (features, features) correlations of the scores.
    """

    values: FloatArray
    alike: FloatArray

    def picture(self, scores: Scores, kind: int) -> picture.Picture:
        """The Gaussian picture of one class's log odds."""
        spread = np.sqrt(scores.variances[:, kind])
        return picture.Picture(self.alike * np.outer(spread, spread))


def slopes(query: ScoreMoments, opened: NoisySum, scores: Scores) -> Slopes:
    """One damped Newton step on the features' slopes, then one scale for all of them.

    Eigenvalues of the noisy second moments are raised to the edge of what noise alone would give
    (Wigner: its standard deviation times √features), so that no direction is taken for better known
    than it is.
    """
    matrix, means = query.split(opened.values)
    on, _, last = query.amplitudes
    units = opened.sigma * 2.0**query.scale_bits
    matrix, means = matrix / 4.0**SCORE_BITS, means / 2.0**SCORE_BITS
    noise_matrix = units / on / 4.0**SCORE_BITS
    noise_means = units / last / 2.0**SCORE_BITS
    size = len(means)
    roots, axes = np.linalg.eigh(matrix)
    curved = (axes * np.maximum(roots, noise_matrix * math.sqrt(size))) @ axes.T
    shares = scores.labels.shares
    ridge = 0.5 * noise_means / math.sqrt(float((scores.variances @ shares).mean()))
    values = np.linalg.solve(curved + ridge * np.eye(size), means + ridge * NAIVE)
    spread = np.sqrt(np.diag(curved))
    found = Slopes(values, curved / np.outer(spread, spread))
    return Slopes(values * _scale(found, means, scores), found.alike)


def _scale(found: Slopes, means: FloatArray, scores: Scores) -> float:
    """The factor on all slopes at which chances and scores go together as they are seen to.

    A Newton step from 0 is a linear fit; chances bend. Seen: Σ_k slope_k·mean_k, the mean score of
    a customer's own class. The Gaussian picture gives the same for any factor.
    """
    shares = scores.labels.shares
    seen = float(found.values @ means) / scores.labels.customers
    variances = [found.picture(scores, c).variance(found.values) for c in range(len(shares))]

    def told(factor: float) -> float:
        parts = [
            (1 - share)
            * picture.covariance_with_chance(factor**2 * variance, float(share))
            / factor
            for share, variance in zip(shares, variances, strict=True)
        ]
        return float(sum(parts))

    factors = np.linspace(0.3, 3.0, 55)
    misses = [abs(told(float(factor)) - seen) for factor in factors]
    return float(factors[int(np.argmin(misses))])
