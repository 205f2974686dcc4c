"""The segmentation: a private synopsis, k-means on it, private Lloyd sums, one evaluation sum.

Up to three numeric features start from one joint noisy grid; more, or any categorical one, from
noisy marginals and a codebook. Radii, restarts and the choice of k come from the synopsis and cost
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy import recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import BudgetError
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.queries import Query
from kesit_privacy.study import Study
from kesit_server.assessment import Assessment, assess, evaluation_query
from kesit_server.choice import MOST_DRAWS, Choice, choose
from kesit_server.codebook import from_marginals, learn
from kesit_server.federation import Federation, NoisySum
from kesit_server.lloyd import Step, cluster, cluster_query, round_centres, shrunk_step
from kesit_server.redraws import redraw
from kesit_server.synopsis import Synopsis, from_grid

RESTARTS = 20
COUNT_SHARE = 10
RADIUS_QUANTILE, WIDE_QUANTILE = 0.6, 0.9
WIDE_SNR = 100.0
"""From this signal-to-noise on, clipping costs more (it pulls centres inwards) than it saves."""


@dataclass(frozen=True)
class Segmentation:
    """Segments, sorted by size.

    Attributes:
        centres: (k, dimensions) in grid steps.
        sizes: (k,) noisy numbers of customers; size_sigma is their noise's standard deviation.
        fill: where a missing number stands, for each feature.
        min_size: the study's threshold of what a released segment must hold.
        synopsis: the synthetic customers on which the segments were found.
        assessment: how well the centres fit; None if failed attempts ate its budget: sizes are then
            those around the centres before the last step.
        choice: why there are k segments, if the study left it open.
    """

    space: Embedding
    centres: FloatArray
    sizes: FloatArray
    size_sigma: float
    fill: tuple[int, ...]
    min_size: int
    synopsis: Synopsis
    assessment: Assessment | None = None
    choice: Choice | None = None

    def assign(self, codes: CodeArray) -> IntArray:
        """The nearest segment of each row, shape (n,). Runs where the rows are."""
        labels = np.empty(len(codes), dtype=np.int64)
        norms = (self.centres**2).sum(axis=1)
        for start in range(0, len(codes), 4096):
            rows = self.space.expand(codes[start : start + 4096], self.fill)
            labels[start : start + 4096] = (norms - 2 * rows @ self.centres.T).argmin(axis=1)
        return labels


def segment(federation: Federation, rng: np.random.Generator) -> Segmentation:
    """Run the study's segmentation over a federation whose hello is done.

    If failed attempts ate the budget of a late step, the steps before it stand.

    Args:
        rng: for restarts and synthetic customers; it touches released values only.

    Raises:
        BudgetError: too little is left for an earlier step.
        FederationError: too few members are left.
    """
    study = federation.study
    space = Embedding.of(study)
    grid = recipes.uses_grid(space)
    synopsis = from_grid(federation, space) if grid else from_marginals(federation, space, rng)
    choice = _choose(study, synopsis, rng)
    k = study.segmentation.k if choice is None else choice.k
    start = cluster(synopsis.points, synopsis.weights, k, rng, RESTARTS)
    centres, synopsis, counted = _rounds(federation, synopsis, start)
    assessment = _assessed(federation, synopsis, centres)
    if assessment is not None:
        sizes, sigma = assessment.sizes, assessment.size_sigma
    elif counted is not None:
        sizes, sigma = counted.counts, counted.count_sigma if federation.noisy else 0.0
    else:
        raise BudgetError(
            "Failed attempts left nothing for a count of the segments.",
            remedy="Wait until all members are reachable, then agree on a new study.",
        )
    order = np.argsort(-sizes, kind="stable")
    return Segmentation(
        space,
        centres[order],
        sizes[order],
        sigma,
        synopsis.fill,
        study.thresholds.min_segment_size,
        synopsis,
        assessment,
        choice,
    )


def _choose(study: Study, synopsis: Synopsis, rng: np.random.Generator) -> Choice | None:
    smallest = study.segmentation.smallest_k
    if smallest is None:
        return None
    return choose(
        synopsis, redraw(synopsis, rng, MOST_DRAWS), range(smallest, study.segmentation.k + 1), rng
    )


def _rounds(
    federation: Federation, synopsis: Synopsis, centres: FloatArray
) -> tuple[FloatArray, Synopsis, Step | None]:
    """The plan's Lloyd sums: centres, the synopsis with what they taught, the last step made."""
    wide = recipes.signal_to_noise(federation.study) >= WIDE_SNR
    quantile = WIDE_QUANTILE if wide else RADIUS_QUANTILE
    moved = None
    for step in recipes.rounds(federation.study):
        query = cluster_query(synopsis, centres, quantile, COUNT_SHARE)
        opened = _afforded(federation, step, query)
        if opened is None:
            break
        moved = shrunk_step(query, opened)
        centres = moved.centres
        if not recipes.uses_grid(synopsis.space):
            synopsis = learn(synopsis, query, opened)
    return round_centres(centres, synopsis.space), synopsis, moved


def _assessed(federation: Federation, synopsis: Synopsis, centres: FloatArray) -> Assessment | None:
    query = evaluation_query(synopsis.space, centres, synopsis)
    opened = _afforded(federation, recipes.EVALUATION.step, query)
    return None if opened is None else assess(query, opened, noisy=federation.noisy)


def _afforded(federation: Federation, step: str, query: Query) -> NoisySum | None:
    """The step's sum; None, and a note, if failed attempts left too little for it."""
    try:
        return federation.sum(step, query)
    except BudgetError as error:
        federation.note(f"{step} is left out. {error.cause}")
        return None
