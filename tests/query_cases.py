"""For each query of the catalogue: a way to draw one, and its row function written out plainly.

A reference here is slow, takes one row, and uses Python's own numbers: whole numbers where the
product must be exact, and single IEEE operations in the one place where it rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from classifier_cases import (
    CLASSIFIER_GENERATORS,
    CLASSIFIER_REFERENCES,
    CLASSIFIER_STUDIES,
    cell,
    clipped,
    levels,
    numeric,
)
from classifier_cases_logistic import LOGISTIC_GENERATORS, LOGISTIC_REFERENCES, LOGISTIC_STUDIES
from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.features import GRID, Categorical, CodeArray, IntArray
from kesit_privacy.instruction import MAX_SCALE_BITS, MIN_SCALE_BITS, SCALE_BITS
from kesit_privacy.queries import ClusterSums, Evaluation, Grid, Marginals, Query
from kesit_privacy.queries.clusters import FINEST_COUNT
from kesit_privacy.queries.evaluation import DISTANCE, INERTIA, SILHOUETTE, SIZE
from kesit_privacy.study import Study
from kesit_privacy.target import PARTS, Side, columns
from kit import mixed_study, random_codes, small_study

Draw = Callable[[st.SearchStrategy[Any]], Any]


STUDIES: dict[str, Study] = {
    "one number": small_study(features=[numeric("x")]),
    "two numbers": small_study(),
    "two lists": small_study(features=[levels("p", 2), levels("q", 3)]),
    "mixed": mixed_study(),
    "some of many": small_study(
        features=[levels("p", 2), *(numeric(f"n{i}") for i in range(30)), levels("q", 3)],
        segmentation={"k": 2, "features": ["q", "n3", "n29", "n0"]},
    ),
    "wide": small_study(features=[numeric(f"n{i}") for i in range(40)]),
}

COARSEST_EVALUATION = next(
    bits
    for bits in range(MIN_SCALE_BITS, MAX_SCALE_BITS)
    if min(SIZE, INERTIA, SILHOUETTE, DISTANCE) * 4**bits >= 100 * FINEST_COUNT**2
)
"""The fewest scale bits with which each part of an evaluation has its 2^12 steps (rule 8)."""

SCALES = st.sampled_from([MIN_SCALE_BITS, SCALE_BITS, MAX_SCALE_BITS])


# --- ways to draw a query ------------------------------------------------------------------------


def draw_marginals(draw: Draw, study: Study) -> Query:
    bins = draw(st.sampled_from([2, 3, 7, 32, 1000, 1024]))
    return Marginals(Embedding.of(study), bins, draw(SCALES))


def draw_grid(draw: Draw, study: Study) -> Query:
    space = Embedding.of(study)
    most = 12 if len(space.features) <= 5 else 1
    while most > 1 and (most + 2) ** len(space.features) > 1 << 16:
        most -= 1
    bins = tuple(draw(st.integers(1, most)) for _ in space.features)
    if math.prod(b + 1 for b in bins) > 1 << 16:
        space = Embedding(space.features[:3], space.columns[:3])
        bins = bins[:3]
    return Grid(space, bins, draw(SCALES))


def draw_centres(draw: Draw, study: Study, rng: np.random.Generator, least: int) -> IntArray:
    """Centres that are doubled, one apart, at corners, on a possible row, or anywhere."""
    space = Embedding.of(study)
    count = draw(st.integers(least, 8))
    base = rng.integers(0, GRID + 1, (count, space.dimensions))
    base[rng.random(count) < 0.2] = 0
    base[rng.random(count) < 0.2] = GRID
    possible = space.expand(random_codes(study, count, int(rng.integers(1 << 32))), _zeros(space))
    base = np.where(rng.random(count)[:, None] < 0.3, possible.astype(np.int64), base)
    centres = [base]
    if draw(st.booleans()):
        centres.append(base[: draw(st.integers(0, count))])
    if draw(st.booleans()):
        near = base.copy()
        near[:, draw(st.integers(0, space.dimensions - 1))] ^= 1
        centres.append(np.minimum(near, GRID))
    points = np.concatenate(centres)
    return points[rng.permutation(len(points))]


def _zeros(space: Embedding) -> tuple[int, ...]:
    return (0,) * len(space.features)


def draw_cluster_sums(draw: Draw, study: Study) -> Query:
    """Any centres; radii from 1 to the diameter."""
    space = Embedding.of(study)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    points = draw_centres(draw, study, rng, 1)
    top = math.isqrt(space.diameter_sq) + 1
    radius = st.sampled_from([1, 2, 1000, GRID, top]) | st.integers(1, top)
    share = draw(st.sampled_from([1, 10, 30, 50, 90, 99]))
    return ClusterSums.bind(
        study,
        {
            "centres": points.tolist(),
            "radii": [min(top, draw(radius)) for _ in points],
            "fill": [int(x) for x in rng.integers(0, GRID + 1, len(space.features))],
            "count_share": share,
        },
        draw(st.sampled_from([22, SCALE_BITS, MAX_SCALE_BITS])),
    )


def draw_evaluation(draw: Draw, study: Study) -> Query:
    """Any two centres or more; a reach from 1 to the diameter."""
    space = Embedding.of(study)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    points = draw_centres(draw, study, rng, 2)
    top = math.isqrt(space.diameter_sq) + 1
    return Evaluation.bind(
        study,
        {
            "centres": points.tolist(),
            "fill": [int(x) for x in rng.integers(0, GRID + 1, len(space.features))],
            "reach": draw(st.sampled_from([1, 2, 1000, GRID, top]) | st.integers(1, top)),
            "bins": draw(st.sampled_from([1, 2, 3, 16, 17, 64])),
        },
        draw(st.sampled_from([14, SCALE_BITS, MAX_SCALE_BITS])),  # 14: a tenth of Δ² at 2^-12
    )


GENERATORS: dict[tuple[str, int], Callable[[Draw, Study], Query]] = {
    ("marginals", 1): draw_marginals,
    ("grid", 1): draw_grid,
    ("cluster-sums", 1): draw_cluster_sums,
    ("evaluation", 1): draw_evaluation,
    **CLASSIFIER_GENERATORS,
    **LOGISTIC_GENERATORS,
}


def drawn(data: st.DataObject, key: tuple[str, int]) -> tuple[Study, Query]:
    """One of the studies, and a query of this name and version for it."""
    studies = CLASSIFIER_STUDIES if key in CLASSIFIER_GENERATORS else STUDIES
    studies = LOGISTIC_STUDIES if key in LOGISTIC_GENERATORS else studies
    study = studies[data.draw(st.sampled_from(sorted(studies)))]
    return study, GENERATORS[key](data.draw, study)


# --- row functions, written out ------------------------------------------------------------------


def _cells(feature: object, bins: int) -> int:
    return feature.cells if isinstance(feature, Categorical) else bins + 1


def marginals_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, Marginals)
    answer: list[int] = []
    for feature, column in zip(query.space.features, query.space.columns, strict=True):
        histogram = [0] * _cells(feature, query.bins)
        histogram[cell(feature, row[column], query.bins)] = 2**query.scale_bits
        answer += histogram
    return answer


def grid_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, Grid)
    place, size = 0, 1
    for feature, column, bins in zip(
        query.space.features, query.space.columns, query.bins, strict=True
    ):
        place = place * _cells(feature, bins) + cell(feature, row[column], bins)
        size *= _cells(feature, bins)
    answer = [0] * size
    answer[place] = 2**query.scale_bits
    return answer


def coordinates(space: Embedding, row: list[int], fill: tuple[int, ...]) -> list[int]:
    point: list[int] = []
    for feature, column, missing in zip(space.features, space.columns, fill, strict=True):
        if isinstance(feature, Categorical):
            point += [ONE_HOT if row[column] == level else 0 for level in range(feature.cells)]
        else:
            point.append(row[column] if row[column] >= 0 else missing)
    return point


def cluster_row(query: Query, row: list[int]) -> list[int]:
    assert isinstance(query, ClusterSums)
    point = coordinates(query.space, row, query.fill)
    distances = [
        sum((x - c) ** 2 for x, c in zip(point, centre, strict=True)) for centre in query.centres
    ]
    nearest = distances.index(min(distances))
    offset = [x - c for x, c in zip(point, query.centres[nearest], strict=True)]
    counts = [0] * len(query.centres)
    counts[nearest] = math.isqrt(query.count_share * 4**query.scale_bits // 100)
    scale = math.isqrt((100 - query.count_share) * 4**query.scale_bits // 100)
    weight = scale // query.radii[nearest]
    sums = [0] * (len(query.centres) * len(point))
    start = nearest * len(point)
    sums[start : start + len(point)] = [weight * x for x in clipped(offset, query.radii[nearest])]
    return counts + sums


def evaluation_row(query: Query, row: list[int]) -> list[int]:
    """Distances from whole squares; each quotient and root is one correctly rounded operation."""
    assert isinstance(query, Evaluation)
    point = coordinates(query.space, row, query.fill)
    squares = [
        sum((x - c) ** 2 for x, c in zip(point, centre, strict=True)) for centre in query.centres
    ]
    nearest = squares.index(min(squares))
    near_sq, far_sq = sorted(squares)[:2]
    near, far = math.sqrt(near_sq), math.sqrt(far_sq)
    size, inertia, silhouette, distance = (
        math.isqrt(share * 4**query.scale_bits // 100)
        for share in (SIZE, INERTIA, SILHOUETTE, DISTANCE)
    )
    sizes = [0] * len(query.centres)
    sizes[nearest] = size
    share_of_reach = float(min(near_sq, query.reach**2)) / float(query.reach**2)
    gap = (far - near) / far if far_sq else 0.0
    cells = [0] * (query.bins + 1)
    cells[min(math.floor(near / query.reach * query.bins), query.bins)] = distance
    return [*sizes, math.floor(inertia * share_of_reach), math.floor(silhouette * gap), *cells]


REFERENCES: dict[tuple[str, int], Callable[[Query, list[int]], list[int]]] = {
    ("marginals", 1): marginals_row,
    ("grid", 1): grid_row,
    ("cluster-sums", 1): cluster_row,
    ("evaluation", 1): evaluation_row,
    **CLASSIFIER_REFERENCES,
    **LOGISTIC_REFERENCES,
}


def one(query: Query, row: CodeArray) -> IntArray:
    """f of one row, by the product."""
    return query.sum(row[None, :])


# --- rows that are hard on a query ---------------------------------------------------------------


def draw_codes(draw: Draw, study: Study, query: Query, most: int) -> CodeArray:
    """Random rows, corner rows, missing values; for centres also rows on and between them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(1, most))
    codes = np.empty((rows, columns(study)), dtype=np.int64)
    for column, feature in enumerate(study.features):
        if isinstance(feature, Categorical):
            codes[:, column] = rng.integers(0, feature.cells, rows)
        else:
            codes[:, column] = rng.integers(-1, GRID + 1, rows)
            corner = rng.random(rows) < 0.2
            codes[corner, column] = rng.choice([-1, 0, 1, GRID - 1, GRID], corner.sum())
    side = getattr(query, "side", None)
    if isinstance(side, Side):
        borders = [0, side.low, max(side.low - 1, 0), min(side.high, PARTS - 1), PARTS - 1]
        parts = rng.integers(0, PARTS, rows)
        codes[:, -1] = np.where(rng.random(rows) < 0.3, rng.choice(borders, rows), parts)
    if isinstance(query, ClusterSums):
        _plant(rng, codes, query.space, query.centres, query.radii)
    elif isinstance(query, Evaluation):
        reaches = (query.reach,) * len(query.centres)
        _plant(rng, codes, query.space, query.centres, reaches)
    return codes.astype(np.int16)


def _plant(
    rng: np.random.Generator,
    codes: CodeArray,
    space: Embedding,
    places: tuple[tuple[int, ...], ...],
    radii: tuple[int, ...],
) -> None:
    """Put half of the rows on centres, half-way between two, or a radius away along an axis.

    A level is the one that stands highest at the centre, so a centre on a possible row is met.
    """
    centres = np.array(places)
    features = list(zip(space.features, space.columns, space.offsets, strict=False))
    axes = [offset for feature, _, offset in features if not isinstance(feature, Categorical)]
    for row in np.flatnonzero(rng.random(len(codes)) < 0.5):
        one, two = rng.integers(0, len(centres), 2)
        point = centres[one].copy()
        kind = rng.integers(3)
        if kind == 1:
            point = (centres[one] + centres[two]) // 2
        elif kind == 2 and axes:
            point[rng.choice(axes)] += rng.choice([-1, 1]) * (radii[one] + rng.integers(-1, 2))
        for feature, column, offset in features:
            if isinstance(feature, Categorical):
                codes[row, column] = int(point[offset : offset + feature.cells].argmax())
            else:
                codes[row, column] = np.clip(point[offset], 0, GRID)
