"""Classifiers' queries: studies, ways to draw one, and each row function written out plainly.

As in `query_cases`, a reference takes one row and uses Python's own whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from classifier_cases_logistic import LOGISTIC_GENERATORS, LOGISTIC_REFERENCES, clipped
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, Categorical, Numeric
from kesit_privacy.instruction import MAX_SCALE_BITS, SCALE_BITS
from kesit_privacy.models import read_model
from kesit_privacy.queries import (
    LabelHistograms,
    Query,
    ResidualSums,
    ScoreEvaluation,
    ScoreMoments,
    bind,
)
from kesit_privacy.queries.labels import WEIGHT
from kesit_privacy.queries.moments import LARGEST_SCORE
from kesit_privacy.queries.scores import LARGEST_EDGE
from kesit_privacy.scorecard import CHANCE, LARGEST, Line, Scorecard
from kesit_privacy.study import Study
from kesit_privacy.target import PARTS, Target
from kit import random_codes, small_study

Draw = Callable[[st.SearchStrategy[Any]], Any]


def numeric(name: str) -> dict[str, Any]:
    return {"kind": "numeric", "name": name, "lower": 0.0, "upper": 1.0}


def levels(name: str, count: int) -> dict[str, Any]:
    return {"kind": "categorical", "name": name, "levels": [f"{name}{i}" for i in range(count)]}


def classifier_study(dictionary: list[dict[str, Any]], target: str, **table: Any) -> Study:
    """A study that predicts `target` by an additive model."""
    return small_study(
        features=dictionary,
        segmentation=None,
        classification={"estimator": "additive"} | table,
        target=target,
    )


CLASSIFIER_STUDIES: dict[str, Study] = {
    "two classes": classifier_study([levels("p", 2), levels("t", 2)], "t", positive="t0"),
    "churn": classifier_study(
        [*(numeric(name) for name in ("a", "b")), levels("t", 2), levels("p", 3)], "t"
    ),
    "three classes": classifier_study(
        [levels("t", 3), numeric("a"), levels("p", 2), numeric("b")], "t", features=["b", "p"]
    ),
    "many classes": classifier_study([levels("p", 4), levels("t", 11)], "t"),
    "arms": classifier_study([numeric("a"), levels("t", 2), levels("arm", 3)], "t", arms="arm"),
}

VALID_CLASSIFIER: dict[tuple[str, int], dict[str, Any]] = {
    ("label-histograms", 1): {"held": [0, 200], "bins": 32, "weights": [9000, 9000, 9000]},
    ("score-moments", 1): {
        "held": [0, 200],
        "scores": [[[1, -2]] * 3, [[3, 4]] * 5, [[0, 1]] * 5],
        "factors": [256, 512],
        "radii": [100, 200],
        "share": 50,
    },
    ("residual-sums", 1): {
        "held": [0, 200],
        "model": {
            "intercept": [-5],
            "parts": [{"lower": [3], "upper": [70], "missing": [0]}, [[1]] * 5, [[2]] * 5],
        },
        "bins": 32,
        "weights": [9000, 9000, 9000],
    },
    ("score-evaluation", 1): {
        "held": [0, 200],
        "model": {
            "intercept": [-5],
            "parts": [[[30], [-70], [0]], [[1]] * 5, [[2]] * 5],
        },
        "edges": [[-60, 0, 25]],
        "share": 0,
    },
}
"""Parameters for the study "churn"."""


# --- ways to draw a query ------------------------------------------------------------------------


def _rng(draw: Draw) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32)))


def _held(draw: Draw) -> list[int]:
    return list(draw(st.sampled_from([(0, 200), (0, 0), (0, PARTS), (999, 1000), (300, 700)])))


def _weights(rng: np.random.Generator, count: int) -> list[int]:
    """As long as whole weights can be, mostly: where Δ is nearly 1."""
    raw = rng.random(count) ** 3 + 1e-3
    room = math.sqrt(WEIGHT**2 - count)
    return [max(1, int(room * weight)) for weight in raw / np.linalg.norm(raw)]


def _cells(feature: object, bins: int) -> int:
    return feature.cells if isinstance(feature, Categorical) else bins + 1


def _bins(draw: Draw) -> int:
    return int(draw(st.sampled_from([2, 3, 7, 32, 1000, 1024])))


def draw_model(draw: Draw, study: Study) -> dict[str, Any]:
    """Points that are small, or as large as they may be; lines and tables of any size."""
    rng, logits = _rng(draw), Target.of(study).logits
    most = draw(st.sampled_from([3, 700, 5000, LARGEST]))

    def points() -> list[int]:
        return [int(x) for x in rng.integers(-most, most + 1, logits)]

    parts: list[Any] = []
    for feature in Embedding.of(study).features:
        if isinstance(feature, Numeric) and draw(st.booleans()):
            parts.append({"lower": points(), "upper": points(), "missing": points()})
        else:
            parts.append([points() for _ in range(_cells(feature, draw(st.integers(2, 40))))])
    return {"intercept": points(), "parts": parts}


def draw_label_histograms(draw: Draw, study: Study) -> Query:
    weights = _weights(_rng(draw), len(Embedding.of(study).features))
    params = {"held": _held(draw), "bins": _bins(draw), "weights": weights}
    return bind(study, "label-histograms", 1, params, _scale(draw))


def draw_residual_sums(draw: Draw, study: Study) -> Query:
    weights = _weights(_rng(draw), len(Embedding.of(study).features))
    params = {
        "held": _held(draw),
        "model": draw_model(draw, study),
        "bins": _bins(draw),
        "weights": weights,
    }
    return bind(study, "residual-sums", 1, params, draw(st.sampled_from([28, 30, MAX_SCALE_BITS])))


def _scale(draw: Draw) -> int:
    """From 26: the smallest weight of all is 2^12 lattice units there (rule 8)."""
    return int(draw(st.sampled_from([26, SCALE_BITS, MAX_SCALE_BITS])))


def draw_score_moments(draw: Draw, study: Study) -> Query:
    rng, space = _rng(draw), Embedding.of(study)
    classes = len(Target.of(study).classes)
    most = draw(st.sampled_from([1, 60, LARGEST_SCORE]))
    tables = [
        rng.integers(-most, most + 1, (_cells(f, draw(st.integers(2, 40))), classes)).tolist()
        for f in space.features
    ]
    params = {
        "held": _held(draw),
        "scores": tables,
        "factors": [
            int(x) for x in rng.integers(0, draw(st.sampled_from([300, 1 << 14])), classes)
        ],
        "radii": [draw(st.sampled_from([1, 2, 50, 4000])), draw(st.sampled_from([1, 77, 1 << 20]))],
        "share": draw(st.sampled_from([1, 50, 99])),
    }
    return bind(study, "score-moments", 1, params, draw(st.sampled_from([SCALE_BITS, 32])))


def draw_score_evaluation(draw: Draw, study: Study) -> Query:
    """Edges anywhere, or at scores that rows have."""
    rng, target = _rng(draw), Target.of(study)
    model = draw_model(draw, study)
    rows = random_codes(study, 20, int(rng.integers(1 << 32)))
    found = read_model(Embedding.of(study), target.logits, model)
    two = target.logits == 1
    scores = found.points(rows) if two else found.chances(rows)
    low, high = (-LARGEST_EDGE, LARGEST_EDGE) if two else (1, CHANCE)
    edges = []
    for column in scores.T:
        anywhere = rng.integers(low, high + 1, draw(st.integers(1, 60)))
        kept = np.concatenate([anywhere, column if draw(st.booleans()) else column[:0]])
        edges.append(np.unique(np.clip(kept, low, high)).tolist())
    params = {
        "held": _held(draw),
        "model": model,
        "edges": edges,
        "share": 0 if two else draw(st.sampled_from([1, 30, 99])),
    }
    return bind(study, "score-evaluation", 1, params, draw(st.sampled_from([20, SCALE_BITS, 32])))


CLASSIFIER_GENERATORS: dict[tuple[str, int], Callable[[Draw, Study], Query]] = {
    ("label-histograms", 1): draw_label_histograms,
    ("score-moments", 1): draw_score_moments,
    ("residual-sums", 1): draw_residual_sums,
    ("score-evaluation", 1): draw_score_evaluation,
    **LOGISTIC_GENERATORS,
}


# --- row functions, written out ------------------------------------------------------------------


def cell(feature: object, code: int, bins: int) -> int:
    """Even parts of the grid, the missing last; a level is its own cell."""
    if isinstance(feature, Categorical):
        return code
    return bins if code < 0 else min(code * bins // GRID, bins - 1)


def label(target: Target, row: list[int]) -> int | None:
    """The row's class; None where the label is unknown or missing."""
    names = target.feature.levels
    code = row[target.column]
    return target.classes.index(names[code]) if code < len(names) else None


