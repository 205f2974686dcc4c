"""A dendrogram of segments: which ones are nearly one, and what stays if they are joined.

Post-processing of released centres and sizes; it costs no privacy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kesit_privacy.features import GRID, FloatArray, IntArray
from kesit_server.segmentation.agreement import squared_distances

LEAST_SIZE = 1.0
"""Customers that a segment counts for at least: a noisy size may be zero or less."""


@dataclass(frozen=True)
class Merge:
    """Two branches become one.

    Attributes:
        first, second: the branches; 0 .. k-1 are segments, k + i is what merge i made.
        height: sqrt(ΔE / n), in units of a feature's public range: ΔE is what joining adds to the
            sum of squared distances of customers to their centre, n the number of all customers.
            The squares of all heights add up to the mean squared distance of the segments' centres
            (by customer) from the overall mean.
        size: noisy number of customers in the new branch.
    """

    first: int
    second: int
    height: float
    size: float


@dataclass(frozen=True)
class Dendrogram:
    """k - 1 merges of k segments, lowest first."""

    sizes: tuple[float, ...]
    merges: tuple[Merge, ...]

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Segments in each branch, 0-based and sorted: the k segments, then the merges."""
        found: list[tuple[int, ...]] = [(leaf,) for leaf in range(len(self.sizes))]
        for merge in self.merges:
            found.append(tuple(sorted(found[merge.first] + found[merge.second])))
        return tuple(found)

    def cut(self, groups: int) -> IntArray:
        """The group of each segment, shape (k,), with the merges undone down to `groups` groups.

        Groups are numbered by their first segment.

        Raises:
            ValueError: not 1 <= groups <= k.
        """
        k = len(self.sizes)
        if not 1 <= groups <= k:
            raise ValueError(f"{k} segments cannot be cut into {groups} groups")
        labels = np.arange(k)
        members = self.members
        for place in range(k - groups):
            labels[list(members[k + place])] = members[k + place][0]
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)

    def groups_at(self, height: float) -> int:
        """How many groups are left when all merges up to `height` are made."""
        return len(self.sizes) - sum(merge.height <= height for merge in self.merges)

    def linkage(self) -> FloatArray:
        """The merges as SciPy's linkage matrix, shape (k-1, 4); the last column counts segments."""
        members = self.members[len(self.sizes) :]
        return np.array(
            [
                [merge.first, merge.second, merge.height, len(inside)]
                for merge, inside in zip(self.merges, members, strict=True)
            ]
        ).reshape(-1, 4)

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON; segments are numbered from 1, as in the result."""
        members = [[leaf + 1 for leaf in inside] for inside in self.members]
        return {
            "method": "Ward's linkage of segment centres, weighted by noisy sizes",
            "height_unit": "public range of a feature: root of the added mean squared distance",
            "sizes": [round(size) for size in self.sizes],
            "merges": [
                {
                    "join": [members[merge.first], members[merge.second]],
                    "height": round(merge.height, 6),
                    "size": round(merge.size),
                }
                for merge in self.merges
            ],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Dendrogram:
        """The dendrogram of `as_dict`, heights and sizes rounded.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        sizes = tuple(float(size) for size in plain["sizes"])
        alive = {(leaf + 1,): leaf for leaf in range(len(sizes))}
        merges: list[Merge] = []
        for row in plain["merges"]:
            inside = [tuple(branch) for branch in row["join"]]
            first, second = (alive.pop(branch) for branch in inside)
            alive[tuple(sorted((*inside[0], *inside[1])))] = len(sizes) + len(merges)
            merges.append(Merge(first, second, float(row["height"]), float(row["size"])))
        heights = [0.0, *(merge.height for merge in merges)]
        if len(alive) != 1 or heights != sorted(heights):
            raise ValueError("the dendrogram's merges do not make one tree")
        return cls(sizes, tuple(merges))


def dendrogram(centres: FloatArray, sizes: FloatArray) -> Dendrogram:
    """Ward's (1963) hierarchy over segments that already hold several customers each.

    Joining a and b adds ΔE = n_a·n_b/(n_a + n_b)·‖c_a - c_b‖² to the inertia, and the joined
    branch stands at the weighted mean of the two: the Lance-Williams update of Ward's linkage for
    clusters of unequal sizes. Heights never fall from one merge to the next.

    Args:
        centres: (k, dimensions) in grid steps.
        sizes: (k,) noisy numbers of customers; those under `LEAST_SIZE` count as that.

    Returns:
        Merges with heights in units of a feature's public range.
    """
    counted = np.maximum(np.asarray(sizes, dtype=np.float64), LEAST_SIZE)
    total = float(counted.sum())
    alive = {leaf: (centres[leaf] / GRID, float(counted[leaf])) for leaf in range(len(centres))}
    merges: list[Merge] = []
    floor = 0.0
    while len(alive) > 1:
        names = sorted(alive)
        places = np.array([alive[name][0] for name in names])
        mass = np.array([alive[name][1] for name in names])
        added = squared_distances(places, places) * np.outer(mass, mass)
        added /= mass[:, None] + mass
        np.fill_diagonal(added, np.inf)
        row, column = divmod(int(added.argmin()), len(names))
        first, second = sorted((names[row], names[column]))
        (at_first, n_first), (at_second, n_second) = alive.pop(first), alive.pop(second)
        joined = n_first + n_second
        gap = float(((at_first - at_second) ** 2).sum())  # exact where distances cancel
        floor = max(floor, float(np.sqrt(n_first * n_second / joined * gap / total)))
        alive[len(centres) + len(merges)] = (
            (n_first * at_first + n_second * at_second) / joined,
            joined,
        )
        merges.append(Merge(first, second, floor, joined))
    return Dendrogram(tuple(counted.tolist()), tuple(merges))
