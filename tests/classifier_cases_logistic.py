"""Logistic regression's queries: a way to draw one, and its row function written out plainly.

A reference here is slow, takes one row, and uses Python's own numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from classifierkit import churn_study, three_tables
from kesit_privacy.coordinates import Coordinates
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, Categorical, Feature
from kesit_privacy.queries import GradientSums, Query, SecondMoments, bind
from kesit_privacy.scorecard import CHANCE, LARGEST
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS, Target

Draw = Callable[[st.SearchStrategy[Any]], Any]

UNIT = 1024
VALID_LOGISTIC: dict[tuple[str, int], dict[str, Any]] = {
    ("second-moments", 2): {"held": [0, 200], "radius": 1000, "share": 50},
    ("gradient-sums", 1): {
        "held": [0, 200],
        "model": {"intercept": [5], "parts": [[[1]] * 9, [[2]] * 9, [[3]] * 5]},
        "directions": [[1] * 11, [-2] * 11],
        "offsets": [7, -7],
        "shift": 3,
        "radius": 1000,
    },
}
"""Parameters for a study of two numbers and a list of three levels."""


def logistic_studies() -> dict[str, Study]:
    """A study of two classes, and one of three."""
    return {"churn": churn_study(), "three classes": study_from_tables(three_tables())}


# --- ways to draw a query ------------------------------------------------------------------------


def _rng(draw: Draw) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32)))


def _held(draw: Draw) -> list[int]:
    return sorted(draw(st.tuples(*[st.sampled_from([0, 200, 500, PARTS])] * 2)))


def draw_second_moments(draw: Draw, study: Study) -> Query:
    params = {
        "held": _held(draw),
        "radius": draw(st.sampled_from([256, 257, 1000, 2000])),
        "share": draw(st.sampled_from([1, 50, 99])),
    }
    return bind(study, "second-moments", 2, params, draw(st.sampled_from([30, 32])))


def _model(rng: np.random.Generator, study: Study) -> dict[str, Any]:
    logits, most = Target.of(study).logits, int(rng.choice([900, 9000, LARGEST]))
    parts = []
    for feature in Embedding.of(study).features:
        cells = feature.cells if isinstance(feature, Categorical) else int(rng.integers(3, 40))
        parts.append(rng.integers(-most, most + 1, (cells, logits)).tolist())
    return {"intercept": rng.integers(-most, most + 1, logits).tolist(), "parts": parts}


def draw_gradient_sums(draw: Draw, study: Study) -> Query:
    rng, size = _rng(draw), Coordinates(Embedding.of(study)).dimensions
    count, most = draw(st.integers(1, 9)), draw(st.sampled_from([1, 3000, 1 << 20]))
    params = {
        "held": _held(draw),
        "model": _model(rng, study),
        "directions": rng.integers(-most, most + 1, (count, size)).tolist(),
        "offsets": rng.integers(-most * UNIT, most * UNIT + 1, count).tolist(),
        "shift": draw(st.sampled_from([0, 3, 10] if most < 1 << 20 else [10, 20])),
        "radius": draw(st.sampled_from([1, 50, 1 << 12, 1 << 14])),
    }
    return bind(study, "gradient-sums", 1, params, draw(st.sampled_from([28, 32])))


LOGISTIC_GENERATORS: dict[tuple[str, int], Callable[[Draw, Study], Query]] = {
    ("second-moments", 2): draw_second_moments,
    ("gradient-sums", 1): draw_gradient_sums,
}


# --- row functions, written out ------------------------------------------------------------------


def counted(query: Any, row: list[int]) -> int | None:
    """The row's class, if the sum counts the row."""
    names, code = query.target.feature.levels, row[query.target.column]
    held = query.side.low <= row[query.target.part_column] < query.side.high
    if held or code >= len(names):
        return None
    return int(query.target.classes.index(names[code]))


