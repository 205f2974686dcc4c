"""What every estimator hands back."""

from __future__ import annotations

from dataclasses import dataclass

from kesit_privacy.features import FloatArray
from kesit_privacy.scorecard import Scorecard
from kesit_server.classification.labels import Labels


@dataclass(frozen=True)
class Fitted:
    """An additive model, and how far to trust it.

    Attributes:
        labels: who lies in which cell, by class, as far as the training sums tell.
        spreads: for each feature (cells, logits) standard deviations of the shape, in logits.
    """

    model: Scorecard
    labels: Labels
    spreads: tuple[FloatArray, ...]