def counted(query: Any, row: list[int]) -> int | None:
    """The row's class, if the sum counts the row."""
    held = query.side.low <= row[query.target.part_column] < query.side.high
    return label(query.target, row) if held == query.side.inside else None


def points(model: Scorecard, row: list[int]) -> list[int]:
    total = list(model.intercept)
    for feature, column, part in zip(
        model.space.features, model.space.columns, model.parts, strict=True
    ):
        if not isinstance(part, Line):
            more = part.values[cell(feature, row[column], len(part.values) - 1)]
        elif row[column] < 0:
            more = part.missing
        else:
            more = tuple(
                low + math.floor((high - low) * row[column] / GRID)
                for low, high in zip(part.lower, part.upper, strict=True)
            )
        total = [a + b for a, b in zip(total, more, strict=True)]
    return total


def chances(logits: list[int]) -> list[int]:
    """Softmax of points, each exponential rounded to 2^-24 and each chance down to 2^-14."""
    every = logits if len(logits) > 1 else [0, *logits]
    below = [max(every) - value for value in every]
    weights = [round(2**24 * math.exp(-b / 1024)) if b < 17 * 1024 else 0 for b in below]
    return [(weight * CHANCE) // sum(weights) for weight in weights]


def label_histograms_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, LabelHistograms)
    classes, answer, own = len(query.target.classes), [], counted(query, row)
    for feature, column, weight in zip(
        query.space.features, query.space.columns, query.weights, strict=True
    ):
        part = [0] * (_cells(feature, query.bins) * classes)
        if own is not None:
            place = cell(feature, row[column], query.bins) * classes + own
            part[place] = weight * 2 ** (query.scale_bits - 14)
        answer += part
    return answer


