"""FastLloyd: private Lloyd with Gaussian noise and a radius around each centre.

Diaa, Humphries and Kerschbaum, "FastLloyd: Federated, Accurate, Secure, and Tunable k-Means
Clustering with Differential Privacy", USENIX Security 2025 (arXiv 2405.02437). Parameters are those
of the authors' experiments (github.com/D-Diaa/FastLloyd, commit 5209565, `configs/params.py`,
`parties/`; method "diagonal_then_frac", alpha 0.8, post "fold"): the box [-1, 1]^d, sphere packing
by halving, rows summed relative to their centre, rows beyond the radius left out, a first radius
of half the box's diagonal and then alpha/(2·k^(1/d)) of the diagonal, the analytic Gaussian with
its split between sums and counts, the rule for the number of steps (n is public), the move of a
centre clipped to the radius, folding into the box.

Not taken over: fixed-point arithmetic, and one imaginary row at the centre of a client's empty
cluster (it matters only where counts are far below their noise).

In the paper the clients mask their sums towards a server, which adds the whole noise once and
returns them; clients remove the masks. So the server is trusted not to share what it sees with any
client, and clients are trusted with each other's masks. `fastlloyd_members` runs the same steps
under Kesit's trust, where members make the noise and c of them may collude: √(m/(m-c)) times more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy import accounting
from kesit_privacy.features import FloatArray
from kesit_simulations.baselines.lloyd import (
    cluster_sums,
    from_signed,
    nearest,
    sphere_packing,
    to_signed,
)
from kesit_simulations.baselines.problem import Problem

ALPHA = 0.8
FEWEST_STEPS, MOST_STEPS = 2, 7
ERROR_BOUND = 0.004
"""Mean squared error of a centre up to which a further step is worth its noise (as in Su et al.)"""

STREAM = 3


@dataclass(frozen=True)
class Parameters:
    """FastLloyd's numbers for one task, in units of the box [-1, 1]^d.

    Attributes:
        steps: number of Lloyd steps, T.
        radii: of each step: rows further from their centre do not count. Shape (T,).
        sum_factor: a sum's σ over the step's radius (its sensitivity).
        count_sigma: σ of a count.

    One step costs μ² = 1/sum_factor² + 1/count_sigma², the T-th part of the whole.
    """

    steps: int
    radii: tuple[float, ...]
    sum_factor: float
    count_sigma: float

    @classmethod
    def of(cls, rows: int, dimensions: int, k: int, epsilon: float, delta: float) -> Parameters:
        """The authors' rule for n rows."""
        sigma = 1 / accounting.mu(accounting.budget_units(epsilon, delta))
        diagonal = 2 * math.sqrt(dimensions)
        radius = diagonal * ALPHA / (2 * k ** (1 / dimensions))
        root = math.sqrt(4 * dimensions)  # of counts against sums in μ²: 1 : √(4d)
        worth = ERROR_BOUND * 4 * rows**2 / (k**3 * radius**2 * (1 + root) ** 2 * sigma**2)
        steps = int(max(min(worth, MOST_STEPS), FEWEST_STEPS))
        unit = sigma * math.sqrt(steps * (1 + root))
        radii = (diagonal / 2, *[radius] * (steps - 1))
        return cls(steps, radii, unit / math.sqrt(root), unit)


def fastlloyd(problem: Problem) -> FloatArray:
    """FastLloyd as published, its noise added once; centres (k, d)."""
    return from_signed(_run(to_signed(problem.rows), problem, factor=1.0))


def fastlloyd_members(problem: Problem) -> FloatArray:
    """FastLloyd with noise made by the members, c of whom may collude; centres (k, d)."""
    return from_signed(_run(to_signed(problem.rows), problem, problem.federated_factor))


def alone_private(problem: Problem) -> FloatArray:
    """Each client releases its own segments under the same (ε, δ), found by FastLloyd.

    Returns:
        Centres (m, k, d), a set for each client that has rows (see `alone`).
    """
    rows = to_signed(problem.rows)
    sets = [
        _run(rows[part], problem, factor=1.0, client=place)
        for place, part in enumerate(problem.parts)
        if len(part)
    ]
    return from_signed(np.stack(sets))


def _run(rows: FloatArray, problem: Problem, factor: float, client: int = 0) -> FloatArray:
    """All steps; `factor` is the opened noise over the charged one."""
    rng = np.random.default_rng([problem.seed, STREAM, client])
    parameters = Parameters.of(
        len(rows), problem.dimensions, problem.k, problem.epsilon, problem.delta
    )
    centres = sphere_packing(problem.k, problem.dimensions, rng, bisections=0)
    for radius in parameters.radii:
        sums, counts = noisy_sums(rows, centres, radius, parameters, rng, factor)
        moves = sums / (counts + 1e-9)[:, None]
        lengths = np.linalg.norm(moves, axis=1, keepdims=True)
        moves *= np.minimum(1, radius / np.maximum(lengths, 1e-300))
        centres = fold(centres + moves)
    return centres


def noisy_sums(
    rows: FloatArray,
    centres: FloatArray,
    radius: float,
    parameters: Parameters,
    rng: np.random.Generator,
    factor: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Sums (k, d) of offsets from the nearest centre, and counts (k,), of rows within the radius.

    Gaussian noise of σ = factor·sum_factor·radius on the sums and factor·count_sigma on the counts.
    """
    labels, squares = nearest(rows, centres)
    near = squares <= radius**2
    offsets = rows[near] - centres[labels[near]]
    sums, counts = cluster_sums(offsets, labels[near], len(centres))
    return (
        sums + rng.normal(0, factor * parameters.sum_factor * radius, sums.shape),
        counts + rng.normal(0, factor * parameters.count_sigma, counts.shape),
    )


def fold(centres: FloatArray) -> FloatArray:
    """Reflect coordinates at -1 and 1 until they are inside."""
    place = np.mod(centres + 1, 4)
    return np.where(place > 2, 4 - place, place) - 1
