"""Private Lloyd with Laplace noise and a noisy grid, by Su, Cao, Li, Bertino and Jin.

"Differentially Private K-Means Clustering", CODASPY 2016 (arXiv 1504.05998). Both are central: one
curator holds all rows. Neighbours differ by adding or removing a row, as everywhere in Kesit.

DPLloyd here is the paper's improved form. From the paper: the box [-1, 1]^d, sphere packing, the
split of a step's ε between counts and coordinates, the error bound that gives the number of steps,
Laplace noise. Chosen here: centres are clipped to the box, a cluster whose noisy count is below 1
stays where it is, and the sphere's radius is bisected ten times. n is public, as in the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_simulations.baselines.lloyd import (
    cluster_sums,
    from_signed,
    nearest,
    sphere_packing,
    to_signed,
)
from kesit_simulations.baselines.problem import Problem

RHO = 0.225
"""The paper's typical distance of a centre's coordinate from the middle of [-1, 1]."""

FEWEST_STEPS, MOST_STEPS = 2, 7
BISECTIONS = 10
STREAM = 2


@dataclass(frozen=True)
class Split:
    """How DPLloyd spends ε: number of steps, and the Laplace scales b in the box [-1, 1]^d.

    A row adds 1 to one count and at most 1 in absolute value to each of d sums, so a step costs
    1/count_scale + d/sum_scale.
    """

    steps: int
    count_scale: float
    sum_scale: float

    @classmethod
    def of(cls, rows: int, dimensions: int, k: int, epsilon: float) -> Split:
        """The paper's rule for n rows.

        The mean squared error of a centre after a step with ε_t is least at count and coordinate
        shares ∛(4dρ²) : 1, and is then 2k³/(n·ε_t)²·(d + ∛(4dρ²))³. A step is worth taking if
        that is at most 0.004: ε_t >= √(500·k³/n²·(d + ∛(4dρ²))³). ε buys so many steps, at least
        2 and at most 7, which share it evenly.
        """
        count = math.cbrt(4 * dimensions * RHO**2)
        least = math.sqrt(500 * k**3 / rows**2 * (dimensions + count) ** 3)
        steps = int(min(max(epsilon / least, FEWEST_STEPS), MOST_STEPS))
        unit = epsilon / steps / (dimensions + count)  # ε of one coordinate in one step
        return cls(steps, 1 / (count * unit), 1 / unit)


def dplloyd(problem: Problem) -> FloatArray:
    """The improved DPLloyd on all rows; centres (k, d)."""
    rng = problem.generator(STREAM)
    rows = to_signed(problem.rows)
    split = Split.of(len(rows), problem.dimensions, problem.k, problem.epsilon)
    centres = sphere_packing(problem.k, problem.dimensions, rng, BISECTIONS)
    for _ in range(split.steps):
        sums, counts = noisy_sums(rows, centres, split, rng)
        moving = counts >= 1
        centres[moving] = np.clip(sums[moving] / counts[moving, None], -1, 1)
    return from_signed(centres)


def noisy_sums(
    rows: FloatArray, centres: FloatArray, split: Split, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Sums (k, d) and counts (k,) of the rows nearest to each centre, with Laplace noise."""
    labels, _ = nearest(rows, centres)
    sums, counts = cluster_sums(rows, labels, len(centres))
    return (
        sums + rng.laplace(0, split.sum_scale, sums.shape),
        counts + rng.laplace(0, split.count_scale, counts.shape),
    )
