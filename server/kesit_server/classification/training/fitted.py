"""What every estimator hands back."""

from __future__ import annotations

from dataclasses import dataclass

from kesit_privacy.features import FloatArray
from kesit_privacy.models import Model
from kesit_server.classification.training.labels import Labels


@dataclass(frozen=True)
class Fitted:
    """A model, and how far to trust it.

    Attributes:
        labels: who lies in which cell, by class, as far as the training sums tell.
        spreads: for each feature (cells, logits) standard deviations of the shape, in logits; none
            of a network, whose noise goes through its layers.
    """

    model: Model
    labels: Labels
    spreads: tuple[FloatArray, ...]
