"""White-box replay: a study's sums, noise redrawn many times, with and without one canary.

The adversary is the strongest that the privacy statement speaks of. It knows every customer but
one, every instruction, and the noise shares of c colluders; it sees each opened sum less those
shares, and asks whether the canary was in. The exact sums go through the production queries, the
noise through a production noise source, one share for each member whose noise the adversary does
not know. Against Gaussian noise its log-likelihood ratio is the most powerful test there is (Neyman
and Pearson), so a replay sees all of μ that the canary can show.

The instructions are those of one run, in both worlds: what an audit of a fixed path can show is
that noise and queries are as charged. That the charges also add up when later queries depend on
earlier answers is a theorem (`kesit_privacy.accounting`), not something that a replay tests; nor
can it see a parameter that was taken from customers instead of from earlier answers. And one
canary shows no more than its own μ (`canary_mu`): no customer reaches all of an evaluation's Δ
unless the second centre is far, so its silhouette is best audited by a sum of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from kesit_audits.empirical import EmpiricalEpsilon, empirical_epsilon
from kesit_audits.errors import AuditError
from kesit_privacy import accounting
from kesit_privacy.features import GRID, Categorical, CodeArray, FloatArray, IntArray
from kesit_privacy.instruction import Instruction
from kesit_privacy.noise import NoiseSource
from kesit_privacy.queries import ClusterSums, Evaluation, Query, bind
from kesit_privacy.study import Study
from kesit_privacy.target import PARTS

REPLAYS = 10_000

ROUNDING = 1e-3
"""What truncation on the lattice may take of a canary's μ; candidates this close count as equal."""


@dataclass(frozen=True)
class ObservedSum:
    """One sum as it was asked for.

    Attributes:
        share_variance: of each member's noise, squared lattice units.
        roster, colluders, multiplicity: n, c and m of the instruction.
    """

    query: Query
    share_variance: Fraction
    roster: int
    colluders: int
    multiplicity: int = 1

    @classmethod
    def of(cls, study: Study, order: Instruction) -> ObservedSum:
        """The sum that an instruction asks for, bound as a client binds it.

        Raises:
            ProtocolError: a client would refuse these parameters.
        """
        query = bind(study, order.query, order.query_version, order.params, order.scale_bits)
        return cls(
            query, order.share_variance, len(order.roster), order.colluders, order.multiplicity
        )

    @property
    def unknown_shares(self) -> int:
        """Noise shares that the adversary does not know: n - c."""
        return self.roster - self.colluders

    @property
    def unknown_variance(self) -> float:
        """Variance of the noise that it cannot subtract, squared lattice units."""
        return float(self.unknown_shares * self.share_variance)

    @property
    def units(self) -> int:
        """What a client charges for it, in units of μ²."""
        return accounting.charge_units(
            delta_sq=self.query.delta_sq,
            multiplicity=self.multiplicity,
            share_variance=self.share_variance,
            roster=self.roster,
            colluders=self.colluders,
        )


@dataclass(frozen=True)
class Scores:
    """Log-likelihood ratios of the replays without and with the canary, each (replays,)."""

    without: FloatArray
    canary: FloatArray


def replay(
    sums: Sequence[ObservedSum],
    codes: CodeArray,
    canary: CodeArray,
    *,
    source: Callable[[int], NoiseSource],
    replays: int = REPLAYS,
) -> Scores:
    """Score the adversary's view of all `sums` in `replays` runs of either world.

    Args:
        codes: (n, features) the customers whom it knows.
        canary: (features,) the customer about whom it asks; at m clients, so added m times.
        source: a member's place (0, 1, ...) -> its noise source. Members must draw independently.

    Only coordinates that the canary changes are drawn: the noise of the others is independent of
    it and tells nothing. A query under audit that is not a pure row function shows there, because
    the canary goes first and moves every other row's place in its chunk.
    """
    if not sums or replays < 1:
        raise AuditError(
            "There is nothing to replay.", remedy="Give one sum and one replay or more."
        )
    sources = [source(member) for member in range(max(seen.unknown_shares for seen in sums))]
    scores = Scores(np.zeros(replays), np.zeros(replays))
    for seen in sums:
        base = seen.query.sum(codes)
        more = seen.query.sum(np.concatenate([_copies(canary, seen.multiplicity), codes]))
        touched = np.flatnonzero(more != base)
        step = (more - base)[touched].astype(np.float64)
        for world, exact in ((scores.without, base), (scores.canary, more)):
            opened = exact[touched] + _noise(seen, sources, replays, len(touched))
            offset = (opened - base[touched]).astype(np.float64)
            world += (offset @ step - step @ step / 2) / seen.unknown_variance
    return scores


