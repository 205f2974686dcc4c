"""How good a simulated segmentation is, for the researcher only.

Everything here is computed from the pooled rows of all clients. They stand together in a simulation
and nowhere else: no federation of real members can compute these numbers, and they are no part of
what a study releases.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from kesit_privacy.features import GRID, CodeArray, FloatArray, IntArray
from kesit_server.segmentation import Segmentation

MAX_FIT_ROWS = 100_000
"""Above this many rows the pooled KMeans is fitted on a seeded sample."""

RESTARTS = 10
CHUNK = 65_536

ROUNDING = 1e-9
"""Squared distances a row below this are rounding, not distance."""

NOTE = "For the researcher only: computed from pooled rows, which exist only in a simulation."


@dataclass(frozen=True)
class Evaluation:
    """A federated segmentation beside scikit-learn's KMeans on the same rows.

    Attributes:
        rows: customers of all clients together.
        inertia, inertia_pooled: sum over all rows of the squared distance to the nearest centre,
            in units of a feature's public range squared; with the federated centres, and with those
            of KMeans(k, n_init=10) without privacy.
        ratio: the first over the second; 1 is as good as without privacy. None if KMeans leaves no
            distance at all (no more distinct rows than segments).
        adjusted_rand, adjusted_rand_pooled: agreement with the data set's labels (Hubert and Arabie
            1985; 1 is perfect, 0 is chance), or None without labels.
        fitted_rows: rows on which KMeans was fitted; fewer than `rows` if `sampled`.
    """

    rows: int
    inertia: float
    inertia_pooled: float
    ratio: float | None
    adjusted_rand: float | None
    adjusted_rand_pooled: float | None
    fitted_rows: int
    note: str = NOTE

    @property
    def sampled(self) -> bool:
        """Whether KMeans saw a sample instead of all rows."""
        return self.fitted_rows < self.rows

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {**asdict(self), "sampled": self.sampled}


def evaluate(
    segments: Segmentation, codes: CodeArray, labels: IntArray | None = None, *, seed: int = 0
) -> Evaluation:
    """Compare a federated segmentation with scikit-learn's on the pooled rows.

    Args:
        codes: (customers, features of the study), the rows of all clients.
        labels: (customers,) true classes, if the data set has any.
        seed: of KMeans and of the sample.
    """
    pooled = _fit_pooled(segments, codes, seed)
    inertia, nearest = _assess(segments, segments.centres / GRID, codes)
    inertia_pooled, nearest_pooled = _assess(segments, pooled, codes)
    return Evaluation(
        rows=len(codes),
        inertia=inertia,
        inertia_pooled=inertia_pooled,
        ratio=inertia / inertia_pooled if inertia_pooled > ROUNDING * len(codes) else None,
        adjusted_rand=_adjusted_rand(labels, nearest),
        adjusted_rand_pooled=_adjusted_rand(labels, nearest_pooled),
        fitted_rows=min(len(codes), MAX_FIT_ROWS),
    )


def _fit_pooled(segments: Segmentation, codes: CodeArray, seed: int) -> FloatArray:
    from sklearn.cluster import KMeans  # imported on first use: it takes a second
    from sklearn.exceptions import ConvergenceWarning

    if len(codes) > MAX_FIT_ROWS:
        chosen = np.random.default_rng(seed).choice(len(codes), MAX_FIT_ROWS, replace=False)
        codes = codes[np.sort(chosen)]
    rows = segments.space.expand(codes, segments.fill) / GRID
    model = KMeans(len(segments.centres), n_init=RESTARTS, random_state=seed % (1 << 31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than k
        model.fit(rows)
    centres: FloatArray = model.cluster_centers_
    return centres


def _assess(
    segments: Segmentation, centres: FloatArray, codes: CodeArray
) -> tuple[float, IntArray]:
    """Inertia over all rows, and the nearest centre of each."""
    norms = (centres**2).sum(axis=1)
    total, nearest = 0.0, np.empty(len(codes), dtype=np.int64)
    for start, rows in _expanded(segments, codes):
        scores = norms - 2 * rows @ centres.T
        nearest[start : start + len(rows)] = scores.argmin(axis=1)
        total += float(scores.min(axis=1).sum() + (rows**2).sum())
    return total, nearest


def _expanded(segments: Segmentation, codes: CodeArray) -> Iterator[tuple[int, FloatArray]]:
    """Chunks of rows as coordinates in units of a feature's public range, with their start."""
    for start in range(0, len(codes), CHUNK):
        yield start, segments.space.expand(codes[start : start + CHUNK], segments.fill) / GRID


def _adjusted_rand(labels: IntArray | None, found: IntArray) -> float | None:
    if labels is None:
        return None
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, found))