def residual_sums_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, ResidualSums)
    own, logits = counted(query, row), query.target.logits
    told = chances(points(query.model, row))
    left = [(CHANCE if c == own else 0) - chance for c, chance in enumerate(told)][-logits:]
    answer = []
    for feature, column, weight in zip(
        query.space.features, query.space.columns, query.weights, strict=True
    ):
        part = [0] * (_cells(feature, query.bins) * logits)
        if own is not None:
            place = cell(feature, row[column], query.bins) * logits
            unit = weight * 2 ** (query.scale_bits - 28)
            part[place : place + logits] = [unit * value for value in left]
        answer += part
    return answer


def score_moments_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, ScoreMoments)
    own, features = counted(query, row), len(query.space.features)
    if own is None:
        return [0] * (features * (features + 1) // 2 + features)
    classes = len(query.target.classes)
    flat: list[int] = []
    for feature, column, table in zip(
        query.space.features, query.space.columns, query.scores, strict=True
    ):
        flat += table[cell(feature, row[column], len(table) - 1)]
    flat = clipped(flat, query.radii[0])
    matrix = [flat[k * classes : (k + 1) * classes] for k in range(features)]
    slope = clipped([line[own] * query.factors[own] // 256 for line in matrix], query.radii[1])
    half = query.share * 4**query.scale_bits // 100
    rest = (100 - query.share) * 4**query.scale_bits // 100
    on = math.isqrt(half) // query.radii[0] ** 2
    off = math.isqrt(2 * on * on)
    last = math.isqrt(rest) // query.radii[1]
    answer = []
    for k in range(features):
        for other in range(k, features):
            product = sum(x * y for x, y in zip(matrix[k], matrix[other], strict=True))
            answer.append(product * (on if k == other else off))
    return answer + [last * value for value in slope]


def score_evaluation_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, ScoreEvaluation)
    own, logits = counted(query, row), points(query.model, row)
    if len(logits) == 1:
        cells = len(query.edges[0]) + 1
        arms, arm = 1, 0
        if query.arms is not None:
            arms, arm = len(query.arms.levels), row[query.arms.column]
        answer = [0] * (arms * cells * 2)
        if own is not None and arm < arms:
            place = sum(edge <= logits[0] for edge in query.edges[0])
            answer[(arm * cells + place) * 2 + own] = 2**query.scale_bits
        return answer
    classes, told, answer = len(logits), chances(logits), []
    each = math.isqrt((100 - query.share) * 4**query.scale_bits // (100 * classes))
    for c, edges in enumerate(query.edges):
        part = [0] * (2 * (len(edges) + 1))
        if own is not None:
            part[2 * sum(edge <= told[c] for edge in edges) + (1 if c == own else 0)] = each
        answer += part
    pairs = [0] * classes**2
    if own is not None:
        best = logits.index(max(logits))
        pairs[own * classes + best] = math.isqrt(query.share * 4**query.scale_bits // 100)
    return answer + pairs


CLASSIFIER_REFERENCES: dict[tuple[str, int], Callable[[Query, list[int]], list[int]]] = {
    ("label-histograms", 1): label_histograms_row,
    ("score-moments", 1): score_moments_row,
    ("residual-sums", 1): residual_sums_row,
    ("score-evaluation", 1): score_evaluation_row,
    **LOGISTIC_REFERENCES,
}