def audit(
    sums: Sequence[ObservedSum],
    codes: CodeArray,
    canary: CodeArray,
    *,
    claimed: float,
    delta: float,
    source: Callable[[int], NoiseSource],
    replays: int = REPLAYS,
    confidence: float = 0.95,
) -> tuple[EmpiricalEpsilon, EmpiricalEpsilon]:
    """Replay `sums` and bound ε: by Gaussian DP, and by Clopper-Pearson alone. See `replay`."""
    scores = replay(sums, codes, canary, source=source, replays=replays)
    attainable = canary_mu(sums, canary)
    gaussian, pure = (
        empirical_epsilon(
            scores.without,
            scores.canary,
            claimed=claimed,
            delta=delta,
            method=method,
            attainable_mu=attainable,
            confidence=confidence,
        )
        for method in ("gaussian", "clopper-pearson")
    )
    return gaussian, pure


def canary_mu(sums: Sequence[ObservedSum], canary: CodeArray) -> float:
    """μ of the ideal attack on this canary: √Σ m²‖f(canary)‖²/((n-c)·v)."""
    total = 0.0
    for seen in sums:
        row = seen.query.sum(canary[None]).astype(np.float64) * seen.multiplicity
        total += float(row @ row) / seen.unknown_variance
    return math.sqrt(total)


def worst_canary(sums: Sequence[ObservedSum], candidates: CodeArray) -> CodeArray:
    """The candidate, of shape (features,), that the sums together betray most.

    A histogram betrays every row alike; a cluster sum betrays most a row at its radius or beyond,
    and an evaluation one beyond its reach, so candidates far from the centres (`corners`) come
    within rounding of Δ in every sum, the silhouette's part of an evaluation apart. Of those that
    come as near, it is the farthest: were a clip missing, that row would show it most.
    """
    strengths = np.array([canary_mu(sums, candidate) for candidate in candidates])
    strong = candidates[strengths >= (1 - ROUNDING) * strengths.max()]
    reach = np.zeros(len(strong))
    for seen in sums:
        if isinstance(seen.query, ClusterSums | Evaluation):
            reach += _distance_in_radii(seen.query, strong)
    worst: CodeArray = strong[int(np.argmax(reach))]
    return worst


def corners(study: Study, count: int = 256, seed: int = 0) -> CodeArray:
    """Random corners of the space of codes, (count, `target.columns`): numbers at a bound, any
    level, and for a classifier any part of the ids."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, feature.cells, count)
        if isinstance(feature, Categorical)
        else GRID * rng.integers(0, 2, count)
        for feature in study.features
    ]
    if study.classification is not None:
        columns.append(rng.integers(0, PARTS, count))
    return np.stack(columns, axis=1).astype(np.int16)


def _distance_in_radii(query: ClusterSums | Evaluation, codes: CodeArray) -> FloatArray:
    """Distance of each row to its nearest centre, in radii of that centre (or in reaches)."""
    k = len(query.centres)
    radii = np.array(query.radii if isinstance(query, ClusterSums) else (query.reach,) * k)
    rows = query.space.expand(codes, query.fill)
    distances = np.linalg.norm(rows[:, None, :] - np.array(query.centres, dtype=float), axis=2)
    nearest = distances.argmin(axis=1)
    ratios: FloatArray = distances.min(axis=1) / radii[nearest]
    return ratios


def _copies(canary: CodeArray, count: int) -> CodeArray:
    return np.repeat(canary[None], count, axis=0)


def _noise(seen: ObservedSum, sources: Sequence[NoiseSource], replays: int, size: int) -> IntArray:
    """The sum of the shares that the adversary does not know, (replays, size)."""
    total = np.zeros(replays * size, dtype=np.int64)
    for member in sources[: seen.unknown_shares]:
        total += member.sample(seen.share_variance, replays * size)
    return total.reshape(replays, size)
