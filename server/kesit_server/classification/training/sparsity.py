"""L1: features that say little leave a model, and the others are shrunk by as much.

The proximal step of the group lasso (Yuan and Lin 2006, Model selection and estimation in
regression with grouped variables, JRSS B 68), each feature a group measured by the standard
deviation of its logits over the customers. It touches released values only, so it costs no privacy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kesit_privacy.network import Network
from kesit_privacy.scorecard import LARGEST, LOGIT, Cells
from kesit_server.classification.training.fitted import Fitted


def sparse(fitted: Fitted, penalty: float) -> Fitted:
    """The model with max(0, 1 - penalty/sd) times each feature's centred shape.

    Args:
        penalty: in logits; 0 changes nothing.
    """
    model = fitted.model
    if penalty == 0 or isinstance(model, Network):  # a network has no l1: its study was refused
        return fitted
    intercept = np.array(model.intercept, dtype=np.float64)
    parts, spreads = [], []
    for place, part in enumerate(model.parts):
        assert isinstance(part, Cells)
        points = part.array.astype(np.float64)
        centred = np.stack([fitted.labels.centred(place, column) for column in points.T], axis=1)
        variances = [fitted.labels.variance(place, column) for column in points.T]
        spread = float(np.sqrt(np.mean(variances))) / LOGIT
        kept = max(0.0, 1 - penalty / spread) if spread > 0 else 0.0
        intercept += (points - centred)[0]  # what everybody has stays with everybody
        parts.append(Cells(_whole(kept * centred)))
        spreads.append(kept * fitted.spreads[place])
    [start] = _whole(intercept[None])
    return replace(
        fitted,
        model=replace(model, intercept=start, parts=tuple(parts)),
        spreads=tuple(spreads),
    )


def _whole(values: np.ndarray) -> tuple[tuple[int, ...], ...]:
    rounded = np.clip(np.rint(values), -LARGEST, LARGEST).astype(int)
    return tuple(tuple(row) for row in rounded.tolist())
