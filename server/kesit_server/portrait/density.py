"""Segments of any shape: weighted density-based clustering of a private synopsis (HDBSCAN).

Campello, Moulavi, Zimek and Sander (2015, Hierarchical density estimates for data clustering,
visualization, and outlier detection, ACM TKDD 10) build a tree of all density levels and keep the
branches of the largest excess of mass. scikit-learn's HDBSCAN takes no weights, and copies of heavy
points would stand at distance 0, where density is infinite. Here a point of the synopsis is a ball:
its weight is spread over half the distance to its nearest neighbour, and distances are the gaps
between balls, so that two touching cells are joined at the density of the lighter one. With equal
weights and no spreading, this is scikit-learn's HDBSCAN. It costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_server.portrait.density_tree import NOISE, condense, flatten, select, spanning_tree
from kesit_server.segmentation.agreement import nearest, squared_distances

SMALLEST_SHARE = 0.03
"""A cluster holds this share of the weight at least, unless the caller says otherwise."""

SMOOTHING_SHARE = 0.01
"""Share of the weight within a point's core distance, unless the caller says otherwise."""

LEAST_PERSISTENCE = 0.3
"""A peak that stands out less than this from its saddle is taken for noise and joined with it."""

BISECTIONS = 24
CHUNK = 1024


@dataclass(frozen=True)
class DensityClusters:
    """Clusters of a synopsis by density, heaviest first; what is in none of them is noise.

    Attributes:
        points: (m, dimensions) of the synopsis, in grid steps.
        labels: (m,) cluster of each point, or `NOISE`.
        weights: (clusters,) noisy numbers of customers.
        persistence: (clusters,) in 0 .. 1: how much of a cluster outlasts its birth as the density
            level rises: 1 - (λ of birth) / (mean λ at which its customers leave), λ = 1/distance.
        noise_share: share of the weight that is in no cluster.
    """

    points: FloatArray
    labels: IntArray
    weights: FloatArray
    persistence: FloatArray
    noise_share: float

    @property
    def clusters(self) -> int:
        """How many clusters there are; 0 if no density stands out."""
        return len(self.weights)

    def assign(self, space: Embedding, codes: CodeArray, fill: tuple[int, ...]) -> IntArray:
        """The label of the nearest synopsis point for each row, shape (n,); `NOISE` among them.

        Runs where the rows are.
        """
        found = np.empty(len(codes), dtype=np.int64)
        for start in range(0, len(codes), CHUNK):
            rows = space.expand(codes[start : start + CHUNK], fill)
            found[start : start + CHUNK] = self.labels[nearest(rows, self.points)]
        return found

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "method": "weighted HDBSCAN on the private synopsis",
            "noise_share": round(self.noise_share, 4),
            "clusters": [
                {
                    "cluster": place + 1,
                    "size": round(float(weight)),
                    "persistence": round(float(persistence), 4),
                }
                for place, (weight, persistence) in enumerate(
                    zip(self.weights, self.persistence, strict=True)
                )
            ],
        }


def density_clusters(
    points: FloatArray,
    weights: FloatArray,
    *,
    smallest: float | None = None,
    smoothing: float | None = None,
    persistence: float = LEAST_PERSISTENCE,
    spread: bool = True,
) -> DensityClusters:
    """Weighted HDBSCAN of a synopsis, with the excess-of-mass selection.

    Args:
        points: (m, dimensions) in grid steps, m >= 1. Memory grows with m² (about 0.4 GB at 4000).
        weights: (m,) > 0.
        smallest: weight that a cluster holds at least (`SMALLEST_SHARE` of all).
        smoothing: weight within a point's core distance (`SMOOTHING_SHARE` of all). More of it
            hides narrow valleys, less of it takes noise for clusters.
        persistence: a branch that persists less than this is no branch (0: all are).
        spread: points are balls (see above); False: points as such.
    """
    total = float(weights.sum())
    smallest = SMALLEST_SHARE * total if smallest is None else smallest
    smoothing = SMOOTHING_SHARE * total if smoothing is None else smoothing
    places, inverse = np.unique(points, axis=0, return_inverse=True)
    if len(places) == 1:
        whole = np.zeros(len(points), dtype=np.int64)
        return DensityClusters(points, whole, np.array([total]), np.ones(1), 0.0)
    heavy = np.zeros(len(places))
    np.add.at(heavy, inverse, weights)  # points at one place are one point
    reach = _reach(places, heavy, smoothing, spread)
    tree = condense(spanning_tree(reach), reach.diagonal(), heavy, smallest)
    flatten(tree, heavy, persistence)
    of_places, lasting = select(tree, len(places), heavy)
    labels = of_places[inverse]
    mass = np.zeros(len(lasting))
    np.add.at(mass, labels[labels >= 0], weights[labels >= 0])
    order = np.argsort(-mass, kind="stable")
    renamed = np.append(np.argsort(order), NOISE)[labels]  # label -1 reads the appended end
    noise = float(weights[labels == NOISE].sum()) / total
    return DensityClusters(points, renamed, mass[order], lasting[order], noise)


def _reach(points: FloatArray, weights: FloatArray, smoothing: float, spread: bool) -> FloatArray:
    """Mutual reachability distances, shape (m, m): max(core of a, core of b, gap between them).

    The diagonal holds the core distances.
    """
    apart = np.sqrt(squared_distances(points, points))
    np.fill_diagonal(apart, np.inf)
    radius = apart.min(axis=1) / 2 if spread else np.zeros(len(points))
    np.fill_diagonal(apart, 0)
    core = _core(apart, weights, smoothing, radius, points.shape[1])
    gaps = np.maximum(apart - radius[:, None] - radius, 0)
    reach: FloatArray = np.maximum(np.maximum(gaps, core[:, None]), core)
    return reach


def _core(
    apart: FloatArray, weights: FloatArray, smoothing: float, radius: FloatArray, dimensions: int
) -> FloatArray:
    """Smallest radius around each point that holds weight `smoothing`, shape (m,).

    Inside its own ball a point's weight grows with the ball's volume; another ball counts by the
    share of its diameter that is covered (whole once reached, if it has none).
    """
    order = np.argsort(apart, axis=1, kind="stable")
    mass = np.cumsum(weights[order], axis=1)
    place = np.minimum((mass < smoothing).sum(axis=1), len(weights) - 1)
    every = np.arange(len(weights))
    high: FloatArray = apart[every, order[every, place]]
    if not radius.any():
        return high
    high = high + radius.max()  # every ball that was reached is covered by then
    low = np.zeros(len(weights))
    wide = int((apart <= (high + radius.max())[:, None]).sum(axis=1).max())
    others = order[:, :wide]
    own = others == every[:, None]
    distance = np.take_along_axis(apart, others, axis=1)
    balls, masses = np.maximum(radius[others], 1e-9), np.where(own, 0, weights[others])
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        covered = np.clip((middle[:, None] - distance + balls) / (2 * balls), 0, 1)
        share = np.minimum(middle / np.maximum(radius, 1e-9), 1) ** dimensions
        enough = weights * share + (covered * masses).sum(axis=1) >= smoothing
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high
