"""Models that a query can carry: whole numbers that give every row its points."""

from __future__ import annotations

from typing import Any

from kesit_privacy.embedding import Embedding
from kesit_privacy.network import Network
from kesit_privacy.scorecard import Scorecard

Model = Scorecard | Network


def read_model(space: Embedding, logits: int, value: Any) -> Model:
    """A model from a query's parameters or a model file.

    Raises:
        ProtocolError: no known model, or numbers out of range.
    """
    if isinstance(value, dict) and "weights" in value:
        return Network.read(space, logits, value)
    return Scorecard.read(space, logits, value)
