"""The dendrogram of segments: by hand, and against SciPy's Ward on points."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.cluster import hierarchy as scipy_hierarchy

from kesit_privacy.features import GRID
from kesit_server.portrait.hierarchy import LEAST_SIZE, Dendrogram, dendrogram


def test_three_segments_on_a_line_by_hand() -> None:
    # Places 0, 1/4 and 1 of the range; sizes 1, 3, 4 of 8.
    found = dendrogram(np.array([[0.0], [GRID / 4], [GRID]]), np.array([1.0, 3.0, 4.0]))
    first, second = found.merges
    # 1·3/4·(1/4)² / 8; then 4·4/8·(1 - 3/16)² / 8, from the weighted mean 3/16.
    assert (first.first, first.second, first.size) == (0, 1, 4.0)
    assert first.height == pytest.approx(np.sqrt(0.75 / 16 / 8))
    assert (second.first, second.second, second.size) == (2, 3, 8.0)
    assert second.height == pytest.approx(np.sqrt(2 * (13 / 16) ** 2 / 8))


def test_sizes_decide_which_segments_join_first() -> None:
    centres = np.array([[0.0], [0.4 * GRID], [GRID]])
    light = dendrogram(centres, np.array([10.0, 10.0, 10.0])).merges[0]
    heavy = dendrogram(centres, np.array([1000.0, 1000.0, 1.0])).merges[0]
    assert (light.first, light.second) == (0, 1)  # the nearest two
    assert (heavy.first, heavy.second) == (1, 2)  # the one whose joining costs least


@pytest.mark.parametrize("seed", range(5))
def test_equal_sizes_are_scipys_ward(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.random((9, 4)) * GRID
    ours = dendrogram(centres, np.full(9, 7.0)).linkage()
    theirs = scipy_hierarchy.linkage(centres / GRID, "ward")
    # SciPy's height is sqrt(2ΔE) with one customer a point; ours sqrt(ΔE/n): n = 9 points.
    assert np.array_equal(np.sort(ours[:, :2]), np.sort(theirs[:, :2]))
    assert ours[:, 2] * np.sqrt(2 * 9) == pytest.approx(theirs[:, 2])
    assert np.array_equal(ours[:, 3], theirs[:, 3])


@pytest.mark.parametrize("seed", range(5))
def test_unequal_sizes_are_scipys_ward_on_repeated_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres, sizes = rng.random((6, 3)) * GRID, rng.integers(1, 12, 6)
    found = dendrogram(centres, sizes.astype(np.float64))
    theirs = scipy_hierarchy.linkage(np.repeat(centres, sizes, axis=0) / GRID, "ward")
    heights = np.array([merge.height for merge in found.merges])
    # The copies of one point join at height 0; the last five merges are those of the segments.
    assert theirs[:-5, 2] == pytest.approx(0, abs=1e-7)
    assert heights * np.sqrt(2 * sizes.sum()) == pytest.approx(theirs[-5:, 2])
    flat = scipy_hierarchy.fcluster(theirs, 3, "maxclust")[np.cumsum(sizes) - 1]
    cut = found.cut(3)
    assert np.array_equal(cut[:, None] == cut, flat[:, None] == flat)


def test_squared_heights_add_up_to_the_spread_of_the_centres() -> None:
    rng = np.random.default_rng(3)
    centres, sizes = rng.random((8, 5)) * GRID, rng.random(8) * 100 + 1
    heights = np.array([merge.height for merge in dendrogram(centres, sizes).merges])
    mean = np.average(centres, axis=0, weights=sizes)
    spread = np.average(((centres - mean) ** 2).sum(axis=1), weights=sizes) / GRID**2
    assert (heights**2).sum() == pytest.approx(spread)
    assert (np.diff(heights) >= 0).all()


def test_cuts_undo_the_last_merges() -> None:
    centres = np.array([[0.0, 0.0], [100.0, 0.0], [GRID, GRID], [GRID, GRID - 300.0]])
    found = dendrogram(centres, np.array([5.0, 5.0, 5.0, 5.0]))
    assert found.cut(1).tolist() == [0, 0, 0, 0]
    assert found.cut(2).tolist() == [0, 0, 1, 1]
    assert found.cut(3).tolist() == [0, 0, 1, 2]
    assert found.cut(4).tolist() == [0, 1, 2, 3]
    assert [found.groups_at(height) for height in (0.0, 0.01, 0.1, 2.0)] == [4, 2, 2, 1]
    assert found.members[-1] == (0, 1, 2, 3)
    for groups in (0, 5):
        with pytest.raises(ValueError, match="cannot be cut"):
            found.cut(groups)


def test_sizes_below_the_noise_count_as_one_customer() -> None:
    found = dendrogram(np.array([[0.0], [GRID], [GRID / 2]]), np.array([50.0, -20.0, 0.0]))
    assert found.sizes == (50.0, LEAST_SIZE, LEAST_SIZE)
    assert all(np.isfinite(merge.height) for merge in found.merges)


def test_one_segment_has_no_merges_and_equal_centres_merge_at_zero() -> None:
    alone = dendrogram(np.array([[3.0]]), np.array([10.0]))
    assert (alone.merges, alone.cut(1).tolist()) == ((), [0])
    assert alone.linkage().shape == (0, 4)
    twins = dendrogram(np.full((2, 3), 7.0), np.array([10.0, 20.0]))
    assert twins.merges[0].height == 0


def test_the_plain_form_numbers_segments_from_one() -> None:
    plain = dendrogram(np.array([[0.0], [1.0], [GRID]]), np.array([4.0, 4.0, 8.0])).as_dict()
    assert json.loads(json.dumps(plain)) == plain
    merges = plain["merges"]
    assert isinstance(merges, list)
    assert [merge["join"] for merge in merges] == [[[1], [2]], [[3], [1, 2]]]
    assert merges[-1]["size"] == 16


def test_a_tree_is_read_back_from_its_plain_form() -> None:
    rng = np.random.default_rng(7)
    for k in (1, 2, 9):
        tree = dendrogram(rng.random((k, 3)) * GRID, rng.integers(50, 900, k).astype(float))
        again = Dendrogram.from_dict(json.loads(json.dumps(tree.as_dict())))
        assert again.as_dict() == tree.as_dict()
        assert again.members == tree.members
        assert np.allclose(again.linkage(), tree.linkage(), atol=1e-6)


def test_merges_that_make_no_tree_are_refused() -> None:
    plain = dendrogram(np.random.default_rng(8).random((4, 2)) * GRID, np.full(4, 9.0)).as_dict()
    merges = plain["merges"]
    assert isinstance(merges, list)
    for broken in (merges[:-1], merges[::-1], [merges[0], *merges], [], [{}]):
        with pytest.raises((KeyError, ValueError)):
            Dendrogram.from_dict(plain | {"merges": broken})
