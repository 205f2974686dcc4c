"""The mean of the models of a study's folds, and of what their evaluations found.

A mean of additive models is one. Each customer is in all trainings but one, so the folds' noise
averages out and their sampling does not. Evaluations have no customer in common, and noise of their
own, so their errors add up in squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_privacy.scorecard import Cells, Scorecard
from kesit_server.classification.judging.calibration import Calibration
from kesit_server.classification.judging.judged import Judged, ModelEvaluation
from kesit_server.classification.judging.metrics import Metric, average, total
from kesit_server.classification.judging.uplift import Comparison, Uplift
from kesit_server.classification.training.fitted import Fitted
from kesit_server.classification.training.labels import Labels


def mean_model(folds: Sequence[Fitted]) -> Fitted:
    """One model from those of all folds, in order; of a single one, itself."""
    if len(folds) == 1:
        return folds[0]
    labels = _labels([fitted.labels for fitted in folds])
    spreads = tuple(
        _spread(place, labels, [fitted.spreads[place] for fitted in folds])
        for place in range(len(labels.counts))
    )
    models = [fitted.model for fitted in folds if isinstance(fitted.model, Scorecard)]
    assert len(models) == len(folds)  # a network's study has no folds
    return Fitted(_scorecard(models), labels, spreads)


def _scorecard(models: Sequence[Scorecard]) -> Scorecard:
    """Mean points, rounded to whole ones."""
    parts = []
    for several in zip(*(model.parts for model in models), strict=True):
        arrays = [part.array for part in several if isinstance(part, Cells)]
        assert len(arrays) == len(models)
        rows = np.rint(np.mean(arrays, axis=0)).astype(int).tolist()
        parts.append(Cells(tuple(tuple(row) for row in rows)))
    start = np.rint(np.mean([model.intercept for model in models], axis=0)).astype(int).tolist()
    return Scorecard(models[0].space, tuple(start), tuple(parts))


def _labels(folds: Sequence[Labels]) -> Labels:
    """Everybody: each customer is in all folds' histograms but one."""
    times = len(folds) - 1
    counts = [sum(several) / times for several in zip(*(f.counts for f in folds), strict=True)]
    noise: FloatArray = np.sqrt(sum(fold.noise**2 for fold in folds)) / times
    return replace(folds[0], counts=counts, noise=noise)


def _spread(place: int, labels: Labels, folds: Sequence[FloatArray]) -> FloatArray:
    """Standard deviation of the mean shape, (cells, logits), of those of the folds.

    A fold's variance is of noise and of sampling. Noise is independent: of F folds it is divided by
    F² when it is added up. Sampling is that of all customers, of whom a fold has (F-1)/F.
    """
    count, shares = len(folds), labels.shares
    kinds, two = (shares[1:], True) if len(shares) == 2 else (shares, False)
    scale = np.ones(1) if two else 1 - kinds
    whole = np.maximum(labels.sizes[place], 1)[:, None] * kinds * (1 - kinds)
    sampled = scale**2 / whole * count / (count - 1)
    variance = np.zeros(folds[0].shape)
    for spread in folds:
        sampling = np.minimum(spread**2, sampled)
        variance += sampling * (count - 1) / count**2 + (spread**2 - sampling) / count**2
    found: FloatArray = np.sqrt(variance)
    return found


def mean_judged(folds: Sequence[Judged]) -> Judged:
    """What the evaluations of a study's folds say together, of those that had one."""
    arms = zip(*(judged.uplift for judged in folds), strict=True)
    return Judged(
        _evaluation([judged.evaluation for judged in folds]), tuple(_uplift(arm) for arm in arms)
    )


def _evaluation(folds: Sequence[ModelEvaluation]) -> ModelEvaluation:
    """Figures averaged, numbers of customers added; led by what most folds say is rare."""
    rare = sum(fold.rare for fold in folds) * 2 > len(folds)
    lead = next(fold for fold in folds if fold.rare == rare)
    thresholds = [fold.threshold for fold in folds if fold.threshold is not None]
    confusions = np.array([fold.confusion for fold in folds], dtype=object)
    return ModelEvaluation(
        lead.classes,
        total([fold.customers for fold in folds]),
        tuple(map(average, zip(*(fold.base_rates for fold in folds), strict=True))),
        rare,
        float(np.mean(thresholds)) if thresholds else None,
        _named([lead.metrics, *(fold.metrics for fold in folds if fold is not lead)]),
        tuple(tuple(total(list(cell)) for cell in row.T) for row in confusions.swapaxes(0, 1)),
        tuple(map(_calibration, zip(*(fold.calibration for fold in folds), strict=True))),
        tuple(map(_named, zip(*(fold.by_class for fold in folds), strict=True))),
        len(folds),
    )


def _named(folds: Sequence[dict[str, Metric]]) -> dict[str, Metric]:
    """Averages by name, in the order of the first."""
    return {name: average([fold[name] for fold in folds]) for name in folds[0]}


def _calibration(folds: Sequence[Calibration]) -> Calibration:
    """The bars of all folds in one table: each is of its own model and its own customers."""
    bars = sorted((bar for fold in folds for bar in fold.bars), key=lambda bar: bar.predicted)
    return Calibration(
        tuple(bars),
        average([fold.error for fold in folds]),
        average([fold.slope for fold in folds]),
        average([fold.intercept for fold in folds]),
    )


def _uplift(folds: Sequence[Uplift]) -> Uplift:
    return replace(
        folds[0],
        chosen=_comparison([fold.chosen for fold in folds]),
        others=_comparison([fold.others for fold in folds]),
        everybody=_comparison([fold.everybody for fold in folds]),
    )


def _comparison(folds: Sequence[Comparison]) -> Comparison:
    return Comparison(
        average([fold.treated for fold in folds]),
        average([fold.control for fold in folds]),
        average([fold.difference for fold in folds]),
    )
