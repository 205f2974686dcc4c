"""Choosing k: the criterion by hand, and the right k where it is known."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score

from kesit_privacy.features import GRID, FloatArray
from kesit_server.segmentation import agreement
from kesit_server.segmentation.agreement import adjusted_rand, contingency, jaccard
from kesit_server.segmentation.choice import Choice, choose, judged, silhouettes
from kesit_server.segmentation.points import (
    MOST_POINTS,
    Points,
    found_anew,
    moved,
    thinned,
    weighted_means,
)
from synopses import Lumps, lumps


def chosen(synopsis: Lumps, ks: Sequence[int], rng: np.random.Generator, draws: int = 4) -> Choice:
    """The choice on a synopsis and so many redraws of it."""
    return choose(synopsis, synopsis.redraws(rng, draws), ks, rng)


CORNERS = np.array([[0.15, 0.15], [0.85, 0.15], [0.15, 0.85], [0.85, 0.85], [0.5, 0.5]])


def test_silhouettes_by_hand() -> None:
    points = np.array([[0.0], [1.0], [6.0], [10.0]])
    centres = np.array([[0.0], [10.0]])
    # (10-0)/10, (9-1)/9, (6-4)/6, (10-0)/10; weights 1, 3, 2, 2.
    overall, weakest = silhouettes(points, np.array([1.0, 3.0, 2.0, 2.0]), centres)
    assert overall == pytest.approx((1 + 3 * 8 / 9 + 2 / 3 + 2) / 8)
    assert weakest == pytest.approx(min((1 + 8 / 3) / 4, (2 / 3 + 2) / 4))


def test_the_variance_ratio_is_calinskis_and_dust_has_no_silhouette() -> None:
    rng = np.random.default_rng(2)
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = np.repeat(centres, 50, axis=0) + rng.normal(0, 1, (150, 2))
    labels = agreement.nearest(points, centres)
    means = weighted_means(points, np.ones(150), labels, centres)
    overall, weakest, ratio = judged(points, np.ones(150), means)
    assert (overall, weakest) == silhouettes(points, np.ones(150), means)
    # scikit-learn's has the factor n - k.
    assert ratio * (150 - 3) == pytest.approx(calinski_harabasz_score(points, labels))
    # A far point of weight 2 is under a tenth of the mean weight, (152 / 4)/10; of weight 6 not.
    far = np.vstack([points, [[60.0, 60.0]]])
    four = np.vstack([means, far[-1:]])
    assert judged(far, np.array([1.0] * 150 + [2.0]), four)[1] == 0
    assert judged(far, np.array([1.0] * 150 + [6.0]), four)[1] > 0.5
    assert judged(np.ones((4, 2)), np.ones(4), np.ones((2, 2)))[2] == 0


def test_one_cell_of_noise_is_no_segment() -> None:
    real = lumps(CORNERS[:4], spread=0.04)
    points = np.vstack([real.points, [[0.5 * GRID, 0.5 * GRID]]])
    # A lone cell with half as much weight as the cells of a segment have: its silhouette is 1.
    synopsis = Lumps(points, np.append(real.weights, 20.0), 50.0, 1.0)
    found = chosen(synopsis, range(2, 7), np.random.default_rng(0))
    assert found.k == 4
    assert found.curve[3].weakest == 0


def test_segments_without_points_are_not_the_weakest_and_twin_centres_are_worth_nothing() -> None:
    points, weights = np.array([[0.0], [10.0]]), np.ones(2)
    far = np.array([[0.0], [10.0], [1000.0]])
    assert silhouettes(points, weights, far) == (1.0, 1.0)
    twins = np.array([[0.0], [0.0], [10.0]])
    assert silhouettes(points, weights, twins) == (0.5, 0.0)


def test_adjusted_rand_by_hand() -> None:
    table = np.array([[4.0, 0.0], [2.0, 2.0]])
    # Shares 1/2, 0, 1/4, 1/4: Σp² = 3/8; rows 1/2, 1/2; columns 3/4, 1/4.
    together, rows, columns = 3 / 8, 1 / 2, 10 / 16
    expected = (together - rows * columns) / ((rows + columns) / 2 - rows * columns)
    assert adjusted_rand(table) == pytest.approx(expected)
    assert adjusted_rand(np.diag([3.0, 5.0])) == pytest.approx(1)
    assert adjusted_rand(np.outer([1.0, 3.0], [2.0, 2.0])) == pytest.approx(0)
    assert adjusted_rand(np.array([[7.0]])) == 1


@pytest.mark.parametrize("seed", range(3))
def test_adjusted_rand_is_scikit_learns_for_many_customers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 4, 5000)
    second = np.where(rng.random(5000) < 0.7, first, rng.integers(0, 4, 5000))
    table = contingency(first, second, np.ones(5000), (4, 4))
    assert table.sum() == 5000
    assert adjusted_rand(table) == pytest.approx(adjusted_rand_score(first, second), abs=1e-3)


def test_jaccard_by_hand() -> None:
    table = np.array([[6.0, 2.0, 0.0], [0.0, 3.0, 1.0], [0.0, 0.0, 0.0]])
    # First: 6/8 with the first; second: 3/(4 + 5 - 3) with the second; third: empty.
    best, place = jaccard(table)
    assert best.tolist() == pytest.approx([6 / 8, 3 / 6, 0])
    assert place[:2].tolist() == [0, 1]


def test_means_are_weighted_and_stay_where_nobody_is() -> None:
    points = np.array([[0.0, 0.0], [4.0, 8.0], [9.0, 9.0]])
    stay = np.array([[7.0, 7.0]] * 3)
    found = weighted_means(points, np.array([1.0, 3.0, 2.0]), np.array([0, 0, 2]), stay)
    assert found.tolist() == [[3.0, 6.0], [7.0, 7.0], [9.0, 9.0]]


def test_a_large_synopsis_is_thinned_by_weight() -> None:
    rng = np.random.default_rng(6)
    points, weights = rng.random((4000, 2)) * GRID, rng.exponential(1.0, 4000)
    few = thinned(Points(points, weights), rng)
    assert len(few.points) <= MOST_POINTS
    assert few.weights.sum() == pytest.approx(weights.sum())
    left = few.points[:, 0] < GRID / 2
    # A share of 1,000 draws has a standard deviation of 0.016 at most; 5 of them are allowed.
    drawn = few.weights[left].sum() / few.weights.sum()
    assert drawn == pytest.approx(np.average(points[:, 0] < GRID / 2, weights=weights), abs=0.08)
    small = lumps(CORNERS, spread=0.1)
    assert thinned(small, rng) is small


def test_a_redraw_is_no_worse_clustered_than_from_the_released_centres() -> None:
    synopsis = lumps(np.random.default_rng(0).random((12, 2)), spread=0.02, each=10)
    rng = np.random.default_rng(1)
    again = synopsis.redrawn(rng)
    start = moved(synopsis.points, synopsis.weights, synopsis.points[::10])
    found = found_anew(again.points, again.weights, start, rng, restarts=1)

    def inertia(centres: FloatArray) -> float:
        squares = agreement.squared_distances(again.points, centres).min(axis=1)
        return float(again.weights @ squares)

    assert inertia(found) <= inertia(moved(again.points, again.weights, start)) <= inertia(start)
    assert found.shape == (12, 2)


def test_distances_are_never_negative() -> None:
    points = np.full((3, 2), GRID + 1 / 3)
    assert (agreement.squared_distances(points, points) >= 0).all()


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("dimensions", [2, 6])
def test_well_parted_lumps_are_counted(k: int, dimensions: int) -> None:
    rng = np.random.default_rng(k)
    centres = np.hstack([CORNERS[:k], rng.random((k, dimensions - 2))])
    found = chosen(lumps(centres, spread=0.04), range(2, 9), rng, draws=4)
    assert found.k == k
    assert found.confidence == 1
    assert [row.k for row in found.curve] == list(range(2, 9))
    row = found.curve[k - 2]
    assert row.score == max(each.score for each in found.curve)
    expected = (row.silhouette + row.weakest) * row.variance_ratio**0.5 * row.stability
    assert row.score == pytest.approx(expected)
    assert row.stability == pytest.approx(1)
    assert found.runner_up in range(2, 9)
    assert f"k = {k} " in found.words


def test_a_carpet_of_noise_between_the_lumps_does_not_mislead() -> None:
    rng = np.random.default_rng(1)
    clean = lumps(CORNERS[:4], spread=0.05, each=60)
    noise = rng.random((300, 2)) * GRID
    carpet = Lumps(
        np.vstack([clean.points, noise]),
        np.concatenate([clean.weights, rng.uniform(0.2, 0.8, 300)]),
        50.0,
    )
    assert chosen(carpet, range(2, 9), rng, draws=4).k == 4


def test_where_there_is_nothing_to_find_the_choice_is_unsure() -> None:
    rng = np.random.default_rng(2)
    flat = Lumps(rng.random((200, 6)) * GRID, rng.uniform(5, 15, 200), wobble=1500.0)
    found = chosen(flat, range(2, 9), rng, draws=8)
    assert max(row.stability for row in found.curve) < 0.9
    assert found.confidence < 0.9


def test_equal_weights_are_all_trusted() -> None:
    # In the order of their segments: leaving out a tenth by place would lose the fifth.
    points = lumps(CORNERS, spread=0.04, each=40).points
    rows = np.concatenate([np.arange(160), np.arange(160, 170)])
    found = chosen(Lumps(points[rows], np.ones(170), 20.0), range(2, 8), np.random.default_rng(0))
    assert found.k == 5


def test_one_k_leaves_no_choice() -> None:
    found = chosen(lumps(CORNERS[:3], spread=0.05), [4], np.random.default_rng(0), draws=2)
    assert (found.k, found.runner_up, found.confidence) == (4, None, 1.0)
    assert len(found.curve) == 1
    assert "no other" in found.words


def test_too_few_points_a_segment_score_nothing() -> None:
    points = np.repeat(CORNERS[:3] * GRID, 2, axis=0) + np.tile(
        [[0.0, 0.0], [400.0, 300.0]], (3, 1)
    )
    few = Lumps(points, np.full(6, 10.0), wobble=10.0)
    rng = np.random.default_rng(0)
    found = chosen(few, range(2, 8), rng)
    assert [row.score for row in found.curve if row.k > 3] == [0, 0, 0, 0]
    assert found.k == 3
    hopeless = chosen(few, [9, 7], rng)
    assert (hopeless.k, hopeless.runner_up) == (7, 9)


def test_a_large_synopsis_is_resampled_and_still_counted() -> None:
    rng = np.random.default_rng(3)
    found = chosen(lumps(CORNERS, spread=0.05, each=800), range(3, 8), rng, draws=2)
    assert found.k == 5


def test_the_same_seed_gives_the_same_choice() -> None:
    synopsis = lumps(CORNERS[:3], spread=0.1)
    first, second = (chosen(synopsis, [2, 3, 4], np.random.default_rng(9)) for _ in range(2))
    assert first == second
    plain = first.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["k"] == first.k


@pytest.mark.parametrize(("ks", "draws"), [([], 5), ([1, 2], 5), ([2], 1)])
def test_nonsense_is_refused(ks: list[int], draws: int) -> None:
    with pytest.raises(ValueError, match="needed"):
        chosen(lumps(CORNERS, spread=0.1), ks, np.random.default_rng(0), draws=draws)


def test_choice_is_a_value() -> None:
    assert Choice(3, (), 1.0, None) == Choice(3, (), 1.0, None)
