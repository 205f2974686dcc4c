"""How good a simulated segmentation is, for the researcher only.

Everything here is computed from the pooled rows of all clients. They stand together in a simulation
and nowhere else: no federation of real members can compute these numbers, and they are no part of
what a study releases.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, CodeArray, FloatArray, IntArray, Numeric
from kesit_server.segmentation.segmenter import Segmentation

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

    def text(self) -> str:
        """For a person, in a few sentences."""
        seen = f"; fitted on a sample of {self.fitted_rows:,}" if self.sampled else ""
        ratio = " beside" if self.ratio is None else f" {self.ratio:.3f} times"
        lines = [
            self.note,
            f"Inertia {self.inertia:,.1f},{ratio} that of scikit-learn's KMeans without privacy"
            f" ({self.inertia_pooled:,.1f}{seen}).",
        ]
        if self.adjusted_rand is not None:
            lines.append(
                "Agreement with the data set's labels (adjusted Rand index; 1 is perfect, 0 is"
                f" chance): {self.adjusted_rand:.2f}; KMeans without privacy"
                f" {self.adjusted_rand_pooled:.2f}."
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Pooled:
    """scikit-learn's KMeans(k, n_init=10) on the pooled rows, without privacy.

    Attributes:
        centres: (k, dimensions) in units of a feature's public range.
        fill: for each feature, where a missing number stands (0 .. GRID), in all that is compared.
        inertia, adjusted_rand, fitted_rows: as in `Evaluation`.
    """

    centres: FloatArray
    fill: tuple[int, ...]
    inertia: float
    adjusted_rand: float | None
    fitted_rows: int


def evaluate(
    segments: Segmentation,
    codes: CodeArray,
    labels: IntArray | None = None,
    *,
    seed: int = 0,
    pooled: Pooled | None = None,
) -> Evaluation:
    """Compare a federated segmentation with scikit-learn's on the pooled rows.

    Args:
        codes: (customers, features of the study), the rows of all clients.
        labels: (customers,) true classes, if the data set has any.
        seed: of KMeans and of the sample.
        pooled: what to compare with, if it is there already (`fit_pooled` with the same codes,
            labels and k); both sides then see missing numbers at `pooled.fill`. Otherwise KMeans is
            fitted, and missing numbers stand where the segmentation put them.
    """
    if pooled is None:
        k = len(segments.centres)
        pooled = fit_pooled(segments.space, segments.fill, codes, k, labels, seed=seed)
    inertia, agreement = assess(segments.space, pooled.fill, segments.centres / GRID, codes, labels)
    return Evaluation(
        rows=len(codes),
        inertia=inertia,
        inertia_pooled=pooled.inertia,
        ratio=ratio_of(inertia, pooled.inertia, len(codes)),
        adjusted_rand=agreement,
        adjusted_rand_pooled=pooled.adjusted_rand,
        fitted_rows=pooled.fitted_rows,
    )


def fit_pooled(
    space: Embedding,
    fill: tuple[int, ...],
    codes: CodeArray,
    k: int,
    labels: IntArray | None = None,
    *,
    seed: int = 0,
) -> Pooled:
    """Fit scikit-learn's KMeans on the rows of all clients, and score it; see `evaluate`."""
    from sklearn.cluster import KMeans  # imported on first use: it takes a second
    from sklearn.exceptions import ConvergenceWarning

    seen = codes
    if len(codes) > MAX_FIT_ROWS:
        chosen = np.random.default_rng(seed).choice(len(codes), MAX_FIT_ROWS, replace=False)
        seen = codes[np.sort(chosen)]
    model = KMeans(k, n_init=RESTARTS, random_state=seed % (1 << 31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than k
        model.fit(space.expand(seen, fill) / GRID)
    centres: FloatArray = model.cluster_centers_
    return Pooled(centres, fill, *assess(space, fill, centres, codes, labels), len(seen))


def assess(
    space: Embedding,
    fill: tuple[int, ...],
    centres: FloatArray,
    codes: CodeArray,
    labels: IntArray | None = None,
) -> tuple[float, float | None]:
    """Inertia of centres over all rows, and agreement with the labels if there are any.

    Args:
        fill: for each feature, where a missing number stands (0 .. GRID).
        centres: (k, dimensions) in units of a feature's public range.
    """
    norms = (centres**2).sum(axis=1)
    total, nearest = 0.0, np.empty(len(codes), dtype=np.int64)
    for start in range(0, len(codes), CHUNK):
        rows = space.expand(codes[start : start + CHUNK], fill) / GRID
        scores = norms - 2 * rows @ centres.T
        nearest[start : start + len(rows)] = scores.argmin(axis=1)
        total += float(scores.min(axis=1).sum() + (rows**2).sum())
    return total, _adjusted_rand(labels, nearest)


def ratio_of(inertia: float, inertia_pooled: float, rows: int) -> float | None:
    """The first over the second; None if the second is no distance but rounding."""
    return inertia / inertia_pooled if inertia_pooled > ROUNDING * rows else None


def mean_fill(space: Embedding, codes: CodeArray) -> tuple[int, ...]:
    """For each feature the mean position of its present numbers, where missing ones may stand.

    No member could know it without paying; researchers compare all methods on the same rows.
    """
    fill = []
    for feature, column in zip(space.features, space.columns, strict=True):
        present = codes[:, column][codes[:, column] >= 0]
        known = isinstance(feature, Numeric) and len(present) > 0
        fill.append(round(float(present.mean())) if known else 0)
    return tuple(fill)


def _adjusted_rand(labels: IntArray | None, found: IntArray) -> float | None:
    if labels is None:
        return None
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, found))
