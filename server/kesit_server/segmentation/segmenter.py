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
from kesit_privacy.errors import BudgetError, KesitError
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.queries import Query
from kesit_privacy.study import Study
from kesit_server.errors import FederationError
from kesit_server.segmentation.assessment import Assessment, assess, evaluation_query
from kesit_server.segmentation.choice import MOST_DRAWS, Choice, choose
from kesit_server.segmentation.codebook import from_marginals, learn
from kesit_server.segmentation.lloyd import Step, cluster, cluster_query, round_centres, shrunk_step
from kesit_server.segmentation.rehearsal import Rehearsal
from kesit_server.segmentation.synopsis import Released, Synopsis, from_grid
from kesit_server.sums import NoisySum, Sums

RESTARTS = 20
COUNT_SHARE = 10
RADIUS_QUANTILE, WIDE_QUANTILE = 0.6, 0.9
WIDE_SNR = 100.0
"""From this signal-to-noise on, clipping costs more (it pulls centres inwards) than it saves."""


@dataclass(frozen=True)
class Found:
    """Where the sums before the evaluation lead.

    Attributes:
        centres: (k, dimensions) in grid steps.
        synopsis: with what the Lloyd sums taught it.
        counted: the last step that was made; None if there was none.
        failure: why the next one was not made; None if all were.
    """

    centres: FloatArray
    synopsis: Synopsis
    counted: Step | None
    failure: KesitError | None = None


@dataclass(frozen=True)
class Segmentation:
    """Segments, sorted by size.

    Attributes:
        centres: (k, dimensions) in grid steps.
        sizes: (k,) noisy numbers of customers.
        size_sigma: their noise's standard deviation; 0 if there was no noise at all.
        synopsis: the synthetic customers on which the segments were found.
        assessment: how well the centres fit; None if failed attempts ate its budget: sizes are then
            those around the centres before the last step.
        choice: why there are k segments, if the study left it open.
    """

    study: Study
    centres: FloatArray
    sizes: FloatArray
    size_sigma: float
    synopsis: Synopsis
    assessment: Assessment | None = None
    choice: Choice | None = None

    @property
    def space(self) -> Embedding:
        """The coordinates that the centres are in."""
        return self.synopsis.space

    @property
    def fill(self) -> tuple[int, ...]:
        """Where a missing number stands, for each feature."""
        return self.synopsis.fill

    def rehearsed(self, rng: np.random.Generator) -> FloatArray:
        """Centres (k, dimensions) that the same study could as well have found: see `rehearsal`."""
        again = Rehearsal(self.study, self.synopsis, self.size_sigma > 0, rng)
        return refine(again, start(again, self.space, rng), len(self.centres), rng).centres

    def assign(self, codes: CodeArray) -> IntArray:
        """The nearest segment of each row, shape (n,). Runs where the rows are."""
        labels = np.empty(len(codes), dtype=np.int64)
        norms = (self.centres**2).sum(axis=1)
        for start in range(0, len(codes), 4096):
            rows = self.space.expand(codes[start : start + 4096], self.fill)
            labels[start : start + 4096] = (norms - 2 * rows @ self.centres.T).argmin(axis=1)
        return labels


def segment(federation: Sums, rng: np.random.Generator) -> Segmentation:
    """Run the study's segmentation over a federation whose hello is done.

    If failed attempts ate the budget of a late step, or too few members are left for it, the steps
    before it stand: they are paid.

    Args:
        rng: for restarts and synthetic customers; it touches released values only.

    Raises:
        BudgetError: too little is left for an earlier step.
        FederationError: too few members are left for an earlier step, or to count the segments.
    """
    study = federation.study
    synopsis = start(federation, Embedding.of(study), rng)
    choice = _choose(federation, synopsis, rng)
    k = study.segmenting.k if choice is None else choice.k
    found = refine(federation, synopsis, k, rng)
    assessment = _assessed(federation, found)
    if isinstance(assessment, Assessment):
        sizes, sigma = assessment.sizes, assessment.size_sigma
    elif found.counted is not None:
        sizes = found.counted.counts
        sigma = found.counted.count_sigma if federation.noisy else 0.0
    else:
        first = found.failure or assessment
        raise FederationError(
            f"Nothing was left to count the segments. {first.cause}", remedy=first.remedy
        )
    order = np.argsort(-sizes, kind="stable")
    known = assessment if isinstance(assessment, Assessment) else None
    return Segmentation(
        study, found.centres[order], sizes[order], sigma, found.synopsis, known, choice
    )


def start(federation: Sums, space: Embedding, rng: np.random.Generator) -> Synopsis:
    """The synopsis after the sums that come before the number of segments matters."""
    if recipes.uses_grid(space):
        return from_grid(federation, space)
    return from_marginals(federation, space, rng)


def refine(federation: Sums, synopsis: Synopsis, k: int, rng: np.random.Generator) -> Found:
    """k-means on the synopsis, then the plan's Lloyd sums as far as the budget goes."""
    centres = cluster(synopsis.points, synopsis.weights, k, rng, RESTARTS)
    wide = recipes.signal_to_noise(federation.study) >= WIDE_SNR
    quantile = WIDE_QUANTILE if wide else RADIUS_QUANTILE
    counted, failure = None, None
    for step in recipes.rounds(federation.study):
        query = cluster_query(synopsis, centres, quantile, COUNT_SHARE)
        opened = _afforded(federation, step, query)
        if isinstance(opened, KesitError):
            failure = opened
            break
        counted = shrunk_step(query, opened)
        centres = counted.centres
        if recipes.uses_grid(synopsis.space):
            synopsis = synopsis.beside(Released.of(query, opened))
        else:
            synopsis = learn(synopsis, query, opened)
    return Found(round_centres(centres, synopsis.space), synopsis, counted, failure)


def _choose(federation: Sums, synopsis: Synopsis, rng: np.random.Generator) -> Choice | None:
    study = federation.study
    smallest = study.segmenting.smallest_k
    if smallest is None:
        return None
    rehearsal = Rehearsal(study, synopsis, federation.noisy, rng)
    again = [start(rehearsal, synopsis.space, rng) for _ in range(MOST_DRAWS)]
    return choose(synopsis, again, range(smallest, study.segmenting.k + 1), rng)


def _assessed(federation: Sums, found: Found) -> Assessment | KesitError:
    query = evaluation_query(found.synopsis.space, found.centres, found.synopsis)
    opened = _afforded(federation, recipes.EVALUATION.step, query)
    if isinstance(opened, KesitError):
        return opened
    return assess(query, opened, noisy=federation.noisy)


def _afforded(federation: Sums, step: str, query: Query) -> NoisySum | KesitError:
    """The step's sum; or, with a note, why failed attempts left too little for it, or too few."""
    try:
        return federation.sum(step, query)
    except (BudgetError, FederationError) as error:
        federation.note(f"{step} is left out. {error.cause}")
        return error