def coordinates(feature: Feature, code: int) -> list[int]:
    """Of one code of one feature."""
    if isinstance(feature, Categorical):
        levels = len(feature.levels)
        if code >= levels:
            return [UNIT // 2 if place == code else 0 for place in range(levels + 2)]
        own, other = (1 - 1 / levels) / math.sqrt(2), -1 / (levels * math.sqrt(2))
        found = [round(UNIT * (own if place == code else other)) for place in range(levels)]
        return [*found, 0, 0]
    if code < 0:
        return [0, 0, UNIT // 2]
    line = (2 * code - GRID) * UNIT // (2 * GRID)
    return [line, math.floor(3 * line * line / UNIT - UNIT / 4), 0]


def row_of(query: Any, row: list[int]) -> list[int]:
    space = query.coordinates.space
    found: list[int] = []
    for feature, column in zip(space.features, space.columns, strict=True):
        found += coordinates(feature, row[column])
    return found


def clipped(vector: list[int], radius: int) -> list[int]:
    """The product's formula, one correctly rounded operation after the other."""
    norm_sq = sum(x * x for x in vector)
    if norm_sq <= radius * radius:
        return vector
    factor = float(radius) / math.sqrt(float(norm_sq)) * (1 - 2.0**-40)
    short = [math.trunc(float(x) * factor) for x in vector]
    return short if sum(x * x for x in short) <= radius * radius else [0] * len(vector)


def second_moments_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, SecondMoments)
    own, classes = counted(query, row), len(query.target.classes)
    point = clipped([UNIT, *row_of(query, row)], query.radius)
    if own is None:
        point = [0] * len(point)
    on = math.isqrt(query.share * 4**query.scale_bits // 100) // query.radius**2
    off = math.isqrt(2 * on * on)
    signs = [3 if own else -3, 2]
    if classes > 2:
        signs = [int(c == (own or 0)) for c in range(classes)]
    longest_sq = (query.radius * UNIT) ** 2 * sum(sign * sign for sign in signs)
    last = math.isqrt((100 - query.share) * 4**query.scale_bits // (100 * longest_sq))
    weight = point[0]
    answer = []
    for i, x in enumerate(point):
        answer += [x * y * (on if i == i + j else off) for j, y in enumerate(point[i:])]
    return answer + [last * x * weight * sign for x in point for sign in signs]


def chances(query: GradientSums, row: list[int]) -> list[int]:
    """Of the model's cells: exponentials rounded to 2^-24, and chances down to 2^-14."""
    space, total = query.coordinates.space, list(query.model.intercept)
    for feature, column, part in zip(
        space.features, space.columns, query.model.params()["parts"], strict=True
    ):
        place, bins = row[column], len(part) - 1
        if not isinstance(feature, Categorical):
            place = bins if place < 0 else min(place * bins // GRID, bins - 1)
        total = [a + b for a, b in zip(total, part[place], strict=True)]
    every = total if len(total) > 1 else [0, *total]
    below = [max(every) - value for value in every]
    weights = [round(2**24 * math.exp(-b / 1024)) if b < 17 * 1024 else 0 for b in below]
    return [(weight * CHANCE) // sum(weights) for weight in weights]


def gradient_sums_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, GradientSums)
    own, logits, point = counted(query, row), query.target.logits, row_of(query, row)
    told = chances(query, row)
    left = [(CHANCE if c == own else 0) - chance for c, chance in enumerate(told)][-logits:]
    along = [
        (sum(d * x for d, x in zip(direction, point, strict=True)) + offset) >> query.shift
        for direction, offset in zip(query.directions, query.offsets, strict=True)
    ]
    along = clipped(along, query.radius)
    amplitude = 2**query.scale_bits // (query.radius * CHANCE)
    return [0 if own is None else amplitude * z * value for z in along for value in left]


LOGISTIC_REFERENCES: dict[tuple[str, int], Callable[[Query, list[int]], list[int]]] = {
    ("second-moments", 2): second_moments_row,
    ("gradient-sums", 1): gradient_sums_row,
}


LOGISTIC_STUDIES = logistic_studies()
LOGISTIC_GENERATORS = {
    ("second-moments", 2): draw_second_moments,
    ("gradient-sums", 1): draw_gradient_sums,
}
LOGISTIC_REFERENCES = {
    ("second-moments", 2): second_moments_row,
    ("gradient-sums", 1): gradient_sums_row,
}
