"""Models that a query can carry: whole numbers that give every row its points."""

from __future__ import annotations

from typing import Any

from kesit_privacy.embedding import Embedding
from kesit_privacy.scorecard import Scorecard

Model = Scorecard


def read_model(space: Embedding, logits: int, value: Any) -> Model:
    """A model from a query's parameters or a model file.

    Raises:
        ProtocolError: no known model, or numbers out of range.
    """
    return Scorecard.read(space, logits, value)
