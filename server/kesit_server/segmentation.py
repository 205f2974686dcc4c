"""The plain segmentation: a private start, then two private Lloyd sums.

Up to three numeric features start from one joint noisy grid; more, or any categorical one, from
noisy marginals and one codebook sum. Radii come from the synopsis itself and cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy import recipes
from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.errors import BudgetError
from kesit_privacy.features import Categorical, CodeArray, FloatArray, IntArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums
from kesit_server.federation import Federation
from kesit_server.lloyd import cluster, round_centres, shrunk_step
from kesit_server.synopsis import Synopsis, from_grid, from_marginals

RESTARTS = 20
LLOYD_STEPS = ("lloyd-1", "lloyd-2")
LLOYD_COUNT_SHARE = 10
RADIUS_QUANTILE = 0.6


NOTES = (
    "size: customers nearest to the segment's centre before the last step; size_95 is the noise on"
    " that count alone (95 %), not how far the last step moved the centre",
    "centre: a typical customer, not an average of all: customers far from it count as if they were"
    " nearer (clipping), money on a signed-log scale is averaged on that scale, and a missing"
    " number counts as the feature's overall mean",
)
"""How to read what `describe` gives; part of every result."""


@dataclass(frozen=True)
class Segmentation:
    """Segments, sorted by size.

    Attributes:
        centres: (k, dimensions) in grid steps.
        sizes: (k,) noisy numbers of customers, counted around the centres before the last step;
            size_sigma is their noise's standard deviation.
        fill: where a missing number stands, for each feature.
        min_size: the study's threshold of what a released segment must hold.
    """

    space: Embedding
    centres: FloatArray
    sizes: FloatArray
    size_sigma: float
    fill: tuple[int, ...]
    min_size: int

    def assign(self, codes: CodeArray) -> IntArray:
        """The nearest segment of each row, shape (n,). Runs where the rows are."""
        labels = np.empty(len(codes), dtype=np.int64)
        norms = (self.centres**2).sum(axis=1)
        for start in range(0, len(codes), 4096):
            rows = self.space.expand(codes[start : start + 4096], self.fill)
            labels[start : start + 4096] = (norms - 2 * rows @ self.centres.T).argmin(axis=1)
        return labels

    def describe(self) -> list[dict[str, object]]:
        """Each segment as plain values: size, its noise, and the centre in customers' own units.

        A segment whose noisy size is below `min_size` is marked `too_small`, one whose size is not
        above its noise `uncertain`.
        """
        return [
            {
                "segment": index + 1,
                "size": round(float(max(size, 0))),
                "size_95": round(1.96 * self.size_sigma),
                "too_small": bool(size < self.min_size),
                "uncertain": bool(size <= 1.96 * self.size_sigma),
                "centre": self._in_own_units(centre),
            }
            for index, (size, centre) in enumerate(zip(self.sizes, self.centres, strict=True))
        ]

    def _in_own_units(self, centre: FloatArray) -> dict[str, object]:
        values: dict[str, object] = {}
        offsets = self.space.offsets
        for feature, start, stop in zip(self.space.features, offsets, offsets[1:], strict=False):
            if isinstance(feature, Categorical):
                names = [*feature.levels, "(unknown)", "(missing)"]
                shares = centre[start:stop] / ONE_HOT
                values[feature.name] = {
                    name: round(float(share), 3)
                    for name, share in zip(names, shares, strict=True)
                    if share >= 0.01
                }
            else:
                values[feature.name] = float(f"{feature.decode(float(centre[start])):.5g}")
        return values


def segment(federation: Federation, rng: np.random.Generator) -> Segmentation:
    """Run the study's segmentation over a federation whose hello is done.

    If failed attempts ate the budget of the last step, the step before it stands.

    Args:
        rng: for restarts and synthetic points; it touches released values only.

    Raises:
        BudgetError: too little is left for an earlier step.
        FederationError: too few members are left.
    """
    space = Embedding.of(federation.study)
    grid = recipes.uses_grid(space)
    synopsis = from_grid(federation, space) if grid else from_marginals(federation, space, rng)
    k = federation.study.segmentation.k
    centres = cluster(synopsis.points, synopsis.weights, k, rng, RESTARTS)
    sizes, size_sigma = np.zeros(k), math.inf
    for step in LLOYD_STEPS:
        query = lloyd_query(space, centres, synopsis)
        try:
            moved = shrunk_step(query, federation.sum(step, query))
        except BudgetError as error:
            if step == LLOYD_STEPS[0]:
                raise
            federation.note(f"{step} is left out. {error.cause}")
            break
        centres, sizes, size_sigma = moved.centres, moved.counts, moved.count_sigma
    if not federation.noisy:
        size_sigma = 0.0
    order = np.argsort(-sizes, kind="stable")
    return Segmentation(
        space,
        centres[order],
        sizes[order],
        size_sigma,
        synopsis.fill,
        federation.study.thresholds.min_segment_size,
    )


def lloyd_query(space: Embedding, centres: FloatArray, synopsis: Synopsis) -> ClusterSums:
    """One Lloyd step around `centres`, with one radius: a quantile of the synopsis' distances."""
    rounded = round_centres(centres, space)
    distances = np.sqrt(
        ((synopsis.points[:, None, :] - rounded[None]) ** 2).sum(axis=2).min(axis=1)
    )
    order = np.argsort(distances)
    mass = np.cumsum(synopsis.weights[order])
    place = int(np.searchsorted(mass, RADIUS_QUANTILE * mass[-1]))
    radius = max(1, math.ceil(distances[order][place]))
    return ClusterSums(
        space,
        tuple(tuple(int(x) for x in centre) for centre in rounded),
        (radius,) * len(rounded),
        synopsis.fill,
        LLOYD_COUNT_SHARE,
        SCALE_BITS,
    )
