"""How good a classifier is, from one sum over customers whom training did not count.

Every metric has an interval that holds the true one with 95 %: the one that the model would have
over all customers like those held out. Both what these customers happen to be (sampling) and the
noise of the sum are in it. The threshold was chosen from training sums, before this sum was asked
for, so nothing here is optimistic.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.models import Model
from kesit_privacy.queries import ScoreEvaluation
from kesit_privacy.scorecard import LOGIT
from kesit_privacy.study import Study
from kesit_privacy.target import Side, held_out
from kesit_server.classification.judging import curves
from kesit_server.classification.judging.calibration import calibration
from kesit_server.classification.judging.expected import Expected
from kesit_server.classification.judging.judged import RARE_FIRST, USUAL, ModelEvaluation
from kesit_server.classification.judging.metrics import count, harmonic, mean, share
from kesit_server.classification.training.picture import sigmoid
from kesit_server.sums import NoisySum

CONFUSION = 30
"""Of Δ², in percent, for the confusion matrix of more than two classes."""

RARE = 0.1
"""A class that fewer customers than this share have is rare."""


def evaluation_query(
    study: Study,
    model: Model,
    expected: Expected,
    noise: float,
    held: tuple[int, int] | None = None,
) -> ScoreEvaluation:
    """The query, with as many cells as this noise lets them be of use.

    Args:
        noise: σ of the sum at Δ = 1, as `Sums.noise_ahead` tells it.
        held: parts of the customers who are counted; those of `target.held_out` if None.
    """
    logits = len(expected.scores)
    params = {
        "held": Side(*(held or held_out(study)), inside=True).params(),
        "model": model.params(),
        "edges": [[0]] * logits if logits == 1 else [[1]] * logits,
        "share": 0 if logits == 1 else CONFUSION,
    }
    bare = ScoreEvaluation.bind(study, params, SCALE_BITS)
    blur = bare.noise(noise)[0] * _arms(bare) ** 0.5
    edges = [tuple(expected.edges(score, blur)) for score in range(logits)]
    return replace(bare, edges=tuple(edges))


def assess(
    query: ScoreEvaluation, opened: NoisySum, expected: Expected, *, noisy: bool = True
) -> ModelEvaluation:
    """Read an opened evaluation sum.

    Args:
        expected: what `evaluation_query` was made with.
    """
    noise, confused = query.noise(opened.sigma if noisy else 0.0)
    if query.target.logits == 1:
        counts = query.by_arm(opened.values).sum(axis=0)
        return _two(query, counts, noise * _arms(query) ** 0.5, expected)
    return _more(query, opened, noise, confused, expected)


def _two(
    query: ScoreEvaluation, counts: FloatArray, noise: float, expected: Expected
) -> ModelEvaluation:
    edges = np.array(query.edges[0])
    place = int(np.argmin(np.abs(edges - expected.threshold)))  # the threshold is an edge
    above, blur = counts[place + 1 :].sum(axis=0), noise * (len(edges) - place) ** 0.5
    below, blur_below = counts[: place + 1].sum(axis=0), noise * (place + 1) ** 0.5
    alarms, hits = (float(value) for value in above)
    rejected, misses = (float(value) for value in below)
    inside = expected.inside(0, query.edges[0])
    whole = noise * len(counts) ** 0.5
    rare = bool(expected.sizes[1] < RARE * expected.sizes.sum())
    base = share(hits + misses, alarms + rejected, whole, whole)
    recall = share(hits, misses, blur, blur_below)
    specificity = share(rejected, alarms, blur_below, blur)
    across = (blur**2 + blur_below**2) ** 0.5
    found = {
        "auc": curves.auc(counts, noise, inside),
        "average_precision": curves.precision(counts, noise, inside),
        "f1": harmonic(share(hits, misses + alarms, blur, across)),
        "precision": share(hits, alarms, blur, blur),
        "recall": recall,
        "balanced_accuracy": mean((recall, specificity), independent=True),
        "accuracy": share(hits + rejected, alarms + misses, across, across),
    }
    agreement = calibration(counts, noise, inside)
    evaluation = ModelEvaluation(
        query.target.classes,
        count(float(counts.sum()), whole * 2**0.5),
        (share(alarms + rejected, hits + misses, whole, whole), base),
        rare,
        float(sigmoid(edges[place] / LOGIT)),
        {name: found[name] for name in (RARE_FIRST if rare else USUAL)},
        (
            (count(rejected, blur_below), count(alarms, blur)),
            (count(misses, blur_below), count(hits, blur)),
        ),
        (agreement,),
    )
    return evaluation.where_seen(counts.sum(axis=0) > 2 * whole)


def _more(
    query: ScoreEvaluation, opened: NoisySum, noise: float, confused: float, expected: Expected
) -> ModelEvaluation:
    histograms, confusion = query.split(opened.values)
    classes, others = len(confusion), confused * (len(confusion) - 1) ** 0.5
    by_class, agreements, bases, totals = [], [], [], []
    for kind, counts in enumerate(histograms):
        inside = expected.inside(kind, query.edges[kind])
        hits = float(confusion[kind, kind])
        misses = float(confusion[kind].sum()) - hits
        alarms = float(confusion[:, kind].sum()) - hits
        found = {
            "auc": curves.auc(counts, noise, inside),
            "average_precision": curves.precision(counts, noise, inside),
            "f1": harmonic(share(hits, misses + alarms, confused, others * 2**0.5)),
            "precision": share(hits, alarms, confused, others),
            "recall": share(hits, misses, confused, others),
        }
        rare = bool(expected.sizes[kind] < RARE * expected.sizes.sum())
        by_class.append({n: found[n] for n in (RARE_FIRST if rare else USUAL) if n in found})
        agreements.append(calibration(counts, noise, inside))
        whole = noise * len(counts) ** 0.5
        rest, own = (float(value) for value in counts.sum(axis=0))
        bases.append(share(own, rest, whole, whole))
        totals.append((rest + own, 2 * whole**2, own, whole))
    told = np.array(totals)
    weights = 1 / np.maximum(told[:, 1], 1e-9)
    right = float(np.trace(confusion))
    wrong = float(confusion.sum()) - right
    evaluation = ModelEvaluation(
        query.target.classes,
        count(float(told[:, 0] @ weights / weights.sum()), float(weights.sum() ** -0.5)),
        tuple(bases),
        False,
        None,
        {
            "auc": mean([found["auc"] for found in by_class], independent=False),
            "average_precision": mean(
                [found["average_precision"] for found in by_class], independent=False
            ),
            "balanced_accuracy": mean([found["recall"] for found in by_class], independent=True),
            "accuracy": share(
                right, wrong, confused * classes**0.5, confused * (classes**2 - classes) ** 0.5
            ),
        },
        tuple(tuple(count(float(x), confused) for x in line) for line in confusion),
        tuple(agreements),
        tuple(by_class),
    )
    return evaluation.where_seen(told[:, 2] > 2 * told[:, 3])


def _arms(query: ScoreEvaluation) -> int:
    return len(query.arms.levels) if query.arms else 1
